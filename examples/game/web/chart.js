// The chart: two minutes of slots, the price just now, and the windows of open trades.

const PAST_US = 120e6;
const FUTURE_US = 40e6;
const LATE_US = 3e6;
const TOP = 20;
const APART = 16;
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
    const [from, until] = [nowUs - PAST_US, nowUs + FUTURE_US];
    pen.font = `${width < 560 ? 12 : 13}px ${getComputedStyle(this.canvas).fontFamily}`;
    const right = Math.floor(width - pen.measureText(`↓ ${price.format(mid ?? 0)}`).width - 8);
    const x = (at) => ((at - from) / (until - from)) * right;
    pen.clearRect(0, 0, width, height);
    const shown = points.filter(([at]) => at >= from - 1e6);
    const mids = shown.map(([, value]) => value);
    if (mid) mids.push(mid);
    for (const trade of trades) {
      if (trade.seen) mids.push(Number(trade.seen));
      if (trade.entry_price) mids.push(Number(trade.entry_price));
    }
    if (!mids.length) return;
    const [low, high] = [Math.min(...mids), Math.max(...mids)];
    const room = Math.max((high - low) * 0.16, high * 0.00005);
    const [bottom, top] = [low - room, high + room];
    const y = (value) => TOP + ((top - value) / (top - bottom)) * (height - 22 - TOP);
    const tags = this.tags(trades, rule, points, y, height);
    this.grid(bottom, top, y, x, nowUs, right, tags, color);
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
    this.beginning(points, x, y, color);
    for (const trade of trades) this.clicked(trade, x, y, color);
    for (const tag of tags) this.entry(tag, x, right, color);
    if (mid) {
      pen.beginPath();
      pen.arc(x(nowUs), y(mid), 4, 0, 7);
      pen.fillStyle = color(old ? "quiet" : "line");
      pen.fill();
    }
  }

  /** Entry lines of trades, named where the prices stand: none over another. */
  tags(trades, rule, points, y, height) {
    const found = [];
    for (const trade of trades) {
      if (!trade.open_us) continue;
      // What is settled is shown as it was settled.
      const value = Number(trade.entry_price ?? windowOf(points, trade.open_us, trade.open_us + rule.window_us).middle ?? NaN);
      if (Number.isNaN(value)) continue;
      found.push({ trade, value, line: y(value), at: y(value), until: trade.close_us + rule.grid_us });
    }
    found.sort((one, other) => one.at - other.at);
    for (const [number, tag] of found.entries()) {
      if (number) tag.at = Math.max(tag.at, found[number - 1].at + APART);
    }
    let floor = height - 26;
    for (const tag of found.reverse()) {
      tag.at = Math.min(tag.at, floor);
      floor = tag.at - APART;
    }
    return found;
  }

  grid(bottom, top, y, x, nowUs, right, tags, color) {
    const { pen, width, height } = this;
    const rough = (top - bottom) / Math.max(5, Math.round(height / 40));
    const power = 10 ** Math.floor(Math.log10(rough));
    const step = [1, 2, 2.5, 5, 10].map((times) => times * power).find((one) => one >= rough);
    pen.lineWidth = 1;
    pen.strokeStyle = color("rule");
    pen.fillStyle = color("quiet");
    pen.textAlign = "right";
    for (let value = Math.ceil(bottom / step) * step; value < top; value += step) {
      const at = Math.round(y(value)) + 0.5;
      pen.beginPath();
      pen.moveTo(0, at);
      pen.lineTo(right, at);
      pen.stroke();
      if (tags.every((tag) => Math.abs(tag.at - at) >= APART)) pen.fillText(price.format(value), width, at + 4);
    }
    pen.textAlign = "center";
    // Of half a minute each, or of one where that has no room.
    const apart = right < 260 ? 60 : 30;
    for (let seconds = -120; seconds <= 30; seconds += apart) {
      const at = x(nowUs + seconds * 1e6);
      if (at < 16 || at > right - 16) continue;
      pen.fillText(seconds ? `${seconds > 0 ? "+" : "−"}${Math.abs(seconds)} s` : "now", at, height - 4);
    }
    pen.setLineDash([2, 4]);
    pen.beginPath();
    pen.moveTo(x(nowUs), TOP);
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
      pen.fillRect(left, TOP, end - left, height - 20 - TOP);
      pen.globalAlpha = 0.3;
      for (let slot = start; slot < start + rule.window_us; slot += rule.grid_us) {
        const came = points.some(([at]) => at === slot);
        if (came) pen.fillRect(x(slot), TOP, x(slot + rule.grid_us) - x(slot), height - 20 - TOP);
      }
      pen.globalAlpha = 1;
      pen.fillStyle = color("quiet");
      pen.textAlign = "center";
      if (named) pen.fillText(name, (left + end) / 2, 14);
    }
  }

  /** A feed that is younger than the chart has a beginning, which is no fault. */
  beginning(points, x, y, color) {
    const { pen } = this;
    const text = "no prices before";
    if (!points.length || x(points[0][0]) < pen.measureText(text).width + 12) return;
    pen.fillStyle = color("quiet");
    pen.textAlign = "right";
    pen.fillText(text, x(points[0][0]) - 8, y(points[0][1]) + 4);
  }

  clicked(trade, x, y, color) {
    if (!trade.seen) return;
    const { pen } = this;
    pen.beginPath();
    pen.arc(x(trade.clicked_us), y(Number(trade.seen)), 4.5, 0, 7);
    pen.fillStyle = color("paper");
    pen.fill();
    pen.strokeStyle = color(trade.side);
    pen.lineWidth = 2;
    pen.stroke();
  }

  entry({ trade, value, line, at, until }, x, right, color) {
    const { pen, width } = this;
    pen.strokeStyle = pen.fillStyle = color(trade.side);
    pen.lineWidth = 1.5;
    pen.setLineDash([6, 4]);
    pen.beginPath();
    pen.moveTo(x(trade.open_us), line);
    pen.lineTo(Math.min(x(until), right), line);
    pen.stroke();
    // From its end to its name, faintly.
    pen.lineWidth = 0.75;
    pen.setLineDash([1, 3]);
    pen.beginPath();
    pen.moveTo(Math.min(x(until), right), line);
    pen.lineTo(right - 6, line);
    pen.lineTo(right, at);
    pen.stroke();
    pen.setLineDash([]);
    pen.textAlign = "right";
    pen.fillText(`${trade.side === "up" ? "↑" : "↓"} ${price.format(value)}`, width, at + 4);
  }
}

export { price };
