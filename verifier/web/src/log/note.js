// Signed notes (c2sp.org/signed-note): the text ends at the last empty line, and each line after it
// is a signature. Lines of unknown keys are ignored; one bad line of a known key fails the note.

import { fromUtf8, hex, unbase64, utf8 } from "../core/bytes.js";
import { invalidProof, isKind, malformed, untrusted, usage } from "../core/errors.js";
import { verifyCosignature } from "../core/keys.js";

const MAX_NOTE_SIZE = 256 * 1024;
const MAX_SIGNATURES = 64;
const DASH = "\u2014 ";
const SPACE = /[\t-\r\x1c-\x20\x85\xa0\u1680\u2000-\u200a\u2028\u2029\u202f\u205f\u3000]/u;

function parseLine(line) {
  if (!line.startsWith(DASH)) {
    throw malformed("a signature line does not start with a dash", { rule: "note" });
  }
  const rest = line.slice(DASH.length);
  const blank = rest.indexOf(" ");
  const name = blank < 0 ? rest : rest.slice(0, blank);
  if (blank < 0 || !name || name.includes("+") || SPACE.test(name)) {
    throw malformed("a signature line is not <name> <base64>", { rule: "note" });
  }
  const raw = unbase64(rest.slice(blank + 1));
  if (raw.length <= 4) throw malformed("a signature is empty", { rule: "note" });
  return { name, keyId: hex(raw.subarray(0, 4)), signature: raw.subarray(4) };
}

/** Parses a note's bytes into its text (bytes) and signature lines, none verified yet. */
export function parseNote(data) {
  if (data.length > MAX_NOTE_SIZE) {
    throw malformed(`note is larger than ${MAX_NOTE_SIZE} bytes`, { rule: "note" });
  }
  const whole = fromUtf8(data);
  if (whole === null || /[\0-\t\x0b-\x1f]/.test(whole)) {
    throw malformed("a note holds a control character, or is not UTF-8", { rule: "note" });
  }
  const end = whole.lastIndexOf("\n\n");
  if (end < 0 || !whole.endsWith("\n") || end + 2 === whole.length) {
    throw malformed("a note is a text, an empty line, signature lines", { rule: "note" });
  }
  const lines = whole.slice(end + 2, -1).split("\n");
  if (lines.length > MAX_SIGNATURES) {
    throw malformed(`a note has more than ${MAX_SIGNATURES} signatures`, { rule: "note" });
  }
  const text = whole.slice(0, end + 1);
  return { text, textBytes: utf8(text), bytes: data, lines: lines.map(parseLine) };
}

/** Returns [key, line, time] of each line of a known key; `time` (BigInt) of witnesses alone. */
export function verifyNote(note, keys) {
  const known = new Map();
  for (const key of keys) {
    const place = `${key.name}+${key.keyId}`;
    if (known.has(place) && known.get(place) !== key) {
      throw usage("two keys have one name and id", { rule: "note", found: key.name });
    }
    known.set(place, key);
  }
  const verified = [];
  for (const line of note.lines) {
    const key = known.get(`${line.name}+${line.keyId}`);
    if (key === undefined) continue;
    try {
      let time = null;
      if (key.witness) time = verifyCosignature(key, line.signature, note.textBytes);
      else key.verify(line.signature, note.textBytes);
      verified.push([key, line, time]);
    } catch (error) {
      if (!isKind(error, "InvalidProofError")) throw error;
      throw invalidProof(error.detail, { rule: "note", found: line.name });
    }
  }
  if (!verified.length) throw untrusted("no known key has signed the note", { rule: "note" });
  return verified;
}
