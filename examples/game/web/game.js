// The page of the game. It shows; what it shows of prices decides nothing.
import { Chart, price } from "/chart.js";
import { keepReceipt, receiptLink, receipts } from "/receipts.js";
import { amount, bps, clockOf, endOf, named, outcomeOf, OVER, stageOf, tokens } from "/words.js";

const by = (id) => document.getElementById(id);
const chart = new Chart(by("chart"));
const calm = matchMedia("(prefers-reduced-motion: reduce)");
const state = { points: [], mid: null, trades: new Map(), rule: null, you: null, ahead: 0, waiting: new Map() };
const LATER_MS = 6_000;
const TROUBLE_MS = 15_000;
/** What comes by two ways may come in the other order: a trade never goes back. */
const RANK = { reserved: 0, promised: 1, logged: 2, ended: 3, refused: 4, incident: 4, late: 5, settled: 6, refunded: 6 };
const SILENT_MS = 3_000;
const ANSWER_MS = 10_000;
const LEAST = Math.min(...[...by("order").elements].filter((one) => one.name === "stake").map((one) => one.value));

const TITLE = document.title;

const nowUs = () => Date.now() * 1000 + state.ahead;

/** Text only: whatever a name or a message holds, it never becomes markup. */
function make(tag, text = "", kind = "") {
  const made = document.createElement(tag);
  made.textContent = text;
  if (kind) made.className = kind;
  return made;
}

function clearStage() {
  state.staged = null;
  by("stage").replaceChildren(make("p", state.asks ?? "", "quiet"));
}

/** Says what went wrong with an order; it is not said for ever. */
function complain(text) {
  say("trouble", text);
  clearTimeout(state.complaint);
  state.complaint = setTimeout(() => say("trouble", ""), TROUBLE_MS);
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
    const [seconds, width] = [told.duration_us / 1e6, told.window_us / 1e6];
    say("terms", `${seconds} seconds. A won trade pays ${told.win} times the stake; a tie or a void returns it.`);
    state.asks = `Will ${told.market} be higher or lower in ${seconds} seconds? Entry and close are medians of all venues over ${width} seconds: no single tick decides.`;
    if (!state.staged) clearStage();
    if (state.you) say("name", state.you.name);
    hear.board(told);
    showPurse();
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
    const before = state.trades.get(trade.trade);
    if (!keep(trade)) return;
    if (OVER.has(trade.state) && !OVER.has(before?.state)) tellEnd(trade);
    if (state.you) state.you.balance = balance;
    showPurse();
    showTrades();
  },
  board({ board, entry, own }) {
    by("nobody").hidden = board.length > 0;
    // Who is not among the leaders stands below them.
    const places = own ? [...board, own] : board;
    const digits = Math.max(...places.map(({ worth }) => String(worth).split(".")[1]?.length ?? 0), 0);
    const worths = new Intl.NumberFormat("en", { minimumFractionDigits: Math.min(digits, 2), maximumFractionDigits: 2 });
    by("board").replaceChildren(...places.map((place) => {
      const { name, won, settled, worth, rank } = place;
      const row = make("tr", "", name === state.you?.name ? "you" : "");
      if (place === own && rank > board.length + 1) row.classList.add("below");
      row.append(make("td", amount.format(rank)), make("td", name), make("td", `${won} of ${settled}`), make("td", worths.format(worth)));
      return row;
    }));
    const seconds = (us) => (us / 1e6).toFixed(2);
    say("delay", entry
      ? `From click to entry: median ${seconds(entry.p50_us)} s, p99 ${seconds(entry.p99_us)} s, of ${entry.count} ${entry.count === 1 ? "trade" : "trades"}.`
      : "From click to entry: no trade yet.");
  },
};

/** Takes what is said of a trade, unless more is known of it; returns whether it was taken. */
function keep(trade) {
  const before = state.trades.get(trade.trade);
  if (before && RANK[trade.state] < RANK[before.state]) return false;
  const since = OVER.has(trade.state) && before && !OVER.has(before.state) ? Date.now() : before?.since;
  state.trades.set(trade.trade, { ...trade, since });
  if (trade.promise) keepReceipt(trade, state.rule.policy_id);
  return true;
}

