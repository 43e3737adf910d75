// Settlement bundles: all that a trade's outcome follows from, in one document (S10). Nothing inside
// the interval of a log can hide: frontier and entries fold to the roots of both checkpoints.

import { equal, unhex } from "../core/bytes.js";
import { decodeObject, encode, MAX_INTEGER } from "../core/canonical.js";
import { readAttestation } from "../core/document.js";
import * as e from "../core/errors.js";
import { hashString } from "../core/hashing.js";
import { Frontier, verifyInclusion } from "../core/merkle.js";
import * as s from "../core/schema.js";
import { entryLeaf, loadEntry } from "../log/entry.js";
import { parseLogPolicy } from "../log/policy.js";
import { verifySlot } from "./attested.js";
import { checkPolicy, LogRange, readSlots, tradeTerms } from "./entries.js";
import { checkMessages } from "./messages.js";
import { judgedSlots, writeOutcome } from "./outcome.js";
import { readPolicy } from "./policy.js";
import { settle } from "./rule.js";
import { readTradeProof } from "./trade.js";

export const BUNDLE_LIMIT = 16 * 1024 * 1024;
const SECOND_US = 1000000;
const TOLERANCE_US = 2000000;

const readIncluded = s.document("includedentry", null, {
  index: s.count,
  entry: s.object,
  proof: s.arrayOf(s.hex32),
});

const readBundleLog = s.document("bundlelog", null, {
  notary: s.text,
  start: s.string,
  frontier: s.arrayOf(s.hex32),
  entries: s.arrayOf(s.object),
  checkpoint: s.string,
  feed: readIncluded,
});

const readBundle = s.document("quotary/settlement/v1", "quotary/settlement/v1", {
  policy: readIncluded,
  batch: s.count,
  trade: readTradeProof,
  logs: s.arrayOf(readBundleLog),
  slots: s.arrayOf(readAttestation),
  messages: s.arrayOf(s.bytes),
  outcome: s.oneOf("up", "down", "tie", "void"),
  settlement: s.hashText,
});

/** Decodes a bundle's bytes. */
export const decodeBundle = (data) => readBundle(decodeObject(data, BUNDLE_LIMIT));

/**
 * Recomputes a trade's settlement document; throws unless it is the claimed one.
 *
 * `logPolicy` (bytes) is the log policy the reader trusts, `expect` {policy_id, trade?} what was
 * agreed on, `venueFiles` a Map of the reader's own. The order of checks is that of
 * attestation/settlement/bundle.py. Returns the document and what it was made of, for showing.
 */
export function recompute(bundle, { trust, logPolicy, expect, venueFiles }) {
  const policy = policyOf(bundle, logPolicy, expect);
  const logs = parseLogPolicy(logPolicy);
  const witnessed = new Map();
  const ranges = bundle.logs.map((log, at) => {
    const seen = openLog(policy.notaries[at], log, logs);
    witnessed.set(log.notary, seen);
    return rangeOf(log, seen.signed.checkpoint, logs);
  });
  const first = witnessed.get(policy.notaries[0].notary).signed.checkpoint;
  checkPolicy(policy, openIncluded(bundle.policy, first, "policy", "policy.entry"));
  const terms = tradeTerms(policy, ranges[0], bundle.batch, bundle.trade);
  const slots = bundle.slots.map((attestation) => {
    const seen = witnessed.get(attestation.header.key.replace(/\+[^+]*$/, ""));
    const time = seen?.quorumTime ?? null;
    const witnessedUs = time === null ? null : timeUs(time) + SECOND_US;
    return verifySlot(attestation, { trust, witnessedUs });
  });
  const read = readSlots(policy, ranges, slots);
  const settlement = settle(policy, terms, read.logged, read);
  const judged = judgedSlots(policy, terms, settlement);
  const deciding = slots.filter((slot) => judged.has(slot.slot.slot_us));
  const messages = new Map(bundle.messages.map((message) => [hashString(message), message]));
  checkMessages(policy, deciding, messages, venueFiles);
  const latestUs = settlement.final_after_us + policy.max_cosign_delay_us;
  for (const range of ranges) checkWitnessed(range, witnessed.get(range.notary), latestUs);
  const { trade } = bundle.trade.leaf;
  const outcome = writeOutcome(settlement, { policy, terms, trade, logged: read.logged });
  const data = encode(outcome);
  checkClaim(bundle, outcome, data);
  return { outcome, data, policy, terms, settlement, slots, read, ranges, witnessed, messages };
}

function policyOf(bundle, logPolicy, expect) {
  const entry = loadEntry(bundle.policy.entry);
  if (entry.kind !== "policy") {
    throw e.invalidProof("an entry of another kind", { rule: "policy.entry", found: entry.kind });
  }
  const policy = e.naming("policy.document", () => readPolicy(entry.document));
  const pairs = [
    ["expect.policy_id", entry.policy_id, expect.policy_id],
    ["policy.log_policy", hashString(logPolicy), policy.log_policy],
  ];
  if (expect.trade !== undefined) {
    pairs.push(["expect.trade", bundle.trade.leaf.trade, expect.trade]);
  }
  for (const [rule, found, wanted] of pairs) {
    if (found !== wanted) {
      throw e.expectation("the bundle is of another policy, log policy or trade", {
        rule,
        found,
        wanted,
      });
    }
  }
  const names = bundle.logs.map((log) => log.notary);
  const wanted = policy.notaries.map((notary) => notary.notary);
  if (names.length !== wanted.length || names.some((name, at) => name !== wanted[at])) {
    throw e.incomplete("a bundle has the logs of the policy's notaries, in its order", {
      rule: "logs",
      found: names,
      wanted,
    });
  }
  return policy;
}

function openLog(notary, log, logs) {
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

function rangeOf(log, checkpoint, logs) {
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

function openIncluded(included, checkpoint, kind, rule) {
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

function checkWitnessed({ notary, untilUs }, { quorumTime }, latestUs) {
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

function timeUs(seconds) {
  const micros = seconds * BigInt(SECOND_US);
  if (micros > BigInt(MAX_INTEGER)) {
    throw e.invalidProof("cosigned at no time", { rule: "log.quorum", found: String(seconds) });
  }
  return Number(micros);
}

function checkClaim(bundle, outcome, data) {
  for (const [rule, found, wanted] of [
    ["outcome.outcome", bundle.outcome, outcome.outcome],
    ["settlement", bundle.settlement, hashString(data)],
  ]) {
    if (found !== wanted) {
      throw e.mismatch("the claim does not follow from the log", { rule, found, wanted });
    }
  }
}

