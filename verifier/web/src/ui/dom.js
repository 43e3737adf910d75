// Elements without markup: every text becomes a text node, and no string is ever parsed as HTML.
// What venues, provers and notaries chose is hostile text: it goes through `visible` first.

import { utc } from "./format.js";

const SVG = "http://www.w3.org/2000/svg";
// Controls, formats (bidirectional marks among them), lone surrogates, unassigned and private
// characters, separators of lines, and combining marks that would run into their neighbours.
const INVISIBLE = /[\p{Cc}\p{Cf}\p{Cs}\p{Co}\p{Cn}\p{Zl}\p{Zp}\p{M}]/gu;

/** One line of text with everything that hides or reorders escaped; cut after `limit`. */
export function visible(value, limit = 400) {
  const letters = [...String(value)];
  const shown = letters
    .slice(0, limit)
    .join("")
    .replaceAll("\\", "\\\\")
    .replace(INVISIBLE, (letter) => `\\u{${letter.codePointAt(0).toString(16)}}`);
  const more = letters.length - limit;
  return more > 0 ? `${shown}… (${more} more)` : shown;
}

function fill(element, attributes, children) {
  for (const [name, value] of Object.entries(attributes)) {
    if (value === null || value === undefined || value === false) continue;
    if (typeof value === "function") element.addEventListener(name, value);
    else element.setAttribute(name, value === true ? "" : String(value));
  }
  for (const child of children.flat(Infinity)) {
    if (child !== null && child !== undefined && child !== false) element.append(child);
  }
  return element;
}

/** Makes an element; functions among the attributes are listeners. */
export const h = (tag, attributes = {}, ...children) =>
  fill(document.createElement(tag), attributes, children);

/** Makes an SVG element. */
export const svg = (tag, attributes = {}, ...children) =>
  fill(document.createElementNS(SVG, tag), attributes, children);

let numbered = 0;

/** A section with its heading, which names it. */
export function section(title, ...children) {
  numbered += 1;
  const id = `section-${numbered}`;
  return h("section", { "aria-labelledby": id }, h("h2", { id }, title), ...children);
}

/** A text that a reader opens when he wants it. */
export const more = (summary, ...children) =>
  h("details", {}, h("summary", {}, summary), ...children);

/** A wide table that scrolls by itself, reachable by keyboard. */
export const scrolling = (label, table) =>
  h("div", { class: "scroll", role: "region", tabindex: "0", "aria-label": label }, table);

/** A machine's word: hashes, ids, commands. */
export const code = (value, limit = 400) => h("code", {}, visible(value, limit));

/** A time that does not break over lines. */
export const when = (timeUs, parts) => h("time", { datetime: iso(timeUs) }, utc(timeUs, parts));

function iso(timeUs) {
  const moment = new Date(Math.floor(timeUs / 1000));
  return Number.isNaN(moment.getTime()) ? null : moment.toISOString();
}

/** Has the browser save bytes as a file. */
export function save(name, data, type = "application/json") {
  const url = URL.createObjectURL(new Blob([data], { type }));
  const link = h("a", { href: url, download: name });
  link.click();
  setTimeout(() => URL.revokeObjectURL(url), 10000);
}
