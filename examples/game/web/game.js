// The page of the game. It shows; what it shows of prices decides nothing.
import { Chart, price, windowOf } from "/chart.js";

const by = (id) => document.getElementById(id);
const amount = new Intl.NumberFormat("en", { maximumFractionDigits: 2 });
const chart = new Chart(by("chart"));
const calm = matchMedia("(prefers-reduced-motion: reduce)");
const state = { points: [], mid: null, trades: new Map(), rule: null, you: null, ahead: 0, waiting: new Map() };
const OVER = new Set(["settled", "refused", "incident", "late", "refunded"]);
const LATER_MS = 6_000;
const PAID = new Set(["settled", "late", "refunded"]);
const SILENT_MS = 3_000;

const nowUs = () => Date.now() * 1000 + state.ahead;

/** Text only: whatever a name or a message holds, it never becomes markup. */
function make(tag, text = "", kind = "") {
  const made = document.createElement(tag);
  made.textContent = text;
  if (kind) made.className = kind;
  return made;
}

function say(id, text) {
  if (by(id).textContent !== text) by(id).textContent = text;
}

// --- what the game tells ---------------------------------------------------------------------

const hear = {
  hello(told) {
    state.connected = true;
    Object.assign(state, { points: told.history, mid: told.mid, stale: told.stale, rule: told, you: told.you ?? null });
    if (told.mid) say("mid", price.format(told.mid));
    state.ahead = told.now_us - Date.now() * 1000;
    const known = told.trades ?? [];
    for (const trade of known) keep(trade);
    say("market", told.market);
    const seconds = told.duration_us / 1e6;
    say("terms", `${seconds} seconds. A won trade pays ${told.win} stakes; a tie or a void gives the stake back.`);
    by("enrol").hidden = state.you !== null;
    by("order").hidden = by("account").hidden = state.you === null;
    if (state.you) {
      say("name", state.you.name);
      say("balance", amount.format(state.you.balance));
    }
    hear.board(told);
    showTrades();
    showTrouble();
    resend();
  },
  price({ mid, stale, now_us, points }) {
    Object.assign(state, { mid, stale });
    // The smallest delay heard of comes nearest to the game's clock.
    state.ahead = Math.max(state.ahead, now_us - Date.now() * 1000);
    for (const point of points) if (point[0] > (state.points.at(-1)?.[0] ?? 0)) state.points.push(point);
    while (state.points.length && state.points[0][0] < nowUs() - 125e6) state.points.shift();
    if (mid) say("mid", price.format(mid));
    if (calm.matches) frame();
  },
  trade({ trade, balance }) {
    keep(trade);
    if (state.you) say("balance", amount.format(balance));
    showTrades();
  },
  board({ board, entry }) {
    by("board").replaceChildren(...board.map(({ name, won, settled, worth }, at) => {
      const row = make("tr", "", name === state.you?.name ? "you" : "");
      row.append(make("td", String(at + 1)), make("td", name), make("td", `${won} of ${settled}`), make("td", amount.format(worth)));
      return row;
    }));
    const seconds = (us) => (us / 1e6).toFixed(2);
    say("delay", entry
      ? `From click to entry: median ${seconds(entry.p50_us)} s, p99 ${seconds(entry.p99_us)} s, of ${entry.count} ${entry.count === 1 ? "trade" : "trades"}.`
      : "From click to entry: no trade yet.");
  },
};

function keep(trade) {
  const before = state.trades.get(trade.trade);
  const since = OVER.has(trade.state) && before && !OVER.has(before.state) ? Date.now() : before?.since;
  state.trades.set(trade.trade, { ...trade, since });
}

let wait = 500;
function connect() {
  const socket = new WebSocket(`${location.protocol === "https:" ? "wss" : "ws"}://${location.host}/api/live`);
  state.socket = socket;
  socket.onopen = () => { wait = 500; say("link", "live"); by("link").className = "live"; };
  socket.onmessage = ({ data }) => {
    state.heard = Date.now();
    const told = JSON.parse(data);
    hear[told.type]?.(told);
  };
  socket.onclose = () => {
    if (state.socket !== socket) return;
    state.connected = false;
    showTrouble();
    say("link", "reconnecting");
    by("link").className = "";
    setTimeout(connect, wait + Math.random() * 250);
    wait = Math.min(wait * 2, 8_000);
  };
}

// --- orders ----------------------------------------------------------------------------------

async function post(path, body) {
  const answer = await fetch(path, { method: "POST", headers: { "content-type": "application/json" }, body: JSON.stringify(body) });
  const found = await answer.json();
  if (!answer.ok) throw Object.assign(new Error(found.detail), { final: answer.status < 500 });
  return found;
}

by("enrol").addEventListener("submit", async (event) => {
  event.preventDefault();
  say("trouble", "");
  try {
    await post("/api/players", { name: by("who").value });
    // The connection is opened anew, as this player.
    const old = state.socket;
    connect();
    old.close();
  } catch (error) {
    say("trouble", error.message);
  }
});

