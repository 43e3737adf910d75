// The chart: two minutes of slots, the price just now, and the windows of open trades.

const PAST_US = 120e6;
const FUTURE_US = 40e6;
const LATE_US = 3e6;
const price = new Intl.NumberFormat("en", { minimumFractionDigits: 2, maximumFractionDigits: 2 });

/** The median of the points inside [from, until), and how many there are. */
export function windowOf(points, from, until) {
  const mids = points.filter(([at]) => at >= from && at < until).map(([, mid]) => mid);
  const sorted = [...mids].sort((one, other) => one - other);
  const half = sorted.length >> 1;
  const middle = sorted.length % 2 ? sorted[half] : (sorted[half - 1] + sorted[half]) / 2;
  return { count: mids.length, middle: mids.length ? middle : null };
}

export class Chart {
  constructor(canvas) {
    this.canvas = canvas;
    this.pen = canvas.getContext("2d");
    new ResizeObserver(() => this.fit()).observe(canvas);
    this.fit();
  }

  fit() {
    const scale = window.devicePixelRatio || 1;
    const { width, height } = this.canvas.getBoundingClientRect();
    this.canvas.width = Math.round(width * scale);
    this.canvas.height = Math.round(height * scale);
    this.pen.setTransform(scale, 0, 0, scale, 0, 0);
    [this.width, this.height] = [width, height];
  }

  /** points: [microseconds, mid]; trades: open ones, with their windows. */
  draw(points, mid, nowUs, trades, rule, old) {
    const { pen, width, height } = this;
    const style = getComputedStyle(document.documentElement);
    const color = (name) => style.getPropertyValue(`--${name}`).trim();
    const from = nowUs - PAST_US * (width < 560 ? 0.6 : 1);
    const until = nowUs + FUTURE_US;
    const right = width - 80;
    const x = (at) => ((at - from) / (until - from)) * right;
    pen.clearRect(0, 0, width, height);
    const shown = points.filter(([at]) => at >= from - 1e6);
    const mids = shown.map(([, value]) => value);
    if (mid) mids.push(mid);
    for (const trade of trades) if (trade.seen) mids.push(Number(trade.seen));
    if (!mids.length) return;
    const [low, high] = [Math.min(...mids), Math.max(...mids)];
    const room = Math.max((high - low) * 0.16, high * 0.00005);
    const [bottom, top] = [low - room, high + room];
    const y = (value) => 6 + ((top - value) / (top - bottom)) * (height - 28);
    pen.font = "13px Georgia, serif";
    this.grid(bottom, top, y, x, from, until, nowUs, right, color);
    for (const trade of trades) this.windows(trade, rule, points, x, height, color, trade === trades[0]);
    pen.save();
    pen.beginPath();
    pen.rect(0, 0, right, height);
    pen.clip();
    pen.beginPath();
    shown.forEach(([at, value], number) => {
      // Where no slot came there is no line.
      const gap = number === 0 || at - shown[number - 1][0] > LATE_US;
      if (gap) pen.moveTo(x(at), y(value));
      else pen.lineTo(x(at), y(value));
    });
    pen.strokeStyle = color(old ? "quiet" : "line");
    pen.lineWidth = 1.75;
    pen.lineJoin = "round";
    pen.stroke();
    const last = shown.at(-1);
    if (mid && last) {
      // What no slot says yet: broken where slots are late.
      pen.setLineDash(nowUs - last[0] > LATE_US ? [2, 4] : []);
      pen.beginPath();
      pen.moveTo(x(last[0]), y(last[1]));
      pen.lineTo(x(nowUs), y(mid));
      pen.stroke();
      pen.setLineDash([]);
    }
    pen.restore();
    for (const trade of trades) this.marks(trade, rule, points, nowUs, x, y, right, color);
    if (mid) {
      pen.beginPath();
      pen.arc(x(nowUs), y(mid), 4, 0, 7);
      pen.fillStyle = color(old ? "quiet" : "line");
      pen.fill();
    }
  }

