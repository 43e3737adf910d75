// Merkle trees of RFC 9162 section 2.1. Index and size come from authenticated data, never from a
// proof; a proof holds exactly the nodes that they dictate.

import { concat, equal } from "./bytes.js";
import { invalidProof, malformed } from "./errors.js";
import { HASH_SIZE, sha256 } from "./hashing.js";

const LEAF = Uint8Array.of(0);
const NODE = Uint8Array.of(1);

export const leafHash = (entry) => sha256(concat(LEAF, entry));
export const nodeHash = (left, right) => sha256(concat(NODE, left, right));

/** Returns the root over leaf hashes in order; H("") over none. */
export function root(leaves) {
  if (leaves.length === 0) return sha256(new Uint8Array(0));
  let level = leaves;
  while (level.length > 1) {
    const next = [];
    for (let at = 0; at + 1 < level.length; at += 2) next.push(nodeHash(level[at], level[at + 1]));
    if (level.length % 2) next.push(level[level.length - 1]);
    level = next;
  }
  return level[0];
}

const half = (value) => Math.floor(value / 2);

/** Checks that a leaf hash is at `index` of the tree (RFC 9162 section 2.1.3.2). */
export function verifyInclusion({ leaf, index, size, proof, root: wanted }) {
  if (index >= size) {
    throw invalidProof("leaf index is outside the tree", { found: index, wanted: size });
  }
  checkNodes(proof);
  let position = index;
  let last = size - 1;
  let node = leaf;
  for (const sibling of proof) {
    if (last === 0) throw invalidProof("inclusion path is too long", { found: proof.length });
    if (position % 2 || position === last) {
      node = nodeHash(sibling, node);
      while (position % 2 === 0 && position) {
        position = half(position);
        last = half(last);
      }
    } else {
      node = nodeHash(node, sibling);
    }
    position = half(position);
    last = half(last);
  }
  if (last) throw invalidProof("inclusion path is too short", { found: proof.length });
  if (!equal(node, wanted)) throw invalidProof("inclusion path does not lead to the root");
}

/**
 * Returns the root that shown leaves (a Map of index to leaf hash) and a multiproof lead to.
 * Demands exactly the nodes that the indices and the size dictate.
 */
export function rootFromMultiproof({ size, leaves, proof }) {
  checkNodes(proof);
  const indices = [...leaves.keys()].sort((left, right) => left - right);
  if (!indices.length) throw invalidProof("no leaf is shown");
  if (indices[indices.length - 1] >= size) {
    throw invalidProof("leaf index is outside the tree", {
      found: indices[indices.length - 1],
      wanted: size,
    });
  }
  // The complete subtrees left of `position`, largest first, as in a binary counter.
  const stack = [];
  const add = (given, start, width) => {
    let node = given;
    let place = Math.floor(start / width);
    while (place % 2) {
      node = nodeHash(stack.pop(), node);
      place = half(place);
    }
    stack.push(node);
  };
  let next = 0;
  const take = () => {
    if (next === proof.length) {
      throw invalidProof("multiproof has too few nodes", { found: proof.length });
    }
    next += 1;
    return proof[next - 1];
  };
  let position = 0;
  for (const index of indices) {
    for (const [start, width] of cover(position, index, size)) add(take(), start, width);
    add(leaves.get(index), index, 1);
    position = index + 1;
  }
  for (const [start, width] of cover(position, size, size)) add(take(), start, width);
  if (next !== proof.length) {
    throw invalidProof("multiproof has too many nodes", { found: proof.length });
  }
  let result = stack.pop();
  while (stack.length) result = nodeHash(stack.pop(), result);
  return result;
}

/** Yields (start, width) of the maximal subtrees of `start..stop`; the size may cut one short. */
function* cover(from, stop, size) {
  let start = from;
  while (start < stop) {
    let width = 1;
    while (start === 0 ? 2 * width <= stop : start % (2 * width) === 0) width *= 2;
    if (stop !== size) while (start + width > stop) width /= 2;
    yield [start, width];
    start += width;
  }
}

/** Yields [start, width] of the perfect subtrees that make up the leaves `from` to before `until`. */
export function* subtrees(from, until) {
  let start = from;
  while (start < until) {
    let width = 1;
    while (start % (2 * width) === 0 && start + 2 * width <= until) width *= 2;
    yield [start, width];
    start += width;
  }
}

/** A tree as the roots of its perfect subtrees, left to right; entries can be appended. */
export class Frontier {
  constructor(size, nodes) {
    const bits = [...size.toString(2)].filter((bit) => bit === "1").length;
    if (nodes.length !== bits) {
      throw malformed("a frontier has a node for each bit of its size", { found: nodes.length });
    }
    this.size = size;
    this.nodes = [...nodes];
  }

  /** Appends a leaf's hash, or the root of a perfect subtree of `width` leaves that begins here. */
  append(leaf, width = 1) {
    let node = leaf;
    for (let place = this.size / width; place % 2; place = half(place)) {
      node = nodeHash(this.nodes.pop(), node);
    }
    this.nodes.push(node);
    this.size += width;
  }

  root() {
    if (!this.nodes.length) return root([]);
    let node = this.nodes[this.nodes.length - 1];
    for (let at = this.nodes.length - 2; at >= 0; at -= 1) node = nodeHash(this.nodes[at], node);
    return node;
  }
}

function checkNodes(nodes) {
  for (const node of nodes) {
    if (node.length !== HASH_SIZE) {
      throw invalidProof(`a node is not ${HASH_SIZE} bytes`, { found: node.length });
    }
  }
}