by("order").addEventListener("submit", async (event) => {
  event.preventDefault();
  say("trouble", "");
  // Drawn here: it names the trade, and the same order again is the same trade.
  const nonce = [...crypto.getRandomValues(new Uint8Array(16))].map((one) => one.toString(16).padStart(2, "0")).join("");
  const stake = Number(new FormData(by("order")).get("stake"));
  const order = { nonce, side: event.submitter.value, stake, seen: state.mid };
  state.waiting.set(nonce, order);
  say("stage", "sending");
  await send(order);
});

async function send(order) {
  try {
    const { trade, balance, promise } = await post("/api/trades", order);
    state.waiting.delete(order.nonce);
    keepReceipt(trade.trade, order, promise);
    hear.trade({ trade, balance });
  } catch (error) {
    if (error.final) {
      state.waiting.delete(order.nonce);
      say("stage", "");
      say("trouble", error.message);
    } else {
      say("trouble", "No answer yet; the same order is sent again.");
      setTimeout(() => state.waiting.has(order.nonce) && send(order), 1_000);
    }
  }
}

// --- receipts: kept here, so that the player has what was promised whatever the game says later -

const RECEIPTS = "receipts";
const KEPT = 50;

function receipts() {
  try {
    return JSON.parse(localStorage.getItem(RECEIPTS)) ?? {};
  } catch {
    return {};
  }
}

function keepReceipt(trade, order, promise) {
  if (!promise) return;
  const kept = Object.entries({ ...receipts(), [trade]: { trade, policy_id: state.rule.policy_id, ...order, promise } });
  try {
    localStorage.setItem(RECEIPTS, JSON.stringify(Object.fromEntries(kept.slice(-KEPT))));
  } catch {
    // A browser that keeps nothing can still play.
  }
}

function receiptLink(trade, receipt) {
  const link = make("a", "receipt");
  link.href = URL.createObjectURL(new Blob([JSON.stringify(receipt, null, 2)], { type: "application/json" }));
  link.download = `receipt-${trade.trade.slice(0, 12)}.json`;
  link.setAttribute("aria-label", `save the receipt of this trade of ${trade.stake} tokens ${trade.side}`);
  return link;
}

function resend() {
  for (const order of state.waiting.values()) send(order);
}

// --- what is shown ---------------------------------------------------------------------------

function newest() {
  return [...state.trades.values()].sort((one, other) => other.clicked_us - one.clicked_us);
}

function outcomeOf(trade) {
  if (trade.state === "refused") return ["refused", "stake returned", ""];
  if (trade.state === "incident") return ["held", "not paid yet: the operator is looking at it", "incident"];
  if (trade.state === "late" || trade.state === "refunded") return ["refunded", `${amount.format(trade.payout)} back`, ""];
  if (trade.outcome === "void") return ["void", `${amount.format(trade.payout)} back`, ""];
  if (trade.outcome === "tie") return ["tie", "stake returned", ""];
  const won = trade.outcome === trade.side;
  return won ? ["won", `+${amount.format(trade.payout - trade.stake)}`, "won"] : ["lost", `−${amount.format(trade.stake)}`, "lost"];
}

function bps(trade) {
  return trade.change_bps === undefined ? "" : `${trade.change_bps.replace("-", "−")} bp`;
}

function difference(value, base) {
  const by = value - base;
  return `${by < 0 ? "−" : "+"}${price.format(Math.abs(by))}`;
}

function checkLink(trade) {
  const link = make("a", "check this");
  link.href = trade.check;
  link.target = "_blank";
  link.rel = "noopener";
  link.setAttribute("aria-label", `check this trade of ${trade.stake} tokens ${trade.side}`);
  return link;
}

function showTrades() {
  const shown = newest().slice(0, 8);
  const kept = receipts();
  by("none").hidden = shown.length > 0;
  for (const link of by("trades").querySelectorAll("a[download]")) URL.revokeObjectURL(link.href);
  by("trades").replaceChildren(...shown.map((trade) => {
    const row = make("li");
    const side = make("span", `${trade.side === "up" ? "↑ Up" : "↓ Down"} ${amount.format(trade.stake)}`, `side ${trade.side}`);
    const middle = make("span", "", "quiet");
    const figure = make("span", "", "figure");
    if (OVER.has(trade.state)) {
      const [word, change, kind] = outcomeOf(trade);
      middle.textContent = trade.entry_price
        ? `${price.format(trade.entry_price)} → ${price.format(trade.close_price)}, ${bps(trade)}`
        : trade.detail ?? "";
      figure.append(make("span", `${word} ${PAID.has(trade.state) ? change : ""}`.trim(), kind));
    } else {
      middle.textContent = { reserved: "waiting for the promise", promised: "promised", logged: `entry ${trade.entry} of the log`, ended: "verifying" }[trade.state];
      figure.append(make("span", "open"));
    }
    const links = make("span", "", "links");
    const receipt = kept[trade.trade];
    if (receipt) links.append(receiptLink(trade, receipt));
    if (trade.check) links.append(checkLink(trade));
    figure.append(links);
    row.append(side, middle, figure);
    return row;
  }));
}

