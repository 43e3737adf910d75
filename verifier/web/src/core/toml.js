// The TOML that trust and expect files are written in: tables, arrays of tables, one key a line;
// strings, integers, booleans, UTC times, arrays and inline tables on one line. Whatever else TOML
// has is refused, never guessed.

import { usage } from "./errors.js";

const BARE = /^[A-Za-z0-9_-]+/;
const TIME = /^[0-9]{4}-[0-9]{2}-[0-9]{2}[Tt ][0-9]{2}:[0-9]{2}:[0-9]{2}(?:\.[0-9]+)?[Zz]/;
const INTEGER = /^[+-]?(?:0|[1-9][0-9]*(?:_[0-9]+)*)(?![0-9_.eE:xob-])/;
const BASIC = /^"(?:[^"\\\0-\x08\x0a-\x1f\x7f]|\\(?:["\\bfnrt]|u[0-9A-Fa-f]{4}))*"/;
const LITERAL = /^'[^'\0-\x08\x0a-\x1f\x7f]*'/;

class Line {
  constructor(text, number) {
    this.rest = text;
    this.number = number;
    this.blanks();
  }

  wrong(what) {
    return usage(`line ${this.number}: ${what}`, { rule: "toml" });
  }

  blanks() {
    this.rest = this.rest.replace(/^[ \t]+/, "");
  }

  take(expression) {
    const match = expression.exec(this.rest);
    if (match === null) return null;
    this.rest = this.rest.slice(match[0].length);
    this.blanks();
    return match[0];
  }

  expect(sign) {
    if (!this.rest.startsWith(sign)) throw this.wrong(`${sign} expected`);
    this.rest = this.rest.slice(sign.length);
    this.blanks();
  }

  end() {
    if (this.rest && !this.rest.startsWith("#")) throw this.wrong("something follows");
  }

  key() {
    const bare = this.take(BARE);
    if (bare === null) throw this.wrong("a bare key expected");
    return bare;
  }

  value() {
    if (this.rest.startsWith('"""') || this.rest.startsWith("'''")) {
      throw this.wrong("strings of several lines are not read here");
    }
    const basic = this.take(BASIC);
    if (basic !== null) return JSON.parse(basic.replaceAll("\t", "\\t"));
    const literal = this.take(LITERAL);
    if (literal !== null) return literal.slice(1, -1);
    const time = this.take(TIME);
    if (time !== null) return { time: time.replace(/[t ]/, "T").replace("z", "Z") };
    const word = this.take(/^(?:true|false)(?![A-Za-z0-9_])/);
    if (word !== null) return word === "true";
    const digits = this.take(INTEGER);
    if (digits !== null) return Number(digits.replaceAll("_", ""));
    if (this.rest.startsWith("[")) return this.array();
    if (this.rest.startsWith("{")) return this.inline();
    throw this.wrong("a value expected");
  }

  array() {
    this.expect("[");
    const items = [];
    while (!this.rest.startsWith("]")) {
      items.push(this.value());
      if (!this.rest.startsWith("]")) this.expect(",");
    }
    this.expect("]");
    return items;
  }

  inline() {
    this.expect("{");
    const table = Object.create(null);
    while (!this.rest.startsWith("}")) {
      this.assign(table);
      if (this.rest.startsWith("}")) break;
      this.expect(",");
    }
    this.expect("}");
    return table;
  }

  assign(table) {
    const key = this.key();
    if (key in table) throw this.wrong(`${key} stands here twice`);
    this.expect("=");
    table[key] = this.value();
  }
}

/** Reads a TOML text into a table; throws UsageError. */
export function readToml(text) {
  const root = Object.create(null);
  const arrays = new Set();
  let here = root;
  text.split(/\r?\n/).forEach((source, at) => {
    const line = new Line(source, at + 1);
    if (line.rest === "" || line.rest.startsWith("#")) return;
    if (line.rest.startsWith("[[")) {
      line.expect("[[");
      const name = line.key();
      line.expect("]]");
      line.end();
      if (name in root && !arrays.has(name)) throw line.wrong(`${name} stands here twice`);
      arrays.add(name);
      here = Object.create(null);
      root[name] = [...(root[name] ?? []), here];
    } else if (line.rest.startsWith("[")) {
      line.expect("[");
      const name = line.key();
      line.expect("]");
      line.end();
      if (name in root) throw line.wrong(`${name} stands here twice`);
      here = root[name] = Object.create(null);
    } else {
      line.assign(here);
      line.end();
    }
  });
  return root;
}
