// From a presentation and a trust file to authentic fields and sections, as verifier/authenticate.py.

import { concat, equal, unhex } from "../core/bytes.js";
import { encode } from "../core/canonical.js";
import * as d from "../core/document.js";
import * as e from "../core/errors.js";
import { sha256, sha256Digest } from "../core/hashing.js";
import { leafHash, rootFromMultiproof } from "../core/merkle.js";
import { FAULTS } from "../core/reasons.js";
import * as s from "../core/schema.js";
import { checkBinding, checkTimes } from "../core/times.js";
import { shownLeaves } from "./presentation.js";

const CLOCK_TOLERANCE_US = 2000000;

const sectionName = s.pattern(
  /^(?:request|response|message|x)\.[a-z0-9][a-z0-9._-]{0,95}$/,
  "a section name",
);

export const readSection = s.document(
  "sectionfield",
  null,
  {
    name: sectionName,
    direction: s.oneOf("sent", "received"),
    start: s.count,
    end: s.count,
    framing: s.oneOf("plain", "chunked"),
    scheme: s.oneOf("hash", "tree"),
    digest: s.hashText,
    parts: s.optional(s.count),
    split: s.optional(s.pattern(/^(?:json|fixed:[1-9][0-9]{0,6})$/, "a split rule")),
  },
  (section) => {
    const tree = section.scheme === "tree";
    if (tree !== (section.parts !== undefined) || tree !== (section.split !== undefined)) {
      throw e.malformed("parts and split belong to the tree scheme and are required there");
    }
    if (section.end < section.start) throw e.malformed("section ends before it starts");
  },
);

export { sectionName };

/** Checks key, signature, inclusion, shape and times; returns a session's or a slot's fields. */
export function authenticate(presentation, { trust, nowUs, witnessedUs = null }) {
  const { header } = presentation;
  const notary = trust.find(header.key, { role: "attest", atUs: header.issued_us, witnessedUs });
  if (header.issued_us > nowUs + CLOCK_TOLERANCE_US) {
    throw e.stale("signed in the future", {
      rule: "header.issued_us",
      found: header.issued_us,
      wanted: nowUs,
    });
  }
  notary.key.verify(unhex(presentation.signature), s.canonical(header));
  checkInclusion(presentation);
  const fields = new Map(presentation.fields.map((field) => [field.index, field]));
  if (!fields.has(0) || !fields.has(header.size - 1)) {
    throw e.incomplete("field 0 or the notary field is not shown", { rule: "fields" });
  }
  const names = new Map([...fields].map(([index, field]) => [index, field.name]));
  const kind = d.checkShape(names, header.size);
  const said = d.readNotary(fields.get(header.size - 1).value);
  if (said.name !== notary.name || said.vkey !== notary.key.vkey) {
    throw e.invalidProof("the notary field names another key than the one that signed", {
      rule: "notary.vkey",
    });
  }
  const read = kind === "slot" ? slotFields(header, fields) : sessionFields(header, fields);
  return { kind, header, notary, ...read };
}

function checkInclusion(presentation) {
  const wanted = sha256Digest(presentation.header.root);
  const folded = rootFromMultiproof({
    size: presentation.header.size,
    leaves: shownLeaves(presentation),
    proof: presentation.proof.map((node) => unhex(node)),
  });
  if (!equal(folded, wanted)) {
    throw e.invalidProof("shown fields are not under the signed root", { rule: "header.root" });
  }
}

function sessionFields(header, fields) {
  const missing = [1, 2, 3].filter((index) => !fields.has(index));
  if (missing.length) {
    throw e.incomplete("mandatory fields are not shown", { rule: "fields", found: missing });
  }
  const session = d.readSession(fields.get(0).value);
  const connection = d.readConnection(fields.get(1).value);
  const http = d.readHttp(fields.get(3).value);
  checkTimes(connection, session, header.issued_us);
  checkBinding(session, http);
  d.checkPurpose(session.purpose);
  const sections = new Map();
  const extensions = [];
  for (const [index, field] of fields) {
    if (field.name === "section") sections.set(index, readSection(field.value));
    else if (field.name === "extension") extensions.push(d.readExtensionField(field.value));
  }
  const names = new Set([...sections.values()].map((section) => section.name));
  const ids = new Set(extensions.map((extension) => extension.id));
  if (names.size !== sections.size || ids.size !== extensions.length) {
    throw e.malformed("two fields have one section name or extension id", { rule: "fields" });
  }
  const server = d.readServer(fields.get(2).value);
  return { session, connection, server, http, sections, extensions };
}

