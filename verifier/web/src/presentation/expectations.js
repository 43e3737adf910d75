// Compares authentic fields with what the consumer expects, as verifier/expectations.py.

import { isPublic } from "../core/address.js";
import * as e from "../core/errors.js";
import { utcSeconds } from "../core/quote.js";

const SECOND_US = 1000000;
const DATE =
  /^(?:Mon|Tue|Wed|Thu|Fri|Sat|Sun), ([0-9]{2}) ([A-Z][a-z]{2}) ([0-9]{4}) ([0-9]{2}):([0-9]{2}):([0-9]{2}) GMT$/;
const MONTHS = "Jan Feb Mar Apr May Jun Jul Aug Sep Oct Nov Dec".split(" ");

/** The host, with the port where it is not 443. */
export const placeOf = ({ host, port }) => (port === 443 ? host : `${host}:${port}`);

export function checkSession(authentic, expect, nowUs) {
  const { session, connection } = authentic;
  checkServerName(authentic);
  among(session.mode, expect.modes, "modes", "witnessed in another mode");
  among(session.binding, expect.bindings, "bindings", "bound in another way");
  checkWanted(session.purpose, expect);
  if (expect.hosts !== undefined) {
    among(placeOf(connection), expect.hosts, "hosts", "another host or port answered");
  }
  checkPeer(authentic, expect);
  checkInterval(expect, nowUs, connection.request_first_us, connection.response_last_us);
  checkDate(authentic, expect);
}

export function checkServerName({ server, connection }) {
  if (server.name !== connection.host) {
    throw e.invalidProof("the certificate was checked for another name", {
      rule: "server.name",
      found: server.name,
      wanted: connection.host,
    });
  }
}

/** Throws ExpectationError for another purpose than the expected one. */
export function checkWanted(purpose, expect) {
  if (expect.purpose !== undefined && purpose !== expect.purpose) {
    throw e.expectation("attested for another purpose", {
      rule: "expect.purpose",
      found: purpose,
      wanted: expect.purpose,
    });
  }
}

/** Throws ExpectationError for other root certificates, and for a development address. */
export function checkPeer({ server, connection }, expect) {
  if (expect.roots !== undefined && server.roots !== expect.roots) {
    throw e.expectation("the notary trusts other root certificates", {
      rule: "expect.roots",
      found: server.roots,
      wanted: expect.roots,
    });
  }
  if (!expect.insecure_allow_development && !isPublic(connection.address)) {
    throw e.expectation("the notary connected to an address that is not public", {
      rule: "expect.insecure_allow_development",
      found: connection.address,
    });
  }
}

export function checkInterval(expect, nowUs, firstUs, lastUs) {
  for (const [bad, detail, member, found] of [
    [firstUs < (expect.not_before_us ?? 0), "proven too early", "not_before_us", firstUs],
    [lastUs > (expect.not_after_us ?? Infinity), "proven too late", "not_after_us", lastUs],
    [nowUs - firstUs > (expect.max_age_us ?? Infinity), "too old", "max_age_us", nowUs - firstUs],
  ]) {
    if (bad) throw e.stale(detail, { rule: `expect.${member}`, found, wanted: expect[member] });
  }
}

export function among(found, wanted, member, detail) {
  if (!wanted.includes(found)) {
    throw e.expectation(detail, { rule: `expect.${member}`, found, wanted });
  }
}

/** The exchange's own clock, whole seconds, and the notary's must agree. */
export function checkDate({ http, connection }, expect) {
  if (http.server_date === undefined) return;
  const dateUs = httpDateUs(http.server_date);
  const skew = expect.max_date_skew_us;
  const low = connection.request_first_us - skew - SECOND_US;
  const high = connection.response_last_us + skew;
  if (dateUs < low || dateUs > high) {
    throw e.stale("the exchange's Date and the notary's clock disagree", {
      rule: "expect.max_date_skew_us",
      found: dateUs,
      wanted: [low, high],
    });
  }
}

function httpDateUs(text) {
  const match = DATE.exec(text);
  const month = match === null ? -1 : MONTHS.indexOf(match[2]);
  let seconds = null;
  if (month >= 0) {
    const [day, year, hour, minute, second] = [1, 3, 4, 5, 6].map((at) => Number(match[at]));
    const leap = second === 60;
    seconds = utcSeconds(year, month + 1, day, hour, minute, leap ? 59 : second);
    if (seconds !== null && leap) seconds += 1;
  }
  if (seconds === null || seconds < 0) {
    throw e.invalidProof("Date is not an HTTP date", { rule: "http.server_date", found: text });
  }
  return seconds * SECOND_US;
}
