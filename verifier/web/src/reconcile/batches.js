// Opens every batch of a span with the operator's ledger, so that no trade of the log can be missing,
// and none can be added (attestation/settlement/ledger.py).

import { hex } from "../core/bytes.js";
import { encode } from "../core/canonical.js";
import { leafHash, root } from "../core/merkle.js";
import { commitmentOf } from "../settlement/trade.js";

/**
 * Compares lines with batches (a Map of index to entry) between two indices. Returns the line of each
 * trade's first leaf, and findings {kind, detail, entry, trade?}; leaves of batches logged after
 * `dueUs` may still be pending.
 */
export function openBatches(lines, span, dueUs) {
  const byEntry = new Map([...span.batches.keys()].map((index) => [index, new Map()]));
  const findings = [];
  const find = (kind, detail, entry, trade) => findings.push({ kind, detail, entry, trade });
  for (const line of lines) {
    const mine = byEntry.get(line.entry);
    if (mine !== undefined) {
      if (mine.has(line.trade)) find("other_leaf", "one leaf twice", line.entry, line.trade);
      mine.set(line.trade, line);
    } else if (span.first !== null && line.entry >= span.first && line.entry <= span.last) {
      find("unknown_batch", "the log has no batch there", line.entry, line.trade);
    }
  }
  const trades = new Map();
  let pending = 0;
  for (const [index, batch] of span.batches) {
    const mine = [...byEntry.get(index).values()];
    const left = batch.count - mine.length;
    if (left > 0 && batch.logged_us > dueUs) pending += left;
    else if (left > 0) find("missing_leaf", `${left} of ${batch.count} trades are left out`, index);
    else if (!isBatch(mine, batch)) {
      find("other_leaf", "the ledger’s trades are not those that were logged", index);
    }
    for (const line of mine) {
      if (trades.has(line.trade)) {
        find("double_trade", "a second leaf of one trade", index, line.trade);
      } else trades.set(line.trade, { line, loggedUs: batch.logged_us });
    }
  }
  return { trades: [...trades.values()], findings, pending };
}

/** Whether lines, sorted by trade, fold to the batch's root. */
function isBatch(lines, batch) {
  const leaves = lines
    .map(commitmentOf)
    .sort((left, right) => (left.trade < right.trade ? -1 : 1))
    .map((commitment) => leafHash(encode(commitment)));
  return lines.length === batch.count && batch.root === `sha256:${hex(root(leaves))}`;
}
