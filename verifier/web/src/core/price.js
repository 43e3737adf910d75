// Prices as exact decimals: text in normal form, and fractions; never floats.

import { malformed } from "./errors.js";
import { Fraction } from "./fraction.js";

const MAX_DIGITS = 30;
const WIRE = /^-?(?:0|[1-9][0-9]*)(?:\.[0-9]+)?$/;

/** Brings a decimal as venues send it ("0.10") to normal form ("0.1"). */
export function normalize(raw) {
  if (raw.length > MAX_DIGITS + 2 || !WIRE.test(raw)) {
    throw malformed("not a plain decimal", { rule: "W11", found: raw.slice(0, 80) });
  }
  if (raw.replace(/[-.]/g, "").length > MAX_DIGITS) {
    throw malformed(`more than ${MAX_DIGITS} digits`, { rule: "W11", found: raw });
  }
  const text = raw.includes(".") ? raw.replace(/0+$/, "").replace(/\.$/, "") : raw;
  return text === "-0" ? "0" : text;
}

/** The exact value of a price in normal form. */
export function fraction(price) {
  if (normalize(price) !== price) {
    throw malformed("price is not in normal form", { rule: "W11", found: price });
  }
  const [whole, decimals = ""] = price.split(".");
  return new Fraction(BigInt(whole + decimals), 10n ** BigInt(decimals.length));
}

/** Writes a value rounded half to even to `places` decimals; null beyond 30 digits. */
export function roundedText(value, places) {
  const scale = 10n ** BigInt(places);
  const n = value.n * scale;
  let quotient = n / value.d;
  const rest = (n % value.d) * 2n;
  if (rest > value.d || (rest === value.d && quotient % 2n)) quotient += 1n;
  const digits = String(quotient).padStart(places + 1, "0");
  const text = `${digits.slice(0, -places)}.${digits.slice(-places)}`;
  try {
    return normalize(text);
  } catch {
    return null;
  }
}
