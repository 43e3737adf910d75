// The settlement document: what the rule says of a trade, with every value on the way. The same
// bytes as Python's from the same inputs.

import { median } from "../core/fraction.js";
import { roundedText } from "../core/price.js";
import { neededSlots } from "./rule.js";

const DISPLAY_DIGITS = 8;

/** The slots that a settlement rests on, as a Set. */
export function judgedSlots(policy, terms, settlement) {
  const { before, opening, closing } = neededSlots(policy, terms);
  const slots = new Set(opening);
  if (settlement.venues.some((venue) => venue.closing !== null)) {
    const last = settlement.close_us + settlement.slid_us;
    for (const slot of closing) if (slot <= last) slots.add(slot);
  }
  if (settlement.outcome === "void") for (const slot of before) slots.add(slot);
  return slots;
}

/** Returns the members that are not null, as the canonical encoding has them. */
function present(members) {
  return Object.fromEntries(Object.entries(members).filter(([, value]) => value !== null));
}

const exact = (value) => (value === null ? null : String(value));

const windowDocument = (window) =>
  present({
    valid: window.valid,
    real: window.real,
    value: exact(window.value),
    slots: window.slots.map(({ slot_us, value, real, why }) =>
      present({ slot_us, value: exact(value), real, why: why ?? null }),
    ),
  });

/** The median of the closes that count and are real, for people; null where there is none. */
export function displayPrice(venues) {
  const closes = venues
    .filter((venue) => venue.change !== null && venue.real && venue.closing?.value)
    .map((venue) => venue.closing.value);
  return closes.length ? roundedText(median(closes).number, DISPLAY_DIGITS) : null;
}

/** By whose fault a trade is void: whose holes are most; null for one that is not void. */
export function voidFault(settlement) {
  if (settlement.outcome !== "void") return null;
  const counts = { venue: 0, notary: 0, prover: 0 };
  for (const { opening, closing } of settlement.venues) {
    for (const window of [opening, closing]) {
      if (window === null || window.value !== null) continue;
      for (const slot of window.slots) if (slot.value === null) counts[slot.fault] += 1;
    }
  }
  // A quorum that rests on withheld slots is the prover's.
  if (settlement.change !== null || !(counts.venue + counts.notary)) return "prover";
  return counts.venue > counts.notary ? "venue" : "notary";
}

/** Writes what `settle` returned as a document of plain JSON values. */
export function writeOutcome(settlement, { policy, terms, trade, logged }) {
  const order = new Map(policy.notaries.map((notary, place) => [notary.notary, place]));
  const judged = judgedSlots(policy, terms, settlement);
  const used = logged
    .filter((record) => judged.has(record.slot_us) && record.fields !== null)
    .sort(
      (left, right) =>
        left.slot_us - right.slot_us || order.get(left.notary) - order.get(right.notary),
    );
  return present({
    type: "quotary/outcome/v1",
    trade,
    policy_id: policy.policy_id,
    side: terms.side,
    duration_us: terms.duration_us,
    logged_us: terms.logged_us,
    outcome: settlement.outcome,
    reason: settlement.reason,
    fee: settlement.fee,
    open_us: settlement.open_us,
    close_us: settlement.close_us,
    slid_us: settlement.slid_us,
    final_after_us: settlement.final_after_us,
    change: exact(settlement.change),
    display_price: displayPrice(settlement.venues),
    venues: settlement.venues.map((venue) =>
      present({
        venue: venue.venue,
        opening: windowDocument(venue.opening),
        closing: venue.closing === null ? null : windowDocument(venue.closing),
        change: exact(venue.change),
        real: venue.real,
      }),
    ),
    attestations: used.map((record) => record.attestation),
  });
}
