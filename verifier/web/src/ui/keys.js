// The log and the keys: what was signed by whom, who cosigned, and what this browser saw before.

import { base64, fromUtf8, unhex } from "../core/bytes.js";
import { QuotaryError } from "../core/errors.js";
import { Frontier } from "../core/merkle.js";
import { entryLeaf } from "../log/entry.js";
import { CHECKPOINT_PATH, LogFiles } from "../log/files.js";
import { code, h, scrolling, section, visible, when } from "./dom.js";
import { integer, list, plural } from "./format.js";
import { remember, remembered, rememberedNames } from "./memory.js";

/** Whether the log of a bundle extends the head of it that this browser saw last. */
function compare(bundleLog, name, checkpoint, startSize) {
  const seen = remembered(name);
  const own = { size: checkpoint.size, root: base64(checkpoint.root) };
  // A log is a name and a key: another key's is another log, and that is worth a word.
  if (seen === null) {
    const others = rememberedNames(headName({ checkpoint })).filter((other) => other !== name);
    return { state: others.length ? "rekeyed" : "first", own };
  }
  if (seen.size === own.size) return { state: seen.root === own.root ? "same" : "fork", own, seen };
  if (seen.size > own.size) return { state: "older", own, seen };
  if (seen.size < startSize) return { state: "beyond", own, seen };
  const tree = new Frontier(
    startSize,
    bundleLog.frontier.map((node) => unhex(node, 32)),
  );
  for (const entry of bundleLog.entries.slice(0, seen.size - startSize))
    tree.append(entryLeaf(entry));
  return { state: base64(tree.root()) === seen.root ? "extends" : "fork", own, seen };
}

/** What the head of a log is remembered by: without a key, how those of all keys begin. */
const headName = ({ checkpoint, log = null }) =>
  `head ${checkpoint.origin} ${log === null ? "" : log.fingerprint}`;

const SAYS = {
  first: () => "This browser sees this log for the first time, and remembers its head.",
  rekeyed: () =>
    "This browser has seen a log of this name under another key. A log keeps its key, unless it was made anew, as a demonstration’s is each time. If you know of no reason, ask who keeps it. This head is remembered, too.",
  same: () => "The same head as this browser saw last.",
  extends: ({ seen }) =>
    `Extends the head that this browser saw last (${plural(seen.size, "entry", "entries")}): nothing before it was changed.`,
  proven: ({ seen }) =>
    `Consistent with the head that this browser saw last (${plural(seen.size, "entry", "entries")}): the log’s own tiles show that both are of one history.`,
  older: ({ seen }) =>
    `This browser has seen a later head of this log (${plural(seen.size, "entry", "entries")}). Only a proof of consistency could compare the two: verifier audit.`,
  beyond: ({ seen }) =>
    `This bundle begins after the head that this browser saw last (${plural(seen.size, "entry", "entries")}). Only a proof of consistency could compare the two: verifier audit.`,
  fork: ({ seen }) =>
    `NOT the log that this browser saw before: at ${plural(seen.size, "entry", "entries")} it had another root. One of the two was made for you alone. Save this bundle.`,
};

/** Compares every log with what was seen before; a fork is not remembered. */
export function checkHeads(bundle, result) {
  return bundle.logs.map((log) => {
    const { signed } = result.witnessed.get(log.notary);
    const { first } = result.ranges.get(log.notary);
    const name = headName(signed);
    const found = compare(log, name, signed.checkpoint, first);
    if (["first", "rekeyed", "extends", "beyond"].includes(found.state)) {
      remember(name, found.own);
    }
    return { log, signed, ...found };
  });
}

/**
 * Compares what a bundle's own entries could not, by the log itself (`read(path)`, as LogFiles takes
 * it): whether the head remembered and the bundle's are both the beginning of the log's latest one.
 * Changes the state of such heads; a log that proves nothing changes nothing.
 */
