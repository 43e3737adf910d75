// An operator's ledger: its trades to search, and its own figures. All of it is the operator's word
// until a trade's bundle is opened and compared with its line.

import { h, scrolling, section, visible, when } from "./dom.js";
import { duration, integer, plural, utc } from "./format.js";

const SHOWN = 50;
const TEXTS = ["bet", "claimed", "market", "logged"];
const SEARCH = [
  "Search by trade, market, side, outcome or #entry",
  "Search by trade, market, side, outcome, time (2026-01-15 12:00) or #entry",
];
const percent = (part, whole) => (whole ? `${((100 * part) / whole).toFixed(1)} %` : "–");

/** Whether a line is what a reader searches for: trade, market, side, outcome, time or #entry. */
function matches(line, words, times) {
  const loggedUs = times.get(line.entry);
  const texts = [
    line.trade,
    line.leaf.market.toLowerCase(),
    line.leaf.side,
    line.outcome,
    `#${line.entry}`,
    ...(loggedUs === undefined ? [] : [utc(loggedUs).toLowerCase()]),
  ];
  return words.every((word) =>
    word.startsWith("#") ? texts.includes(word) : texts.some((text) => text.includes(word)),
  );
}

function row(line, open, times) {
  const loggedUs = times.get(line.entry);
  const name = `${line.trade.slice(0, 12)}…`;
  const { market, side, duration_us: length } = line.leaf;
  return h(
    "tr",
    {},
    h(
      "th",
      { scope: "row" },
      open === null
        ? name
        : h("button", { type: "button", class: "plainly", click: () => open(line) }, name),
    ),
    h("td", { class: "text" }, `${side.toUpperCase()}, ${duration(length)}`),
    h("td", { class: "text" }, line.outcome.toUpperCase()),
    h("td", { class: "text" }, visible(market, 40)),
    times.size ? h("td", { class: "text" }, loggedUs === undefined ? "–" : when(loggedUs)) : null,
    h("td", {}, `#${line.entry}`),
  );
}

/**
 * The ledger with a search; `open` fetches and verifies a trade's bundle, null where it cannot.
 * `times`: when entries were logged, as far as the log was read.
 */
export function ledgerSection(lines, open, times = new Map()) {
  const body = h("tbody");
  const status = h("p", { class: "quiet", role: "status" });
  const search = h("input", {
    id: "ledger-search",
    type: "search",
    autocomplete: "off",
    spellcheck: "false",
    input: () => draw(),
  });
  const draw = () => {
    const words = search.value.trim().toLowerCase().split(/\s+/).filter(Boolean);
    const found = lines.filter((line) => matches(line, words, times));
    const last = found.slice(-SHOWN).reverse();
    body.replaceChildren(...last.map((line) => row(line, open, times)));
    status.textContent = `${integer(found.length)} of ${plural(lines.length, "trade")}${found.length > SHOWN ? `, the last ${SHOWN} shown` : ""}`;
  };
  draw();
  const texts = times.size ? TEXTS : TEXTS.slice(0, -1);
  const names = ["trade", ...texts, "log entry"];
  const counts = { up: 0, down: 0, tie: 0, void: 0 };
  for (const line of lines) counts[line.outcome] += 1;
  const decided = counts.up + counts.down;
  return section(
    "The operator’s ledger",
    h(
      "p",
      {},
      `The operator’s word: void ${percent(counts.void, lines.length)}, ties ${percent(counts.tie, lines.length)}; of the rest UP ${percent(counts.up, decided)}, DOWN ${percent(counts.down, decided)}. `,
      open === null
        ? "A trade’s bundle that you open is compared with its line."
        : "Choose a trade: its bundle is fetched, verified here, and compared with its line.",
      times.size ? " The times are the log’s, which was read and holds." : null,
    ),
    h(
      "p",
      { class: "field" },
      h("label", { for: "ledger-search" }, SEARCH[times.size ? 1 : 0]),
      search,
    ),
    status,
    scrolling(
      "Trades of the ledger",
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
        body,
      ),
    ),
  );
}
