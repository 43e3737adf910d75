// Ways to check without this page: the command line, the files, the venues' own history; and the
// what-if, which is not official.

import { hashString } from "../core/hashing.js";
import { singleInstant, withoutEach } from "./derived.js";
import { code, h, save, section, visible } from "./dom.js";
import { distance, list, plural } from "./format.js";

// Public history of the venues, where it has an address that a browser can open. Nothing of it is
// part of the proof: it is what the venue says today.
const CANDLES = {
  binance: ({ id, from, until }) => [
    "1-second",
    `https://api.binance.com/api/v3/klines?symbol=${id}&interval=1s&startTime=${from}&endTime=${until}`,
  ],
  okx: ({ id, from, until }) => [
    "1-second",
    `https://www.okx.com/api/v5/market/history-candles?instId=${id}&bar=1s&before=${from - 1}&after=${until + 1}`,
  ],
  bybit: ({ id, from, until }) => [
    "1-minute",
    `https://api.bybit.com/v5/market/kline?category=spot&symbol=${id}&interval=1&start=${from - 60000}&end=${until}`,
  ],
  coinbase: ({ id, from, until }) => [
    "1-minute",
    `https://api.exchange.coinbase.com/products/${id}/candles?granularity=60&start=${Math.floor(from / 1000) - 60}&end=${Math.ceil(until / 1000)}`,
  ],
  kraken: ({ id, from }) => [
    "trades",
    `https://api.kraken.com/0/public/Trades?pair=${id}&since=${Math.floor(from / 1000)}`,
  ],
  bitstamp: ({ id, from, until }) => [
    "1-minute",
    `https://www.bitstamp.net/api/v2/ohlc/${id}/?step=60&limit=10&start=${Math.floor(from / 1000) - 60}&end=${Math.ceil(until / 1000)}`,
  ],
  kucoin: ({ id, from, until }) => [
    "1-minute",
    `https://api.kucoin.com/api/v1/market/candles?type=1min&symbol=${id}&startAt=${Math.floor(from / 1000) - 60}&endAt=${Math.ceil(until / 1000)}`,
  ],
  gate: ({ id, from, until }) => [
    "10-second",
    `https://api.gateio.ws/api/v4/spot/candlesticks?currency_pair=${id}&interval=10s&from=${Math.floor(from / 1000) - 10}&to=${Math.ceil(until / 1000)}`,
  ],
  bitfinex: ({ id, from, until }) => [
    "1-minute",
    `https://api-pub.bitfinex.com/v2/candles/trade:1m:${id}/hist?start=${from - 60000}&end=${until}`,
  ],
  crypto_com: ({ id, from, until }) => [
    "1-minute",
    `https://api.crypto.com/exchange/v1/public/get-candlestick?instrument_name=${id}&timeframe=1m&start_ts=${from - 60000}&end_ts=${until}`,
  ],
  deribit: ({ id, from, until }) => [
    "1-minute",
    `https://www.deribit.com/api/v2/public/get_tradingview_chart_data?instrument_name=${id}&resolution=1&start_timestamp=${from - 60000}&end_timestamp=${until}`,
  ],
  gemini: ({ id, from }) => [
    "trades",
    `https://api.gemini.com/v1/trades/${id}?timestamp=${Math.floor(from / 1000)}&limit_trades=500`,
  ],
};

function candles({ policy, settlement }) {
  const from = Math.floor(settlement.open_us / 1000);
  const until = Math.ceil((settlement.close_us + settlement.slid_us) / 1000);
  const links = policy.venues.flatMap(({ venue, instrument }) => {
    if (!Object.hasOwn(CANDLES, venue)) return [];
    const [grain, url] = CANDLES[venue]({ id: encodeURIComponent(instrument), from, until });
    return [
      h(
        "li",
        {},
        h(
          "a",
          { href: url, target: "_blank", rel: "noopener noreferrer" },
          `${venue}: ${grain} history`,
        ),
      ),
    ];
  });
  if (!links.length) return null;
  return [
    h("h3", {}, "The venues’ own public history"),
    h(
      "p",
      {},
      h("strong", {}, "Not part of the proof. "),
      "What the venues publish today about those seconds; they may correct it, and it holds trades or candles, not the quotes that were signed. Where a venue publishes seconds they are linked, else the finest it has.",
    ),
    h("ul", { class: "links" }, links),
  ];
}

/** A file's name as a shell takes it; `otherwise` for one that it might take for something else. */
const plainName = (name, otherwise) => (/^[A-Za-z0-9_][\w.-]{0,80}$/.test(name) ? name : otherwise);

