// Numbers, times and durations as people read them. Drawn from exact values, rounded at the end.

import { Fraction } from "../core/fraction.js";

const pad = (value, size = 2) => String(value).padStart(size, "0");

/** 2026-01-15 12:00:03.137 UTC */
export function utc(timeUs, { date = true } = {}) {
  const moment = new Date(Math.floor(timeUs / 1000));
  if (Number.isNaN(moment.getTime())) return String(timeUs);
  const time = moment.toISOString().slice(11, 23);
  return date ? `${moment.toISOString().slice(0, 10)} ${time} UTC` : time;
}

/** 30 s, 1.5 s, 250 ms, 5 min */
export function duration(us) {
  if (us < 1000) return `${us}\u00a0µs`;
  if (us < 1000000) return `${trim(us / 1000)}\u00a0ms`;
  if (us < 120000000) return `${trim(us / 1000000)}\u00a0s`;
  if (us < 7200000000) return `${trim(us / 60000000)}\u00a0min`;
  return `${trim(us / 3600000000)}\u00a0h`;
}

const trim = (value) => String(Math.round(value * 1000) / 1000);

/** Rounds a fraction to `places` decimals, half away from zero. */
export function decimal(value, places) {
  const scale = 10n ** BigInt(places);
  const scaled = new Fraction(value.n * scale * 2n, value.d);
  const doubled = scaled.n / scaled.d;
  const rounded = doubled < 0n ? (doubled - 1n) / 2n : (doubled + 1n) / 2n;
  const digits = pad(rounded < 0n ? -rounded : rounded, places + 1);
  const sign = rounded < 0n ? "−" : "";
  return places ? `${sign}${digits.slice(0, -places)}.${digits.slice(-places)}` : sign + digits;
}

/** A price for people: 64,000.05 */
export function price(value, places = 2) {
  if (value === null) return "–";
  if (value.infinite) return "withheld (∞)";
  if (value.number.isZero()) return "withheld (0)";
  return grouped(decimal(value.number, places));
}

/** Puts commas between thousands. */
export function grouped(text) {
  const [whole, decimals] = text.split(".");
  const commas = whole.replace(/\B(?=(?:[0-9]{3})+$)/g, ",");
  return decimals === undefined ? commas : `${commas}.${decimals}`;
}

/** A ratio as basis points away from one. */
export const basisPoints = (ratio) => new Fraction((ratio.n - ratio.d) * 10000n, ratio.d);

/** +1.83 bp; as many decimals as it takes to tell it from nothing. */
export function points(value, { sign = true } = {}) {
  let places = 1;
  while (places < 4 && value.n !== 0n && !/[1-9]/.test(decimal(value, places))) places += 1;
  const text = decimal(value, places);
  return `${sign && value.n > 0n ? "+" : ""}${text}\u00a0bp`;
}

/** 1.83 bp, where a word says which way */
export const distance = (value) => points(value, { sign: false }).replace("−", "");

/** Basis points as 0.0183 % */
export const percentage = (value) =>
  `${decimal(new Fraction(value.n, value.d * 100n), 4).replace(/0{1,2}$/, "")}\u00a0%`;

export const plural = (count, one, many = `${one}s`) => `${integer(count)} ${count === 1 ? one : many}`;

/** Joins words: a, b and c */
export function list(words) {
  if (words.length < 2) return words.join("");
  return `${words.slice(0, -1).join(", ")} and ${words[words.length - 1]}`;
}

/** 1,234,567 */
export const integer = (value) => grouped(String(value));