export async function proveHeads(heads, logPolicy, read) {
  for (const head of heads) {
    if (!["older", "beyond"].includes(head.state)) continue;
    try {
      const note = fromUtf8(await read(CHECKPOINT_PATH)) ?? "";
      const latest = logPolicy.openLog(note).checkpoint;
      if (latest.origin !== head.signed.checkpoint.origin) continue;
      const files = new LogFiles(read, latest);
      const roots = [];
      for (const { size } of [head.seen, head.own]) {
        roots.push(base64((await files.prefix(size)).root()));
      }
      const same = roots[0] === head.seen.root && roots[1] === head.own.root;
      head.state = same ? "proven" : "fork";
      // What was seen first stays remembered.
      if (!same) remember(headName(head.signed), head.seen);
    } catch (error) {
      if (!(error instanceof QuotaryError)) throw error;
    }
  }
}

const TONE = { fork: "refused", rekeyed: "amber" };

function logText(result, head) {
  const range = result.ranges.get(head.log.notary);
  const { checkpoint, times } = head.signed;
  const { quorumTime } = result.witnessed.get(head.log.notary);
  const names = [...times.keys()].map((vkey) => visible(vkey.split("+")[0], 80)).sort();
  return h(
    "div",
    { class: "log" },
    h("h3", {}, visible(checkpoint.origin, 120)),
    h(
      "p",
      {},
      `All ${integer(range.entries.length)} entries from ${integer(range.first)} to ${integer(checkpoint.size - 1)} are in the bundle and fold to the signed head of ${integer(checkpoint.size)}. The last was logged at `,
      when(range.untilUs),
      ".",
    ),
    h(
      "p",
      {},
      names.length ? `Cosigned by ${list(names)}` : "Cosigned by nobody this log policy knows",
      quorumTime === null
        ? "; the log policy asks for no witness."
        : [", the quorum complete by ", when(Number(quorumTime) * 1000000), "."],
    ),
    h("p", { class: TONE[head.state] ?? "quiet" }, SAYS[head.state](head)),
  );
}

const TEXTS = ["what for", "run by", "fingerprint (SHA-256 of the key, first half)", "whose word"];
const ROLES = { attest: "signs slots", log: "keeps the log", witness: "witness" };

function keyRow({ key, operator, role, brought }) {
  return h(
    "tr",
    { class: brought ? "amber" : null },
    h("th", { scope: "row" }, visible(key.name, 80)),
    h("td", { class: "text" }, ROLES[role]),
    h("td", { class: "text" }, operator === null ? "–" : visible(operator, 120)),
    h("td", { class: "text fingerprint" }, code(key.fingerprint)),
    h("td", { class: "text" }, brought ? "brought by this page" : "yours"),
  );
}

/** The keys that were used: the trust file's, and the log policy's. */
function usedKeys(result, sources) {
  const rows = [];
  const attesting = new Map(result.slots.map((slot) => [slot.trusted.key.vkey, slot.trusted]));
  for (const entry of attesting.values()) {
    rows.push({ key: entry.key, operator: entry.operator, role: "attest", brought: entry.brought });
  }
  const { brought } = sources.logPolicy;
  for (const [, { signed }] of result.witnessed) {
    rows.push({ key: signed.log, operator: null, role: "log", brought });
    for (const vkey of signed.times.keys()) {
      const key = sources.logPolicy.parsed.witnessOf(vkey);
      if (!rows.some((row) => row.key.vkey === vkey)) {
        rows.push({ key, operator: null, role: "witness", brought });
      }
    }
  }
  return rows;
}

export function keysSection(result, sources, heads) {
  const rows = usedKeys(result, sources);
  const names = ["key", ...TEXTS];
  const table = h(
    "table",
    {},
    h(
      "thead",
      {},
      h(
        "tr",
        {},
        names.map((name) =>
          h("th", { scope: "col", class: TEXTS.includes(name) ? "text" : null }, name),
        ),
      ),
    ),
    h("tbody", {}, rows.map(keyRow)),
  );
  return section(
    "Log and keys",
    heads.map((head) => logText(result, head)),
    rows.some((row) => row.brought)
      ? h(
          "p",
          { class: "amber" },
          "Keys in amber came with this page from the same server as the bundle. They show that the parts agree with one another, and nothing about who signed. Compare the fingerprints with ones you have from elsewhere, or open your own trust file.",
        )
      : null,
    scrolling("Table of keys", table),
  );
}
