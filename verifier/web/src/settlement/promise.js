// The promise that answers an order: a player's receipt (S1).

import { fromUtf8, utf8 } from "../core/bytes.js";
import { decodeObject, write } from "../core/canonical.js";
import { malformed } from "../core/errors.js";
import * as s from "../core/schema.js";

export const RECEIPT_LIMIT = 64 * 1024;

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

/** Reads a document that holds a signed promise, or is one, into what is expected of the trade. */
function readPromised(value) {
  const signed = "type" in value ? value : value.promise;
  const { trade, digest, log_by_us: loggedByUs } = readSigned(signed).promise;
  return { trade, digest, logged_by_us: loggedByUs };
}

/**
 * Reads a receipt's bytes, the signed promise or the whole answer to the order, into what is to be
 * expected of the trade. Whose key signed is not looked at: the receipt is the reader's own, and may
 * be spelled as whoever saved it spells JSON. `policy_id` beside the promise is what was ordered by.
 */
export function readReceipt(data) {
  let value, promised;
  try {
    value = JSON.parse(fromUtf8(data));
    promised = utf8(write("type" in value ? value : { promise: value.promise }));
  } catch {
    throw malformed("not a receipt", { rule: "receipt" });
  }
  const expect = readPromised(decodeObject(promised, RECEIPT_LIMIT));
  if (!("policy_id" in value)) return expect;
  return { ...expect, policy_id: s.hex32(value.policy_id, "policy_id") };
}

/** Reads signed promises, one a line: a Map of each trade's, as a receipt has it. */
export function readPromises(data) {
  const found = new Map();
  let start = 0;
  while (start < data.length) {
    const newline = data.indexOf(10, start);
    const end = newline < 0 ? data.length : newline;
    const promise = readPromised(decodeObject(data.subarray(start, end), RECEIPT_LIMIT));
    found.set(promise.trade, promise);
    start = end + 1;
  }
  return found;
}
