// Settlement policies: the numbers of the rule, fixed and logged before they are used.

import { hex } from "../core/bytes.js";
import { binding, mode } from "../core/document.js";
import { malformed, untrusted } from "../core/errors.js";
import { sha256 } from "../core/hashing.js";
import * as s from "../core/schema.js";

export const BASIS = 10000;
const MAX_SLOTS = 1000;

const readVenue = s.document("policyvenue", null, {
  venue: s.name,
  instrument: s.text,
  venue_file: s.hashText,
  max_staleness_us: s.positive,
  max_skew_us: s.optional(s.positive),
});

const readNotary = s.document("policynotary", null, { notary: s.text, log: s.text, feed: s.name });

const readWindows = s.document("windows", null, { w_us: s.positive, min_slots: s.positive });

function demand(holds, member, what) {
  if (!holds) throw malformed(`must be such that it ${what}`, { rule: member });
}

const eachOnce = (items) => items.length > 0 && new Set(items).size === items.length;

/** Reads a policy and gives it its id, the SHA-256 of its canonical bytes. */
export const readPolicy = s.document(
  "quotary/policy/v1",
  "quotary/policy/v1",
  {
    name: s.name,
    market: s.text,
    grid_us: s.positive,
    late_us: s.micros,
    notaries: s.arrayOf(readNotary),
    q: s.positive,
    log_policy: s.hashText,
    venues: s.arrayOf(readVenue),
    k: s.positive,
    max_spread_bps: s.positive,
    div_bps: s.positive,
    windows: readWindows,
    durations_us: s.arrayOf(s.positive),
    entry_delay_us: s.positive,
    slide_us: s.micros,
    max_cosign_delay_us: s.micros,
    sources: s.arrayOf(s.oneOf("live", "rest")),
    modes: s.arrayOf(mode),
    bindings: s.arrayOf(binding),
    roots: s.optional(s.hashText),
    fee: s.text,
    log_by_us: s.positive,
    evidence_days: s.positive,
    effective_us: s.micros,
  },
  (policy) => {
    const { windows, grid_us: grid, venues, notaries } = policy;
    const slots = Math.floor(windows.w_us / grid);
    const most = `is at most ${MAX_SLOTS} slots`;
    demand(windows.w_us % grid === 0, "windows.w_us", "is a multiple of grid_us");
    demand(slots <= MAX_SLOTS, "windows.w_us", most);
    demand(Math.floor(policy.slide_us / grid) <= MAX_SLOTS, "slide_us", most);
    demand(windows.min_slots <= slots, "windows.min_slots", "is at most the slots of a window");
    demand(2 * windows.min_slots > slots, "windows.min_slots", "is more than half of them");
    demand(policy.slide_us % grid === 0, "slide_us", "is a multiple of grid_us");
    const names = venues.map((venue) => venue.venue);
    for (const [member, items] of [
      ["venues", names],
      ["notaries", notaries.map((notary) => notary.notary)],
      ["notaries", notaries.map((notary) => notary.log)],
      ["durations_us", policy.durations_us],
      ["sources", policy.sources],
      ["modes", policy.modes],
      ["bindings", policy.bindings],
    ]) {
      demand(eachOnce(items), member, "has members, each once");
    }
    demand(
      names.every((name, at) => at === 0 || names[at - 1] <= name),
      "venues",
      "is sorted by venue",
    );
    demand(policy.k <= venues.length, "k", "is at most the number of venues");
    demand(2 * policy.k > venues.length, "k", "is more than half of the venues");
    demand(policy.q <= notaries.length, "q", "is at most the number of notaries");
    for (const duration of policy.durations_us) {
      demand(duration % grid === 0, "durations_us", "holds multiples of grid_us");
      demand(duration >= 2 * windows.w_us, "durations_us", "is at least two windows");
    }
    policy.policy_id = hex(sha256(s.canonical(policy)));
  },
);

/** The reader's files of the policy's venues, by name; throws UntrustedError for one he has not. */
export function policyFiles(policy, venueFiles) {
  for (const venue of policy.venues) {
    const file = venueFiles.get(venue.venue);
    if (file === undefined || file.hash !== venue.venue_file) {
      throw untrusted(`the policy's venue file of ${venue.venue} is not known`, {
        rule: "policy.venue_file",
        found: venue.venue_file,
        wanted: file?.hash ?? null,
      });
    }
  }
  return venueFiles;
}

const LEDGER_US = 5000000;

/** How long after its batch a trade has ended at the latest, and stands in an honest ledger. */
export const settledAfter = (policy) =>
  policy.entry_delay_us +
  policy.grid_us +
  Math.max(...policy.durations_us) +
  policy.slide_us +
  policy.late_us +
  policy.max_cosign_delay_us +
  LEDGER_US;
