// Several bundles at once: a list to choose from and search, and statistics recomputed from them.

import { gapCounts, seenSlots } from "./derived.js";
import { h, scrolling, section, visible } from "./dom.js";
import { duration, plural, utc } from "./format.js";

const percent = (part, whole) => (whole ? `${((100 * part) / whole).toFixed(1)} %` : "–");

function middle(values) {
  const ordered = [...values].sort((left, right) => left - right);
  return ordered.length ? ordered[Math.floor(ordered.length / 2)] : null;
}

/** Whether a case is what a reader searches for: trade, time, market or log index. */
export function matches(item, wanted) {
  const words = wanted.trim().toLowerCase().split(/\s+/).filter(Boolean);
  const { result } = item;
  if (result === undefined) {
    const said = `${item.name.toLowerCase()} ${item.found === undefined ? "refused" : ""}`;
    return words.every((word) => said.includes(word));
  }
  const { leaf, settlement, outcome } = result;
  const texts = [
    leaf.trade,
    leaf.market.toLowerCase(),
    outcome.outcome,
    utc(settlement.open_us).toLowerCase(),
    utc(settlement.close_us).toLowerCase(),
    `#${item.bundle.batch}`,
  ];
  return words.every((word) => texts.some((text) => text.includes(word)));
}

const TEXTS = ["outcome", "market", "opened"];

function caseRow(item, choose, current) {
  const { result } = item;
  const what =
    item.found !== undefined
      ? "as expected"
      : result === undefined
        ? `refused: ${item.error.rule ?? item.error.slug}`
        : result.outcome.outcome.toUpperCase();
  const when = result === undefined ? "–" : utc(result.settlement.open_us);
  const label =
    result === undefined ? visible(item.name, 60) : `${result.leaf.trade.slice(0, 12)}…`;
  return h(
    "tr",
    {},
    h(
      "th",
      { scope: "row", class: "case" },
      h(
        "button",
        {
          type: "button",
          class: "plainly",
          "aria-current": item === current ? "true" : null,
          click: () => choose(item),
        },
        label,
      ),
    ),
    h("td", { class: item.error === undefined ? "text" : "text refused" }, what),
    h("td", { class: "text" }, result === undefined ? "–" : visible(result.leaf.market, 40)),
    h("td", { class: "text" }, when),
    h("td", {}, result === undefined ? "–" : `#${item.bundle.batch}`),
  );
}

/** The list of bundles that were opened, with a search. */
export function casesSection(items, choose, current) {
  const body = h("tbody");
  const count = h("p", { class: "quiet", role: "status" });
  const search = h("input", {
    id: "search",
    type: "search",
    autocomplete: "off",
    spellcheck: "false",
    input: () => draw(),
  });
  const draw = () => {
    const found = items.filter((item) => matches(item, search.value));
    body.replaceChildren(...found.map((item) => caseRow(item, choose, current)));
    count.textContent = `${found.length} of ${plural(items.length, "bundle")}`;
  };
  draw();
  const names = ["trade", "outcome", "market", "opened", "log entry"];
  const table = h(
    "table",
    {},
    h(
      "thead",
      {},
      h(
        "tr",
        {},
        names.map((name) =>
          h("th", { scope: "col", class: TEXTS.includes(name) ? "text" : null }, name),
        ),
      ),
    ),
    body,
  );
  return section(
    "Bundles opened",
    h(
      "p",
      { class: "field" },
      h("label", { for: "search" }, "Search by trade, market, time, outcome or #entry"),
      search,
    ),
    count,
    scrolling("Bundles opened", table),
  );
}

/** Void rate, shares, delays and gaps over the bundles that hold. */
export function statisticsSection(items) {
  const results = items.filter((item) => item.result !== undefined).map((item) => item.result);
  const counts = { up: 0, down: 0, tie: 0, void: 0 };
  const gaps = new Map();
  const delays = [];
  for (const result of results) {
    counts[result.outcome.outcome] += 1;
    delays.push(result.settlement.open_us - result.terms.logged_us);
    for (const [venue, found] of gapCounts(seenSlots(result))) {
      const sum = gaps.get(venue) ?? { slots: 0, venue: 0, prover: 0, notary: 0 };
      for (const member of Object.keys(sum)) sum[member] += found[member];
      gaps.set(venue, sum);
    }
  }
  const decided = counts.up + counts.down;
  const whole = gaps.size && [...gaps.values()].every((sum) => !sum.venue && !sum.prover && !sum.notary);
  const one = results.length === 1;
  const names = ["venue", "slots", "the venue’s gaps", "the prover’s", "the notary’s"];
  const rows = [...gaps].map(([venue, sum]) =>
    h(
      "tr",
      {},
      h("th", { scope: "row" }, visible(venue, 40)),
      h("td", {}, sum.slots),
      ["venue", "prover", "notary"].map((party) => h("td", {}, percent(sum[party], sum.slots))),
    ),
  );
  return section(
    one ? "Gaps in this trade" : `Statistics over ${results.length} trades`,
    h(
      "p",
      {},
      one
        ? `${whole ? "None: every venue has a price in every slot. " : ""}Recomputed from the signed slots of this bundle. Open many bundles at once for void rate and shares.`
        : `Recomputed from the bundles opened here. Void ${percent(counts.void, results.length)}, ties ${percent(counts.tie, results.length)}; of the rest UP ${percent(counts.up, decided)}, DOWN ${percent(counts.down, decided)}. From log to first slot ${duration(middle(delays) ?? 0)} in the middle.`,
    ),
    one && whole
      ? null
      : scrolling(
          "Gaps of each venue",
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
                  h("th", { scope: "col", class: TEXTS.includes(name) ? "text" : null }, name),
                ),
              ),
            ),
            h("tbody", {}, rows),
          ),
        ),
  );
}
