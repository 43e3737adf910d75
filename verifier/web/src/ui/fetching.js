// Files from the server that served this page, and from no other. The server is not believed: what it
// sends is bytes to verify, bounded in size and time.

import { unavailable, usage } from "../core/errors.js";
import { BUNDLE_LIMIT } from "../settlement/bundle.js";
import { readLedger } from "../settlement/ledger.js";
import { joinParts } from "../settlement/parts.js";

const TIMEOUT_MS = 15000;

/** Whether there is a server to ask. */
export const isServed = () => location.protocol === "http:" || location.protocol === "https:";

/** Fetches a file of the same origin; throws UnavailableError, and UsageError for another place. */
export async function fetchFile(address, { limit, timeoutMs = TIMEOUT_MS }) {
  const url = new URL(address, location.href);
  if (!isServed() || url.origin !== location.origin) {
    throw usage("a link opens files of this page’s own server alone", {
      rule: "link",
      found: address,
    });
  }
  const abort = new AbortController();
  const timer = setTimeout(() => abort.abort(), timeoutMs);
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
    const late = abort.signal.aborted;
    throw unavailable(late ? "the server did not answer in time" : "the server cannot be reached", {
      rule: "link",
      found: url.pathname,
    });
  } finally {
    clearTimeout(timer);
  }
}

const LEDGER_LIMIT = 64 * 1024 * 1024;
const MOST_LINES = 10000;

/** Fetches a ledger, page after page (`?entry=&trade=` of the last line), of 10,000 lines at most. */
export async function fetchLedger(address) {
  const lines = [];
  let query = "";
  while (lines.length < MOST_LINES) {
    const found = readLedger(await fetchFile(address + query, { limit: LEDGER_LIMIT }));
    const seen = new Set(lines.map((line) => line.trade));
    const fresh = found.filter((line) => !seen.has(line.trade));
    lines.push(...fresh);
    // A plain file has no pages: the same lines come again.
    if (!fresh.length) break;
    const last = lines[lines.length - 1];
    query = `?entry=${last.entry}&trade=${last.trade}`;
  }
  return lines;
}

/** Fetches a trade's own part, and those that it names from `{part}` of an address; joins them. */
export async function fetchParts(address, parts) {
  let left = BUNDLE_LIMIT;
  const fetchOne = async (name) => {
    const data = await fetchFile(parts.replaceAll("{part}", name), { limit: BUNDLE_LIMIT });
    left -= data.length;
    if (left < 0) throw unavailable("the parts are more than a bundle", { rule: "link.size" });
    return data;
  };
  const own = await fetchFile(address, { limit: BUNDLE_LIMIT });
  return joinParts(own, (names) => Promise.all(names.map(fetchOne)));
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
