// Decides whether presentations are what the consumer expects, as verifier/verify.py and quorum.py.

import * as e from "../core/errors.js";
import { finite, Fraction, median } from "../core/fraction.js";
import { fraction } from "../core/price.js";
import { authenticate, openSections } from "./authenticate.js";
import { checkSession, placeOf } from "./expectations.js";
import { checkLog, witnessedUs } from "./logproof.js";
import { decodePresentation } from "./presentation.js";
import { checkStructure, rederiveQuote } from "./rederive.js";
import { observe, purposeOf } from "./slots.js";

/** The exact middle of two prices. */
export function mid(bid, ask) {
  const sum = fraction(bid).add(fraction(ask));
  return new Fraction(sum.n, sum.d * 2n);
}

const unique = (items) => [...new Set(items)];
const checkedOfAll = (parts) =>
  parts[0].checked.filter((check) => parts.every((part) => part.checked.includes(check)));
const leftOfAny = (parts) => unique(parts.flatMap((part) => part.notChecked));

/**
 * Verifies presentations (bytes) of one quote, slot or transcript. `reader`: trust, logPolicy (or
 * null), expect, nowUs, venueFiles. Returns {voices, quotes, ...}; throws what failed.
 */
export function decide(presentations, reader) {
  if (!presentations.length) {
    throw e.usage("no presentation to verify", { rule: "presentations" });
  }
  const { expect } = reader;
  if (presentations.length === 1 && expect.notary_count === 1) {
    return summary([verifyOne(presentations[0], reader)]);
  }
  const voices = presentations.map((data) => verifyOne(data, reader));
  if (voices.some((voice) => voice.kind === "transcript")) {
    throw e.expectation("a quorum is of quotes", { rule: "expect.hosts" });
  }
  checkVoices(voices, expect);
  const slots = voices.filter((voice) => voice.kind === "slot");
  if (!slots.length) checkAgreed(voices, expect);
  else {
    if (slots.length !== voices.length) {
      throw e.expectation("some notaries show a slot, some do not", { rule: "quorum.kind" });
    }
    checkSame(slots, ["purpose"]);
    slots[0].quotes.forEach((_, at) =>
      checkAgreed(
        slots.map((slot) => slot.quotes[at]),
        expect,
      ),
    );
  }
  return summary(voices);
}

function summary(voices) {
  return {
    voices,
    quotes: voices.flatMap((voice) => voice.quotes),
    mode: unique(voices.flatMap((voice) => voice.mode.split("+")))
      .sort()
      .join("+"),
    purpose: voices[0].purpose,
    not_before_us: Math.min(...voices.map((voice) => voice.not_before_us)),
    not_after_us: Math.max(...voices.map((voice) => voice.not_after_us)),
    notaries: voices.map((voice) => voice.notary),
    checked: checkedOfAll(voices),
    not_checked: leftOfAny(voices),
  };
}

function verifyOne(data, reader) {
  const { trust, logPolicy, expect, nowUs } = reader;
  const presentation = decodePresentation(data);
  const authentic = authenticate(presentation, {
    trust,
    nowUs,
    witnessedUs: witnessedUs(presentation, { trust, logPolicy, expect: expect.log }),
  });
  const operators = expect.notaries?.operators;
  if (operators !== undefined && !operators.includes(authentic.notary.operator)) {
    throw e.expectation("the notary is run by another operator", {
      rule: "expect.notaries.operators",
      found: authentic.notary.operator,
      wanted: operators,
    });
  }
  const verified =
    authentic.kind === "slot"
      ? slotOf(presentation, authentic, reader)
      : sessionOf(presentation, authentic, reader);
  return withLog(verified, presentation, authentic, reader);
}

/** Adds where a log has it to what was verified, and to each of its quotes. */
function withLog(verified, presentation, authentic, { trust, logPolicy, expect }) {
  if (presentation.log === undefined && expect.log === undefined) return verified;
  const { header, notary } = authentic;
  const log = checkLog(presentation.log, {
    header,
    of: authentic,
    notary,
    trust,
    logPolicy,
    expect: expect.log,
  });
  let done = [];
  let left = ["log", "log_key"];
  if (log !== null) {
    done = log.quorumUs === null ? ["log"] : ["log", "witnesses"];
    left = log.quorumUs === null ? ["witnesses"] : [];
  }
  const add = (part) => ({
    ...part,
    log,
    checked: [...part.checked, ...done],
    notChecked: [...left, ...part.notChecked.slice(1)],
  });
  const quotes = verified.quotes.map(add);
  return verified.kind === "quote" ? { ...quotes[0], quotes } : { ...add(verified), quotes };
}

const common = (authentic) => ({
  notary: authentic.notary,
  header: authentic.header,
});