let wait = 500;
function connect() {
  const socket = new WebSocket(`${location.protocol === "https:" ? "wss" : "ws"}://${location.host}/api/live`);
  state.socket = socket;
  socket.onopen = () => { wait = 500; };
  socket.onmessage = ({ data }) => {
    state.heard = Date.now();
    const told = JSON.parse(data);
    hear[told.type]?.(told);
  };
  socket.onclose = () => {
    if (state.socket !== socket) return;
    state.connected = false;
    showTrouble();
    setTimeout(connect, wait + Math.random() * 250);
    wait = Math.min(wait * 2, 8_000);
  };
}

// --- orders ----------------------------------------------------------------------------------

/** Asks the game; what it throws says in words why, and is `final` where that stays so. */
async function post(path, body) {
  let answer, found;
  try {
    const signal = AbortSignal.timeout(ANSWER_MS);
    answer = await fetch(path, { method: "POST", signal, headers: { "content-type": "application/json" }, body: JSON.stringify(body) });
    found = await answer.json();
  } catch {
    throw new Error("The game does not answer. Try again in a moment.");
  }
  if (!answer.ok) throw Object.assign(new Error(sentence(found.detail)), { final: answer.status < 500, rule: found.rule });
  return found;
}

const sentence = (text) => `${text.charAt(0).toUpperCase()}${text.slice(1)}.`;

/** Opens the connection anew, as whoever plays in this browser. */
function reconnect() {
  const old = state.socket;
  connect();
  old.close();
}

by("enrol").addEventListener("submit", async (event) => {
  event.preventDefault();
  say("trouble", "");
  try {
    await post("/api/players", { name: by("who").value });
    state.enrolled = true;
    state.trades.clear();
    reconnect();
  } catch (error) {
    complain(error.message);
    // Enrolled meanwhile in another window: this one goes on as the same player.
    if (error.rule === "player") reconnect();
  }
});

by("order").addEventListener("submit", async (event) => {
  event.preventDefault();
  say("trouble", "");
  const stake = Number(new FormData(by("order")).get("stake"));
  if (stake > state.you.balance) {
    complain(`You have ${tokens(state.you.balance)}: not enough for a stake of ${stake}.`);
    return;
  }
  // Drawn here: it names the trade, and the same order again is the same trade.
  const nonce = [...crypto.getRandomValues(new Uint8Array(16))].map((one) => one.toString(16).padStart(2, "0")).join("");
  const order = { nonce, side: event.submitter.value, stake, seen: state.mid };
  state.waiting.set(nonce, { order, until: Date.now() + ANSWER_MS });
  state.staged = nonce;
  by("stage").replaceChildren(make("p", "sending"));
  await send(nonce);
});

async function send(nonce) {
  const { order, until } = state.waiting.get(nonce) ?? {};
  if (!order) return;
  if (Date.now() > until) {
    // Prices have gone on: what did not arrive must not arrive now.
    state.waiting.delete(nonce);
    clearStage();
    complain("The game did not answer, and the order is not sent again. If it arrived all the same, it is among your trades.");
    return;
  }
  try {
    const found = await post("/api/trades", order);
    state.waiting.delete(nonce);
    say("trouble", "");
    hear.trade(found);
  } catch (error) {
    if (error.final) {
      state.waiting.delete(nonce);
      clearStage();
      complain(error.message);
      if (error.rule === "player") reconnect();
    } else {
      complain("No answer yet; the same order is sent again.");
      setTimeout(() => send(nonce), 1_000);
    }
  }
}

function resend() {
  for (const nonce of state.waiting.keys()) send(nonce);
}

// --- what is shown ---------------------------------------------------------------------------

function newest() {
  return [...state.trades.values()].sort((one, other) => other.clicked_us - one.clicked_us);
}

/** Name and tokens; and the form for who can play, or for who has to begin anew. */
function showPurse() {
  const { you } = state;
  by("purse").classList.toggle("absent", !you);
  const busy = [...state.trades.values()].some((trade) => !OVER.has(trade.state) || trade.state === "incident");
  const broke = you && !busy && you.balance < LEAST;
  by("enrol").hidden = Boolean(you) && !broke;
  by("order").hidden = !you || broke;
  say("why", broke ? "No stake left: begin anew, under another name" : "Your name in the tournament");
  if (!you) return;
  say("balance", amount.format(you.balance));
  say("unit", you.balance === 1 ? "token" : "tokens");
  if (state.enrolled) by("order").querySelector("input:checked").focus();
  state.enrolled = false;
}

