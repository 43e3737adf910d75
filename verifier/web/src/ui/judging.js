// Verifies what was opened with what is known: keys, log policy, expectations, venue files, ledger.

import { utf8 } from "../core/bytes.js";
import { QuotaryError, usage } from "../core/errors.js";
import { decide } from "../presentation/verify.js";
import { decodeBundle } from "../settlement/bundle.js";
import { checkLine } from "../settlement/ledger.js";
import { recompute } from "../settlement/recompute.js";

/** Verifies one item: leaves a result (of a bundle), what was found, or an error in it. */
export function judge(item, known) {
  for (const member of ["bundle", "result", "found", "error", "heads"]) delete item[member];
  const started = performance.now();
  try {
    Object.assign(
      item,
      item.presentations === undefined ? settled(item, known) : seen(item, known),
    );
  } catch (error) {
    // A bug accepts nothing, and says so.
    item.error =
      error instanceof QuotaryError
        ? error
        : usage(`the page failed: ${error}`, { rule: "page.bug", found: item.name });
  }
  item.took = performance.now() - started;
}

function settled({ data }, { trust, logPolicy, expect, venues, ledger }) {
  const bundle = decodeBundle(data);
  checkTrust(trust);
  if (logPolicy === null) {
    throw usage("no log policy is known: open the one that the policy names", {
      rule: "log_policy",
    });
  }
  const policyId = expect.policy_id ?? bundle.policy.entry.policy_id;
  const result = recompute(bundle, {
    trust: trust.parsed,
    logPolicy: utf8(logPolicy.text),
    expect: { ...expect, policy_id: policyId },
    venueFiles: venues,
  });
  const line = ledger?.get(bundle.trade.leaf.trade);
  if (line !== undefined) checkLine(line, result);
  return { bundle, result };
}

function seen({ presentations }, { trust, logPolicy, quoteExpect, venues }) {
  checkTrust(trust);
  if (quoteExpect === null) {
    throw usage(
      "nothing says what you expect of a price: open an expect file with venues and market",
      { rule: "expect" },
    );
  }
  const found = decide(presentations, {
    trust: trust.parsed,
    logPolicy: logPolicy?.parsed ?? null,
    expect: quoteExpect,
    nowUs: Date.now() * 1000,
    venueFiles: venues,
  });
  return { found };
}

function checkTrust(trust) {
  if (trust === null) {
    throw usage("no keys are known: open the trust file of whom you believe", { rule: "trust" });
  }
}
