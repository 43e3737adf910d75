// The venues' table: open, close, return, spread, staleness, what counted, and the raw bytes.

import { Fraction } from "../core/fraction.js";
import { fraction } from "../core/price.js";
import { shown as asText } from "../core/bytes.js";
import { code, h, more, scrolling, section, visible } from "./dom.js";
import { basisPoints, decimal, duration, list, plural, points, price, utc } from "./format.js";

/** The observations of a venue in the slots given, in order. */
function observations(result, venue) {
  return [...result.slots]
    .sort((left, right) => left.slot.slot_us - right.slot.slot_us)
    .map((slot) => ({ slot, field: slot.fields.get(venue) }))
    .filter(({ field }) => field !== undefined);
}

function spreadPoints(field) {
  const bid = fraction(field.bid);
  const ask = fraction(field.ask);
  const sum = bid.add(ask);
  if (sum.n <= 0n) return null;
  const difference = ask.subtract(bid);
  return new Fraction(difference.n * sum.d * 20000n, difference.d * sum.n);
}

/** The widest spread and the oldest quote among the slots judged. */
function worst(result, venue) {
  let spread = null;
  let age = null;
  for (const { slot, field } of observations(result, venue)) {
    if (field.gap || !result.judged.has(slot.slot.slot_us)) continue;
    const points = spreadPoints(field);
    if (points !== null && (spread === null || points.compare(spread) > 0)) spread = points;
    age = Math.max(age ?? 0, slot.slot.slot_us - field.received_us);
  }
  return { spread, age };
}

/** Why a venue does not count. */
function missed({ opening, closing }) {
  if (closing === null) return "no close was looked at";
  const ends = [opening.value === null && "open", closing.value === null && "close"].filter(
    Boolean,
  );
  return ends.length
    ? `does not count: too few slots at the ${list(ends)}`
    : "no quorum to count in";
}

function verdict(venue, policy) {
  const least = policy.windows.min_slots;
  if (venue.change === null) return missed(venue);
  if (!venue.real) return "counts for the player: too much was withheld";
  const part = venue.opening.real + venue.closing.real;
  const whole = venue.opening.slots.length + venue.closing.slots.length;
  return part === whole
    ? "counts"
    : `counts, with ${plural(whole - part, "gap")} (${least} needed)`;
}

const filled = (window) => (window === null ? "–" : `${window.real}/${window.slots.length}`);

function row(result, venue) {
  const { policy } = result;
  const rule = policy.venues.find((one) => one.venue === venue.venue);
  const { spread, age } = worst(result, venue.venue);
  const change = venue.change;
  return h(
    "tr",
    { class: venue.change === null ? "out" : null },
    h(
      "th",
      { scope: "row" },
      visible(venue.venue, 40),
      h("small", {}, visible(rule.instrument, 40)),
    ),
    h("td", {}, price(venue.opening.value)),
    h("td", {}, price(venue.closing?.value ?? null)),
    h(
      "td",
      { class: "strong" },
      change === null ? "–" : change.infinite ? "∞" : points(basisPoints(change.number)),
    ),
    h("td", {}, spread === null ? "–" : `${decimal(spread, 2)} bp`),
    h("td", {}, age === null ? "–" : duration(Math.round(age / 1000) * 1000)),
    h("td", {}, `${filled(venue.opening)} · ${filled(venue.closing)}`),
    h("td", { class: "text" }, verdict(venue, policy)),
  );
}

function rawRows(result, venue) {
  return observations(result, venue).map(({ slot, field }) => {
    const at = utc(slot.slot.slot_us, { date: false });
    if (field.gap) {
      return h(
        "tr",
        {},
        h("th", { scope: "row" }, at),
        h("td", { class: "text" }, visible(slot.notary, 60)),
        h(
          "td",
          { colspan: "3", class: "text" },
          `gap: ${visible(field.reason)}, ${field.fault}'s fault`,
        ),
      );
    }
    const bytes = field.messages.map(({ hash }) => {
      const message = result.messages.get(hash);
      return message === undefined
        ? h("small", {}, "not needed, and not given: ", code(hash))
        : h("code", { class: "bytes" }, visible(asText(message), 2000));
    });
    return h(
      "tr",
      {},
      h("th", { scope: "row" }, at),
      h("td", { class: "text" }, visible(slot.notary, 60)),
      h("td", {}, field.bid),
      h("td", {}, field.ask),
      h("td", { class: "text" }, bytes),
    );
  });
}

/** Slot by slot, what a venue sent: made when it is asked for. */
function raw(result, { venue }) {
  const details = more(visible(venue, 40));
  details.addEventListener("toggle", () => {
    if (!details.open || details.childElementCount > 1) return;
    const head = ["slot", "notary", "bid", "ask", "what the venue sent"].map((name) =>
      h("th", { scope: "col", class: /notary|sent/.test(name) ? "text" : null }, name),
    );
    const table = h(
      "table",
      { class: "raw" },
      h("thead", {}, h("tr", {}, head)),
      h("tbody", {}, rawRows(result, venue)),
    );
    details.append(scrolling(`Slots of ${visible(venue, 40)}`, table));
  });
  return details;
}

export function venuesSection(result) {
  const { settlement, policy } = result;
  const head = [
    "venue",
    "open mid",
    "close mid",
    "return",
    "widest spread",
    "oldest quote",
    "slots",
    "filter",
  ];
  const table = h(
    "table",
    {},
    h(
      "thead",
      {},
      h(
        "tr",
        {},
        head.map((name) =>
          h("th", { scope: "col", class: name === "filter" ? "text" : null }, name),
        ),
      ),
    ),
    h(
      "tbody",
      {},
      settlement.venues.map((venue) => row(result, venue)),
    ),
  );
  return section(
    "Venues",
    h(
      "p",
      {},
      `A venue’s value in a window is the median of its valid slots. At least ${policy.k} of ${policy.venues.length} venues must have one at both ends.`,
    ),
    scrolling("Table of venues", table),
    more(
      "Every slot, with the venues’ own bytes",
      h(
        "div",
        { class: "stack" },
        settlement.venues.map((venue) => raw(result, venue)),
      ),
    ),
  );
}
