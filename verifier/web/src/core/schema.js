// Documents by declaration, strict as attestation/schema.py: an unknown member, type string or a
// missing member is refused. A reader turns decoded JSON into a plain object of its members.

import { encode, isObject } from "./canonical.js";
import { unbase64url } from "./bytes.js";
import { malformed, QuotaryError } from "./errors.js";

const exactly = (kind, name) => (value) => {
  if (typeof value !== kind) throw malformed(`is not of type ${name}`);
  return value;
};

export const string = exactly("string", "str");
export const integer = exactly("number", "int");
export const boolean = exactly("boolean", "bool");

export const pattern = (regex, name) => (value) => {
  string(value);
  if (!regex.test(value)) throw malformed(`is not ${name}`, { found: value.slice(0, 80) });
  return value;
};

export const atLeast = (minimum) => (value) => {
  integer(value);
  if (value < minimum) throw malformed(`is smaller than ${minimum}`, { found: value });
  return value;
};

export const between = (minimum, maximum) => (value) => {
  integer(value);
  if (value < minimum || value > maximum) {
    throw malformed("is out of range", { found: value, wanted: [minimum, maximum] });
  }
  return value;
};

export const oneOf =
  (...choices) =>
  (value) => {
    string(value);
    if (!choices.includes(value)) {
      throw malformed("is not a known choice", { found: value.slice(0, 80), wanted: choices });
    }
    return value;
  };

export const arrayOf = (item) => (value) => {
  if (!Array.isArray(value)) throw malformed("is not an array");
  return value.map((entry) => item(entry));
};

export const object = (value) => {
  if (!isObject(value)) throw malformed("is not of type dict");
  return value;
};

export const bytes = (value) => {
  if (typeof value !== "string") throw malformed("is not base64url");
  return unbase64url(value);
};

export const hex16 = pattern(/^[0-9a-f]{32}$/, "16 bytes of lower-case hex");
export const hex32 = pattern(/^[0-9a-f]{64}$/, "32 bytes of lower-case hex");
export const anyHex = pattern(/^(?:[0-9a-f]{2})*$/, "lower-case hex");
export const hashText = pattern(/^[a-z0-9-]+:[0-9a-f]{64}$/, "a hash string");
export const price = pattern(
  /^(?=(?:[-.]?[0-9]){1,30}$)(?!-0$)-?(?:0|[1-9][0-9]*)(?:\.[0-9]*[1-9])?$/,
  "a decimal in normal form",
);
export const name = pattern(/^[a-z0-9][a-z0-9._-]{0,63}$/, "a name");
export const text = pattern(/^[\s\S]{0,1024}$/u, "a text of at most 1,024 characters");
export const micros = atLeast(0);
export const count = atLeast(0);
export const positive = atLeast(1);

/** Marks a member that may be absent. */
export const optional = (load) => Object.assign((value) => load(value), { optional: true });

/**
 * Declares a document: its type string (null for a nested part), its members in order, and what
 * must hold besides. The result reads decoded JSON.
 */
export function document(label, type, members, check = null) {
  const entries = Object.entries(members);
  return (value) => {
    if (!isObject(value)) throw malformed(`${label} is not an object`);
    const kind = Object.hasOwn(value, "type") ? value.type : undefined;
    if (type !== null ? kind !== type : kind !== undefined && !("type" in members)) {
      throw malformed(`not a ${label}`, { rule: "type", found: kind, wanted: type });
    }
    const read = {};
    let present = type === null ? 0 : 1;
    for (const [member, load] of entries) {
      if (Object.hasOwn(value, member)) {
        read[member] = inside(member, load, value[member]);
        present += 1;
      } else if (!load.optional) {
        throw malformed(`${label} lacks ${member}`, { rule: member });
      }
    }
    if (present !== Object.keys(value).length) {
      throw malformed(`${label} has unknown members`);
    }
    // The decoded value itself, for what is hashed or signed: reading changes nothing of it.
    Object.defineProperty(read, "json", { value, enumerable: false });
    if (check !== null) check(read);
    return read;
  };
}

function inside(member, load, value) {
  try {
    return load(value);
  } catch (error) {
    if (error instanceof QuotaryError && error.name === "MalformedError") {
      error.rule = error.rule ? `${member}.${error.rule}` : member;
    }
    throw error;
  }
}

/** The canonical bytes of a document that was read. */
export const canonical = (read) => encode(read.json);
