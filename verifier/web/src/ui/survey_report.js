// What the log, its ledger and its bundles came to over a time: figures, what they rest on, findings.

import { isKind } from "../core/errors.js";
import { code, h, scrolling, visible, when } from "./dom.js";
import { duration, integer, list, plural } from "./format.js";

const SHOWN = 50;
const FINDINGS = {
  forked_log: "another history of the log",
  double_trade: "two leaves of one trade",
  broken_promise: "logged later than promised, and refunded",
  missing_leaf: "the ledger leaves trades out",
  other_leaf: "the ledger’s trades are not those of the log",
  unknown_batch: "the ledger has a trade that the log has not",
  different: "ended otherwise than the ledger says",
  refused: "the bundle does not hold",
  not_shown: "no bundle is shown",
};

const percent = (part, whole) => (whole ? `${((100 * part) / whole).toFixed(1)} %` : "–");
const fact = (name, ...value) => h("div", {}, h("dt", {}, name), h("dd", {}, ...value));

/** The value at a share of the ordered ones: 0.5 the median. */
export function quantile(values, share) {
  const ordered = [...values].sort((left, right) => left - right);
  return ordered[Math.min(ordered.length - 1, Math.floor(ordered.length * share))];
}

function verdict({ tally, opened, chosen, stopped, span }) {
  if (tally.found) return plural(tally.found, "finding");
  if (!opened.trades.length) {
    return span.batches.size ? "No trade of that time has ended" : "No trades in that time";
  }
  if (!chosen.length) return `${plural(opened.trades.length, "trade")} listed, none recomputed`;
  const all = !stopped && tally.equal === opened.trades.length;
  const those = all && tally.equal > 1 ? "All " : "";
  return `${those}${plural(tally.equal, "trade")} came out as the ledger says`;
}

/** What the figures do not rest on. */
function limits({ signed, span, opened, tally, chosen, known, stopped }) {
  const { head } = tally.files;
  const found = [];
  if (tally.checked < opened.trades.length - tally.otherPolicy) {
    const why = stopped ? "stopped by you" : "drawn at random by this browser";
    found.push(
      `Only partly checked: ${integer(tally.checked)} of ${plural(opened.trades.length, "trade")} recomputed, ${why}. The rates below are of these alone.`,
    );
  }
  if (opened.pending + tally.pending) {
    found.push(
      `${plural(opened.pending + tally.pending, "trade")} at the end had not been settled when the log was read, and cannot be told yet.`,
    );
  }
  if (span.read < head.size) {
    found.push(
      `${integer(span.read)} of the log’s ${integer(head.size)} entries were read, around the time you chose. Whether others are in order is for an audit of all of it.`,
    );
  }
  if (tally.otherPolicy) {
    found.push(`${plural(tally.otherPolicy, "trade")} under another policy left out.`);
  }
  if (known.expect.policy_id === undefined) {
    found.push("You did not say which policy you agreed to: trades of any policy are counted.");
  }
  try {
    known.logs.check(signed);
  } catch (error) {
    if (!isKind(error, "IncompleteError")) throw error;
    found.push("The log’s head has not been cosigned by the witnesses that the log policy asks for.");
  }
  if (known.brought) {
    found.push("The keys came from this page’s own server, as did log, ledger and bundles.");
  }
  if (known.expect.insecure_allow_development) {
    found.push("Simulated venues are allowed: nothing of this needs to be real.");
  }
  return found.map((text) => h("p", { class: "amber" }, text));
}

const spread = (values) =>
  values.length
    ? `${duration(quantile(values, 0.5))} median, ${duration(quantile(values, 0.99))} p99`
    : "–";

