// One gzip member (RFC 1952), bounded, as attestation/inflate.py reads it: how some venues send the
// text of their messages.  Deflate is RFC 1951; what zlib refuses is refused here.

import { malformed } from "./errors.js";

const MAX_INFLATED = 64 * 1024;
const HEAD = [0x1f, 0x8b, 0x08, 0x00];
const HEAD_SIZE = 10;
const TAIL_SIZE = 8;
const MAX_BITS = 15;
const END = 256;
const fail = (detail) => malformed(detail, { rule: "W11" });

// RFC 1951 section 3.2.5: the first length, or distance, of each symbol, and its extra bits.
const LENGTH_BITS = [0, 0, 0, 0, 0, 0, 0, 0, 1, 1, 1, 1, 2, 2, 2, 2, 3, 3, 3, 3, 4, 4, 4, 4, 5, 5, 5, 5];
const DISTANCE_BITS = Array.from({ length: 30 }, (_, at) => Math.max(0, (at >> 1) - 1));
const firsts = (bits, first) => {
  let next = first;
  return bits.map((extra) => {
    next += 1 << extra;
    return next - (1 << extra);
  });
};
const LENGTHS = [...firsts(LENGTH_BITS, 3), 258];
const DISTANCES = firsts(DISTANCE_BITS, 1);
// Section 3.2.7: the order in which the lengths of the code for code lengths come.
const ORDER = [16, 17, 18, 0, 8, 7, 9, 6, 10, 5, 11, 4, 12, 3, 13, 2, 14, 1, 15];

const CRC = Uint32Array.from({ length: 256 }, (_, byte) => {
  let value = byte;
  for (let bit = 0; bit < 8; bit += 1) value = value & 1 ? (value >>> 1) ^ 0xedb88320 : value >>> 1;
  return value;
});

function crc32(bytes) {
  let value = 0xffffffff;
  for (const byte of bytes) value = CRC[(value ^ byte) & 0xff] ^ (value >>> 8);
  return (value ^ 0xffffffff) >>> 0;
}

/** A canonical Huffman code from its symbols' lengths: how many of each, and the symbols in order. */
function huffman(lengths) {
  const counts = new Uint16Array(MAX_BITS + 1);
  for (const length of lengths) counts[length] += 1;
  counts[0] = 0;
  let left = 1;
  for (let length = 1; length <= MAX_BITS; length += 1) {
    left = left * 2 - counts[length];
    if (left < 0) throw fail("a code with too many symbols");
  }
  // A code of nothing, or of a single bit, may leave codes unused; no other.
  if (left > 0 && counts.some((count, length) => length > 1 && count > 0)) {
    throw fail("a code with too few symbols");
  }
  const symbols = [];
  for (let length = 1; length <= MAX_BITS; length += 1) {
    lengths.forEach((each, symbol) => {
      if (each === length) symbols.push(symbol);
    });
  }
  return { counts, symbols };
}

const FIXED = [
  huffman(Array.from({ length: 288 }, (_, at) => (at < 144 ? 8 : at < 256 ? 9 : at < 280 ? 7 : 8))),
  huffman(new Array(32).fill(5)),
];

/** Reads deflated blocks from the least significant bit of each byte on. */
class Inflater {
  constructor(bytes, at, end) {
    this.bytes = bytes;
    this.at = at;
    this.end = end;
    this.bit = 0;
    this.text = new Uint8Array(MAX_INFLATED);
    this.size = 0;
  }

  bits(count) {
    let value = 0;
    for (let index = 0; index < count; index += 1) {
      if (this.at >= this.end) throw fail("a gzip member is cut");
      value |= ((this.bytes[this.at] >> this.bit) & 1) << index;
      this.bit += 1;
      if (this.bit === 8) {
        this.bit = 0;
        this.at += 1;
      }
    }
    return value;
  }

