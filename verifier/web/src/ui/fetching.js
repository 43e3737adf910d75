// Files from the server that served this page, and from no other. The server is not believed: what it
// sends is bytes to verify, bounded in size and time.

import { unavailable, usage } from "../core/errors.js";

const TIMEOUT_MS = 15000;

/** Whether there is a server to ask. */
export const isServed = () => location.protocol === "http:" || location.protocol === "https:";

/** Fetches a file of the same origin; throws UnavailableError, and UsageError for another place. */
export async function fetchFile(address, { limit, timeoutMs = TIMEOUT_MS }) {
  const url = new URL(address, location.href);
  if (!isServed() || url.origin !== location.origin) {
    throw usage("a link opens files of this page's own server alone", { rule: "link", found: address });
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
