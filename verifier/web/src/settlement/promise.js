// The promise that answers an order: a player's receipt (S1).

import { decodeObject } from "../core/canonical.js";
import * as s from "../core/schema.js";

const LIMIT = 64 * 1024;

const readPromise = s.document("quotary/promise/v1", "quotary/promise/v1", {
  trade: s.hex32,
  digest: s.hashText,
  log_by_us: s.micros,
});

const readSigned = s.document("quotary/signed_promise/v1", "quotary/signed_promise/v1", {
  promise: readPromise,
  key: s.text,
  signature: s.anyHex,
});

/**
 * Reads a receipt's bytes, the signed promise or the whole answer to the order, into what is to be
 * expected of the trade. Whose key signed is not looked at: the receipt is the reader's own.
 */
export function readReceipt(data) {
  const value = decodeObject(data, LIMIT);
  const signed = "type" in value ? value : value.promise;
  const { trade, digest, log_by_us: loggedByUs } = readSigned(signed).promise;
  return { trade, digest, logged_by_us: loggedByUs };
}

/** Reads signed promises, one a line: a Map of each trade's, as `readReceipt` has it. */
export function readPromises(data) {
  const found = new Map();
  let start = 0;
  while (start < data.length) {
    const newline = data.indexOf(10, start);
    const end = newline < 0 ? data.length : newline;
    const promise = readReceipt(data.subarray(start, end));
    found.set(promise.trade, promise);
    start = end + 1;
  }
  return found;
}
