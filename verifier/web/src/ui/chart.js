// The chart of all slots around the trade: each venue against its own open, the windows shaded, and
// below it a lane for each venue in which gaps are gaps.

import { basisPoints, duration, utc } from "./format.js";
import { seenSlots } from "./derived.js";
import { h, section, svg, visible, when } from "./dom.js";
import { Fraction, finite, median } from "../core/fraction.js";

const LEFT = 84;
const RIGHT = 12;
const TOP = 26;
const PLOT = 190;
const LANE = 15;
const BREAK = 46;
const FAULTS = {
  venue: "the venue’s fault: a hole",
  notary: "the notary’s fault: a hole",
  prover: "the prover’s fault: counts for the player",
};

/** Groups slots into runs without holes in the grid. */
function runsOf(slots, grid) {
  const runs = [];
  for (const slot of slots) {
    const run = runs[runs.length - 1];
    if (run && slot.slotUs - run[run.length - 1].slotUs <= 4 * grid) run.push(slot);
    else runs.push([slot]);
  }
  return runs;
}

/** Each venue's mids against the median of its open window, in basis points (doubles, to draw). */
function drawn(slots, settlement) {
  const opens = new Map(
    settlement.venues.map(({ venue, opening }) => {
      const mids = opening.slots.filter((slot) => slot.real).map((slot) => slot.value);
      return [venue, mids.length ? median(mids).number : null];
    }),
  );
  return slots.map((slot) => {
    const values = slot.venues.map((seen) => {
      const open = opens.get(seen.venue);
      if (seen.mid === null || !open) return null;
      return basisPoints(seen.mid.over(open));
    });
    const present = values.filter((value) => value !== null);
    const shifted = present.map((value) => finite(value.add(new Fraction(1000000n))));
    const middle = present.length
      ? median(shifted).number.subtract(new Fraction(1000000n)).toNumber()
      : null;
    return { ...slot, values: values.map((value) => value?.toNumber() ?? null), middle };
  });
}

function niceStep(span) {
  const raw = Math.max(span, 0.4) / 4;
  const power = 10 ** Math.floor(Math.log10(raw));
  return [1, 2, 5, 10].map((factor) => factor * power).find((step) => step >= raw);
}

class Chart {
  constructor(result, width) {
    const { policy, settlement } = result;
    this.result = result;
    this.width = width;
    this.left = width < 480 ? 76 : LEFT;
    this.slots = drawn(seenSlots(result), settlement);
    this.runs = runsOf(this.slots, policy.grid_us);
    const inner = width - this.left - RIGHT - BREAK * (this.runs.length - 1);
    this.step = inner / this.slots.length;
    this.x = new Map();
    let x = this.left;
    for (const run of this.runs) {
      for (const slot of run) {
        this.x.set(slot.slotUs, x + this.step / 2);
        x += this.step;
      }
      x += BREAK;
    }
    const all = this.slots.flatMap((slot) => slot.values).filter((value) => value !== null);
    const low = Math.min(0, ...all);
    const high = Math.max(0, ...all);
    this.tick = niceStep(high - low);
    this.low = Math.floor(low / this.tick) * this.tick;
    this.high = Math.ceil(high / this.tick) * this.tick || this.tick;
    this.laneTop = TOP + PLOT + 34;
    this.height = this.laneTop + policy.venues.length * LANE + 8;
  }

  y(value) {
    return TOP + PLOT - ((value - this.low) / (this.high - this.low)) * PLOT;
  }

  draw() {
    const { width, height } = this;
    const label = `Prices of ${this.result.policy.venues.length} venues around the trade`;
    return svg(
      "svg",
      { width, height, viewBox: `0 0 ${width} ${height}`, role: "img", "aria-label": label },
      this.windows(),
      this.axis(),
      this.breaks(),
      this.result.policy.venues.map((_, at) => this.lines((slot) => slot.values[at], "venue-line")),
      this.lines((slot) => slot.middle, "median-line"),
      this.lanes(),
    );
  }

  windows() {
    const { settlement, policy } = this.result;
    const last = settlement.close_us + settlement.slid_us;
    const spans = [
      ["open window", settlement.open_us, settlement.open_us + policy.windows.w_us],
      ["close window", last - policy.windows.w_us + policy.grid_us, last + policy.grid_us],
    ];
    return spans.map(([name, from, until]) => {
      const inside = this.slots.filter((slot) => slot.slotUs >= from && slot.slotUs < until);
      if (!inside.length) return null;
      const x = this.x.get(inside[0].slotUs) - this.step / 2;
      const w = inside.length * this.step;
      return [
        svg("rect", {
          class: "window",
          x,
          y: TOP,
          width: w,
          height: this.height - TOP - 4,
          rx: 3,
        }),
        svg("text", { class: "window-name", x: x + w / 2, y: 15, "text-anchor": "middle" }, name),
      ];
    });
  }

  axis() {
    const marks = [];
    for (let value = this.low; value <= this.high + this.tick / 2; value += this.tick) {
      const y = this.y(value);
      const shown = Math.round(value * 100) / 100;
      marks.push(
        svg("line", {
          class: shown === 0 ? "zero" : "grid",
          x1: this.left,
          x2: this.width - RIGHT,
          y1: y,
          y2: y,
        }),
        svg(
          "text",
          { class: "tick", x: this.left - 8, y: y + 4, "text-anchor": "end" },
          `${shown > 0 ? "+" : shown < 0 ? "−" : ""}${Math.abs(shown)} bp`,
        ),
      );
    }
    for (const run of this.runs) {
      const ends = run.length > 3 ? [run[0], run[run.length - 1]] : [run[0]];
      ends.forEach((slot, at) => {
        const narrow = run.length * this.step < 130;
        if (narrow && at) return;
        marks.push(
          svg(
            "text",
            {
              class: "tick",
              x: at
                ? this.x.get(slot.slotUs) + this.step / 2
                : this.x.get(slot.slotUs) - this.step / 2,
              y: TOP + PLOT + 18,
              "text-anchor": at ? "end" : "start",
            },
            utc(slot.slotUs, { date: false }).slice(0, narrow ? 8 : 10),
          ),
        );
      });
    }
    return marks;
  }

