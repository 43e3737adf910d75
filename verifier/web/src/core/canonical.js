// Canonical JSON (docs/formats.md): what is accepted is exactly what would be written.

import { equal, fromUtf8, utf8 } from "./bytes.js";
import { malformed } from "./errors.js";

export const MAX_INTEGER = Number.MAX_SAFE_INTEGER;
export const MAX_DEPTH = 16;
export const PRESENTATION_LIMIT = 4 * 1024 * 1024;

const KEY = /^[a-z][a-z0-9_]*$/;
const LONE = /[\ud800-\udfff]/u;

/** Writes a value of the profile: keys sorted, no blanks; the order of ASCII keys is RFC 8785's. */
export function write(value) {
  if (Array.isArray(value)) return `[${value.map(write).join(",")}]`;
  if (typeof value === "object") {
    const members = Object.keys(value).sort();
    return `{${members.map((key) => `"${key}":${write(value[key])}`).join(",")}}`;
  }
  return JSON.stringify(value);
}

export const encode = (value) => utf8(write(value));

/** Decodes canonical bytes, which one newline may end; throws MalformedError for any other. */
export function decode(data, limit = PRESENTATION_LIMIT) {
  if (data.length > limit) {
    throw malformed(`document is larger than ${limit} bytes`, { found: data.length });
  }
  const bare = data[data.length - 1] === 0x0a ? data.subarray(0, -1) : data;
  const text = fromUtf8(bare);
  let value;
  try {
    if (text === null) throw malformed("not UTF-8");
    value = JSON.parse(text);
  } catch {
    throw malformed("not JSON");
  }
  check(value, 1);
  // The reader forgives duplicate keys, 1.0, -0 and blanks; the only spelling does not.
  if (!equal(encode(value), bare)) throw malformed("not in canonical form");
  return value;
}

/** Decodes canonical bytes that must hold an object. */
export function decodeObject(data, limit = PRESENTATION_LIMIT) {
  const value = decode(data, limit);
  if (!isObject(value)) throw malformed("not a JSON object");
  return value;
}

export const isObject = (value) =>
  typeof value === "object" && value !== null && !Array.isArray(value);

function check(value, depth) {
  switch (typeof value) {
    case "string":
      if (LONE.test(value)) throw malformed("a lone surrogate");
      return;
    case "boolean":
      return;
    case "number":
      if (!Number.isSafeInteger(value)) throw malformed("not an integer within 2^53-1");
      return;
    default:
  }
  if (value === null) throw malformed("null is not in the profile");
  if (depth > MAX_DEPTH) throw malformed(`nested deeper than ${MAX_DEPTH}`);
  if (Array.isArray(value)) {
    for (const item of value) check(item, depth + 1);
    return;
  }
  for (const key of Object.keys(value)) {
    if (!KEY.test(key)) throw malformed("object key outside [a-z][a-z0-9_]*");
    check(value[key], depth + 1);
  }
}
