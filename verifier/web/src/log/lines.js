// What C2SP's text formats share: decimals and hash lines, each with one spelling.

import { fromUtf8, unbase64 } from "../core/bytes.js";
import { malformed } from "../core/errors.js";
import { HASH_SIZE } from "../core/hashing.js";

/** Parses ASCII digits without sign or leading zero, at most 2^53-1. */
export function parseDecimal(text) {
  const value = /^(?:0|[1-9][0-9]{0,18})$/.test(text) ? Number(text) : NaN;
  if (!Number.isSafeInteger(value)) {
    throw malformed("not a decimal number of a tree", { found: text.slice(0, 80) });
  }
  return value;
}

export function parseHashLine(line) {
  const node = unbase64(line);
  if (node.length !== HASH_SIZE) throw malformed(`a hash is not ${HASH_SIZE} bytes`);
  return node;
}

export function decodeText(data, limit) {
  if (data.length > limit) throw malformed(`larger than ${limit} bytes`, { found: data.length });
  const text = fromUtf8(data);
  if (text === null) throw malformed("not UTF-8");
  return text;
}
