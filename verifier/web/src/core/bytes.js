// Bytes and the texts that stand for them. Each value has one spelling.

import { malformed } from "./errors.js";

const encoder = new TextEncoder();
const decoder = new TextDecoder("utf-8", { fatal: true, ignoreBOM: true });
const lenient = new TextDecoder("utf-8");

const BASE64URL =
  /^(?:[A-Za-z0-9_-]{4})*(?:[A-Za-z0-9_-][AQgw]|[A-Za-z0-9_-]{2}[AEIMQUYcgkosw048])?$/;
const BASE64 =
  /^(?:[A-Za-z0-9+/]{4})*(?:[A-Za-z0-9+/][AQgw]==|[A-Za-z0-9+/]{2}[AEIMQUYcgkosw048]=)?$/;
const ALPHABET = "ABCDEFGHIJKLMNOPQRSTUVWXYZabcdefghijklmnopqrstuvwxyz0123456789+/";
const VALUES = new Uint8Array(128);
for (let at = 0; at < 64; at += 1) VALUES[ALPHABET.charCodeAt(at)] = at;
VALUES["-".charCodeAt(0)] = 62;
VALUES["_".charCodeAt(0)] = 63;

export const utf8 = (text) => encoder.encode(text);

/** Decodes UTF-8 and returns null for bytes that are none. */
export function fromUtf8(data) {
  try {
    return decoder.decode(data);
  } catch {
    return null;
  }
}

/** Decodes for showing: what is no UTF-8 becomes U+FFFD. */
export const shown = (data) => lenient.decode(data);

export function concat(...parts) {
  const whole = new Uint8Array(parts.reduce((size, part) => size + part.length, 0));
  let position = 0;
  for (const part of parts) {
    whole.set(part, position);
    position += part.length;
  }
  return whole;
}

export function equal(left, right) {
  if (left.length !== right.length) return false;
  for (let at = 0; at < left.length; at += 1) if (left[at] !== right[at]) return false;
  return true;
}

const HEX = Array.from({ length: 256 }, (_, value) => value.toString(16).padStart(2, "0"));

export function hex(data) {
  let text = "";
  for (const value of data) text += HEX[value];
  return text;
}

/** Decodes lower-case hex of exactly `size` bytes, if given. */
export function unhex(text, size = null) {
  if (!/^(?:[0-9a-f]{2})*$/.test(text)) throw malformed("not lower-case hex");
  if (size !== null && text.length !== 2 * size) throw malformed(`not ${size} bytes of hex`);
  const data = new Uint8Array(text.length / 2);
  for (let at = 0; at < data.length; at += 1) {
    data[at] = parseInt(text.slice(2 * at, 2 * at + 2), 16);
  }
  return data;
}

function decode64(text) {
  const bare = text.replace(/=+$/, "");
  const data = new Uint8Array(Math.floor((bare.length * 3) / 4));
  let bits = 0;
  let held = 0;
  let position = 0;
  for (let at = 0; at < bare.length; at += 1) {
    held = ((held << 6) | VALUES[bare.charCodeAt(at)]) & 0xffff;
    bits += 6;
    if (bits >= 8) {
      bits -= 8;
      data[position++] = (held >> bits) & 0xff;
    }
  }
  return data;
}

/** Decodes base64url without padding (RFC 4648 section 5); stray bits and characters refused. */
export function unbase64url(text) {
  if (!BASE64URL.test(text)) throw malformed("not base64url");
  return decode64(text);
}

/** Decodes base64 with padding (RFC 4648 section 4); stray bits and characters refused. */
export function unbase64(text) {
  if (!BASE64.test(text)) throw malformed("not base64", { found: text.slice(0, 80) });
  return decode64(text);
}

export function base64(data) {
  let text = "";
  for (let at = 0; at < data.length; at += 3) {
    const group = (data[at] << 16) | ((data[at + 1] ?? 0) << 8) | (data[at + 2] ?? 0);
    text += ALPHABET[group >> 18] + ALPHABET[(group >> 12) & 63];
    text += at + 1 < data.length ? ALPHABET[(group >> 6) & 63] : "=";
    text += at + 2 < data.length ? ALPHABET[group & 63] : "=";
  }
  return text;
}

export const base64url = (data) =>
  base64(data).replace(/=+$/, "").replaceAll("+", "-").replaceAll("/", "_");

/** Big-endian bytes of a safe integer. */
export function bigEndian(value, size) {
  const data = new Uint8Array(size);
  let rest = BigInt(value);
  for (let at = size - 1; at >= 0; at -= 1) {
    data[at] = Number(rest & 0xffn);
    rest >>= 8n;
  }
  return data;
}