  grid(bottom, top, y, x, from, until, nowUs, right, color) {
    const { pen, height } = this;
    const rough = (top - bottom) / 4;
    const power = 10 ** Math.floor(Math.log10(rough));
    const step = [1, 2, 5, 10].map((times) => times * power).find((one) => one >= rough);
    pen.lineWidth = 1;
    pen.strokeStyle = color("rule");
    pen.fillStyle = color("quiet");
    pen.textAlign = "left";
    for (let value = Math.ceil(bottom / step) * step; value < top; value += step) {
      const at = Math.round(y(value)) + 0.5;
      pen.beginPath();
      pen.moveTo(0, at);
      pen.lineTo(right, at);
      pen.stroke();
      pen.fillText(price.format(value), right + 6, at + 4);
    }
    pen.textAlign = "center";
    for (let seconds = -120; seconds <= 30; seconds += 30) {
      const at = x(nowUs + seconds * 1e6);
      if (at < 16 || at > right - 16) continue;
      pen.fillText(seconds ? `${seconds > 0 ? "+" : "−"}${Math.abs(seconds)} s` : "now", at, height - 4);
    }
    pen.setLineDash([2, 4]);
    pen.beginPath();
    pen.moveTo(x(nowUs), 0);
    pen.lineTo(x(nowUs), height - 20);
    pen.stroke();
    pen.setLineDash([]);
  }

  /** Bands of the windows, and in them each slot that has come. */
  windows(trade, rule, points, x, height, color, named) {
    if (!trade.open_us) return;
    const { pen } = this;
    const starts = [["entry", trade.open_us], ["close", trade.close_us - rule.window_us + rule.grid_us]];
    for (const [name, start] of starts) {
      const [left, end] = [x(start), x(start + rule.window_us)];
      pen.fillStyle = color("window");
      pen.globalAlpha = 0.12;
      pen.fillRect(left, 0, end - left, height - 20);
      pen.globalAlpha = 0.3;
      for (let slot = start; slot < start + rule.window_us; slot += rule.grid_us) {
        const came = points.some(([at]) => at === slot);
        if (came) pen.fillRect(x(slot), 0, x(slot + rule.grid_us) - x(slot), height - 20);
      }
      pen.globalAlpha = 1;
      pen.fillStyle = color("quiet");
      pen.textAlign = "center";
      if (named) this.label(name, (left + end) / 2, 14, color);
    }
  }

  /** Text that the line behind it does not cross. */
  label(text, x, y, color) {
    const { pen } = this;
    const ink = pen.fillStyle;
    pen.strokeStyle = color("paper");
    pen.lineWidth = 4;
    pen.lineJoin = "round";
    pen.strokeText(text, x, y);
    pen.fillStyle = ink;
    pen.fillText(text, x, y);
  }

  marks(trade, rule, points, nowUs, x, y, right, color) {
    const { pen } = this;
    const tint = color(trade.side);
    if (trade.seen) {
      pen.beginPath();
      pen.arc(x(trade.clicked_us), y(Number(trade.seen)), 4.5, 0, 7);
      pen.fillStyle = color("paper");
      pen.fill();
      pen.strokeStyle = tint;
      pen.lineWidth = 2;
      pen.stroke();
    }
    if (!trade.open_us) return;
    const entry = windowOf(points, trade.open_us, trade.open_us + rule.window_us);
    if (entry.middle === null) return;
    const at = y(entry.middle);
    pen.strokeStyle = tint;
    pen.lineWidth = 1.5;
    pen.setLineDash([6, 4]);
    pen.beginPath();
    pen.moveTo(x(trade.open_us), at);
    pen.lineTo(Math.min(x(trade.close_us + rule.grid_us), right), at);
    pen.stroke();
    pen.setLineDash([]);
    pen.fillStyle = tint;
    // At the end that the price reaches last, on the side of the line where it is not.
    pen.textAlign = "right";
    const end = Math.min(x(trade.close_us - rule.window_us), right) - 6;
    const below = (points.at(-1)?.[1] ?? 0) > entry.middle;
    this.label(`${trade.side === "up" ? "↑" : "↓"} ${price.format(entry.middle)}`, end, at + (below ? 17 : -7), color);
  }
}

export { price };