/** The lines that repeat the check; `names` are those of the files that were opened. */
function commands({ bundle, trust, logPolicy }, expect) {
  const lines = [
    ...["policy_id", "trade"].filter((name) => expect[name]).map((n) => `${n} = "${expect[n]}"`),
    ...(expect.insecure_allow_development ? ["insecure_allow_development = true"] : []),
  ];
  return [
    `printf '%s\\n' ${lines.map((line) => `'${line}'`).join(ON)} > expect.toml`,
    [
      `verifier recompute ${plainName(bundle, "bundle.json")}`,
      `--trust ${plainName(trust, "trust.toml")}`,
      `--log-policy ${plainName(logPolicy, "log_policy.txt")}`,
      "--expect expect.toml --explain",
    ].join(ON),
  ].join("\n");
}

/** A shell's line goes on in the next one. */
const ON = " \\\n  ";

/** Lines for a shell, and a button that copies them: over plain http, too, as a selection is. */
function commandLines(text) {
  const lines = h("pre", { class: "command", tabindex: "0" }, text);
  const button = h("button", { type: "button", click: copy }, "Copy the command");
  async function copy() {
    let copied = true;
    try {
      await navigator.clipboard.writeText(text);
    } catch {
      getSelection().selectAllChildren(lines);
      copied = document.execCommand("copy");
    }
    button.textContent = copied ? "Copied" : "Selected above";
    setTimeout(() => button.replaceChildren("Copy the command"), 3000);
  }
  return { lines, button };
}

export function elsewhereSection(result, { bundle, names, development }) {
  const { lines, button } = commandLines(
    commands(names, {
      policy_id: result.policy.policy_id,
      trade: result.leaf.trade,
      insecure_allow_development: development,
    }),
  );
  return section(
    "Check it without this page",
    h(
      "p",
      {},
      "The same check by another program, on a machine without network. Take the trust file from whom you trust, not from here.",
    ),
    lines,
    h(
      "p",
      { class: "buttons" },
      button,
      h(
        "button",
        { type: "button", click: () => save(plainName(names.bundle, "bundle.json"), bundle) },
        "Save the bundle",
      ),
      h(
        "button",
        { type: "button", click: () => save("settlement.json", result.data) },
        "Save the settlement document",
      ),
    ),
    h("p", { class: "quiet" }, "Settlement document: ", code(hashString(result.data))),
    candles(result),
  );
}

/** What to do with a bundle that was refused. */
export function againSection({ bundle, names, expect }) {
  const command = expect.policy_id ? commandLines(commands(names, expect)) : null;
  return section(
    "Show it to others",
    h(
      "p",
      {},
      "Keep the file: whoever has it and the same keys comes to the same refusal, with this page or with another program.",
    ),
    command?.lines ??
      h(
        "p",
        {},
        "The other program is told what you agreed to: give the policy’s id below, and its command is shown here.",
      ),
    h(
      "p",
      { class: "buttons" },
      command?.button,
      h(
        "button",
        { type: "button", click: () => save(plainName(names.bundle, "bundle.json"), bundle) },
        "Save the bundle",
      ),
    ),
  );
}

function outcomeWord(settlement) {
  return settlement.outcome.toUpperCase();
}

const tickText = ({ outcome, points: by }) =>
  outcome === "tie" ? "a TIE" : `${outcome.toUpperCase()} by ${distance(by)}`;

export function whatIfSection(result) {
  const { settlement } = result;
  const official = settlement.outcome;
  const others = withoutEach(result);
  const same = others.filter((one) => one.settlement?.outcome === official);
  const different = others.filter((one) => one.settlement && one.settlement.outcome !== official);
  const untold = others.filter((one) => one.settlement === null);
  const tick = singleInstant(settlement);
  const items = [
    `Had any one venue not been there: ${outcomeWord(settlement)} in ${same.length} of ${others.length} cases.`,
    ...different.map(
      ({ venue, settlement: other }) => `Without ${visible(venue, 40)}: ${outcomeWord(other)}.`,
    ),
    untold.length
      ? `Without ${list(untold.map((one) => visible(one.venue, 40)))} the close would have slid to slots that this bundle does not hold.`
      : null,
    tick === null
      ? null
      : `Had one tick at each end decided instead of windows: ${tickText(tick)}, over ${plural(tick.venues, "venue")}.`,
  ];
  return section(
    "What if",
    h(
      "p",
      {},
      h("strong", {}, "Not official. "),
      "The same signed prices under other rules. Nothing here changes the outcome.",
    ),
    h(
      "ul",
      { class: "plain" },
      items.filter((text) => text !== null).map((text) => h("li", {}, text)),
    ),
  );
}
