// A bundle in parts that trades share, each named by the hash of its bytes. Joined, the parts are the
// bundle again, byte for byte; it is verified as any other.

import { decodeObject, encode } from "../core/canonical.js";
import { base64url } from "../core/bytes.js";
import { incomplete, invalidProof, malformed } from "../core/errors.js";
import { hashString } from "../core/hashing.js";
import * as s from "../core/schema.js";
import { BUNDLE_LIMIT } from "./bundle.js";

const TRADE_PART_LIMIT = 16 * 1024;

const readTradePart = s.document("quotary/trade_part/v1", "quotary/trade_part/v1", {
  batch: s.count,
  trade: s.object,
  range: s.hashText,
  outcome: s.string,
  settlement: s.hashText,
});

const readPartSession = s.document("partsession", null, {
  attestation: s.hashText,
  entry: s.object,
});

const readPartLog = s.document("partlog", null, {
  notary: s.text,
  start: s.string,
  frontier: s.arrayOf(s.hex32),
  entries: s.arrayOf(s.hashText),
  checkpoint: s.string,
  feed: s.object,
  sessions: s.arrayOf(readPartSession),
});

const readRangePart = s.document("quotary/range_part/v1", "quotary/range_part/v1", {
  policy: s.object,
  logs: s.arrayOf(readPartLog),
  slots: s.arrayOf(s.hashText),
});

const readEntriesPart = s.document("quotary/entries_part/v1", "quotary/entries_part/v1", {
  first: s.count,
  entries: s.arrayOf(s.object),
});

const readSlotPart = s.document("quotary/slot_part/v1", "quotary/slot_part/v1", {
  attestation: s.object,
  messages: s.arrayOf(s.bytes),
});

/** Bytes without the newline that a file may end in. */
const bare = (data) => (data[data.length - 1] === 10 ? data.subarray(0, -1) : data);

/** The hash by which a part is named. */
const partName = (data) => hashString(bare(data));

/**
 * Joins a trade's own part (bytes) with those that `read` gives, all at once for a list of names;
 * resolves to the bundle's bytes.
 */
export async function joinParts(data, read) {
  const trade = readTradePart(decodeObject(data, TRADE_PART_LIMIT));
  const known = new Map();
  const need = async (names) => {
    const fresh = [...new Set(names)].filter((name) => !known.has(name));
    const found = await read(fresh);
    fresh.forEach((name, at) => known.set(name, checked(name, found[at])));
  };
  await need([trade.range]);
  const range = readRangePart(known.get(trade.range));
  const logNames = range.logs.flatMap((log) => [
    ...log.entries,
    ...log.sessions.map((session) => session.attestation),
  ]);
  await need([...range.slots, ...logNames]);
  const slots = range.slots.map((name) => readSlotPart(known.get(name)));
  const messages = new Map(
    slots.flatMap((slot) => slot.messages.map((message) => [hashString(message), message])),
  );
  return encode({
    type: "quotary/settlement/v1",
    policy: range.policy,
    batch: trade.batch,
    trade: trade.trade,
    logs: range.logs.map((log) => joinLog(log, known)),
    slots: slots.map((slot) => slot.attestation),
    messages: [...messages.keys()].sort().map((name) => base64url(messages.get(name))),
    outcome: trade.outcome,
    settlement: trade.settlement,
  });
}

function checked(name, data) {
  const found = partName(data);
  if (found !== name) {
    throw invalidProof("a part is not what it is named by", {
      rule: "parts.hash",
      found,
      wanted: name,
    });
  }
  return decodeObject(data, BUNDLE_LIMIT);
}

function joinLog(log, known) {
  const blocks = log.entries.map((name) => readEntriesPart(known.get(name)));
  return {
    notary: log.notary,
    start: log.start,
    frontier: log.frontier,
    entries: joinEntries(startSize(log.start), blocks),
    checkpoint: log.checkpoint,
    feed: log.feed,
    sessions: log.sessions.map(({ attestation, entry }) => ({
      attestation: known.get(attestation),
      entry,
    })),
  };
}

/** Joins blocks; the first may begin before `first`. */
function joinEntries(first, blocks) {
  const found = [];
  for (const block of blocks) {
    const wanted = first + found.length;
    const skipped = wanted - block.first;
    if (skipped < 0 || (found.length && skipped)) {
      throw incomplete("a part of the entries is not there", {
        rule: "parts.entries",
        found: block.first,
        wanted,
      });
    }
    for (const entry of block.entries.slice(skipped)) found.push(entry);
  }
  return found;
}

/** The size in a checkpoint's second line; whether it is one is checked with the bundle. */
function startSize(note) {
  const size = /^[^\n]*\n(0|[1-9][0-9]{0,15})\n/.exec(note);
  if (size === null) throw malformed("not a checkpoint", { rule: "log.start" });
  return Number(size[1]);
}
