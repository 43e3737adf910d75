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

/**
 * Multiples of one point. A bundle has dozens of signatures by one key: from the third on a table of
 * j * 16^i * point makes each of them 64 additions.
 */
class Multiples {
  #used = 0;
  #table = null;

  constructor(point) {
    this.point = point;
  }

  times(scalar) {
    this.#used += 1;
    if (this.#used < 3) return scalar === 0n ? Point.ZERO : this.point.multiply(scalar, false);
    this.#table ??= this.#build();
    let sum = Point.ZERO;
    let rest = scalar;
    for (const row of this.#table) {
      const digit = Number(rest & 15n);
      if (digit) sum = sum.add(row[digit]);
      rest >>= 4n;
    }
    return sum;
  }

  #build() {
    const table = [];
    let base = this.point;
    for (let at = 0; at < 64; at += 1) {
      const row = [Point.ZERO];
      for (let digit = 1; digit <= 16; digit += 1) row.push(row[digit - 1].add(base));
      base = row.pop();
      table.push(row);
    }
    return table;
  }
}

const keys = new Map();

/** Multiples of the key's negative; null where the key is no point of the curve. */
function negated(publicKey) {
  const name = publicKey.join();
  if (!keys.has(name)) {
    if (keys.size > 64) keys.clear();
    let multiples = null;
    try {
      multiples = new Multiples(Point.fromBytes(publicKey, false).negate());
    } catch {
      // No point of the curve.
    }
    keys.set(name, multiples);
  }
  return keys.get(name);
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
  return equal(sB.add(minusA.times(k)).toBytes(), R);
}
