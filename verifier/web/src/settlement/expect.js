// What the reader of a bundle demands of it, as attestation/settlement/expect.py.

import { isKind, usage } from "../core/errors.js";
import * as s from "../core/schema.js";
import { readToml } from "../core/toml.js";

const readMembers = s.document("settlementexpect", null, {
  policy_id: s.hex32,
  trade: s.optional(s.hex32),
  market: s.optional(s.text),
  player: s.optional(s.hashText),
  side: s.optional(s.oneOf("up", "down")),
  stake: s.optional(s.price),
  digest: s.optional(s.hashText),
  logged_by_us: s.optional(s.micros),
  operators: s.optional(s.arrayOf(s.text)),
  insecure_allow_development: s.optional(s.boolean),
});

/** Reads an expect file; throws UsageError. */
export function readSettlementExpect(text) {
  try {
    return readMembers({ ...readToml(text) });
  } catch (error) {
    if (!isKind(error, "MalformedError")) throw error;
    throw usage(`expect file: ${error.detail}`, { rule: error.rule, found: error.found });
  }
}