function slotFields(header, fields) {
  const slot = d.readSlot(fields.get(0).value);
  if (slot.slot_us > header.issued_us) {
    throw e.invalidProof("signed before its slot", { rule: "slot.slot_us" });
  }
  const ordered = slot.venues.every((name, at) => at === 0 || slot.venues[at - 1] < name);
  if (!ordered || header.size !== slot.venues.length + 2) {
    throw e.malformed("a slot has one field for each venue, in byte order", {
      rule: "slot.venues",
    });
  }
  const venues = new Map();
  slot.venues.forEach((venue, at) => {
    const field = fields.get(at + 1);
    if (field === undefined) return;
    const seen = readVenueField(field);
    if (seen.venue !== venue) {
      throw e.malformed("a slot's fields follow its venues", { rule: "slot.venues", found: venue });
    }
    venues.set(venue, seen);
  });
  return { slot, venues };
}

/** Reads what a slot has of a venue; a gap's fault must be its reason's. */
function readVenueField({ name, value }) {
  if (name !== "gap") return { gap: false, ...d.readObservation(value) };
  const gap = d.readGap(value);
  const wanted = FAULTS.get(gap.reason);
  if (wanted !== gap.fault) {
    throw e.invalidProof("a gap's fault is not its reason's", {
      rule: "gap.fault",
      found: gap.fault,
      wanted: wanted ?? null,
    });
  }
  return { gap: true, ...gap };
}

/** Checks every opening against its section; returns them by section name. */
export function openSections(presentation, sections) {
  const opened = new Map();
  const ranges = { sent: [], received: [] };
  for (const opening of presentation.openings) {
    const section = sections.get(opening.index);
    if (section === undefined) {
      throw e.incomplete("an opened section's field is not shown", {
        rule: "openings",
        found: opening.index,
      });
    }
    if ((section.scheme === "hash") !== (opening.data !== undefined)) {
      throw e.malformed(`${section.name} is opened by another scheme than committed`);
    }
    const result =
      opening.data === undefined ? openTree(section, opening) : openHash(section, opening);
    if (result.data !== null && section.framing === "plain") {
      if (result.data.length !== section.end - section.start) {
        throw e.invalidProof(`${section.name} is not as long as its range`);
      }
      addRange(ranges[section.direction], section.start, result.data);
    }
    opened.set(section.name, result);
  }
  return opened;
}

function addRange(ranges, start, data) {
  for (const [otherStart, other] of ranges) {
    const low = Math.max(start, otherStart);
    const high = Math.min(start + data.length, otherStart + other.length);
    const mine = data.subarray(low - start, high - start);
    if (low < high && !equal(mine, other.subarray(low - otherStart, high - otherStart))) {
      throw e.invalidProof("two opened sections disagree on the same bytes");
    }
  }
  ranges.push([start, data]);
}

function openHash(section, { salt, data }) {
  const wanted = sha256Digest(section.digest);
  if (!equal(sha256(concat(unhex(salt), data)), wanted)) {
    throw e.invalidProof(`${section.name}: bytes do not match the commitment`, {
      rule: "openings",
    });
  }
  return { field: section, data, parts: null };
}

function openTree(section, { parts, proof }) {
  const wanted = sha256Digest(section.digest);
  const type = "quotary/part/v1";
  const leaves = new Map(
    parts.map(({ part, json }) => [
      part,
      leafHash(encode({ type, salt: json.salt, at: json.at, data: json.data })),
    ]),
  );
  const folded = rootFromMultiproof({
    size: section.parts,
    leaves,
    proof: proof.map((node) => unhex(node)),
  });
  if (!equal(folded, wanted)) {
    throw e.invalidProof(`${section.name}: parts do not match the commitment`, {
      rule: "openings",
    });
  }
  const byPlace = new Map(parts.map(({ at, data }) => [at, data]));
  if (byPlace.size !== parts.length) {
    throw e.invalidProof(`${section.name}: two parts stand at one place`, { rule: "openings" });
  }
  return { field: section, data: null, parts: byPlace };
}