/** In words, what the newest trade is doing; the seconds are told to eyes alone. */
function showStage() {
  const trade = newest().find((one) => !OVER.has(one.state) || (one.since && Date.now() - one.since < LATER_MS * 2));
  if (!trade || !state.rule) return;
  const { window_us: width, grid_us: grid } = state.rule;
  const { phase, clock = "", tail = "", kind = "", filled } = stageOf(trade, width, grid, nowUs());
  const what = `${trade.side === "up" ? "↑ Up" : "↓ Down"} ${amount.format(trade.stake)}`;
  const key = [trade.trade, phase, clock, tail, filled, trade.check].join();
  if (state.staged === key) return;
  state.staged = key;
  const head = make("p");
  head.append(make("span", what, `side ${trade.side}`), make("b", ` ${phase}`, kind), make("b", clock ? ` ${clock}` : ""));
  if (trade.check) head.append(" · ", checkLink(trade));
  const cells = make("p", "", "cells");
  cells.setAttribute("aria-hidden", "true");
  const slots = filled === undefined ? 0 : Math.round(width / grid);
  for (let slot = 0; slot < slots; slot += 1) cells.append(make("i", "", slot < filled ? "filled" : ""));
  by("stage").replaceChildren(head, cells, make("p", tail, "quiet"));
  const told = OVER.has(trade.state) ? tail : "";
  say("said", `${trade.side}, ${amount.format(trade.stake)} tokens: ${phase}. ${told}`);
}

function stageOf(trade, width, grid, now) {
  const seen = trade.seen ? `seen at the click: ${price.format(trade.seen)}` : "";
  if (OVER.has(trade.state)) {
    const [word, change, kind] = outcomeOf(trade);
    const tail = trade.entry_price
      ? `entry ${price.format(trade.entry_price)}, close ${price.format(trade.close_price)}; the venues’ median return is ${bps(trade)}`
      : trade.detail ?? change;
    return { phase: PAID.has(trade.state) ? `${word} ${change}` : word, tail, kind };
  }
  if (!trade.open_us) return { phase: trade.state === "reserved" ? "waiting for the promise" : "promised", tail: seen };
  const seconds = (until) => `${Math.max(0, (until - now) / 1e6).toFixed(1)} s`;
  if (now < trade.open_us) return { phase: "starts in", clock: seconds(trade.open_us), tail: seen, filled: 0 };
  const slots = Math.round(width / grid);
  const entry = windowOf(state.points, trade.open_us, trade.open_us + width);
  const versus = entry.middle && trade.seen ? `, ${difference(entry.middle, trade.seen)} from what was seen at the click` : "";
  const shown = entry.middle ? `entry ${price.format(entry.middle)}${versus}` : seen;
  if (entry.count < slots && now < trade.open_us + width + 2e6) return { phase: "entry window", clock: `${entry.count} of ${slots}`, tail: shown, filled: entry.count };
  const begin = trade.close_us - width + grid;
  if (now < begin) return { phase: "closes in", clock: seconds(trade.close_us), tail: shown, filled: slots };
  const close = windowOf(state.points, begin, begin + width);
  const moved = close.middle && entry.middle ? `close ${price.format(close.middle)}, ${difference(close.middle, entry.middle)} from entry` : shown;
  if (close.count < slots && now < trade.close_us + grid) return { phase: "close window", clock: `${close.count} of ${slots}`, tail: moved, filled: close.count };
  return { phase: trade.state === "ended" ? "being verified" : "being settled", tail: moved, filled: slots };
}

/** Says when what is shown is old, and takes no orders on it. */
function showTrouble() {
  const silent = Date.now() - (state.heard ?? 0) > SILENT_MS;
  const trouble = state.connected === false ? "connection lost, connecting again"
    : silent && state.connected ? "no word from the game"
    : state.stale && state.connected ? "the venues’ prices have stopped"
    : "";
  say("old", trouble && `${trouble}; the price shown is old`);
  by("old").hidden = !trouble;
  state.old = trouble !== "";
  for (const button of by("order").querySelectorAll("button")) button.disabled = state.old || !state.connected || !state.mid;
}

function frame() {
  if (!state.rule) return;
  const shown = newest().filter((trade) => !OVER.has(trade.state) || (trade.since && Date.now() - trade.since < LATER_MS));
  chart.draw(state.points, state.mid, nowUs(), shown.slice(0, 3), state.rule, state.old);
  showStage();
}

function run() {
  if (!calm.matches && !document.hidden) frame();
  requestAnimationFrame(run);
}

connect();
run();
setInterval(showTrouble, 500);
