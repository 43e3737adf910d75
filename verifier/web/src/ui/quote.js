// The verdict on presentations: a price, or a transcript, and who witnessed it.

import { finite } from "../core/fraction.js";
import { quoteChecks } from "./checked.js";
import { code, h, scrolling, section, visible, when } from "./dom.js";
import { duration, list, plural, price } from "./format.js";

const LEFT = {
  log: "that it was logged",
  log_key: "the key of the log it shows",
  witnesses: "that witnesses saw the log",
  messages: "the venue’s own messages",
  session: "the session they came in",
  tls_evidence: "the raw TLS records (verifier recheck)",
};

function headline({ quotes, voices }) {
  if (!quotes.length)
    return ["A page of ", h("strong", { class: "outcome" }, visible(voices[0].host, 120))];
  const venues = [...new Set(quotes.map((quote) => quote.venue))];
  if (venues.length > 1) return [`${visible(quotes[0].market, 40)} at ${venues.length} venues`];
  const middle = quotes[Math.floor(quotes.length / 2)].mid;
  return [
    h("strong", { class: "outcome" }, price(finite(middle))),
    ` ${visible(quotes[0].market, 40)} at ${visible(venues[0], 40)}`,
  ];
}

const TEXTS = ["venue", "listing", "notary"];

function quoteRow(quote) {
  return h(
    "tr",
    {},
    h("th", { scope: "row" }, visible(quote.venue, 40)),
    h("td", { class: "text" }, visible(quote.instrument, 40)),
    h("td", { class: "text" }, visible(quote.notary.name, 80)),
    h("td", {}, quote.bid),
    h("td", {}, quote.ask),
    h("td", { class: "strong" }, price(finite(quote.mid))),
  );
}

function keyRow({ notary }) {
  return h(
    "tr",
    { class: notary.brought ? "amber" : null },
    h("th", { scope: "row" }, visible(notary.name, 80)),
    h("td", { class: "text" }, visible(notary.operator, 120)),
    h("td", { class: "text" }, code(notary.key.fingerprint)),
    h("td", { class: "text" }, notary.brought ? "brought by this page" : "yours"),
  );
}

const table = (label, names, rows) =>
  scrolling(
    label,
    h(
      "table",
      {},
      h(
        "thead",
        {},
        h(
          "tr",
          {},
          names.map((name) =>
            h(
              "th",
              { scope: "col", class: TEXTS.includes(name) || names.length === 4 ? "text" : null },
              name,
            ),
          ),
        ),
      ),
      h("tbody", {}, rows),
    ),
  );

/** When it was so: an instant, or between two. */
function interval({ not_before_us: first, not_after_us: last }) {
  if (first === last) return ["At ", when(first)];
  return ["Between ", when(first), " and ", when(last), ` (${duration(last - first)})`];
}

/** All that is told of accepted presentations. */
export function quoteReport(found, warnings, took) {
  const operators = [...new Set(found.notaries.map((notary) => notary.operator))];
  const names = found.notaries.map((notary) => visible(notary.name, 80));
  const alone = operators.length === 1 ? " This checks the arithmetic, not the operator." : "";
  return [
    h(
      "section",
      { class: "banner", "aria-labelledby": "verdict" },
      h("p", { class: "kicker" }, "As expected"),
      h("h1", { id: "verdict", tabindex: "-1" }, headline(found)),
      h(
        "p",
        { class: "lead" },
        `Witnessed by ${plural(names.length, "notary", "notaries")}: ${list(names)}, run by ${list(operators.map((name) => visible(name, 120)))}.${alone}`,
      ),
      warnings.map((text) => h("p", { class: "amber" }, text)),
      h("p", {}, interval(found), ", for the purpose ", code(found.purpose), "."),
      h(
        "p",
        { class: "quiet" },
        `Verified in this browser in ${Math.max(1, Math.round(took))} ms. Nothing was sent anywhere.`,
      ),
    ),
    quoteChecks(found.checked),
    found.quotes.length
      ? section(
          "Quotes",
          table("Table of quotes", [...TEXTS, "bid", "ask", "mid"], found.quotes.map(quoteRow)),
        )
      : null,
    section(
      "Keys",
      table(
        "Table of keys",
        ["key", "run by", "fingerprint (SHA-256 of the key, first half)", "whose word"],
        found.voices.map(keyRow),
      ),
    ),
    section(
      "What this does not show",
      h(
        "ul",
        { class: "plain" },
        found.not_checked.map((item) => h("li", {}, `Not checked: ${LEFT[item] ?? item}.`)),
        h("li", {}, "That the notary is honest, or that the market was not pushed."),
      ),
    ),
  ].filter(Boolean);
}
