// What is said of a trade, in words and figures.
import { price, windowOf } from "/chart.js";

export const amount = new Intl.NumberFormat("en", { maximumFractionDigits: 2 });
export const OVER = new Set(["settled", "refused", "incident", "late", "refunded"]);
const PAID = new Set(["settled", "late", "refunded"]);

/** How a trade ended: the word for it, what it changed, and its kind. */
export function outcomeOf(trade) {
  if (trade.state === "refused") return ["refused", "stake returned", ""];
  if (trade.state === "incident") return ["held", "not paid yet: the operator is looking at it", "incident"];
  if (trade.state === "late" || trade.state === "refunded") return ["refunded", `${amount.format(trade.payout)} back`, ""];
  if (trade.outcome === "void") return ["void", `${amount.format(trade.payout)} back`, ""];
  if (trade.outcome === "tie") return ["tie", "stake returned", ""];
  const won = trade.outcome === trade.side;
  return won ? ["won", `+${amount.format(trade.payout - trade.stake)}`, "won"] : ["lost", `−${amount.format(trade.stake)}`, "lost"];
}

/** The same in one line. */
export function endOf(trade) {
  const [word, change] = outcomeOf(trade);
  if (!PAID.has(trade.state)) return word;
  return /^[+−]/.test(change) ? `${word} ${change}` : `${word}, ${change}`;
}

export function bps(trade) {
  return trade.change_bps === undefined ? "" : `${trade.change_bps.replace("-", "−")} bp`;
}

export function difference(value, base) {
  const by = value - base;
  return `${by < 0 ? "−" : "+"}${price.format(Math.abs(by))}`;
}

export const tokens = (count) => `${amount.format(count)} ${count === 1 ? "token" : "tokens"}`;

export const clockOf = (trade) => new Date(trade.clicked_us / 1000).toLocaleTimeString("en-GB");

/** A trade in words; the time tells it from others. */
export const named = (trade) => `${trade.side}, ${tokens(trade.stake)}, at ${clockOf(trade)}`;

/** What a trade is doing now: its phase, the seconds left, what there is to say, slots that came. */
export function stageOf(trade, points, width, grid, now) {
  const seen = trade.seen ? `seen at the click: ${price.format(trade.seen)}` : "";
  if (OVER.has(trade.state)) {
    const [, change, kind] = outcomeOf(trade);
    const versus = trade.entry_price && trade.seen ? `, ${difference(trade.entry_price, trade.seen)} from the click` : "";
    const tail = trade.entry_price
      ? `entry ${price.format(trade.entry_price)}${versus}; close ${price.format(trade.close_price)}; the venues’ median return is ${bps(trade)}`
      : trade.detail ?? (PAID.has(trade.state) ? "" : change);
    return { phase: endOf(trade), tail, kind };
  }
  if (!trade.open_us) return { phase: trade.state === "reserved" ? "waiting for the promise" : "promised", tail: seen };
  const seconds = (until) => `${Math.max(0, (until - now) / 1e6).toFixed(1)} s`;
  if (now < trade.open_us) return { phase: "starts in", clock: seconds(trade.open_us), tail: seen, filled: 0 };
  const slots = Math.round(width / grid);
  const entry = windowOf(points, trade.open_us, trade.open_us + width);
  const versus = entry.middle && trade.seen ? `, ${difference(entry.middle, trade.seen)} from the click` : "";
  const shown = entry.middle ? `entry about ${price.format(entry.middle)}${versus}` : seen;
  if (entry.count < slots && now < trade.open_us + width + 2e6) return { phase: "entry window", clock: `${entry.count} of ${slots}`, tail: shown, filled: entry.count };
  const begin = trade.close_us - width + grid;
  if (now < begin) return { phase: "closes in", clock: seconds(trade.close_us), tail: shown, filled: slots };
  const close = windowOf(points, begin, begin + width);
  const moved = close.middle && entry.middle ? `close about ${price.format(close.middle)}, ${difference(close.middle, entry.middle)} from entry` : shown;
  if (close.count < slots && now < trade.close_us + grid) return { phase: "close window", clock: `${close.count} of ${slots}`, tail: moved, filled: close.count };
  return { phase: trade.state === "ended" ? "being verified" : "being settled", tail: moved, filled: slots };
}
