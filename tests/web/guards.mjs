// Which checks of the fairness page a vector notices the loss of.
//
//   node guards.mjs SOURCES [QUESTIONS]      (QUESTIONS: {call, question, answer}, a line each)
//
// Run by disabled_checks.py. The sources are built once with every refusal numbered, so that one at a time can be left out; the
// questions that never came to it need not be asked again. Without questions the checks are listed.
// Prints one JSON document.

import { readFileSync } from "node:fs";
import { createRequire } from "node:module";
import { join, relative, resolve } from "node:path";
import { runInThisContext, Script } from "node:vm";

const [, , sources, questions] = process.argv;
const { build } = createRequire(resolve(sources, "../package.json"))("esbuild");
const PATIENCE_MS = 5000;
const MOST_ASKED = 400;

const guards = []; // {file, line, text, kind}

/** Where a bracket opened at `at` closes; strings, templates, comments and regular expressions skipped. */
function closing(text, at) {
  let depth = 0;
  for (let here = at; here < text.length; here += 1) {
    const sign = text[here];
    if ("([{".includes(sign)) depth += 1;
    else if (")]}".includes(sign) && --depth === 0) return here;
    else here = skipped(text, here);
  }
  throw new Error(`nothing closes at ${at}`);
}

/** The last character of a literal or comment that begins here; the place itself for any other. */
function skipped(text, here) {
  const sign = text[here];
  if (text.startsWith("//", here)) return text.indexOf("\n", here);
  if (text.startsWith("/*", here)) return text.indexOf("*/", here) + 1;
  const isExpression =
    sign === "/" && /(?:[(,=:[!&|?{};]|=>|return)\s*$/.test(text.slice(0, here));
  if (!"\"'`".includes(sign) && !isExpression) return here;
  let inClass = false;
  for (let at = here + 1; at < text.length; at += 1) {
    if (text[at] === "\\") at += 1;
    else if (sign === "`" && text.startsWith("${", at)) at = closing(text, at + 1);
    else if (isExpression && text[at] === "[") inClass = true;
    else if (text[at] === "]") inClass = false;
    else if (text[at] === sign && !inClass) return at;
  }
  throw new Error(`no end of what begins at ${here}: ${text.slice(here, here + 40)}`);
}

/** The alternatives of a condition that says "this, or this": [start, end) each. */
function alternatives(text, start, end) {
  const found = [];
  let from = start;
  for (let here = start; here < end; here += 1) {
    if ("([{".includes(text[here])) here = closing(text, here);
    else if (text.startsWith("||", here)) {
      found.push([from, here]);
      from = here + 2;
      here += 1;
    } else if (text.startsWith("&&", here) || (text[here] === "?" && text[here + 1] === " ")) {
      // Of another shape than alternatives alone: only the whole is tried.
      if (depthless(text, start, end)) return [];
    } else here = skipped(text, here);
  }
  found.push([from, end]);
  return found.length > 1 ? found : [];
}

/** Whether a choice (? :) stands in a condition outside of brackets. */
function depthless(text, start, end) {
  for (let here = start; here < end; here += 1) {
    if ("([{".includes(text[here])) here = closing(text, here);
    else if (text[here] === "?" && text[here + 1] === " ") return true;
    else here = skipped(text, here);
  }
  return false;
}

/** The source with every `throw`, and every alternative of its condition, numbered. */
function numbered(text, file) {
  const edits = []; // [place, inserted]
  const lineOf = (at) => text.slice(0, at).split("\n").length;
  const add = (kind, at, shown) =>
    guards.push({ file, line: lineOf(at), kind, text: shown.replace(/\s+/g, " ").trim() }) - 1;
  for (let here = 0; here < text.length; here += 1) {
    if (text.startsWith("throw ", here) && !/[\w$.]/.test(text[here - 1] ?? "")) {
      const end = statementEnd(text, here);
      const number = add("throw", here, text.slice(here, end));
      edits.push([here, `if (__guards.holds(${number}, true)) `]);
    } else if (/^if \(/.test(text.slice(here, here + 4)) && !/[\w$.]/.test(text[here - 1] ?? "")) {
      const close = closing(text, here + 3);
      if (/^\s*(?:\{\s*)?throw /.test(text.slice(close + 1))) {
        for (const [start, end] of alternatives(text, here + 4, close)) {
          const number = add("or", start, text.slice(start, end));
          edits.push([start, ` __guards.holds(${number}, (`], [end, ")) "]);
        }
      }
    }
    here = skipped(text, here);
  }
  // Inserts at one place stay in the order they were found in.
  const sorted = edits.map((edit, at) => [...edit, at]).sort((a, b) => b[0] - a[0] || b[2] - a[2]);
  return sorted.reduce((made, [at, more]) => made.slice(0, at) + more + made.slice(at), text);
}

function statementEnd(text, at) {
  for (let here = at; here < text.length; here += 1) {
    if ("([{".includes(text[here])) here = closing(text, here);
    else if (text[here] === ";") return here;
    else here = skipped(text, here);
  }
  throw new Error(`no end of the statement at ${at}`);
}

/** Members of documents are checked where they are declared: by label and name. */
function membered(text) {
  const swap = (from, to) => {
    if (text.split(from).length !== 2) throw new Error(`schema.js has no single ${from}`);
    text = text.replace(from, to);
  };
  swap("const entries = Object.entries(members);", `$&\n  const declared = __guards.declare(label, members);`);
  swap(
    "inside(member, load, value[member])",
    "__guards.member(declared, member, value[member], (v) => inside(member, load, v))",
  );
  swap("else if (!load.optional) {", "else if (!load.optional && __guards.required(declared, member)) {");
  return text;
}

/** A signature is found good or bad once: no check is in there, and most of the time is. */
const remembering = (text) => `${text.replace("export function isValid(", "function verifies(")}
const known = new Map();
export function isValid(...parts) {
  const name = parts.map((part) => Buffer.from(part).toString("latin1")).join("|");
  if (!known.has(name)) known.set(name, verifies(...parts));
  return known.get(name);
}
`;

const judge = ["api.js", "core", "log", "presentation", "settlement", "reconcile"];
const plugin = {
  name: "guards",
  setup({ onLoad }) {
    onLoad({ filter: /\.js$/ }, ({ path }) => {
      const file = relative(sources, path);
      if (!judge.includes(file.split("/")[0])) return undefined;
      let text = numbered(readFileSync(path, "utf8"), file);
      if (file === "core/schema.js") text = membered(text);
      if (file === "core/ed25519.js") text = remembering(text);
      return { contents: text, loader: "js" };
    });
  },
};

globalThis.__guards = {
  off: -1,
  hit: null,
  holds(number, value) {
    if (!value) return value;
    this.hit?.add(number);
    return number === this.off ? false : value;
  },
  declare(label, members) {
    const numbers = {};
    for (const [member, load] of Object.entries(members)) {
      const add = (kind) => guards.push({ file, line: 0, kind, text: `${label}.${member}` }) - 1;
      const file = "core/schema.js";
      numbers[member] = { is: add("member"), needed: load.optional ? null : add("required") };
    }
    return numbers;
  },
  member(numbers, member, value, load) {
    try {
      return load(value);
    } catch (error) {
      if (this.holds(numbers[member].is, true)) throw error;
      return value;
    }
  },
  required(numbers, member) {
    return this.holds(numbers[member].needed, true);
  },
};

const made = await build({
  entryPoints: [join(sources, "api.js")],
  bundle: true,
  write: false,
  format: "iife",
  globalName: "quotary",
  target: ["es2022"],
  plugins: [plugin],
  logLevel: "error",
});
runInThisContext(made.outputFiles[0].text);

const revive = (_, value) =>
  typeof value?.base64 === "string" ? new Uint8Array(Buffer.from(value.base64, "base64")) : value;
const asked = (questions === undefined ? "" : readFileSync(questions, "utf8"))
  .split("\n")
  .filter((line) => line !== "")
  .map((line) => JSON.parse(line, revive));

/** What the page says to a question: as `answer` has it, or what went wrong. */
function answer(at) {
  globalThis.__asked = asked[at];
  try {
    const found = ask.runInThisContext({ timeout: PATIENCE_MS });
    if (found.accepted) return { document: found.document, error: null, rule: null };
    return { document: null, error: found.error, rule: found.rule };
  } catch (error) {
    return { bug: String(error.message) };
  }
}
const ask = new Script("quotary[__asked.call](__asked.question)");
const isSame = (a, b) =>
  a.bug === undefined && a.document === b.document && a.error === b.error && a.rule === b.rule;

// First with every check in place: who comes to which.
const reached = new Map();
const wrong = [];
const micros = asked.map(({ answer: wanted }, at) => {
  __guards.hit = new Set();
  const started = process.hrtime.bigint();
  if (!isSame(answer(at), wanted)) wrong.push(at);
  for (const number of __guards.hit) {
    if (!reached.has(number)) reached.set(number, []);
    reached.get(number).push(at);
  }
  return Number((process.hrtime.bigint() - started) / 1000n);
});
__guards.hit = null;

// Then without each, alone: the quickest questions first.
guards.forEach((guard, number) => {
  __guards.off = number;
  const askers = (reached.get(number) ?? []).sort((a, b) => micros[a] - micros[b]);
  guard.reached = askers.length;
  const noticed = askers.slice(0, MOST_ASKED).find((at) => !isSame(answer(at), asked[at].answer));
  guard.noticed = noticed ?? null;
});
process.stdout.write(JSON.stringify({ wrong, guards }));
