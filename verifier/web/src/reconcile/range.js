// What a log holds of a span of time: its batches of trades, and how slots and sessions ended. Read as
// a stream, proven at its end, and forgotten until then but for what is counted.

import { finding, naming, usage } from "../core/errors.js";
import { leafHash } from "../core/merkle.js";
import { readEntry } from "../log/entry.js";
import { WIDTH } from "../log/files.js";

/** Entries that one reading may take: a few minutes of a browser's time. */
export const MOST_ENTRIES = 1000000;
const MOST_BATCHES = 100000;
const MOST_OPEN = 10000;

const read = (data) => naming("log.entry", () => readEntry(data));

/** Counts of what ended how, by name: fine, or by whose fault not. */
class Ends {
  #rows = new Map();

  add(name, end) {
    if (!this.#rows.has(name)) {
      if (this.#rows.size >= 1000) return;
      this.#rows.set(name, { fine: 0, venue: 0, prover: 0, notary: 0 });
    }
    this.#rows.get(name)[end] += 1;
  }

  rows() {
    return [...this.#rows].sort(([left], [right]) => (left < right ? -1 : 1));
  }
}

/** A span of a log, [fromUs, untilUs) by the times of its entries. */
export class LogSpan {
  #venues = new Map();
  #lastUs = 0;

  constructor(fromUs, untilUs) {
    this.fromUs = fromUs;
    this.untilUs = untilUs;
    this.entries = 0;
    this.batches = new Map();
    this.slots = new Ends();
    this.sessions = new Ends();
    this.first = null;
    this.last = null;
  }

  /** Takes the entry (bytes) at an index; false where the span is over. */
  take(data, index) {
    const entry = read(data);
    if (entry.logged_us < this.#lastUs) {
      throw finding("logged earlier than an entry before it", {
        rule: "log.backdated",
        found: index,
      });
    }
    this.#lastUs = entry.logged_us;
    if (entry.kind === "opened" && entry.venue !== undefined && this.#venues.size < MOST_OPEN) {
      this.#venues.set(entry.session, entry.venue);
    }
    if (entry.logged_us >= this.untilUs) return false;
    if (entry.logged_us >= this.fromUs) this.#count(entry, index);
    return true;
  }

  #count(entry, index) {
    this.entries += 1;
    this.first ??= index;
    this.last = index;
    if (entry.kind === "trades") {
      if (this.batches.size >= MOST_BATCHES) throw tooMuch(`${MOST_BATCHES} batches`);
      const { count, root, logged_us } = entry;
      this.batches.set(index, { count, root, logged_us });
    } else if (entry.kind === "slot") this.slots.add(entry.feed, "fine");
    else if (entry.kind === "missed") this.slots.add(entry.feed, entry.fault);
    else if (entry.kind === "attested") this.#end(entry.session, "fine");
    else if (entry.kind === "aborted") this.#end(entry.session, entry.fault);
  }

  /** Of sessions that began in what is read; of others the venue is not known. */
  #end(session, end) {
    const venue = this.#venues.get(session);
    if (venue === undefined) return;
    this.sessions.add(venue, end);
    this.#venues.delete(session);
  }
}

const tooMuch = (what) =>
  usage(`more than ${what} in one go: choose a shorter time`, { rule: "span" });

/**
 * Reads the span of a log (LogFiles) from a time to just before another; `step(read, all)` is told how
 * far it is. Throws what does not hold; nothing is known of the entries unless it returns.
 */
export async function readSpan(files, { fromUs, untilUs, step }) {
  const span = new LogSpan(fromUs, untilUs);
  const { size } = files.head;
  const begin = fromUs > 0 ? await bundleOf(files, fromUs) : 0;
  const tree = await files.prefix(begin * WIDTH);
  let going = true;
  let wrong = null;
  for (let number = begin; going && number < files.bundles; number += 1) {
    if (tree.size - begin * WIDTH > MOST_ENTRIES) throw tooMuch(`${MOST_ENTRIES} entries`);
    for (const data of await files.entries(number)) {
      // Those after the span's end in the same bundle prove it, too.
      try {
        going = going && span.take(data, tree.size);
      } catch (error) {
        wrong ??= error;
        going = false;
      }
      tree.append(leafHash(data));
    }
    await step(tree.size - begin * WIDTH, size - begin * WIDTH);
  }
  // What is wrong in entries that fold to no signed root is not the log's doing.
  await files.check(tree);
  if (wrong !== null) throw wrong;
  const last = read((await files.entries(files.bundles - 1)).at(-1));
  return Object.assign(span, { read: tree.size - begin * WIDTH, headUs: last.logged_us });
}

/** The last bundle that begins before a time; what it says is proven with the span it begins. */
async function bundleOf(files, timeUs) {
  let low = 0;
  let high = files.bundles - 1;
  while (low < high) {
    const middle = Math.ceil((low + high) / 2);
    const [data] = await files.entries(middle);
    if (read(data).logged_us < timeUs) low = middle;
    else high = middle - 1;
  }
  return low;
}
