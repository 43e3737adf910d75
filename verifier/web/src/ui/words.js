// The policy in words, beside its JSON and its hash; and what this page does not show.

import { write } from "../core/canonical.js";
import { code, h, more, section, visible, when } from "./dom.js";
import { duration, list, plural } from "./format.js";

function sentences(policy) {
  const { windows, grid_us: grid } = policy;
  const slots = windows.w_us / grid;
  const names = policy.notaries.map((notary) => visible(notary.notary, 80));
  const notaries =
    names.length === 1
      ? `One notary, ${names[0]}, saw the prices. A single notary can lie; it is shown here as a single notary.`
      : `${names.length} notaries saw the prices: ${list(names)}. At least ${policy.q} of their prices must lie within ${policy.div_bps} bp of the middle one.`;
  return [
    `A trade on ${visible(policy.market, 40)} lasts ${list(policy.durations_us.map(duration))}. Its clock starts when the log has it: the first slot at least ${duration(policy.entry_delay_us)} later opens it, so nobody can choose the moment after seeing a price.`,
    notaries,
    `Every ${duration(grid)} each of ${policy.venues.length} venues has one value, or a gap whose fault is named. It counts if the log had it within ${duration(policy.late_us)}.`,
    `The open price of a venue is the median over ${duration(windows.w_us)} (${slots} slots, at least ${windows.min_slots} valid); the close price likewise at the end. A push for a second moves neither.`,
    `A quote is left out if bid and ask cross, if its spread is over ${policy.max_spread_bps} bp, or if it is too old for its venue.`,
    `The outcome is the median over the venues of close divided by open: above one is UP, below is DOWN, exactly one is a tie and returns the stake. At least ${policy.k} venues must count.`,
    `A price that the operator’s side withheld is not left out: it counts as the price that favours the player most.`,
    `Too few venues at the close: the window slides by at most ${duration(policy.slide_us)}; then the trade is void, the stake returns, and the operator pays a fee of ${visible(policy.fee, 80)} unless the venues were already too few before the trade.`,
    `Final ${duration(policy.late_us)} after the closing slot; the witnesses must have seen it at most ${duration(policy.max_cosign_delay_us)} later.`,
  ];
}

const WHOSE = {
  agreed: "The policy you agreed to, ",
  linked: "The policy that the link you followed names, ",
  unsaid: "You did not say which policy you agreed to. Compare this id: ",
};

/** `whose`: whether the reader gave the policy's id, or a link, or nobody. */
export function policySection(result, whose) {
  const { policy } = result;
  const json = JSON.stringify(JSON.parse(write(policy.json)), null, 2);
  return section(
    "The policy",
    h(
      "p",
      { class: whose === "unsaid" ? "amber" : null },
      WHOSE[whose],
      code(policy.policy_id),
      ", in effect since ",
      when(policy.effective_us),
      ".",
    ),
    h(
      "ul",
      { class: "plain" },
      sentences(policy).map((text) => h("li", {}, text)),
    ),
    more(
      "The same as JSON, which the id is the SHA-256 of",
      h("pre", { tabindex: "0" }, visibleLines(json)),
    ),
  );
}

const visibleLines = (text) =>
  text
    .split("\n")
    .map((line) => visible(line, 2000).replaceAll("\\\\", "\\"))
    .join("\n");

export function limitsSection(result) {
  const single = result.policy.notaries.length === 1;
  return section(
    "What this does not show",
    h(
      "ul",
      { class: "plain" },
      h(
        "li",
        {},
        single
          ? "That the notary is honest. There was one: whoever runs it could have signed prices that no venue sent. Who that is stands above."
          : "That the notaries are honest. They would have to lie together; who runs each stands above.",
      ),
      h(
        "li",
        {},
        "That the market was not pushed. Venues’ prices are venues’ prices; windows and medians make a push dear, not impossible.",
      ),
      h(
        "li",
        {},
        "That no two other people saw another log. The witnesses named above promise that there is one; keep the checkpoint and compare.",
      ),
      h(
        "li",
        {},
        "That the keys are the right ones. Keys that this page’s server brought are amber: take them from somewhere else.",
      ),
      h(
        "li",
        {},
        "That this page is honest. It is one file with a known SHA-256; another program that checks the same bundle is a command away.",
      ),
    ),
    result.sessions === null
      ? null
      : h(
          "p",
          {},
          `${plural(result.slots.length, "signed slot")}, ${plural(result.messages.size, "message")} of venues and every log entry of the interval were checked here, in this browser.`,
        ),
  );
}
