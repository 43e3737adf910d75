// A quote from a venue's bytes (rule W11): prices in normal form, the venue's own time.

import { MAX_INTEGER } from "./canonical.js";
import { incomplete, malformed } from "./errors.js";
import { fraction, normalize } from "./price.js";
import { sameScalar, scalar, textOf } from "./strictjson.js";

const fail = (detail, found = null) => malformed(detail, { rule: "W11", found });

/** A price in normal form; throws MalformedError unless it is above 0. */
export function positivePrice(value, sentAs) {
  const price = normalize(textOf(value, sentAs));
  if (price === "0" || price.startsWith("-")) throw fail("price is not positive", price);
  return price;
}

export const isAbove = (bid, ask) => fraction(bid).compare(fraction(ask)) > 0;

const MICROS = { us: 1, ms: 1000, s: 1000000 };
const ISO8601 =
  /^([0-9]{4})-([0-9]{2})-([0-9]{2})T([0-9]{2}):([0-9]{2}):([0-9]{2})(?:\.([0-9]{1,9}))?(?:Z|\+00:00)$/;

/** The venue's time in microseconds. */
export function exchangeUs(value, time) {
  const text = textOf(value, time.sent_as);
  let result;
  if (time.unit === "iso8601") result = isoUs(text);
  else if (/^(?:0|[1-9][0-9]{0,15})$/.test(text)) result = Number(text) * MICROS[time.unit];
  else throw fail("time is not a whole number", text.slice(0, 40));
  if (result < 0 || result > MAX_INTEGER) throw fail("time is out of range", text.slice(0, 40));
  return result;
}

function isoUs(text) {
  const match = ISO8601.exec(text);
  if (match === null) throw fail("time is not ISO 8601 in UTC", text.slice(0, 40));
  const micros = Number((match[7] ?? "").padEnd(6, "0").slice(0, 6));
  const seconds = utcSeconds(...match.slice(1, 7).map(Number));
  if (seconds === null) throw fail("no such time", text.slice(0, 40));
  return seconds * 1000000 + micros;
}

/** Seconds of the epoch, or null where there is no such date or time. */
export function utcSeconds(year, month, day, hour, minute, second) {
  const date = new Date(0);
  date.setUTCFullYear(year, month - 1, day);
  date.setUTCHours(hour, minute, second);
  const same =
    year >= 1 &&
    date.getUTCFullYear() === year &&
    date.getUTCMonth() === month - 1 &&
    date.getUTCDate() === day &&
    date.getUTCHours() === hour &&
    date.getUTCMinutes() === minute &&
    date.getUTCSeconds() === second;
  return same ? date.getTime() / 1000 : null;
}

/** Reads the quote of `instrument` from the scalars of a response body. */
export function deriveQuote(venue, instrument, found) {
  const { rest } = venue.content;
  venue.market(instrument);
  const read = (template) => {
    const pointer = venue.render(template, instrument);
    const value = found.get(pointer);
    if (value === undefined) {
      throw incomplete("a member the quote needs is absent", { rule: "W11", found: pointer });
    }
    return value;
  };
  for (const check of rest.checks ?? []) {
    if (!sameScalar(read(check.at), scalar(venue.render(check.equals, instrument)))) {
      throw fail(`${check.at} is not what a quote has`);
    }
  }
  if (rest.instrument !== undefined && textOf(read(rest.instrument), "string") !== instrument) {
    throw fail("answer is for another instrument");
  }
  const bid = positivePrice(read(rest.bid), rest.prices);
  const ask = positivePrice(read(rest.ask), rest.prices);
  if (isAbove(bid, ask)) throw fail("bid is above ask", [bid, ask]);
  const time = rest.exchange_time;
  return {
    bid,
    ask,
    last: rest.last === undefined ? undefined : positivePrice(read(rest.last), rest.prices),
    exchange_us: time === undefined ? undefined : exchangeUs(read(time.at), time),
  };
}
