// From entries of the notaries' logs to what counts of each slot (S1 to S3, S7).

import { expectation, finding, incomplete, invalidProof, malformed } from "../core/errors.js";
import { checkTradeProof, tradeTerms as termsOf } from "./trade.js";

/** All entries of a notary's log from index `first` on, and its feed's entry. */
export class LogRange {
  constructor(notary, feed, first, entries) {
    if (!entries.length) {
      throw incomplete("a range of a log holds entries", { rule: "log.entries" });
    }
    for (let at = 1; at < entries.length; at += 1) {
      if (entries[at].logged_us < entries[at - 1].logged_us) {
        throw finding("logged earlier than an entry before it", {
          rule: "log.backdated",
          found: first + at,
        });
      }
    }
    Object.assign(this, { notary, feed, first, entries });
    this.fromUs = first ? entries[0].logged_us : null;
    this.untilUs = entries[entries.length - 1].logged_us;
  }

  get(index) {
    const found = this.entries[index - this.first];
    if (found === undefined) {
      throw incomplete("the range does not hold the entry", {
        rule: "log.entries",
        found: [this.first, this.first + this.entries.length],
        wanted: index,
      });
    }
    return found;
  }
}

const unexpected = (rule, found, wanted) =>
  expectation("the log does not have what the policy names", { rule, found, wanted });

/** Checks that the entry logs this policy, before it takes effect. */
export function checkPolicy(policy, entry) {
  if (entry.policy_id !== policy.policy_id) {
    throw unexpected("policy.policy_id", entry.policy_id, policy.policy_id);
  }
  if (entry.effective_us !== policy.effective_us) {
    throw unexpected("policy.effective_us", entry.effective_us, policy.effective_us);
  }
  if (entry.logged_us > policy.effective_us) {
    throw expectation("the policy was logged after it takes effect", {
      rule: "policy.logged_us",
      found: entry.logged_us,
      wanted: policy.effective_us,
    });
  }
}

function checkFeed(policy, notary, feed) {
  for (const [member, wanted] of [
    ["feed", notary.feed],
    ["market", policy.market],
    ["grid_us", policy.grid_us],
    ["late_us", policy.late_us],
  ]) {
    if (feed[member] !== wanted) throw unexpected(`feed.${member}`, feed[member], wanted);
  }
  const read = new Map(feed.venues.map((venue) => [venue.venue, venue]));
  for (const venue of policy.venues) {
    const has = read.get(venue.venue);
    if (has === undefined) throw unexpected("feed.venues", [...read.keys()], venue.venue);
    for (const member of ["instrument", "venue_file"]) {
      if (has[member] !== venue[member]) {
        throw unexpected(`feed.venues.${member}`, has[member], venue[member]);
      }
    }
  }
}

/** A trade's terms; t_c is the time of its batch, entry `index` of the first notary's log. */
export function tradeTerms(policy, log, index, proof) {
  if (log.notary !== policy.notaries[0].notary) {
    throw unexpected("trade.log", log.notary, policy.notaries[0].notary);
  }
  const entry = log.get(index);
  if (entry.kind !== "trades") {
    throw invalidProof("not the entry of a batch", {
      rule: "trade.entry",
      found: entry.kind,
      wanted: "trades",
    });
  }
  checkTradeProof(proof, entry);
  return termsOf(proof.leaf, policy, entry.logged_us);
}

/**
 * What counts of every slot in the logs' ranges; `attested` may be of any slots. `refusal` tells of
 * a notary's session why the policy takes nothing from it, null where it does.
 */
