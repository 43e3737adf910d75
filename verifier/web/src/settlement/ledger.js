// The operator's ledger: one canonical document a line, one line for each leaf logged (S1).

import { equal } from "../core/bytes.js";
import { decodeObject } from "../core/canonical.js";
import { isKind, malformed, mismatch } from "../core/errors.js";
import { hashString } from "../core/hashing.js";
import { fraction } from "../core/price.js";
import * as s from "../core/schema.js";
import { readLeaf } from "./trade.js";

const MAX_LINE = 64 * 1024;

const readLine = s.document(
  "quotary/ledger/v1",
  "quotary/ledger/v1",
  {
    trade: s.hex32,
    salt: s.hex16,
    entry: s.count,
    leaf: readLeaf,
    outcome: s.oneOf("up", "down", "tie", "void"),
    payout: s.price,
    settlement: s.hashText,
    attestations: s.arrayOf(s.hex16),
  },
  (line) => {
    if (line.trade !== line.leaf.trade) throw malformed("not the leaf's trade", { rule: "trade" });
    if (fraction(line.payout).n < 0n) {
      throw malformed("a payout is not below 0", { rule: "payout", found: line.payout });
    }
  },
);

/** Reads a ledger's bytes, a line each; throws MalformedError. */
export function readLedger(data) {
  const lines = [];
  const seen = new Set();
  let start = 0;
  while (start < data.length) {
    const newline = data.indexOf(10, start);
    const end = newline < 0 ? data.length : newline;
    const line = readOne(data.subarray(start, end), lines.length + 1);
    const place = `${line.entry} ${line.trade}`;
    if (seen.has(place)) {
      const detail = `line ${lines.length + 1}: one leaf twice`;
      throw malformed(detail, { rule: "ledger.trade", found: line.trade });
    }
    seen.add(place);
    lines.push(line);
    start = end + 1;
  }
  return lines;
}

function readOne(data, number) {
  try {
    return readLine(decodeObject(data, MAX_LINE));
  } catch (error) {
    if (!isKind(error, "MalformedError")) throw error;
    const rule = `ledger.${error.rule ?? "line"}`;
    throw malformed(`line ${number}: ${error.detail}`, { rule, found: error.found });
  }
}

/** Compares a line with what the trade's bundle leads to; throws OutcomeMismatchError. */
export function checkLine(line, { outcome, data, leaf }) {
  for (const [member, found, wanted] of [
    ["trade", line.trade, outcome.trade],
    ["outcome", line.outcome, outcome.outcome],
    ["settlement", line.settlement, hashString(data)],
    ["attestations", line.attestations.join(), outcome.attestations.join()],
  ]) {
    if (found !== wanted) throw differs(member, found, wanted);
  }
  // A tie returns the stake, a void at least the stake.
  const order = fraction(line.payout).compare(fraction(line.leaf.stake));
  const short = outcome.outcome === "void" ? order < 0 : order !== 0;
  if (["tie", "void"].includes(outcome.outcome) && short) {
    throw mismatch("the stake was not returned", {
      rule: "ledger.payout",
      found: line.payout,
      wanted: line.leaf.stake,
    });
  }
  if (!equal(s.canonical(line.leaf), s.canonical(leaf))) {
    throw differs("leaf", line.leaf.trade, leaf.trade);
  }
}

const differs = (member, found, wanted) =>
  mismatch(`the ledger's ${member} is not what follows from the log`, {
    rule: `ledger.${member}`,
    found,
    wanted,
  });
