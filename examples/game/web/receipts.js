// Receipts: kept in this browser, so that the player has what was promised whatever the game says later.

const RECEIPTS = "receipts";
const KEPT = 50;

export function receipts() {
  try {
    return JSON.parse(localStorage.getItem(RECEIPTS)) ?? {};
  } catch {
    return {};
  }
}

/** Keeps what was ordered and what was promised; what is kept is never replaced. */
export function keepReceipt({ trade, nonce, side, stake, seen, promise }, policy) {
  const known = receipts();
  if (known[trade]) return;
  const receipt = { trade, policy_id: policy, nonce, side, stake, seen, promise };
  const kept = Object.entries({ ...known, [trade]: receipt });
  try {
    localStorage.setItem(RECEIPTS, JSON.stringify(Object.fromEntries(kept.slice(-KEPT))));
  } catch {
    // A browser that keeps nothing can still play.
  }
}

/** A link that saves a receipt as a file; `named` tells which. */
export function receiptLink(receipt, named) {
  const link = document.createElement("a");
  link.textContent = "receipt";
  link.href = URL.createObjectURL(new Blob([JSON.stringify(receipt, null, 2)], { type: "application/json" }));
  link.download = `receipt-${receipt.trade.slice(0, 12)}.json`;
  link.title = "Your order and what was promised for it, signed: keep it";
  link.setAttribute("aria-label", `receipt: save that of ${named}`);
  return link;
}
