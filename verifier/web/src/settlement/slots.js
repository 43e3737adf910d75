// From what notaries signed and logged of a slot to one value for each venue (S3 to S5, S7).

import { finite, Fraction, INFINITY, median, ZERO } from "../core/fraction.js";
import { fraction } from "../core/price.js";
import { BASIS } from "./policy.js";

export const LIVE = "live";

/** The price that favours a player most (S7): up, 0 at the open and infinity at the close. */
export const favourable = (side, end) => ((side === "up") === (end === "open") ? ZERO : INFINITY);

/**
 * A venue's value in a slot from all notaries' records (S5); `withheld` is what a prover's gap
 * counts as. `value` is null for a hole, `why` says what is missing, `fault` by whom.
 */
export function venueSlot(venue, slotUs, records, policy, withheld) {
  const mids = [];
  const values = [];
  const reasons = [];
  const faults = new Set();
  for (const { notary } of policy.notaries) {
    const record = records.find((one) => one.notary === notary);
    const seen = observe(venue, slotUs, record, policy);
    if (seen instanceof Fraction) {
      mids.push(seen);
      values.push(finite(seen));
      continue;
    }
    reasons.push(`${notary}: ${seen.why}`);
    faults.add(seen.fault);
    if (seen.fault === "prover") values.push(withheld);
  }
  const prover = faults.has("prover");
  if (values.length) {
    const middle = median(values);
    const near = mids.filter((mid) => isWithin(mid, middle, policy.div_bps));
    if (near.length >= policy.q) return { value: middle, real: true };
    if (!prover && mids.length >= policy.q) {
      reasons.push("the notaries' prices diverge");
      faults.add("notary");
    }
  }
  const why = reasons.join("; ");
  if (prover) return { value: withheld, real: false, why, fault: "prover" };
  // One notary that saw it is enough to tell the venue from its own.
  return { value: null, real: false, why, fault: faults.has("notary") ? "notary" : "venue" };
}

/** Whether a field is a quote of the policy's instrument and sources. */
export const mayCount = (field, venue, policy) =>
  field !== undefined &&
  !field.gap &&
  field.instrument === venue.instrument &&
  policy.sources.includes(field.source ?? LIVE);

/** A notary's mid, or whose fault it is that there is none, and why (S3, S4). */
export function observe(venue, slotUs, record, policy) {
  if (record === undefined) return { fault: "notary", why: "no entry" };
  if (record.fields === null) return { fault: record.fault, why: "no slot in time" };
  const field = record.fields.get(venue.venue);
  if (field === undefined) return { fault: "notary", why: "the venue is not in the slot" };
  if (field.gap) return { fault: field.fault, why: `gap ${field.reason}` };
  // What to fetch in a live session's place is the prover's choice, and hides whose fault it
  // is that there is none: before anything that would make a hole of it.
  if (!policy.sources.includes(field.source ?? LIVE)) return by("prover", "another source");
  const refusal = record.refused.get(venue.venue);
  if (refusal !== undefined) return { fault: "notary", why: refusal };
  return filter(venue, slotUs, field, policy);
}

const by = (fault, why) => ({ fault, why });

function filter(venue, slotUs, seen, policy) {
  const bid = fraction(seen.bid);
  const ask = fraction(seen.ask);
  const sum = bid.add(ask);
  const mid = new Fraction(sum.n, sum.d * 2n);
  if (bid.n <= 0n || bid.compare(ask) > 0) return by("venue", "bid and ask are no quote");
  if (ask.subtract(bid).times(BASIS).compare(mid.times(policy.max_spread_bps)) > 0) {
    return by("venue", "the spread is too wide");
  }
  const age = slotUs - seen.received_us;
  if (age < 0 || age > venue.max_staleness_us) return by("venue", "the quote is stale");
  if (
    venue.max_skew_us !== undefined &&
    seen.exchange_us !== undefined &&
    Math.abs(seen.received_us - seen.exchange_us) > venue.max_skew_us
  ) {
    return by("venue", "the venue's clock is off");
  }
  if (seen.instrument !== venue.instrument) return by("notary", "another instrument");
  return mid;
}

function isWithin(mid, middle, divBps) {
  if (middle.infinite || middle.number.isZero()) return false;
  const apart = mid.subtract(middle.number).abs().times(BASIS);
  return apart.compare(middle.number.times(divBps)) <= 0;
}