function slotOf(presentation, authentic, reader) {
  const observed = observe(presentation, authentic, reader);
  const quotes = observed.map(({ seen, ...rest }) => ({
    kind: "quote",
    ...common(authentic),
    ...rest,
    host: null,
    venue: seen.venue,
    market: authentic.slot.market,
    instrument: seen.instrument,
    bid: seen.bid,
    ask: seen.ask,
    mid: mid(seen.bid, seen.ask),
    not_before_us: seen.received_us,
    not_after_us: seen.received_us,
  }));
  if (quotes.length === 1) return { ...quotes[0], quotes };
  return {
    kind: "slot",
    ...common(authentic),
    quotes,
    host: null,
    mode: unique(quotes.map((quote) => quote.mode))
      .sort()
      .join("+"),
    purpose: purposeOf(authentic),
    not_before_us: Math.min(...quotes.map((quote) => quote.not_before_us)),
    not_after_us: Math.max(...quotes.map((quote) => quote.not_after_us)),
    checked: checkedOfAll(quotes),
    notChecked: leftOfAny(quotes),
  };
}

function sessionOf(presentation, authentic, { expect, nowUs, venueFiles }) {
  const { session, connection, http } = authentic;
  checkSession(authentic, expect, nowUs);
  const opened = openSections(presentation, authentic.sections);
  const extensions = checkStructure(authentic, opened);
  const shared = {
    ...common(authentic),
    host: placeOf(connection),
    mode: session.mode,
    purpose: session.purpose,
    not_before_us: connection.request_first_us,
    not_after_us: connection.response_last_us,
    checked: ["signature", "inclusion", "times", "expectations", "openings"],
    notChecked: ["log", "tls_evidence"],
  };
  if (expect.hosts !== undefined) {
    return { kind: "transcript", ...shared, http, opened, quotes: [] };
  }
  const claim = rederiveQuote(authentic, opened, extensions, expect, venueFiles);
  const quote = {
    kind: "quote",
    ...shared,
    checked: [...shared.checked, "quote"],
    venue: claim.venue,
    market: claim.market,
    instrument: claim.instrument,
    bid: claim.bid,
    ask: claim.ask,
    last: claim.last,
    mid: mid(claim.bid, claim.ask),
  };
  return { ...quote, quotes: [quote] };
}

/** Names are counted, since one notary may have several keys; so are who runs them. */
function checkVoices(voices, expect) {
  const names = voices.map((voice) => voice.notary.name);
  if (new Set(names).size !== names.length) {
    throw e.expectation("one notary speaks twice", { rule: "quorum.notary", found: names });
  }
  if (names.length < Math.max(expect.notary_count, 1)) {
    throw e.incomplete("fewer notaries than expected", {
      rule: "expect.notaries.count",
      found: names.length,
      wanted: expect.notary_count,
    });
  }
  const operators = voices.map((voice) => voice.notary.operator);
  if (new Set(operators).size < expect.notary_count && !expect.shared_operators) {
    throw e.expectation("the notaries are run by fewer operators than notaries are expected", {
      rule: "quorum.operator",
      found: operators,
      wanted: expect.notary_count,
    });
  }
}

/** Of a slot's purpose what is not the notary's own name for the feed. */
function said(voice, member) {
  const value = voice[member];
  const parts = member === "purpose" ? /^slot\/[^/]*\/(.*)$/s.exec(value) : null;
  return parts === null ? value : `slot/${parts[1]}`;
}

function checkSame(voices, members) {
  for (const member of members) {
    const found = unique(voices.map((voice) => said(voice, member)));
    if (found.length > 1) {
      throw e.expectation(`the notaries attest different ${member}s`, {
        rule: `quorum.${member}`,
        found: found.sort(),
      });
    }
  }
}

/** Compares the notaries' quotes of one venue. */
function checkAgreed(quotes, expect) {
  checkSame(quotes, ["venue", "instrument", "purpose"]);
  const first = Math.min(...quotes.map((quote) => quote.not_before_us));
  const last = Math.max(...quotes.map((quote) => quote.not_after_us));
  if (last - first > expect.apart_us) {
    throw e.stale("the notaries witnessed at different times", {
      rule: "expect.notaries.max_apart_us",
      found: last - first,
      wanted: expect.apart_us,
    });
  }
  for (const member of ["mid", "bid", "ask", "last"]) {
    const prices = quotes
      .map((quote) => quote[member])
      .filter((value) => value !== undefined)
      .map((value) => (typeof value === "string" ? fraction(value) : value));
    if (!prices.length) continue;
    const middle = median(prices.map(finite)).number;
    const apart = prices.some(
      (price) =>
        price.subtract(middle).abs().times(10000).compare(middle.times(expect.divergence_bps)) > 0,
    );
    if (apart) {
      throw e.expectation("the notaries saw different prices", {
        rule: "expect.notaries.max_div_bps",
        found: quotes.map(({ notary, bid, ask }) => `${notary.name} ${bid} ${ask}`),
        wanted: expect.divergence_bps,
      });
    }
  }
}
