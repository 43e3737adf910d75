// Files from the server that served this page, and from no other. The server is not believed: what it
// sends is bytes to verify, bounded in size and time.

import { unavailable, usage } from "../core/errors.js";
import { BUNDLE_LIMIT } from "../settlement/bundle.js";
import { readLedger } from "../settlement/ledger.js";
import { joinParts } from "../settlement/parts.js";
import { readPromises } from "../settlement/promise.js";

const TIMEOUT_MS = 15000;

/** Whether there is a server to ask. */
export const isServed = () => location.protocol === "http:" || location.protocol === "https:";

/** Fetches a file of the same origin; throws UnavailableError, and UsageError for another place. */
export async function fetchFile(address, { limit, timeoutMs = TIMEOUT_MS, signal = null }) {
  const url = new URL(address, location.href);
  if (!isServed() || url.origin !== location.origin) {
    throw usage("a link opens files of this page’s own server alone", {
      rule: "link",
      found: address,
    });
  }
  const abort = new AbortController();
  const timer = setTimeout(() => abort.abort(), timeoutMs);
  const stop = () => abort.abort();
  signal?.addEventListener("abort", stop);
  try {
    const response = await fetch(url, {
      signal: abort.signal,
      credentials: "omit",
      redirect: "error",
      referrerPolicy: "no-referrer",
    });
    if (!response.ok) {
      throw unavailable("the server did not give the file", {
        rule: "link",
        found: `${response.status} ${url.pathname}`,
      });
    }
    return await readBounded(response, limit, abort);
  } catch (error) {
    if (error.slug !== undefined) throw error;
    checkStopped(signal);
    const late = abort.signal.aborted;
    throw unavailable(late ? "the server did not answer in time" : "the server cannot be reached", {
      rule: "link",
      found: url.pathname,
    });
  } finally {
    clearTimeout(timer);
    signal?.removeEventListener("abort", stop);
  }
}

/** Throws where the reader has stopped what he began. */
export function checkStopped(signal) {
  if (signal?.aborted) throw usage("stopped", { rule: "stopped" });
}

const LEDGER_LIMIT = 64 * 1024 * 1024;
export const MOST_LINES = 10000;

/**
 * Fetches a ledger, page after page (`?entry=&trade=` of the last line), of 10,000 lines at most:
 * those of the log's entries from `first` to `last`, as far as its server knows the question.
 */
export async function fetchLedger(address, { first = 0, last = Infinity, signal = null } = {}) {
  const lines = [];
  const seen = new Set();
  let query = first ? `?entry=${first - 1}&trade=${"f".repeat(64)}` : "";
  while (lines.length < MOST_LINES) {
    const found = readLedger(await fetchFile(address + query, { limit: LEDGER_LIMIT, signal }));
    const fresh = found.filter((line) => !seen.has(`${line.entry} ${line.trade}`));
    for (const line of fresh) seen.add(`${line.entry} ${line.trade}`);
    lines.push(...fresh.filter((line) => line.entry >= first && line.entry <= last));
    // A plain file has no pages: the same lines come again.
    const end = fresh[fresh.length - 1];
    if (end === undefined || end.entry > last) break;
    query = `?entry=${end.entry}&trade=${end.trade}`;
  }
  return lines.slice(0, MOST_LINES);
}

/** Fetches promises that were given from a time on, page after page, as many as a ledger's lines. */
export async function fetchPromises(address, { fromUs, untilUs, signal = null }) {
  const found = new Map();
  let query = fromUs > 0 ? `?log_by_us=${fromUs}&trade=${"0".repeat(64)}` : "";
  for (;;) {
    const data = await fetchFile(address + query, { limit: LEDGER_LIMIT, signal });
    const fresh = [...readPromises(data).values()].filter(({ trade }) => !found.has(trade));
    for (const promise of fresh) found.set(promise.trade, promise);
    const last = fresh[fresh.length - 1];
    if (last === undefined || last.logged_by_us > untilUs || found.size >= MOST_LINES) return found;
    query = `?log_by_us=${last.logged_by_us}&trade=${last.trade}`;
  }
}

/** Fetches a trade's own part, and those that it names from `{part}` of an address; joins them. */
export const fetchParts = async (address, parts, signal = null) =>
  joined(await fetchFile(address, { limit: BUNDLE_LIMIT, signal }), (name) =>
    fetchFile(parts.replaceAll("{part}", name), { limit: BUNDLE_LIMIT, signal }),
  );

/** Joins a trade's own part (bytes) with parts that `read` gives one by one, a bundle's size at most. */
export function joined(own, read) {
  let left = BUNDLE_LIMIT;
  const readOne = async (name) => {
    const data = await read(name);
    left -= data.length;
    if (left < 0) throw unavailable("the parts are more than a bundle", { rule: "link.size" });
    return data;
  };
  return joinParts(own, (names) => Promise.all(names.map(readOne)));
}

async function readBounded(response, limit, abort) {
  const reader = response.body.getReader();
  const parts = [];
  let size = 0;
  for (;;) {
    const { done, value } = await reader.read();
    if (done) break;
    size += value.length;
    if (size > limit) {
      abort.abort();
      throw unavailable(`the server sends more than ${limit} bytes`, { rule: "link.size" });
    }
    parts.push(value);
  }
  const whole = new Uint8Array(size);
  let position = 0;
  for (const part of parts) {
    whole.set(part, position);
    position += part.length;
  }
  return whole;
}
