// What was checked, in words for someone who has never read the code; and what was not, of what the
// reader could have brought.

import { h, section, visible, when } from "./dom.js";
import { duration, integer, list, plural } from "./format.js";

const item = (done, title, ...text) =>
  h(
    "li",
    { class: done ? "done" : "undone" },
    h("span", { class: "visually-hidden" }, done ? "Checked: " : "Not checked: "),
    h("strong", {}, title),
    " ",
    text,
  );

function logItems(result) {
  const first = result.policy.notaries[0].notary;
  return [...result.ranges].map(([notary, range]) => {
    const { signed, quorumTime } = result.witnessed.get(notary);
    const count = signed.times.size;
    const { origin } = signed.checkpoint;
    const told = notary === first || origin.startsWith(notary);
    const seen =
      quorumTime === null
        ? "No witness is asked for."
        : `${plural(count, "witness", "witnesses")} had seen them in time.`;
    return item(
      true,
      "Nothing is hidden.",
      `All ${integer(range.entries.length)} entries of the log ${visible(origin, 80)}${told ? "" : ` of ${visible(notary, 80)}`} from before the trade to after its end are here, in their order. ${seen}`,
    );
  });
}

/** The checks that a bundle has passed. `known` says what the reader brought. */
export function checkedSection(result, { brought, agreed, receipt, ledger }) {
  const { terms, settlement, policy, slots, messages, leaf } = result;
  const hosts = policy.venues.length;
  return section(
    "What was checked",
    h(
      "ul",
      { class: "checks" },
      item(
        true,
        "The bet came first.",
        "It stood in the log at ",
        when(terms.logged_us),
        `, ${duration(settlement.open_us - terms.logged_us)} before the first price that counts.`,
      ),
      logItems(result),
      item(
        true,
        "The prices are signed.",
        `${plural(slots.length, "slot")} of ${plural(hosts, "venue")}, each signed by ${list(policy.notaries.map((one) => visible(one.notary, 80)))} and in the log in time.`,
      ),
      item(
        true,
        "The prices are the venues’ own.",
        `${plural(messages.size, "message")} that the venues sent were read again here; every quote that counts follows from its message, which came, as the notary attests, over a connection to the venue’s own host.`,
      ),
      item(
        true,
        "The rule was followed.",
        "The outcome was computed here in exact fractions, and is what the operator claims, to the byte.",
      ),
      ledger ? item(true, "The ledger agrees.", "Its line of this trade says the same.") : null,
      agreed
        ? item(true, "The rule is the agreed one.", "The policy has the id that you gave.")
        : item(
            false,
            "Whether you agreed to this rule.",
            "Give the policy’s id from before you traded, under “Your keys, and what you agreed to”.",
          ),
      receipt
        ? item(
            true,
            "The bet is the one that was promised.",
            `Your receipt’s order, in the log by the time that was promised.`,
          )
        : item(
            false,
            "Whether this is your order.",
            `Compare side, stake and trade id (${leaf.trade.slice(0, 8)}…) with your receipt, or open the receipt here.`,
          ),
      brought
        ? item(
            false,
            "Whose keys these are.",
            "They came from this page’s own server. Compare the fingerprints below, or open keys of your own.",
          )
        : null,
    ),
  );
}

const CHECKED = {
  signature: "A notary that you trust has signed it.",
  inclusion: "What is shown is what was signed.",
  times: "Its times follow on one another.",
  openings: "The bytes shown are those that were committed to.",
  quote: "The price was read again from the venue’s own answer.",
  messages: "The price was read again from the venue’s own messages.",
  session: "The messages came over a connection to the venue’s own host.",
  expectations: "It is what you said you expect: venue, market, time.",
  log: "It is in the log.",
  witnesses: "The witnesses asked for have seen the log.",
};

/** The checks that presentations have passed. */
export const quoteChecks = (checked) =>
  section(
    "What was checked",
    h(
      "ul",
      { class: "checks" },
      checked.filter((name) => name in CHECKED).map((name) => item(true, CHECKED[name])),
    ),
  );