export function readSlots(policy, logs, attested, refusal = () => null) {
  const byNotary = new Map();
  for (const log of logs) {
    if (byNotary.has(log.notary)) {
      throw malformed("two ranges of one notary", { rule: "logs", found: log.notary });
    }
    byNotary.set(log.notary, log);
  }
  const given = new Map(policy.notaries.map((notary) => [notary.notary, new Map()]));
  for (const slot of attested) give(policy, given, slot);
  const logged = [];
  for (const notary of policy.notaries) {
    const log = byNotary.get(notary.notary);
    if (log === undefined) {
      throw incomplete("the log of a notary is missing", { rule: "logs", found: notary.notary });
    }
    checkFeed(policy, notary, log.feed);
    logged.push(...readRange(policy, log, given.get(notary.notary), refusal));
  }
  const starts = logs.filter((log) => log.fromUs !== null).map((log) => log.fromUs);
  return {
    logged,
    readFromUs: starts.length ? Math.max(...starts) : null,
    readUntilUs: Math.min(...logs.map((log) => log.untilUs)),
  };
}

function give(policy, given, attested) {
  const { slot, notary } = attested;
  const mine = given.get(notary);
  if (mine === undefined) {
    throw expectation("a slot of a notary that the policy does not name", {
      rule: "slots.notary",
      found: notary,
      wanted: [...given.keys()].sort(),
    });
  }
  const { feed } = policy.notaries.find((one) => one.notary === notary);
  for (const [member, wanted] of [
    ["feed", feed],
    ["market", policy.market],
  ]) {
    if (slot[member] !== wanted) {
      throw invalidProof(`a slot of another ${member}`, {
        rule: `slots.${member}`,
        found: slot[member],
        wanted,
      });
    }
  }
  if (mine.has(slot.slot_us)) {
    throw malformed("two attestations of one slot", {
      rule: "slots.duplicate",
      found: [notary, slot.slot_us],
    });
  }
  mine.set(slot.slot_us, attested);
}

function readRange(policy, log, given, refusal) {
  const byHash = new Map([...given.values()].map((attested) => [attested.headerHash, attested]));
  const seen = new Set();
  const unlogged = new Set(given.keys());
  const records = [];
  log.entries.forEach((entry, at) => {
    if ((entry.kind !== "slot" && entry.kind !== "missed") || entry.feed !== log.feed.feed) return;
    // An honest notary logs nothing of a slot before it, nor a second time.
    if (entry.logged_us < entry.slot_us || seen.has(entry.slot_us)) return;
    seen.add(entry.slot_us);
    const record = {
      notary: log.notary,
      slot_us: entry.slot_us,
      fields: null,
      fault: "notary",
      attestation: null,
      not_given: false,
      refused: new Map(),
      index: log.first + at,
      logged_us: entry.logged_us,
    };
    const inTime = entry.logged_us <= entry.slot_us + policy.late_us;
    if (entry.kind === "slot") {
      const attested = attestationOf(log.notary, entry, given, byHash);
      unlogged.delete(entry.slot_us);
      if (inTime && attested === null) record.not_given = true;
      else if (inTime) {
        record.fields = attested.fields;
        record.attestation = attested.header.id;
        for (const [venue, seen] of attested.fields) {
          const why = seen.gap ? null : refusal(log.notary, seen.session);
          if (why !== null) record.refused.set(venue, why);
        }
      }
    } else if (inTime) record.fault = entry.fault;
    records.push(record);
  });
  if (unlogged.size) {
    throw invalidProof("a slot that is not in the range of the log", {
      rule: "slots.unlogged",
      found: [log.notary, Math.min(...unlogged)],
    });
  }
  return records;
}

function attestationOf(notary, entry, given, byHash) {
  const named = byHash.get(entry.header) ?? null;
  if (named !== null && named.slot.slot_us !== entry.slot_us) {
    throw invalidProof("the attestation is logged for another slot", {
      rule: "slots.slot_us",
      found: named.slot.slot_us,
      wanted: entry.slot_us,
    });
  }
  if ((given.get(entry.slot_us) ?? null) !== named) {
    throw invalidProof("not the attestation that the log has of its slot", {
      rule: "slots.header",
      found: [notary, entry.slot_us],
    });
  }
  if (named !== null && entry.logged_us < named.header.issued_us) {
    throw invalidProof("logged before it was issued", {
      rule: "slots.issued_us",
      found: entry.logged_us,
      wanted: named.header.issued_us,
    });
  }
  return named;
}
