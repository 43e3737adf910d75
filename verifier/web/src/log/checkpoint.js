// Checkpoints (c2sp.org/tlog-checkpoint): origin, size and root of a log, as the text of a note.

import { equal, utf8 } from "../core/bytes.js";
import { malformed, untrusted } from "../core/errors.js";
import { root } from "../core/merkle.js";
import { decodeText, parseDecimal, parseHashLine } from "./lines.js";
import { parseNote, verifyNote } from "./note.js";

const MAX_TEXT_SIZE = 16 * 1024;

export function parseCheckpoint(textBytes) {
  const lines = decodeText(textBytes, MAX_TEXT_SIZE).split("\n");
  if (lines.length < 4 || lines.pop() !== "" || lines.some((line) => line === "")) {
    throw malformed("a checkpoint is three lines or more, none empty");
  }
  const checkpoint = {
    origin: lines[0],
    size: parseDecimal(lines[1]),
    root: parseHashLine(lines[2]),
  };
  if (checkpoint.size === 0 && !equal(checkpoint.root, root([]))) {
    throw malformed("the root of an empty tree is the hash of nothing");
  }
  return checkpoint;
}

/**
 * Opens a checkpoint's note by the key of its log.
 * `times` is a Map of each known witness's vkey to its earliest time (BigInt seconds).
 */
export function openNote(note, { logs, witnesses }) {
  const checkpoint = parseCheckpoint(note.textBytes);
  const mine = logs.filter((log) => log.name === checkpoint.origin);
  let log = null;
  const times = new Map();
  for (const [key, , time] of verifyNote(note, [...mine, ...witnesses])) {
    if (key.witness) {
      const before = times.get(key.vkey);
      if (before === undefined || time < before) times.set(key.vkey, time);
    } else {
      log = key;
    }
  }
  if (log === null) {
    throw untrusted("no known log has signed the checkpoint", {
      rule: "checkpoint",
      found: checkpoint.origin,
    });
  }
  return { checkpoint, note, log, times };
}

export const openCheckpoint = (text, keys) => openNote(parseNote(utf8(text)), keys);