  /** Between runs of slots: how long nothing is drawn. */
  breaks() {
    return this.runs.slice(1).map((run, at) => {
      const before = this.runs[at][this.runs[at].length - 1].slotUs;
      const x = this.x.get(run[0].slotUs) - this.step / 2 - BREAK / 2;
      return svg(
        "text",
        { class: "tick", x, y: TOP + PLOT / 2, "text-anchor": "middle" },
        `⋯ ${duration(run[0].slotUs - before)}`,
      );
    });
  }

  /** One line, broken wherever there is no value; a point between two gaps is a dash. */
  lines(value, name) {
    const parts = [];
    for (const run of this.runs) {
      let part = [];
      parts.push(part);
      for (const slot of run) {
        const found = value(slot);
        if (found === null) {
          part = [];
          parts.push(part);
        } else part.push([this.x.get(slot.slotUs), this.y(found)]);
      }
    }
    const number = (place) => place.toFixed(1);
    const path = parts.map((part) => {
      if (part.length === 1) return `M${number(part[0][0] - 1.5)} ${number(part[0][1])}h3`;
      return part.map(([x, y], at) => `${at ? "L" : "M"}${number(x)} ${number(y)}`).join("");
    });
    return svg("path", { class: name, d: path.join("") });
  }

  lanes() {
    return this.result.policy.venues.map(({ venue }, at) => {
      const y = this.laneTop + at * LANE;
      const whole = visible(venue, 40);
      const name = whole.length > 11 ? `${whole.slice(0, 10)}…` : whole;
      return [
        svg("text", { class: "tick", x: this.left - 8, y: y + 10, "text-anchor": "end" }, name),
        this.slots.map((slot) => this.cell(slot, slot.venues[at], y)),
      ];
    });
  }

  cell(slot, seen, y) {
    const x = this.x.get(slot.slotUs);
    const w = Math.min(this.step - 1.5, 22);
    const at = utc(slot.slotUs, { date: false });
    if (seen.mid !== null) {
      return svg(
        "rect",
        { class: "seen", x: x - w / 2, y: y + 3, width: w, height: 7, rx: 1.5 },
        svg("title", {}, `${visible(seen.venue)} ${at}: seen`),
      );
    }
    const fault = faultOf(seen);
    const why = seen.missing.map((one) => visible(`${one.notary}: ${one.why}`)).join("; ");
    const title = svg("title", {}, `${visible(seen.venue)} ${at}: gap, ${FAULTS[fault]} (${why})`);
    return svg("g", { class: `gap ${fault}` }, title, mark(fault, x, y + 6.5));
  }
}

/** Whose fault a venue's gap is, all notaries taken together. */
function faultOf({ missing }) {
  return ["prover", "notary", "venue"].find((party) => missing.some(({ fault }) => fault === party));
}

/** A shape for each party at fault, so that colour is not all that tells them apart. */
function mark(fault, x, y) {
  if (fault === "venue") return svg("circle", { cx: x, cy: y, r: 3.4 });
  if (fault === "notary") return svg("rect", { x: x - 3.2, y: y - 3.2, width: 6.4, height: 6.4 });
  return svg("path", { d: `M${x - 4} ${y + 3.4}h8l-4 -7z` });
}

/** What the chart's marks mean, of gaps those that are there. */
function legend(result) {
  const gaps = seenSlots(result).flatMap(({ venues }) => venues.filter(({ mid }) => mid === null));
  const faults = new Set(gaps.map(faultOf));
  return h(
    "p",
    { class: "legend" },
    h("span", {}, key(svg("path", { class: "median-line", d: "M0 7h16" })), "median of the venues"),
    h("span", {}, key(svg("path", { class: "venue-line", d: "M0 7h16" })), "each venue"),
    h("span", {}, key(svg("rect", { class: "seen", y: 3.5, width: 16, height: 7, rx: 1.5 })), "a price in this slot"),
    Object.keys(FAULTS)
      .filter((fault) => faults.has(fault))
      .map((fault) =>
        h(
          "span",
          {},
          key(svg("g", { class: `gap ${fault}` }, mark(fault, 8, 7))),
          `gap, ${FAULTS[fault]}`,
        ),
      ),
  );
}

const key = (shape) =>
  svg(
    "svg",
    { class: "key", width: 16, height: 14, viewBox: "0 0 16 14", "aria-hidden": "true" },
    shape,
  );

/** The chart, drawn anew for every width. */
export function chartSection(result) {
  const place = h("div", { class: "chart" });
  let drawnFor = 0;
  const draw = () => {
    const width = Math.round(place.clientWidth);
    if (width < 40 || width === drawnFor) return;
    drawnFor = width;
    place.replaceChildren(new Chart(result, width).draw());
  };
  new ResizeObserver(draw).observe(place);
  const { settlement, terms } = result;
  const slid = settlement.slid_us ? `, slid by ${duration(settlement.slid_us)} over holes` : "";
  return section(
    "What was seen",
    h(
      "p",
      {},
      "Every venue’s mid against its own open, slot by slot. The trade was logged at ",
      when(terms.logged_us),
      "; the open window began at ",
      when(settlement.open_us, { date: false }),
      " and the close window ended at ",
      when(settlement.close_us + settlement.slid_us, { date: false }),
      `${slid}.`,
    ),
    place,
    legend(result),
  );
}
