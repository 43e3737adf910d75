// Ed25519 as libsodium verifies it: the cofactorless equation, S < L, and neither R nor the key of
// small order or in another than the canonical encoding.
//
// The curve is @noble/ed25519's; its own `verify` multiplies by the cofactor even with
// `zip215: false`, and would accept signatures that libsodium, and so `verifier`, refuses.

import { Point } from "@noble/ed25519";
import { sha512 } from "@noble/hashes/sha2.js";
import { concat, equal } from "./bytes.js";
import { malformed } from "./errors.js";

const { p: PRIME, n: ORDER } = Point.CURVE();

const little = (data) => {
  let value = 0n;
  for (let at = data.length - 1; at >= 0; at -= 1) value = (value << 8n) | BigInt(data[at]);
  return value;
};
const yOf = (data) => little(data) & ((1n << 255n) - 1n);

// The y of the eight points whose order divides 8: a signature under one holds for any message.
const ORDER_EIGHT = 0x05fc536d880238b13933c6d305acdfd5f098eff289f4c345b027b2c28f95e826n;
const SMALL_ORDER = new Set([0n, 1n, PRIME - 1n, ORDER_EIGHT, PRIME - ORDER_EIGHT]);

/** Throws MalformedError for a key that must never verify anything. */
export function checkPublic(publicKey) {
  const y = yOf(publicKey);
  if (y >= PRIME) throw malformed("Ed25519 key is not in canonical encoding");
  if (SMALL_ORDER.has(y)) throw malformed("Ed25519 key is of small order");
}

const points = new Map();

function negated(publicKey) {
  const key = publicKey.join();
  if (!points.has(key)) {
    if (points.size > 256) points.clear();
    let point = null;
    try {
      point = Point.fromBytes(publicKey, false).negate();
    } catch {
      // No point of the curve.
    }
    points.set(key, point);
  }
  return points.get(key);
}

/** Whether a 64-byte signature is the key's on the message; `publicKey` was checked. */
export function isValid(publicKey, signature, message) {
  const R = signature.subarray(0, 32);
  const s = little(signature.subarray(32));
  if (s >= ORDER || SMALL_ORDER.has(yOf(R)) || yOf(R) >= PRIME) return false;
  const minusA = negated(publicKey);
  if (minusA === null) return false;
  const k = little(sha512(concat(R, publicKey, message))) % ORDER;
  const sB = s === 0n ? Point.ZERO : Point.BASE.multiply(s, false);
  const kA = k === 0n ? Point.ZERO : minusA.multiply(k, false);
  return equal(sB.add(kA).toBytes(), R);
}
