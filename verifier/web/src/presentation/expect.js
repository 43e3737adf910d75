// What the consumer of a presentation demands, as attestation/expect.py.

import { binding, mode } from "../core/document.js";
import { isKind, malformed, usage } from "../core/errors.js";
import * as s from "../core/schema.js";
import { readToml } from "../core/toml.js";

const place = s.pattern(
  /^[a-z0-9](?:[a-z0-9.-]{0,251}[a-z0-9])?(?::(?!443$)[1-9][0-9]{0,4})?$/,
  "a lower-case host name, with its port where that is not 443",
);

const readNotaries = s.document("notaryquorum", null, {
  count: s.positive,
  operators: s.optional(s.arrayOf(s.text)),
  max_div_bps: s.optional(s.positive),
  max_apart_us: s.optional(s.micros),
  insecure_shared_operators: s.optional(s.boolean),
});

const readLog = s.document("logexpectation", null, {
  quorum: s.positive,
  max_delay_us: s.optional(s.micros),
  insecure_shared_operators: s.optional(s.boolean),
});

const readMembers = s.document(
  "expect",
  null,
  {
    venues: s.optional(s.arrayOf(s.name)),
    market: s.optional(s.text),
    hosts: s.optional(s.arrayOf(place)),
    instruments: s.optional(s.arrayOf(s.text)),
    not_before_us: s.optional(s.micros),
    not_after_us: s.optional(s.micros),
    max_age_us: s.optional(s.micros),
    purpose: s.optional(s.text),
    modes: s.optional(s.arrayOf(mode)),
    bindings: s.optional(s.arrayOf(binding)),
    notaries: s.optional(readNotaries),
    log: s.optional(readLog),
    max_date_skew_us: s.optional(s.micros),
    roots: s.optional(s.hashText),
    insecure_allow_development: s.optional(s.boolean),
  },
  (expect) => {
    const quote = expect.venues !== undefined;
    if (
      quote === (expect.hosts !== undefined) ||
      quote !== (expect.market !== undefined) ||
      !(expect.venues?.length || expect.hosts?.length)
    ) {
      throw malformed("expect names either venues and market, or hosts");
    }
    if (expect.instruments !== undefined && !quote) {
      throw malformed("a transcript has no instrument", { rule: "instruments" });
    }
    expect.modes ??= ["sealed", "live"];
    expect.bindings ??= ["full"];
    expect.max_date_skew_us ??= 5000000;
    expect.notary_count = expect.notaries?.count ?? 1;
    expect.divergence_bps = expect.notaries?.max_div_bps ?? 20;
    expect.apart_us = expect.notaries?.max_apart_us ?? 10000000;
    expect.shared_operators = expect.notaries?.insecure_shared_operators ?? false;
  },
);

/** Turns tables without prototype into plain objects. */
const plain = (value) => {
  if (Array.isArray(value)) return value.map(plain);
  if (typeof value !== "object" || value === null) return value;
  return Object.fromEntries(Object.entries(value).map(([key, item]) => [key, plain(item)]));
};

/** Reads an expect file; throws UsageError. */
export function readExpect(text) {
  try {
    return readMembers(plain(readToml(text)));
  } catch (error) {
    if (!isKind(error, "MalformedError")) throw error;
    throw usage(`expect file: ${error.detail}`, { rule: error.rule, found: error.found });
  }
}
