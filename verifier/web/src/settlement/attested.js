// Attestations as settlement takes them: signed by a trusted notary, every field shown.

import { unhex } from "../core/bytes.js";
import * as d from "../core/document.js";
import { invalidProof, malformed, untrusted } from "../core/errors.js";
import { hashString } from "../core/hashing.js";
import { FAULTS } from "../core/reasons.js";
import { canonical } from "../core/schema.js";
import { checkBinding, checkTimes } from "../core/times.js";

/**
 * Verifies a slot attestation: key, signature, root, shape and times.
 * `witnessedUs`: when a log's witnesses had seen it, for a key since revoked.
 */
export function verifySlot(attestation, reader) {
  const signed = authenticate(attestation, "slot", "slots", reader);
  return { ...signed, ...readFields(attestation) };
}

/** Verifies a session attestation: key, signature, root, shape, times and binding. */
export function verifySession(attestation, reader) {
  const signed = authenticate(attestation, "session", "sessions", reader);
  const value = (index, name, read) => {
    const field = attestation.fields[index];
    if (field?.name !== name) throw malformed(`field ${index} is not ${name}`);
    return read(field.value);
  };
  const session = value(0, "session", d.readSession);
  const connection = value(1, "connection", d.readConnection);
  const http = value(3, "http", d.readHttp);
  checkTimes(connection, session, signed.header.issued_us);
  checkBinding(session, http);
  const server = value(2, "server", d.readServer);
  return { ...signed, session, connection, http, server };
}

/** Checks who signed which kind of fields. */
function authenticate(attestation, kind, rule, { trust, witnessedUs = null }) {
  const { header, fields } = attestation;
  const trusted = trust.find(header.key, { role: "attest", atUs: header.issued_us, witnessedUs });
  const { key } = trusted;
  if (!header.root.startsWith("sha256:") || key.algorithm !== "ed25519") {
    throw untrusted("settlement takes ed25519 and sha256 alone", {
      rule: `${rule}.algorithm`,
      found: [key.algorithm, header.root.split(":")[0]],
    });
  }
  const signed = canonical(header);
  key.verify(unhex(attestation.signature), signed);
  if (fields.some((field) => field.salt !== undefined)) {
    throw malformed("the seed stands for all salts", { rule: `${rule}.salt` });
  }
  d.checkRoot(attestation);
  const names = new Map(fields.map((field, at) => [at, field.name]));
  if (!fields.length || d.checkShape(names, header.size) !== kind) {
    throw malformed(`not the attestation of a ${kind}`, { rule: `${rule}.kind` });
  }
  const notary = d.readNotary(fields[fields.length - 1].value);
  if (notary.name !== key.name || notary.vkey !== key.vkey) {
    throw invalidProof("the notary field names another key than the one that signed", {
      rule: "notary.vkey",
    });
  }
  return { notary: key.name, trusted, header, headerHash: hashString(signed) };
}

function readFields({ header, fields: [first, ...rest] }) {
  const slot = d.readSlot(first.value);
  const fields = new Map();
  const shown = rest.slice(0, -1);
  for (const field of shown) {
    if (field.name === "gap") {
      const gap = d.readGap(field.value);
      if (FAULTS.get(gap.reason) !== gap.fault) {
        throw invalidProof("a gap's fault is not its reason's", {
          rule: "gap.fault",
          found: gap.fault,
          wanted: FAULTS.get(gap.reason) ?? null,
        });
      }
      fields.set(gap.venue, { gap: true, ...gap });
    } else {
      const seen = d.readObservation(field.value);
      fields.set(seen.venue, { gap: false, ...seen });
    }
  }
  const { venues } = slot;
  const same = [...fields.keys()];
  if (same.length !== venues.length || same.some((name, at) => name !== venues[at])) {
    throw malformed("a slot has one field for each of its venues", { rule: "slot.venues" });
  }
  if (fields.size !== shown.length) {
    throw malformed("a slot has one field for each of its venues", { rule: "slot.venues" });
  }
  if (venues.some((name, at) => at && venues[at - 1] >= name)) {
    throw malformed("a slot's venues are in byte order", { rule: "slot.venues" });
  }
  if (header.issued_us < slot.slot_us) {
    throw invalidProof("signed before its slot", { rule: "slot.slot_us" });
  }
  return { slot, fields };
}
