// The attestation: header, fields, body (docs/formats.md, "Attestation").

import { bigEndian, concat, equal, hex, unhex, utf8 } from "./bytes.js";
import { encode } from "./canonical.js";
import { invalidProof, malformed } from "./errors.js";
import { sha256, sha256Digest } from "./hashing.js";
import { leafHash, root } from "./merkle.js";
import * as s from "./schema.js";

export const MAX_FIELDS = 1024;
export const mode = s.oneOf("sealed", "open", "live");
export const binding = s.oneOf("full", "template");
export const host = s.pattern(/^[a-z0-9](?:[a-z0-9.-]{0,251}[a-z0-9])?$/, "a lower-case host name");
const keyName = s.pattern(/^[^ \t\n\r\f\v+]{1,255}\+[0-9a-f]{8}$/u, "a key name and id");

export const readHeader = s.document("quotary/header/v1", "quotary/header/v1", {
  id: s.hex16,
  key: keyName,
  root: s.hashText,
  size: s.count,
  issued_us: s.micros,
});

export const readField = s.document("quotary/field/v1", "quotary/field/v1", {
  name: s.string,
  value: s.object,
  salt: s.optional(s.hex16),
});

export const readSession = s.document("sessionfield", null, {
  id: s.hex16,
  conn: s.optional(s.hex16),
  mode,
  binding,
  prover: s.string,
  purpose: s.text,
  nonce: s.hex16,
});

export const readConnection = s.document("connectionfield", null, {
  host,
  port: s.between(1, 65535),
  address: s.text,
  suite: s.text,
  group: s.text,
  connected_us: s.micros,
  hello_us: s.micros,
  released_us: s.micros,
  request_first_us: s.micros,
  request_last_us: s.micros,
  response_first_us: s.micros,
  response_last_us: s.micros,
  sealed_us: s.optional(s.micros),
  opened_us: s.micros,
  sent_records: s.count,
  sent_bytes: s.count,
  received_records: s.count,
  received_bytes: s.count,
  handshake_hash: s.anyHex,
});

export const readServer = s.document("serverfield", null, {
  name: host,
  chain: s.arrayOf(s.hex32),
  leaf_spki: s.hex32,
  not_after_us: s.micros,
  roots: s.hashText,
  scheme: s.text,
});

export const readHttp = s.document("httpfield", null, {
  method: s.text,
  target: s.pattern(/^\/[!-~]{0,8191}$/, "an origin-form target"),
  status: s.between(101, 999),
  server_date: s.optional(s.text),
});

export const readExtensionField = s.document("extensionfield", null, {
  id: s.pattern(/^[a-z0-9_]+\/v[1-9][0-9]*$/, "an extension id"),
  value: s.object,
  by: s.oneOf("prover", "notary"),
});

export const readNotary = s.document("notaryfield", null, {
  name: s.text,
  vkey: s.text,
  software: s.text,
});

export const readSlot = s.document("slotfield", null, {
  feed: s.name,
  market: s.text,
  slot_us: s.micros,
  venues: s.arrayOf(s.name),
});

const readMessageRef = s.document("messageref", null, { index: s.count, hash: s.hashText });

export const readObservation = s.document("observationfield", null, {
  venue: s.name,
  instrument: s.text,
  bid: s.price,
  ask: s.price,
  received_us: s.micros,
  exchange_us: s.optional(s.micros),
  source: s.optional(s.oneOf("live", "rest")),
  session: s.hex16,
  messages: s.arrayOf(readMessageRef),
});

export const readGap = s.document("gapfield", null, {
  venue: s.name,
  reason: s.name,
  fault: s.oneOf("venue", "prover", "notary"),
});

/** A header, its signature, all fields without salts, and the seed of the salts. */
export const readAttestation = s.document("quotary/attestation/v1", "quotary/attestation/v1", {
  header: readHeader,
  signature: s.anyHex,
  fields: s.arrayOf(readField),
  seed: s.hex32,
});

/** Derives the 16-byte salt (hex) of field `index` from the attestation's seed. */
export const fieldSalt = (seed, index) =>
  hex(sha256(concat(utf8("quotary/salt/v1"), seed, bigEndian(index, 4))).subarray(0, 16));

/** The hash of a field's leaf. */
export const fieldLeaf = (name, value, salt) =>
  leafHash(encode({ type: "quotary/field/v1", name, salt, value }));

/** Throws InvalidProofError unless header and fields of an attestation belong together. */
export function checkRoot(attestation) {
  const { header, fields } = attestation;
  const wanted = sha256Digest(header.root);
  if (header.size !== fields.length) {
    throw invalidProof("header counts other fields", { rule: "header.size" });
  }
  const seed = unhex(attestation.seed, 32);
  const leaves = fields.map((field, at) => fieldLeaf(field.name, field.value, fieldSalt(seed, at)));
  if (!equal(root(leaves), wanted)) {
    throw invalidProof("fields do not fold to the signed root", { rule: "header.root" });
  }
}

const FIRST = ["session", "connection", "server", "http"];

/** Checks field names (a Map by index) against their places; returns the kind of attestation. */
export function checkShape(names, size) {
  const kind = names.get(0);
  if ((kind !== "session" && kind !== "slot") || size > MAX_FIELDS) {
    throw malformed("field 0 is neither session nor slot", { found: kind });
  }
  for (const [index, name] of names) {
    let allowed = ["section", "extension"];
    if (index === size - 1) allowed = ["notary"];
    else if (kind === "slot") allowed = index === 0 ? ["slot"] : ["observation", "gap"];
    else if (index < FIRST.length) allowed = [FIRST[index]];
    if (!allowed.includes(name)) {
      throw malformed(`field ${index} cannot be ${name}`, { found: name, wanted: allowed });
    }
  }
  return kind;
}

const PURPOSE = new RegExp(
  "^(?:adhoc/[ -~]{1,128}" +
    "|trade/[a-z0-9][a-z0-9._-]{0,63}/(?:open|close)" +
    "|live/[a-z0-9][a-z0-9._-]{0,63}/[a-z0-9][a-z0-9._-]{0,63}" +
    "|slot/[a-z0-9][a-z0-9._-]{0,63}/[a-z0-9][a-z0-9._-]{0,63}/(?:0|[1-9][0-9]{0,15}))$",
);

export function checkPurpose(purpose) {
  if (!PURPOSE.test(purpose)) throw malformed("not a purpose a notary builds", { found: purpose });
}
