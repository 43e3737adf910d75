// The settlement rule (docs/settlement-policy.md, S2 and S6 to S10): a pure function.

import { incomplete, malformed } from "../core/errors.js";
import { compareValues, median, ONE, ratio } from "../core/fraction.js";
import { favourable, venueSlot } from "./slots.js";

/** The first slot that is not before a time. */
export const slotAtOrAfter = (timeUs, gridUs) => Math.ceil(timeUs / gridUs) * gridUs;

function range(from, until, step) {
  const slots = [];
  for (let slot = from; slot < until; slot += step) slots.push(slot);
  return slots;
}

/** The slots of the window before t_c, of the open window, and of the close with all its slides. */
export function neededSlots(policy, terms) {
  const grid = policy.grid_us;
  const { w_us: w } = policy.windows;
  const before = slotAtOrAfter(terms.logged_us, grid);
  const opening = slotAtOrAfter(terms.logged_us + policy.entry_delay_us, grid);
  const closing = opening + terms.duration_us;
  return {
    before: range(before - w, before, grid),
    opening: range(opening, opening + w, grid),
    closing: range(closing - w + grid, closing + policy.slide_us + grid, grid),
  };
}

/** The values of all venues in windows, each slot judged once for each end. */
class Ends {
  constructor(policy, side, logged, readFromUs, readUntilUs) {
    Object.assign(this, { policy, side, readFromUs, readUntilUs });
    this.notaries = new Set(policy.notaries.map((notary) => notary.notary));
    this.records = new Map();
    this.values = { open: new Map(), close: new Map() };
    const seen = new Set();
    for (const record of logged) {
      const place = JSON.stringify([record.notary, record.slot_us]);
      if (seen.has(place)) throw malformed("two records of one notary's slot", { rule: "slots" });
      seen.add(place);
      const same = this.records.get(record.slot_us);
      if (same === undefined) this.records.set(record.slot_us, [record]);
      else same.push(record);
    }
  }

  /** Each venue's window (S6) by name; throws IncompleteError while a slot may still come. */
  windows(slots, end) {
    const { policy } = this;
    const dueUs = slots[slots.length - 1] + policy.late_us;
    if (this.readUntilUs <= dueUs) {
      throw incomplete("the log is not read to the end of what counts", {
        rule: "settlement.final",
        found: this.readUntilUs,
        wanted: dueUs + 1,
      });
    }
    if (this.readFromUs !== null && this.readFromUs >= slots[0]) {
      throw incomplete("the log is not read from before the first slot that counts", {
        rule: "settlement.start",
        found: this.readFromUs,
        wanted: slots[0] - 1,
      });
    }
    for (const slotUs of slots) {
      for (const record of this.records.get(slotUs) ?? []) {
        if (record.not_given && this.notaries.has(record.notary)) {
          throw incomplete("the attestation of a slot that counts is missing", {
            rule: "slots.missing",
            found: [record.notary, slotUs],
          });
        }
      }
    }
    const bySlot = slots.map((slotUs) => this.#judged(slotUs, end));
    return new Map(
      policy.venues.map((venue, place) => {
        const judged = bySlot.map((values) => values[place]);
        const values = judged.filter((slot) => slot.value !== null).map((slot) => slot.value);
        return [
          venue.venue,
          {
            slots: judged.map((slot, at) => ({ slot_us: slots[at], ...slot })),
            valid: values.length,
            real: judged.filter((slot) => slot.real).length,
            value: values.length >= policy.windows.min_slots ? median(values) : null,
          },
        ];
      }),
    );
  }

  #judged(slotUs, end) {
    const known = this.values[end];
    if (!known.has(slotUs)) {
      const withheld = favourable(this.side, end);
      const records = this.records.get(slotUs) ?? [];
      known.set(
        slotUs,
        this.policy.venues.map((venue) => venueSlot(venue, slotUs, records, this.policy, withheld)),
      );
    }
    return known.get(slotUs);
  }
}

/**
 * Settles a trade. `logged` holds one record for each notary and slot that the log has;
 * `readUntilUs` is the time of the last entry read, `readFromUs` of the first, null from the
 * log's beginning on.
 */
export function settle(policy, terms, logged, { readFromUs, readUntilUs }) {
  const ends = new Ends(policy, terms.side, logged, readFromUs, readUntilUs);
  const { before, opening } = neededSlots(policy, terms);
  const grid = policy.grid_us;
  const least = policy.windows.min_slots;
  const atOpen = ends.windows(opening, "open");
  const closeUs = opening[0] + terms.duration_us;
  let endUs = opening[opening.length - 1];
  let atClose = new Map();
  let both = [];
  const quorum = (windows) =>
    [...windows.values()].filter((window) => window.value !== null).length >= policy.k;
  if (quorum(atOpen)) {
    for (endUs = closeUs; endUs <= closeUs + policy.slide_us; endUs += grid) {
      const window = range(endUs - policy.windows.w_us + grid, endUs + 1, grid);
      atClose = ends.windows(window, "close");
      both = [...atOpen.keys()].filter(
        (name) => atOpen.get(name).value !== null && atClose.get(name).value !== null,
      );
      if (both.length >= policy.k) break;
      both = [];
    }
    endUs = Math.min(endUs, closeUs + policy.slide_us);
  }
  const venues = [...atOpen].map(([name, open]) =>
    venueReturn(name, open, atClose.get(name) ?? null, both, terms.side, least),
  );
  const changes = venues.filter((venue) => venue.change !== null).map((venue) => venue.change);
  const change = changes.length ? median(changes) : null;
  const { outcome, reason } = decide(change, venues, terms.side, policy);
  const fee = outcome === "void" && quorum(ends.windows(before, "open"));
  return {
    outcome,
    reason,
    fee,
    open_us: opening[0],
    close_us: closeUs,
    slid_us: Math.max(0, endUs - closeUs),
    final_after_us: endUs + policy.late_us,
    change,
    venues,
  };
}

function decide(change, venues, side, policy) {
  if (change === null) return { outcome: "void", reason: "no quorum of venues" };
  const order = compareValues(change, ONE);
  const outcome = order === 0 ? "tie" : order > 0 ? "up" : "down";
  const real = venues.filter((venue) => venue.change !== null && venue.real);
  // S8: nobody loses by a quorum that only withheld slots made.
  if (real.length < policy.k && outcome !== side && outcome !== "tie") {
    return { outcome: "void", reason: "the quorum rests on withheld slots" };
  }
  return { outcome, reason: null };
}

function venueReturn(name, opening, closing, both, side, least) {
  let change = null;
  let real = false;
  if (both.includes(name)) {
    real = opening.real >= least && closing.real >= least;
    // Without enough real slots at both ends a venue never counts against the player.
    change = real ? ratio(closing.value, opening.value) : ratio(favourable(side, "close"), ONE);
  }
  return { venue: name, opening, closing, change, real };
}
