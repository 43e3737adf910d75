// The statement by which a notary's old key names the new one, as far as its shape goes: the page
// follows no rotation.

import { malformed } from "../core/errors.js";
import { parseKey } from "../core/keys.js";
import * as s from "../core/schema.js";

const MAX_OVERLAP_US = 30 * 86400 * 1e6;
const MAX_VALID_US = 3653 * 86400 * 1e6;

function parse(vkey, member) {
  try {
    return parseKey(vkey);
  } catch (error) {
    throw malformed(error.detail, { rule: member });
  }
}

const readRotation = s.document(
  "quotary/rotation/v1",
  "quotary/rotation/v1",
  {
    name: s.text,
    operator: s.text,
    old: s.text,
    new: s.text,
    issued_us: s.micros,
    from_us: s.micros,
    old_until_us: s.micros,
    until_us: s.micros,
  },
  (rotation) => {
    const old = parse(rotation.old, "old");
    const next = parse(rotation.new, "new");
    for (const [member, key] of [
      ["old", old],
      ["new", next],
    ]) {
      if (key.name !== rotation.name) {
        throw malformed("the key is of another name", { rule: member });
      }
    }
    if (next.algorithm !== old.algorithm) {
      throw malformed("the keys are of two algorithms", { rule: "new" });
    }
    if (next.vkey === old.vkey) throw malformed("the new key is the old one", { rule: "new" });
    const { issued_us, from_us } = rotation;
    for (const [member, least, most] of [
      ["from_us", issued_us, Infinity],
      ["old_until_us", from_us, from_us + MAX_OVERLAP_US],
      ["until_us", from_us + 1, from_us + MAX_VALID_US],
    ]) {
      if (rotation[member] < least || rotation[member] > most) {
        throw malformed("is out of range", { rule: member, found: rotation[member] });
      }
    }
  },
);

export const readRotationStatement = s.document(
  "quotary/rotation_statement/v1",
  "quotary/rotation_statement/v1",
  { rotation: readRotation, old_signature: s.anyHex, new_signature: s.anyHex },
);
