// The range of a notary's log that a bundle holds. Nothing inside it can hide: frontier and entries
// fold to the roots of both checkpoints.

import { equal, unhex } from "../core/bytes.js";
import { MAX_INTEGER } from "../core/canonical.js";
import * as e from "../core/errors.js";
import { Frontier, verifyInclusion } from "../core/merkle.js";
import { entryLeaf, loadEntry } from "../log/entry.js";
import { LogRange } from "./entries.js";

const SECOND_US = 1000000;
/** How far a notary's clock and the witnesses' may differ. */
const TOLERANCE_US = 2000000;

/** When a quorum had seen a log's entries: a cosignature tells its second. */
export const witnessedUs = ({ quorumTime }) =>
  quorumTime === null ? null : timeUs(quorumTime) + SECOND_US;

/** Opens a log's last checkpoint, with the witnesses asked for. */
export function openLog(notary, log, logs) {
  const seen = e.naming("log.checkpoint", () => logs.open(log.checkpoint));
  const { origin } = seen.signed.checkpoint;
  if (origin !== notary.log) {
    throw e.expectation("a checkpoint of another log", {
      rule: "log.origin",
      found: origin,
      wanted: notary.log,
    });
  }
  return seen;
}

/** Folds frontier and entries to the roots of both checkpoints. */
export function rangeOf(log, checkpoint, logs) {
  const opened = e.naming("log.start", () => logs.openLog(log.start));
  const start = opened.checkpoint;
  if (start.origin !== checkpoint.origin) {
    throw e.expectation("a checkpoint of another log", {
      rule: "log.start",
      found: start.origin,
      wanted: checkpoint.origin,
    });
  }
  const nodes = log.frontier.map((node) => unhex(node, 32));
  const tree = e.naming("log.frontier", () => new Frontier(start.size, nodes));
  if (!equal(tree.root(), start.root)) {
    throw e.invalidProof("the frontier does not fold to the first checkpoint", {
      rule: "log.frontier",
    });
  }
  e.naming("log.entries", () => log.entries.forEach((entry) => tree.append(entryLeaf(entry))));
  if (tree.size !== checkpoint.size) {
    throw e.incomplete("not all entries between the checkpoints are there", {
      rule: "log.entries",
      found: tree.size,
      wanted: checkpoint.size,
    });
  }
  if (!equal(tree.root(), checkpoint.root)) {
    throw e.invalidProof("the entries do not fold to the last checkpoint", { rule: "log.entries" });
  }
  const entries = e.naming("log.entries", () => log.entries.map(loadEntry));
  const feed = openIncluded(log.feed, checkpoint, "feed", "feed.entry");
  const range = new LogRange(log.notary, feed, start.size, entries);
  // Whatever follows a checkpoint was logged after its first cosignature.
  const times = [...opened.times.values()];
  const earliest = times.reduce((low, time) => (time < low ? time : low), times[0] ?? 0n);
  const cosignedUs = timeUs(earliest);
  if (entries[0].logged_us < cosignedUs - TOLERANCE_US) {
    throw e.finding("logged earlier than a cosigned checkpoint before it", {
      rule: "log.backdated",
      found: entries[0].logged_us,
      wanted: cosignedUs,
    });
  }
  return range;
}

/** Returns an included entry of a kind; throws InvalidProofError for another kind or path. */
export function openIncluded(included, checkpoint, kind, rule) {
  const entry = loadEntry(included.entry);
  if (entry.kind !== kind) {
    throw e.invalidProof("an entry of another kind", { rule, found: entry.kind });
  }
  e.naming(rule, () =>
    verifyInclusion({
      leaf: entryLeaf(included.entry),
      index: included.index,
      size: checkpoint.size,
      proof: included.proof.map((node) => unhex(node, 32)),
      root: checkpoint.root,
    }),
  );
  return entry;
}

/** Checks when the witnesses had seen a log's entries. */
export function checkWitnessed({ notary, untilUs }, { quorumTime }, latestUs) {
  if (quorumTime === null) return;
  const seenUs = timeUs(quorumTime);
  if (seenUs > latestUs) {
    throw e.stale(`the witnesses of ${notary}'s log came late`, {
      rule: "settlement.quorum_time",
      found: seenUs,
      wanted: latestUs,
    });
  }
  if (untilUs >= seenUs + SECOND_US + TOLERANCE_US) {
    throw e.finding(`${notary}'s clock runs ahead of the witnesses'`, {
      rule: "log.ahead",
      found: untilUs,
      wanted: seenUs,
    });
  }
}

export function timeUs(seconds) {
  const micros = seconds * BigInt(SECOND_US);
  if (micros > BigInt(MAX_INTEGER)) {
    throw e.invalidProof("cosigned at no time", { rule: "log.quorum", found: String(seconds) });
  }
  return Number(micros);
}
