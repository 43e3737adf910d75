// A log's files (c2sp.org/tlog-tiles) by any function of a path, as attestation/log/files.py. Nothing
// that is read is believed: what is made of it folds to the signed root, or is refused.

import { equal } from "../core/bytes.js";
import { invalidProof, isKind, unavailable, usage } from "../core/errors.js";
import { HASH_SIZE } from "../core/hashing.js";
import { Frontier, root, subtrees } from "../core/merkle.js";

export const CHECKPOINT_PATH = "checkpoint";
export const WIDTH = 256;
const KEPT = 64;
const MAX_NOTE_SIZE = 256 * 1024;
const MAX_BUNDLE_SIZE = WIDTH * (65535 + 2);

/** How many bytes the file at a path can have at most. */
export function sizeLimit(path) {
  if (path === CHECKPOINT_PATH) return MAX_NOTE_SIZE;
  return path.startsWith("tile/entries/") ? MAX_BUNDLE_SIZE : WIDTH * HASH_SIZE;
}

/** The path of a tile (`entries` under level 0), of `width` nodes. */
export function tilePath(level, index, width = WIDTH) {
  const digits = String(index);
  const groups = digits.padStart(Math.ceil(digits.length / 3) * 3, "0").match(/[0-9]{3}/g);
  const place = groups.map((group, at) => (at + 1 < groups.length ? `x${group}` : group)).join("/");
  return `tile/${level}/${place}${width === WIDTH ? "" : `.p/${width}`}`;
}

/** The entries of a bundle, exactly `count` of them: (u16be length, entry)*. */
function parseBundle(data, count) {
  const entries = [];
  let position = 0;
  while (position < data.length) {
    const start = position + 2;
    position = start + data[position] * 256 + (data[position + 1] ?? 0);
    if (position > data.length) return null;
    entries.push(data.subarray(start, position));
  }
  return entries.length === count ? entries : null;
}

/** The tree under an opened checkpoint; `read(path)` resolves to bytes, or throws UnavailableError. */
export class LogFiles {
  #read;
  #kept = new Map();

  constructor(read, head) {
    this.#read = read;
    this.head = head;
    this.bundles = Math.ceil(head.size / WIDTH);
  }

  /** The entries (bytes) from index `256 * number` on, 256 or as many as there are. */
  async entries(number) {
    const width = this.#width(0, number);
    const found = await this.#file("entries", number, width, (data, size) =>
      parseBundle(data, size)?.slice(0, width),
    );
    return found;
  }

  /** The tree of the first `size` entries, proven to be the beginning of the signed one. */
  async prefix(size) {
    if (size > this.head.size) throw usage("no such older tree", { found: size });
    const nodes = [];
    for (const [start, width] of subtrees(0, size)) nodes.push(await this.#node(start, width));
    const tree = new Frontier(size, nodes);
    if (size) await this.check(tree);
    return tree;
  }

  /** Throws InvalidProofError unless a tree is the beginning of the signed one. */
  async check(tree) {
    const whole = new Frontier(tree.size, tree.nodes);
    for (const [start, width] of subtrees(tree.size, this.head.size)) {
      whole.append(await this.#node(start, width), width);
    }
    if (!equal(whole.root(), this.head.root)) {
      throw invalidProof("what the log serves does not fold to its signed root", {
        rule: "log.root",
      });
    }
  }

  /** The root of a perfect subtree, which lies in one tile. */
  async #node(start, width) {
    let level = 0;
    let unit = 1;
    while (unit * WIDTH <= width) {
      unit *= WIDTH;
      level += 1;
    }
    const first = start / unit;
    const nodes = await this.#tile(level, Math.floor(first / WIDTH));
    const from = first % WIDTH;
    return root(nodes.slice(from, from + width / unit));
  }

  async #tile(level, index) {
    const width = this.#width(level, index);
    const path = tilePath(level, index, width);
    const known = this.#kept.get(path);
    const nodes =
      known ??
      (await this.#file(level, index, width, (data, size) => {
        if (data.length !== size * HASH_SIZE) return null;
        return Array.from({ length: width }, (_, at) =>
          data.subarray(at * HASH_SIZE, (at + 1) * HASH_SIZE),
        );
      }));
    // Insertion order is the order of use.
    this.#kept.delete(path);
    this.#kept.set(path, nodes);
    if (this.#kept.size > KEPT) this.#kept.delete(this.#kept.keys().next().value);
    return nodes;
  }

  #width(level, index) {
    const count = Math.floor(this.head.size / WIDTH ** level);
    return Math.min(count - index * WIDTH, WIDTH);
  }

  /** Reads a file; where a partial one is gone, the whole one that took its place. */
  async #file(level, index, width, parse) {
    let size = width;
    let data;
    try {
      data = await this.#read(tilePath(level, index, width));
    } catch (error) {
      if (width === WIDTH || !isKind(error, "UnavailableError")) throw error;
      size = WIDTH;
      data = await this.#read(tilePath(level, index));
    }
    const found = parse(data, size) ?? null;
    if (found === null) {
      throw unavailable("the log serves something else than a tile", {
        rule: "log.file",
        found: tilePath(level, index, width),
      });
    }
    return found;
  }
}
