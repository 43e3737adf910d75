// Derives the quote again from the shown bytes and demands that it is equal, as verifier/rederive.py.

import { equal, fromUtf8, utf8 } from "../core/bytes.js";
import * as e from "../core/errors.js";
import { deriveQuote } from "../core/quote.js";
import * as s from "../core/schema.js";
import { scalar, scalars } from "../core/strictjson.js";
import { sectionName } from "./authenticate.js";

const QUOTE = "quote/v1";
const BODY = "response.body";

const readClaim = s.document("quoteclaim", null, {
  venue: s.pattern(/^[a-z][a-z0-9_]{0,31}$/, "a venue's name"),
  venue_file: s.hashText,
  market: s.pattern(/^[A-Z0-9]{1,16}\/[A-Z0-9]{1,16}$/, "a market such as BTC/USD"),
  instrument: s.pattern(/^[A-Za-z0-9][A-Za-z0-9._:-]{0,31}$/, "an instrument"),
  bid: s.price,
  ask: s.price,
  last: s.optional(s.price),
  exchange_us: s.optional(s.micros),
  observed_us: s.micros,
  section: sectionName,
});

/** The values of the extensions by id; opened bytes must agree with the http field. */
export function checkStructure({ extensions, http }, opened) {
  const values = new Map(
    extensions.map(({ id, value }) => {
      if (id !== QUOTE) {
        throw e.malformed("unknown extension", { rule: "extension.id", found: id });
      }
      return [id, readClaim(value)];
    }),
  );
  const line = opened.get("request.line")?.data ?? null;
  if (line !== null && !equal(line, utf8(`${http.method} ${http.target} HTTP/1.1`))) {
    throw e.invalidProof("request.line is not the attested request", { rule: "http.target" });
  }
  const status = opened.get("response.status")?.data ?? null;
  const wanted = utf8(`HTTP/1.1 ${http.status} `);
  if (status !== null && !equal(status.subarray(0, wanted.length), wanted)) {
    throw e.invalidProof("response.status is not the attested status", { rule: "http.status" });
  }
  return values;
}

/** The attested quote, after deriving it again from opened bytes. */
export function rederiveQuote(authentic, opened, extensions, expect, venueFiles) {
  const claim = extensions.get(QUOTE);
  if (claim === undefined) {
    throw e.incomplete("no quote is attested", { rule: "extension.quote" });
  }
  const { market, instrument } = claim;
  const venue = expectedVenue(
    claim.venue,
    market,
    instrument,
    expect,
    venueFiles,
    claim.venue_file,
  );
  checkPlace(authentic, venue, claim);
  const shown = opened.get(claim.section);
  if (claim.section !== BODY || shown === undefined) {
    throw e.incomplete("the section of the quote is not opened", {
      rule: "quote.section",
      found: claim.section,
    });
  }
  const derived = deriveQuote(venue, instrument, shownScalars(shown));
  for (const member of ["bid", "ask", "last", "exchange_us"]) {
    if (claim[member] !== derived[member]) {
      throw e.invalidProof("the quote does not follow from the shown bytes", {
        rule: `quote.${member}`,
        found: claim[member] ?? null,
        wanted: derived[member] ?? null,
      });
    }
  }
  if (claim.observed_us !== authentic.connection.response_last_us) {
    throw e.invalidProof("observed at another time", { rule: "quote.observed_us" });
  }
  return claim;
}

/** The reader's file of the expected venue; `fileHash` is the attested one, null for none. */
export function expectedVenue(name, market, instrument, expect, venueFiles, fileHash) {
  for (const [member, found, wanted] of [
    ["venues", name, expect.venues],
    ["market", market, expect.market === undefined ? undefined : [expect.market]],
    ["instruments", instrument, expect.instruments],
  ]) {
    if (wanted !== undefined && !wanted.includes(found)) {
      throw e.expectation(`another ${member.replace(/s$/, "")} is attested`, {
        rule: `expect.${member}`,
        found,
        wanted,
      });
    }
  }
  const venue = venueFiles.get(name);
  if (venue === undefined) {
    throw e.untrusted("no venue file for this venue", { rule: "quote.venue", found: name });
  }
  if (fileHash !== null && fileHash !== venue.hash) {
    throw e.untrusted("the quote was derived under another venue file", {
      rule: "quote.venue_file",
      found: fileHash,
      wanted: venue.hash,
    });
  }
  if (venue.market(instrument) !== market) {
    throw e.invalidProof("the instrument is not of this market", {
      rule: "quote.market",
      found: market,
    });
  }
  return venue;
}

/** The request must be the one the venue file renders (W14). */
function checkPlace({ connection, http }, venue, claim) {
  const { hosts, port, rest } = venue.content;
  if (!hosts.includes(connection.host)) {
    throw e.invalidProof("not a host of this venue", { rule: "W14", found: connection.host });
  }
  for (const [member, found, wanted] of [
    ["port", connection.port, port],
    ["method", http.method, rest.method],
    ["target", http.target, venue.target(claim.instrument)],
    ["status", http.status, 200],
  ]) {
    if (found !== wanted) {
      throw e.invalidProof(`${member} is not the venue file's`, { rule: "W14", found, wanted });
    }
  }
}

function shownScalars({ field, data, parts }) {
  try {
    if (data !== null) return scalars(data);
    if (field.split !== "json") {
      throw e.incomplete("the quote's section is not split by JSON value", {
        rule: "quote.section",
      });
    }
    return new Map([...parts].map(([at, raw]) => [at, readPart(raw)]));
  } catch (error) {
    if (!(error instanceof e.QuotaryError) || error.name === "IncompleteError") throw error;
    throw e.invalidProof(`attested bytes are not JSON: ${error.detail}`, { rule: "quote.section" });
  }
}

function readPart(raw) {
  const text = fromUtf8(raw);
  if (text === null) throw e.malformed("not UTF-8", { rule: "W11" });
  return scalar(text);
}