  symbol({ counts, symbols }) {
    let code = 0;
    let first = 0;
    let index = 0;
    for (let length = 1; length <= MAX_BITS; length += 1) {
      code |= this.bits(1);
      if (code - counts[length] < first) return symbols[index + code - first];
      index += counts[length];
      first = (first + counts[length]) << 1;
      code <<= 1;
    }
    throw fail("a code that stands for nothing");
  }

  put(byte) {
    if (this.size === MAX_INFLATED) throw fail(`inflates to more than ${MAX_INFLATED} bytes`);
    this.text[this.size] = byte;
    this.size += 1;
  }

  stored() {
    if (this.bit) {
      this.bit = 0;
      this.at += 1;
    }
    const size = this.bits(16);
    if ((this.bits(16) ^ 0xffff) !== size) throw fail("a stored block's length is not its own");
    for (let index = 0; index < size; index += 1) this.put(this.bits(8));
  }

  /** Section 3.2.7: both codes of a block, their lengths coded themselves. */
  codes() {
    const literals = this.bits(5) + 257;
    const distances = this.bits(5) + 1;
    const given = this.bits(4) + 4;
    if (literals > 286 || distances > 30) throw fail("too many lengths, or distances");
    const order = new Array(19).fill(0);
    for (let index = 0; index < given; index += 1) order[ORDER[index]] = this.bits(3);
    const code = huffman(order);
    const lengths = [];
    while (lengths.length < literals + distances) {
      const symbol = this.symbol(code);
      if (symbol < 16) {
        lengths.push(symbol);
        continue;
      }
      if (symbol === 16 && !lengths.length) throw fail("a length repeats none");
      const again = symbol === 16 ? lengths.at(-1) : 0;
      const [least, bits] = { 16: [3, 2], 17: [3, 3], 18: [11, 7] }[symbol];
      const times = least + this.bits(bits);
      for (let index = 0; index < times; index += 1) lengths.push(again);
    }
    if (lengths.length > literals + distances || !lengths[END]) throw fail("wrong code lengths");
    return [huffman(lengths.slice(0, literals)), huffman(lengths.slice(literals))];
  }

  coded([literals, distances]) {
    for (;;) {
      const symbol = this.symbol(literals);
      if (symbol === END) return;
      if (symbol < END) {
        this.put(symbol);
        continue;
      }
      const place = symbol - END - 1;
      if (place >= LENGTHS.length) throw fail("a length that is none");
      const length = LENGTHS[place] + this.bits(LENGTH_BITS[place] ?? 0);
      const far = this.symbol(distances);
      if (far >= DISTANCES.length) throw fail("a distance that is none");
      const back = DISTANCES[far] + this.bits(DISTANCE_BITS[far]);
      if (back > this.size) throw fail("a distance to before the beginning");
      for (let index = 0; index < length; index += 1) this.put(this.text[this.size - back]);
    }
  }

  /** Reads all blocks; the text, and where they end. */
  run() {
    let last = 0;
    while (!last) {
      last = this.bits(1);
      const kind = this.bits(2);
      if (kind === 0) this.stored();
      else if (kind === 1) this.coded(FIXED);
      else if (kind === 2) this.coded(this.codes());
      else throw fail("a block of no kind");
    }
    return { text: this.text.slice(0, this.size), end: this.bit ? this.at + 1 : this.at };
  }
}

/** Returns what a member holds; MalformedError (W11) for anything else. */
export function gunzip(member) {
  if (member.length < HEAD_SIZE + TAIL_SIZE || HEAD.some((byte, at) => member[at] !== byte)) {
    throw fail("not a plain gzip member");
  }
  const { text, end } = new Inflater(member, HEAD_SIZE, member.length).run();
  if (member.length - end !== TAIL_SIZE) throw fail("a gzip member is cut, or not alone");
  const tail = new DataView(member.buffer, member.byteOffset + end, TAIL_SIZE);
  if (tail.getUint32(0, true) !== crc32(text) || tail.getUint32(4, true) !== text.length) {
    throw fail("a gzip member's checksum or size is wrong");
  }
  return text;
}
