// What the page verifies with, callable from the browser's console and from tests: pure functions,
// bytes in, a verdict out.

import { shown, utf8 } from "./core/bytes.js";
import { QuotaryError } from "./core/errors.js";
import { parseTrust } from "./core/trust.js";
import { readVenueFiles } from "./core/venue.js";
import VENUES from "./data/venues.json";
import { decodeBundle } from "./settlement/bundle.js";
import { readSettlementExpect } from "./settlement/expect.js";
import { recompute } from "./settlement/recompute.js";

/** The venue files of this version, by name. */
export const shippedVenues = readVenueFiles(VENUES);

/** Runs a step; a named error becomes a verdict, anything else is a bug and stays thrown. */
export function judged(step) {
  try {
    return { accepted: true, ...step() };
  } catch (error) {
    if (!(error instanceof QuotaryError)) throw error;
    return {
      accepted: false,
      error: error.name,
      slug: error.slug,
      rule: error.rule,
      detail: error.detail,
      found: error.found,
      wanted: error.wanted,
    };
  }
}

/**
 * Recomputes a bundle (bytes) under a trust file and a log policy (texts), and what was agreed on,
 * an expect file's text or its members. `venue_files`: canonical JSON texts, the page's own without.
 */
export const judgeBundle = ({ bundle, trust, log_policy: logPolicy, expect, venue_files: files }) =>
  judged(() => {
    const { data } = recompute(decodeBundle(bundle), {
      trust: parseTrust(trust),
      logPolicy: utf8(logPolicy),
      expect: typeof expect === "string" ? readSettlementExpect(expect) : expect,
      venueFiles: files === undefined ? shippedVenues : readVenueFiles(files),
    });
    return { document: shown(data) };
  });