/** Says how a trade ended, where the stage shows another one, or nobody looks. */
function tellEnd(trade) {
  const ended = endOf(trade);
  if (newest()[0]?.trade !== trade.trade) say("said", `${named(trade)}: ${ended}`);
  if (document.hidden) document.title = `${ended} · ${TITLE}`;
}

function checkLink(trade) {
  const link = make("a", "check this");
  link.href = trade.check;
  link.target = "_blank";
  link.rel = "noopener";
  link.setAttribute("aria-label", `check this: ${named(trade)}`);
  return link;
}

function showTrades() {
  const shown = newest().slice(0, 8);
  const kept = receipts();
  by("none").hidden = shown.length > 0;
  const focused = document.activeElement?.getAttribute("aria-label");
  for (const link of by("trades").querySelectorAll("a[download]")) URL.revokeObjectURL(link.href);
  by("trades").replaceChildren(...shown.map((trade) => {
    const row = make("li");
    const age = Date.now() - trade.since;
    if (age < LATER_MS) {
      row.className = "fresh";
      // Drawn anew in between, it goes on where it was.
      row.style.animationDelay = `${-age}ms`;
    }
    const side = make("span", `${trade.side === "up" ? "↑ Up" : "↓ Down"} ${amount.format(trade.stake)}`, `side ${trade.side}`);
    const middle = make("span", "", "middle quiet");
    const figure = make("span", "", "figure");
    if (OVER.has(trade.state)) {
      const [, , kind] = outcomeOf(trade);
      middle.textContent = trade.entry_price
        ? `${price.format(trade.entry_price)} → ${price.format(trade.close_price)}, ${bps(trade)}`
        : `${trade.state === "incident" ? "not paid yet: " : ""}${trade.detail ?? ""}`;
      figure.append(make("span", endOf(trade), kind));
    } else {
      middle.textContent = { reserved: "waiting for the promise", promised: "promised", logged: `entry ${trade.entry} of the log`, ended: "verifying" }[trade.state];
      figure.append(make("span", "open"));
    }
    const links = make("span", "", "links");
    const receipt = kept[trade.trade];
    if (receipt) links.append(receiptLink(receipt, named(trade)));
    if (trade.check) links.append(checkLink(trade));
    row.append(side, make("time", clockOf(trade), "quiet"), middle, figure, links);
    return row;
  }));
  if (focused) [...by("trades").querySelectorAll("a")].find((link) => link.getAttribute("aria-label") === focused)?.focus();
}

/** In words, what the newest trade is doing; the seconds are told to eyes alone. */
function showStage() {
  const trade = newest().find((one) => !OVER.has(one.state) || (one.since && Date.now() - one.since < LATER_MS * 2));
  if (!trade || !state.rule) return;
  const { window_us: width, grid_us: grid } = state.rule;
  const { phase, clock = "", tail = "", kind = "", filled } = stageOf(trade, state.points, width, grid, nowUs());
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

/** Says when what is shown is old, and takes no orders on it. */
function showTrouble() {
  const silent = Date.now() - (state.heard ?? 0) > SILENT_MS;
  const trouble = state.connected === false ? "connection lost; the price shown is old"
    : silent && state.connected ? "no word from the game; the price shown is old"
    : state.stale && state.connected ? "the venues’ prices have stopped"
    : "";
  say("old", trouble);
  by("old").hidden = !trouble;
  state.old = trouble !== "";
  document.body.classList.toggle("old", state.old);
  // Live is what is heard of, not what is merely open.
  say("link", state.connected === false ? "reconnecting" : !state.connected ? "connecting" : silent ? "no word" : "live");
  by("link").className = by("link").textContent === "live" ? "live" : "";
  const closed = state.old || !state.connected || !state.mid;
  const focused = document.activeElement;
  for (const button of by("order").querySelectorAll("button")) {
    if (closed && button === focused) state.left = button;
    button.disabled = closed;
  }
  // A disabled button loses the focus: who had it there has it there again.
  if (!closed && state.left && focused === document.body) state.left.focus();
  if (!closed) state.left = null;
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

document.addEventListener("visibilitychange", () => {
  if (!document.hidden) document.title = TITLE;
});
connect();
run();
setInterval(showTrouble, 500);
