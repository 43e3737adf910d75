// Strict JSON (RFC 8259) as its scalars, each with its raw text and absolute RFC 6901 pointer. A
// quote is read from bytes a venue sent: no duplicate keys, no lone surrogates, nothing before or
// after the one value. Numbers stay the text they were sent as. Every error is W11.

import { fromUtf8 } from "./bytes.js";
import { malformed } from "./errors.js";

const MAX_SIZE = 4 * 1024 * 1024;
const MAX_DEPTH = 64;
const MAX_VALUES = 65536;
const MAX_POINTER = 512;

const BLANKS = /[ \t\n\r]*/y;
// eslint-disable-next-line no-control-regex
const STRING = /"(?:[^"\\\x00-\x1f]|\\(?:["\\/bfnrt]|u[0-9A-Fa-f]{4}))*"/y;
const NUMBER = /-?(?:0|[1-9][0-9]*)(?:\.[0-9]+)?(?:[eE][+-]?[0-9]+)?/y;
const LITERAL = /true|false|null/y;
const PLAIN = /^(?:"[ !#-[\]-~]*"|-?(?:0|[1-9][0-9]*)(?:\.[0-9]+)?(?:[eE][+-]?[0-9]+)?)$/;
const LONE = /[\ud800-\udfff]/u;

const fail = (detail, found = null) => malformed(detail, { rule: "W11", found });

/** The text of a JSON string; throws for an escape of a lone surrogate. */
export function stringText(raw) {
  const text = raw.includes("\\") ? JSON.parse(raw) : raw.slice(1, -1);
  if (LONE.test(text)) throw fail("escape of a lone surrogate");
  return text;
}

const token = (key) => key.replaceAll("~", "~0").replaceAll("/", "~1");

class Reader {
  constructor(text) {
    this.text = text;
    this.position = 0;
    this.found = new Map();
    this.containers = new Set();
  }

  take(expression) {
    expression.lastIndex = this.position;
    const match = expression.exec(this.text);
    if (match === null) return null;
    this.position += match[0].length;
    return match[0];
  }

  blanks() {
    this.take(BLANKS);
  }

  wrong() {
    return fail("not JSON", this.text.slice(this.position, this.position + 40));
  }

  document() {
    this.blanks();
    this.value("", 0);
    this.blanks();
    if (this.position !== this.text.length) throw this.wrong();
    return this.found;
  }

  value(pointer, depth) {
    // A pointer's length is in code points, as other readers count it.
    const long = pointer.length > MAX_POINTER && [...pointer].length > MAX_POINTER;
    if (long || this.found.size + this.containers.size === MAX_VALUES) {
      throw fail("too many values, or too long a pointer");
    }
    const start = this.position;
    const opening = this.text[start];
    if (opening === "{" || opening === "[") {
      this.position += 1;
      this.container(pointer, opening, start, depth);
      return;
    }
    let kind = "string";
    let raw = opening === '"' ? this.take(STRING) : null;
    if (raw === null && opening !== '"') {
      kind = "number";
      raw = this.take(NUMBER);
      if (raw === null) {
        kind = "literal";
        raw = this.take(LITERAL);
      }
    }
    if (raw === null) throw this.wrong();
    if (raw.includes("\\u")) stringText(raw);
    this.found.set(pointer, { kind, raw });
  }

  container(pointer, opening, start, depth) {
    const closing = opening === "{" ? "}" : "]";
    this.blanks();
    if (this.text[this.position] === closing) {
      this.position += 1;
      const kind = opening === "{" ? "object" : "array";
      this.found.set(pointer, { kind, raw: this.text.slice(start, this.position) });
      return;
    }
    if (depth === MAX_DEPTH) throw fail(`nested deeper than ${MAX_DEPTH}`);
    this.containers.add(pointer);
    for (let count = 0; ; count += 1) {
      this.blanks();
      let inside = `${pointer}/${count}`;
      if (opening === "{") {
        const key = this.take(STRING);
        if (key === null) throw this.wrong();
        inside = `${pointer}/${token(stringText(key))}`;
        if (this.found.has(inside) || this.containers.has(inside)) {
          throw fail("duplicate key", inside.slice(0, 80));
        }
        this.blanks();
        if (this.text[this.position] !== ":") throw this.wrong();
        this.position += 1;
        this.blanks();
      }
      this.value(inside, depth + 1);
      this.blanks();
      const separator = this.text[this.position];
      this.position += 1;
      if (separator === closing) return;
      if (separator !== ",") {
        this.position -= 1;
        throw this.wrong();
      }
    }
  }
}

/** Returns all scalars and empty containers of a body (bytes), in order, by pointer. */
export function scalars(body) {
  if (body.length > MAX_SIZE) throw fail(`larger than ${MAX_SIZE} bytes`);
  const text = fromUtf8(body);
  if (text === null) throw fail("not UTF-8");
  return new Reader(text).document();
}

/** Reads one scalar or empty container standing alone (text). */
export function scalar(raw) {
  if (PLAIN.test(raw)) return { kind: raw[0] === '"' ? "string" : "number", raw };
  const found = new Reader(raw).document().get("");
  if (found === undefined || found.raw !== raw) throw fail("not one scalar");
  return found;
}

/** Whether two scalars are the same value: texts by content, the others by spelling. */
export function sameScalar(found, wanted) {
  if (found.kind !== wanted.kind) return false;
  if (found.kind === "string") return stringText(found.raw) === stringText(wanted.raw);
  return found.kind === "object" || found.kind === "array" || found.raw === wanted.raw;
}

/** The text of a string or number; throws if it was sent as another kind. */
export function textOf(value, sentAs) {
  if (value.kind !== sentAs) {
    throw fail(`${value.kind} instead of a ${sentAs}`, value.raw.slice(0, 80));
  }
  return sentAs === "string" ? stringText(value.raw) : value.raw;
}