function figures({ tally, span }) {
  const { outcomes, voids, delays, waits, fees } = tally;
  const all = outcomes.up + outcomes.down + outcomes.tie + outcomes.void;
  const decided = outcomes.up + outcomes.down;
  const faults = Object.entries(voids)
    .filter(([, count]) => count)
    .map(([party, count]) => `${count} by the ${party}`);
  const why = faults.length ? ` (${list(faults)}; ${fees} with the operator’s fee)` : "";
  return h(
    "dl",
    { class: "facts" },
    fact("Void", `${percent(outcomes.void, all)}, ${outcomes.void} of ${integer(all)}${why}`),
    fact("UP", `${percent(outcomes.up, decided)} of ${integer(decided)} decided`),
    fact("DOWN", `${percent(outcomes.down, decided)}`),
    fact("Ties", percent(outcomes.tie, all)),
    fact("From the log to the entry", spread(delays)),
    waits.length ? fact("From the order, as promised, to the entry", spread(waits)) : null,
    fact("In the log", `${plural(span.batches.size, "batch", "batches")} of trades`),
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
          names.map((name) => h("th", { scope: "col" }, name)),
        ),
      ),
      h(
        "tbody",
        {},
        rows.map(([name, ...cells]) =>
          h(
            "tr",
            {},
            h("th", { scope: "row" }, visible(name, 60)),
            cells.map((cell) => h("td", {}, cell)),
          ),
        ),
      ),
    ),
  );

const PARTIES = ["venue", "prover", "notary"];

function gaps({ tally }) {
  if (!tally.gaps.size) return null;
  const rows = [...tally.gaps].sort(([left], [right]) => (left < right ? -1 : 1));
  return [
    h("h3", {}, "Gaps in what decided"),
    h("p", { class: "quiet" }, `${plural(tally.slots, "signed slot")}, each counted once.`),
    table(
      "Gaps of each venue",
      ["venue", "slots", "the venue’s gaps", "the prover’s", "the notary’s"],
      rows.map(([venue, row]) => [
        venue,
        integer(row.slots),
        ...PARTIES.map((party) => percent(row[party], row.slots)),
      ]),
    ),
  ];
}

const sum = (row) => row.fine + row.venue + row.prover + row.notary;

function logged({ span }) {
  const tables = [
    ["Slots of each feed", "feed", "slots", "missed by the", span.slots.rows()],
    ["Sessions of each venue", "venue", "sessions", "ended by the", span.sessions.rows()],
  ];
  return tables.map(([label, what, counted, ended, rows]) =>
    rows.length
      ? [
          h("h3", {}, `${label}, as logged`),
          table(
            label,
            [what, counted, ...PARTIES.map((party) => `${ended} ${party}`)],
            rows.map(([name, row]) => [
              name,
              integer(sum(row)),
              ...PARTIES.map((party) => percent(row[party], sum(row))),
            ]),
          ),
        ]
      : null,
  );
}

function findingsList({ tally }, open) {
  if (!tally.found) return null;
  const rows = tally.findings.slice(0, SHOWN).map(({ kind, detail, entry, trade, rule }) =>
    h(
      "li",
      {},
      h("strong", {}, FINDINGS[kind]),
      `: ${visible(detail, 300)}${rule ? ` (${visible(rule, 80)})` : ""}, log entry #${entry}`,
      trade === undefined
        ? "."
        : [
            ", trade ",
            open === null
              ? code(`${trade.slice(0, 12)}…`)
              : h(
                  "button",
                  { type: "button", class: "plainly", click: () => open({ trade }) },
                  `${trade.slice(0, 12)}…`,
                ),
            ".",
          ],
    ),
  );
  return [
    h("h3", {}, "Findings"),
    h("ul", { class: "plain" }, rows),
    tally.found > rows.length
      ? h("p", { class: "quiet" }, `and ${integer(tally.found - rows.length)} more`)
      : null,
  ];
}

/** All of a survey's report; `open` opens a trade, null where it cannot. */
export function surveyReport(found, open) {
  const { span, signed, tally } = found;
  const { origin, size } = signed.checkpoint;
  return [
    h("p", { class: "lead" }, h("strong", { class: tally.found ? "refused" : null }, verdict(found))),
    ...limits(found),
    h(
      "p",
      {},
      "The log ",
      code(origin),
      `: ${integer(span.entries)} entries of that time, under its signed head of ${integer(size)}, whose last was logged at `,
      when(span.headUs),
      ".",
    ),
    found.tally.checked ? figures(found) : null,
    findingsList(found, open),
    gaps(found),
    logged(found),
  ]
    .flat(Infinity)
    .filter((part) => part !== null);
}
