// Presentations: what a prover shows a verifier of an attestation, as attestation/presentation.py.

import { unhex } from "../core/bytes.js";
import { decodeObject, PRESENTATION_LIMIT } from "../core/canonical.js";
import { fieldLeaf, fieldSalt, readHeader } from "../core/document.js";
import { malformed } from "../core/errors.js";
import { hashString } from "../core/hashing.js";
import * as s from "../core/schema.js";

const MAX_MESSAGES = 1024;
const MAX_SESSIONS = 64;
const MAX_MESSAGE = 1048576;

function strictlyIncreasing(numbers, what) {
  if (numbers.some((number, at) => at && numbers[at - 1] >= number)) {
    throw malformed(`${what} are not strictly increasing`);
  }
}

const readShownField = s.document("shownfield", null, {
  index: s.count,
  name: s.string,
  value: s.object,
  salt: s.optional(s.hex16),
});

const readShownPart = s.document("shownpart", null, {
  part: s.count,
  salt: s.hex16,
  at: s.string,
  data: s.bytes,
});

const readOpening = s.document(
  "sectionopening",
  null,
  {
    index: s.count,
    salt: s.optional(s.hex16),
    data: s.optional(s.bytes),
    parts: s.optional(s.arrayOf(readShownPart)),
    proof: s.optional(s.arrayOf(s.hex32)),
  },
  ({ salt, data, parts, proof }) => {
    const given = [salt, data, parts, proof].map((member) => member !== undefined).join();
    if (given !== "true,true,false,false" && given !== "false,false,true,true") {
      throw malformed("an opening holds salt and data, or parts and proof");
    }
    if (parts !== undefined)
      strictlyIncreasing(
        parts.map((part) => part.part),
        "parts",
      );
  },
);

const readInclusion = s.document("inclusion", null, { entry: s.object, proof: s.string });

const readPresentation = s.document(
  "quotary/presentation/v1",
  "quotary/presentation/v1",
  {
    header: readHeader,
    signature: s.anyHex,
    fields: s.arrayOf(readShownField),
    proof: s.arrayOf(s.hex32),
    openings: s.arrayOf(readOpening),
    seed: s.optional(s.hex32),
    log: s.optional(readInclusion),
    messages: s.optional(s.arrayOf(s.bytes)),
    sessions: s.optional(s.arrayOf((value) => readPresentation(value))),
  },
  (shown) => {
    const { fields, header, messages, sessions } = shown;
    strictlyIncreasing(
      fields.map((field) => field.index),
      "fields",
    );
    strictlyIncreasing(
      shown.openings.map((opening) => opening.index),
      "openings",
    );
    if (shown.seed === undefined) {
      if (fields.some((field) => field.salt === undefined)) {
        throw malformed("a shown field lacks its salt");
      }
    } else if (fields.some((field) => field.salt !== undefined)) {
      throw malformed("seed and salt exclude each other");
    } else if (fields.length !== header.size || fields.some((field, at) => field.index !== at)) {
      throw malformed("with a seed all fields are shown");
    }
    if (messages !== undefined || sessions !== undefined) checkBeside(shown);
  },
);

/** Refuses what cannot stand beside the fields, or not so much of it. */
function checkBeside({ fields, messages, sessions }) {
  if (fields[0]?.name !== "slot") {
    throw malformed("a slot alone has messages or sessions", { rule: "messages" });
  }
  if (messages !== undefined) {
    const bad =
      messages.length < 1 ||
      messages.length > MAX_MESSAGES ||
      new Set(messages.map(hashString)).size !== messages.length ||
      messages.some((message) => message.length > MAX_MESSAGE);
    if (bad) throw malformed("too many, too large or equal messages", { rule: "messages" });
  }
  if (sessions !== undefined) {
    if (sessions.length < 1 || sessions.length > MAX_SESSIONS) {
      throw malformed(`sessions are 1 to ${MAX_SESSIONS}`, { rule: "sessions" });
    }
    if (sessions.some((one) => one.messages !== undefined || one.sessions !== undefined)) {
      throw malformed("a session has nothing beside it", { rule: "sessions" });
    }
  }
}

/** Decodes a presentation's bytes. */
export const decodePresentation = (data) =>
  readPresentation(decodeObject(data, PRESENTATION_LIMIT));

/** The leaf hash of each shown field by index. */
export function shownLeaves({ fields, seed }) {
  const raw = seed === undefined ? null : unhex(seed, 32);
  return new Map(
    fields.map(({ index, name, value, salt }) => [
      index,
      fieldLeaf(name, value, raw === null ? salt : fieldSalt(raw, index)),
    ]),
  );
}
