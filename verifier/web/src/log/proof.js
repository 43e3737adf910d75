// Proofs that an entry is logged, as text (c2sp.org/tlog-proof).

import { unbase64 } from "../core/bytes.js";
import { malformed } from "../core/errors.js";
import { decodeText, parseDecimal, parseHashLine } from "./lines.js";

const MAX_PROOF_SIZE = 272 * 1024;
const MAX_PATH = 63;
const FIRST = "c2sp.org/tlog-proof@v1";

/** Parses the text's bytes; the checkpoint's note is only cut out. */
export function parseLogProof(data) {
  if (data.length > MAX_PROOF_SIZE) throw malformed("proof is too large", { found: data.length });
  const blank = data.findIndex((value, at) => value === 10 && data[at + 1] === 10);
  const head = blank < 0 ? data : data.subarray(0, blank);
  const lines = decodeText(head, MAX_PROOF_SIZE).split("\n");
  if (blank < 0 || lines.shift() !== FIRST) {
    throw malformed(`a proof starts with ${FIRST}`, { rule: "log.proof" });
  }
  if (lines[0]?.startsWith("extra ")) unbase64(lines.shift().slice(6));
  if (!lines[0]?.startsWith("index ")) {
    throw malformed("a proof has an index line", { rule: "log.proof" });
  }
  const index = parseDecimal(lines.shift().slice(6));
  if (lines.length > MAX_PATH) throw malformed("the path is longer than any tree's");
  return { index, path: lines.map(parseHashLine), note: data.subarray(blank + 2) };
}
