// Recomputes a trade's outcome from its bundle, and refuses whatever does not hold (S10). The order
// of checks is that of attestation/settlement/recompute.py.

import { encode } from "../core/canonical.js";
import * as e from "../core/errors.js";
import { hashString } from "../core/hashing.js";
import { loadEntry } from "../log/entry.js";
import { parseLogPolicy } from "../log/policy.js";
import { verifySession, verifySlot } from "./attested.js";
import { checkPolicy, readSlots, tradeTerms } from "./entries.js";
import { checkMessages } from "./messages.js";
import { judgedSlots, writeOutcome } from "./outcome.js";
import { policyFiles, readPolicy } from "./policy.js";
import { checkWitnessed, openIncluded, openLog, rangeOf, witnessedUs } from "./range.js";
import { settle } from "./rule.js";
import { checkSessions, KnownSessions, loggedSession } from "./sessions.js";
import { commitmentOf } from "./trade.js";

/**
 * Recomputes a trade's settlement document; throws unless it is the claimed one.
 *
 * `logPolicy` (bytes) is the log policy the reader trusts, `expect` what was agreed on (policy_id,
 * and what is known of the trade), `venueFiles` a Map of the reader's own. Returns the document, its
 * bytes, and what it was made of, for showing.
 */
export function recompute(bundle, { trust, logPolicy, expect, venueFiles }) {
  const policy = policyOf(bundle, logPolicy, expect);
  checkTrade(bundle.trade, expect);
  checkOperators(policy, trust, expect);
  const files = policyFiles(policy, venueFiles);
  const logs = parseLogPolicy(logPolicy);
  const witnessed = new Map();
  const ranges = new Map();
  const sessions = [];
  bundle.logs.forEach((log, at) => {
    const seen = openLog(policy.notaries[at], log, logs);
    witnessed.set(log.notary, seen);
    ranges.set(log.notary, rangeOf(log, seen.signed.checkpoint, logs));
    sessions.push(...sessionsOf(log, trust, seen));
  });
  const first = policy.notaries[0].notary;
  const signed = witnessed.get(first).signed.checkpoint;
  checkPolicy(policy, openIncluded(bundle.policy, signed, "policy", "policy.entry"));
  const terms = tradeTerms(policy, ranges.get(first), bundle.batch, bundle.trade);
  checkPromised(terms, expect);
  const slots = bundle.slots.map((attestation) => {
    // Logs of several notaries: only its own has seen this one's attestation.
    const seen = witnessed.get(attestation.header.key.replace(/\+[^+]*$/, ""));
    return verifySlot(attestation, { trust, witnessedUs: seen ? witnessedUs(seen) : null });
  });
  const known = new KnownSessions(sessions);
  const read = readSlots(policy, [...ranges.values()], slots, (notary, id) =>
    known.refusal(policy, notary, id),
  );
  const settlement = settle(policy, terms, read.logged, read);
  const judged = judgedSlots(policy, terms, settlement);
  const deciding = slots.filter((slot) => judged.has(slot.slot.slot_us));
  const development = expect.insecure_allow_development ?? false;
  checkSessions(policy, ranges, deciding, known, files, development);
  const messages = new Map(bundle.messages.map((message) => [hashString(message), message]));
  checkMessages(policy, deciding, messages, files);
  const latestUs = settlement.final_after_us + policy.max_cosign_delay_us;
  for (const [name, range] of ranges) checkWitnessed(range, witnessed.get(name), latestUs);
  const { leaf } = bundle.trade;
  const outcome = writeOutcome(settlement, {
    policy,
    terms,
    trade: leaf.trade,
    logged: read.logged,
  });
  const data = encode(outcome);
  checkClaim(bundle, outcome, data);
  return {
    outcome,
    data,
    policy,
    leaf,
    terms,
    settlement,
    slots,
    judged,
    sessions: known,
    read,
    ranges,
    witnessed,
    messages,
    files,
  };
}

function policyOf(bundle, logPolicy, expect) {
  const entry = loadEntry(bundle.policy.entry);
  if (entry.kind !== "policy") {
    throw e.invalidProof("an entry of another kind", { rule: "policy.entry", found: entry.kind });
  }
  const policy = e.naming("policy.document", () => readPolicy(entry.document));
  for (const [rule, found, wanted] of [
    ["expect.policy_id", entry.policy_id, expect.policy_id],
    ["policy.log_policy", hashString(logPolicy), policy.log_policy],
  ]) {
    if (found !== wanted) {
      throw e.expectation("the bundle is of another policy or log policy", { rule, found, wanted });
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

function checkPromised(terms, expect) {
  if (expect.logged_by_us !== undefined && terms.logged_us > expect.logged_by_us) {
    throw e.expectation("the trade was logged later than promised, or is a second leaf of it", {
      rule: "expect.logged_by_us",
      found: terms.logged_us,
      wanted: expect.logged_by_us,
    });
  }
}

function checkTrade(trade, expect) {
  const { leaf } = trade;
  for (const member of ["trade", "market", "player", "side", "stake"]) {
    if (expect[member] !== undefined && leaf[member] !== expect[member]) {
      throw e.expectation("the bundle is of another trade", {
        rule: `expect.${member}`,
        found: leaf[member],
        wanted: expect[member],
      });
    }
  }
  const { digest } = commitmentOf(trade);
  if (expect.digest !== undefined && digest !== expect.digest) {
    throw e.expectation("the trade's leaf is another than the promised one", {
      rule: "expect.digest",
      found: digest,
      wanted: expect.digest,
    });
  }
}

function checkOperators(policy, trust, expect) {
  if (expect.operators === undefined) return;
  for (const { notary } of policy.notaries) {
    const operator = trust.operatorOf(notary);
    if (!expect.operators.includes(operator)) {
      throw e.expectation(`${notary} is run by another operator`, {
        rule: "expect.operators",
        found: operator,
        wanted: expect.operators,
      });
    }
  }
}

function sessionsOf(log, trust, seen) {
  return log.sessions.map((session) => {
    const { checkpoint } = seen.signed;
    const entry = openIncluded(session.entry, checkpoint, "attested", "session.entry");
    const attested = verifySession(session.attestation, { trust, witnessedUs: witnessedUs(seen) });
    if (attested.notary !== log.notary) {
      throw e.invalidProof("a session of another notary", {
        rule: "session.notary",
        found: attested.notary,
        wanted: log.notary,
      });
    }
    return loggedSession(attested, entry, session.entry.index);
  });
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
