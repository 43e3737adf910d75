// What a reader should know before anything else of what was accepted.

export const BROUGHT =
  "The keys came with this page from its own server. Who serves both bundle and keys can make them agree: compare the fingerprints below, or open your own trust file.";

/** The warnings about an accepted item, of what the page knows. */
export function warningsOf(item, { trust, logPolicy, expect, ledger, linked }) {
  const found = [];
  if (trust.brought || logPolicy.brought) {
    found.push(BROUGHT);
  }
  if (expect.policy_id === undefined) {
    found.push(
      "You did not say which policy you agreed to: the bundle was compared with its own.",
    );
  } else if (linked) {
    found.push(
      "Policy and trade are those of the link you followed. Compare them with your receipt.",
    );
  }
  if (ledger !== null && !ledger.has(item.result.leaf.trade)) {
    found.push(
      "The operator’s ledger has no line of this trade: every trade that was logged must have one.",
    );
  }
  if (expect.insecure_allow_development) {
    found.push("Simulated venues are allowed: nothing of this needs to be real.");
  }
  return found;
}
