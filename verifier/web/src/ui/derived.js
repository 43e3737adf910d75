// What the page tells besides the settlement document: dispersion, what-if, gaps. None of it decides.

import { compareValues, finite, Fraction, median, ONE } from "../core/fraction.js";
import { settle } from "../settlement/rule.js";
import { observe } from "../settlement/slots.js";
import { basisPoints } from "./format.js";

/** The returns that count and are real, as fractions. */
const realReturns = (settlement) =>
  settlement.venues
    .filter((venue) => venue.change !== null && venue.real)
    .map((venue) => venue.change.number);

/**
 * The noise of the rule in this trade, in basis points: how far the returns of the venues lie from
 * their median, by the median of those distances. Null without real returns.
 */
export function noise(settlement) {
  const returns = realReturns(settlement);
  if (!returns.length) return null;
  const middle = median(returns.map(finite)).number;
  const distances = returns.map((value) => finite(value.subtract(middle).abs()));
  const distance = median(distances).number;
  return new Fraction(distance.n * 10000n, distance.d);
}

/** The return that decided, in basis points; null for a void or a withheld one. */
export function moved(settlement) {
  const { change } = settlement;
  return change === null || change.infinite ? null : basisPoints(change.number);
}

/** Every slot given, in order: of each venue what each notary saw, or what is missing. */
export function seenSlots(result) {
  const { policy, read } = result;
  const bySlot = new Map();
  for (const record of read.logged) {
    if (record.not_given) continue;
    if (!bySlot.has(record.slot_us)) bySlot.set(record.slot_us, []);
    bySlot.get(record.slot_us).push(record);
  }
  // Slots that were neither given nor judged are not drawn: nothing is known of them.
  const shown = [...bySlot.keys()].filter(
    (slot) => result.judged.has(slot) || bySlot.get(slot).some((one) => one.fields !== null),
  );
  for (const slot of result.judged) if (!bySlot.has(slot)) shown.push(slot);
  shown.sort((left, right) => left - right);
  return shown.map((slotUs) => ({
    slotUs,
    judged: result.judged.has(slotUs),
    venues: policy.venues.map((venue) =>
      seenVenue(venue, slotUs, bySlot.get(slotUs) ?? [], policy),
    ),
  }));
}

function seenVenue(venue, slotUs, records, policy) {
  const mids = [];
  const missing = [];
  for (const { notary } of policy.notaries) {
    const seen = observe(
      venue,
      slotUs,
      records.find((one) => one.notary === notary),
      policy,
    );
    if (seen instanceof Fraction) mids.push(finite(seen));
    else missing.push({ notary, ...seen });
  }
  return { venue: venue.venue, mid: mids.length ? median(mids).number : null, missing };
}

/** The outcome had one venue never been there, for each venue; null where it is not told. */
export function withoutEach(result) {
  const { policy, terms, read } = result;
  return policy.venues.map(({ venue }) => {
    const fewer = {
      ...policy,
      venues: policy.venues.filter((one) => one.venue !== venue),
      k: Math.min(policy.k, policy.venues.length - 1),
    };
    return { venue, settlement: fewer.venues.length ? attempt(fewer, terms, read) : null };
  });
}

function attempt(policy, terms, read) {
  try {
    return settle(policy, terms, read.logged, read);
  } catch {
    return null; // it would rest on slots that this bundle does not hold
  }
}

/** What one tick at each end would have said: the last slot of each window alone. */
export function singleInstant(settlement) {
  const returns = [];
  for (const venue of settlement.venues) {
    const first = venue.opening.slots[0];
    const last = venue.closing?.slots[venue.closing.slots.length - 1];
    if (first?.real && last?.real) {
      returns.push(finite(last.value.number.over(first.value.number)));
    }
  }
  if (!returns.length) return null;
  const middle = median(returns);
  const order = compareValues(middle, ONE);
  return {
    outcome: order === 0 ? "tie" : order > 0 ? "up" : "down",
    points: basisPoints(middle.number),
    venues: returns.length,
  };
}

/** Gaps of each venue in the slots given, by fault. */
export function gapCounts(slots) {
  const counts = new Map();
  for (const slot of slots) {
    for (const seen of slot.venues) {
      const found = counts.get(seen.venue) ?? { slots: 0, venue: 0, prover: 0, notary: 0 };
      found.slots += 1;
      if (seen.mid === null) {
        const faults = seen.missing.map((one) => one.fault);
        const fault = ["prover", "notary", "venue"].find((party) => faults.includes(party));
        found[fault] += 1;
      }
      counts.set(seen.venue, found);
    }
  }
  return counts;
}
