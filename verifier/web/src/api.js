// What the page verifies with, callable from the browser's console and from tests: pure functions,
// bytes in, a verdict out.

import { shown, utf8 } from "./core/bytes.js";
import { decodeObject, write } from "./core/canonical.js";
import { deriveObservation } from "./core/channel.js";
import { QuotaryError } from "./core/errors.js";
import { parseKey } from "./core/keys.js";
import { scalars } from "./core/strictjson.js";
import { parseTrust } from "./core/trust.js";
import { readVenueFiles } from "./core/venue.js";
import VENUES from "./data/venues.json";
import { readEntry } from "./log/entry.js";
import { parseLogPolicy } from "./log/policy.js";
import { parseLogProof } from "./log/proof.js";
import { readExpect } from "./presentation/expect.js";
import { decide } from "./presentation/verify.js";
import { decodeBundle } from "./settlement/bundle.js";
import { readSettlementExpect } from "./settlement/expect.js";
import { checkLine, readLedger } from "./settlement/ledger.js";
import { readPolicy } from "./settlement/policy.js";
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
 * With `line` (bytes) the operator's ledger must say the same.
 */
export const judgeBundle = ({ bundle, trust, log_policy, expect, venue_files: files, line }) =>
  judged(() => {
    const result = recompute(decodeBundle(bundle), {
      trust: parseTrust(trust),
      logPolicy: utf8(log_policy),
      expect: typeof expect === "string" ? readSettlementExpect(expect) : expect,
      venueFiles: files === undefined ? shippedVenues : readVenueFiles(files),
    });
    if (line !== undefined) checkLine(readLedger(line)[0], result);
    return { document: shown(result.data) };
  });

const told = ({ venue, market, instrument, bid, ask, mid, not_before_us, not_after_us }) => ({
  venue,
  market,
  instrument,
  bid,
  ask,
  mid: String(mid),
  not_before_us,
  not_after_us,
});

/**
 * Decides about presentations (bytes) of one quote, slot or transcript, under a trust file, a log
 * policy (text, if the trust file names one) and an expect file, at a time in microseconds.
 */
export const judgePresentations = ({ presentations, trust, log_policy: policy, expect, now_us }) =>
  judged(() => {
    const found = decide(presentations, {
      trust: parseTrust(trust),
      logPolicy: policy === undefined ? null : parseLogPolicy(utf8(policy)),
      expect: readExpect(expect),
      nowUs: now_us,
      venueFiles: shippedVenues,
    });
    return {
      document: write({
        quotes: found.quotes.map(told),
        mode: found.mode,
        purpose: found.purpose,
        not_before_us: found.not_before_us,
        not_after_us: found.not_after_us,
        notaries: found.notaries.map(({ name, operator }) => ({ name, operator })),
        checked: found.checked,
        not_checked: found.not_checked,
      }),
    };
  });

const READERS = {
  entry: (data) => readEntry(data).kind,
  ledger: (data) => String(readLedger(data).length),
  policy: (data) => readPolicy(decodeObject(data)).policy_id,
  proof: (data) => write({ index: parseLogProof(data).index }),
  trust: (data) => String(parseTrust(shown(data)).keys.length),
  expect: (data) => String(readExpect(shown(data)).notary_count),
  settlement_expect: (data) => readSettlementExpect(shown(data)).policy_id,
};

/** Reads a document (bytes) of a kind: entry, ledger, policy, proof, or one of the reader's files. */
export const judgeDocument = ({ kind, data }) =>
  judged(() => ({ document: READERS[kind](data) }));

/** Opens a checkpoint (text) under a log policy (text), with the witnesses that it asks for. */
export const judgeCheckpoint = ({ log_policy: policy, checkpoint }) =>
  judged(() => {
    const { signed, quorumTime } = parseLogPolicy(utf8(policy)).open(checkpoint);
    const { origin, size } = signed.checkpoint;
    return { document: JSON.stringify([origin, size, quorumTime === null ? null : Number(quorumTime)]) };
  });

/** Verifies a signature (bytes) on a message (bytes) by a vkey. */
export const judgeSignature = ({ vkey, signature, message }) =>
  judged(() => {
    parseKey(vkey).verify(signature, message);
    return { document: "valid" };
  });

/** Reads a venue's JSON (bytes) as its scalars: [pointer, kind, text as sent] each. */
export const judgeJson = ({ body }) =>
  judged(() => ({
    document: JSON.stringify([...scalars(body)].map(([at, { kind, raw }]) => [at, kind, raw])),
  }));

/** Reads the quote of an instrument that rests on exactly these messages (bytes) of a venue. */
export const judgeMessages = ({ venue, instrument, messages }) =>
  judged(() => {
    const { bid, ask, exchange_us } = deriveObservation(
      shippedVenues.get(venue),
      instrument,
      messages,
    );
    return { document: JSON.stringify([bid, ask, exchange_us ?? null]) };
  });
