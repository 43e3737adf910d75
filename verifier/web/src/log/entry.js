// Log entries: canonical JSON `quotary/entry/v1`, one shape per kind (docs/log.md).

import { hex } from "../core/bytes.js";
import { decodeObject, encode, isObject, MAX_INTEGER } from "../core/canonical.js";
import { checkPurpose, host, mode } from "../core/document.js";
import { malformed } from "../core/errors.js";
import { sha256 } from "../core/hashing.js";
import { parseKey } from "../core/keys.js";
import { leafHash } from "../core/merkle.js";
import { FAULTS, PARTIES } from "../core/reasons.js";
import * as s from "../core/schema.js";
import { readRotationStatement } from "./rotation.js";

export const ENTRY_TYPE = "quotary/entry/v1";
const MAX_ENTRY_SIZE = 65535;
const ANONYMOUS = "anonymous";
const reason = s.oneOf(...FAULTS.keys());
const fault = s.oneOf(...PARTIES);

const known = new Set();

function checkVkey(vkey) {
  if (known.has(vkey)) return;
  parseKey(vkey);
  if (known.size < 1024) known.add(vkey);
}

const entry = (kind, members, check = null) =>
  s.document(
    ENTRY_TYPE,
    ENTRY_TYPE,
    { kind: s.oneOf(kind), logged_us: s.micros, ...members },
    check,
  );

const feedVenue = s.document("feedvenue", null, {
  venue: s.name,
  instrument: s.text,
  venue_file: s.hashText,
});

const increasing = (names) => names.every((name, at) => at === 0 || names[at - 1] < name);

const KINDS = {
  feed: entry(
    "feed",
    {
      feed: s.name,
      venues: s.arrayOf(feedVenue),
      market: s.text,
      grid_us: s.positive,
      late_us: s.micros,
      provers: s.arrayOf(s.text),
      from_us: s.micros,
    },
    (feed) => {
      if (!feed.venues.length || !increasing(feed.venues.map((venue) => venue.venue))) {
        throw malformed("venues are not strictly increasing by name", { rule: "venues" });
      }
      if (!feed.provers.length || new Set(feed.provers).size !== feed.provers.length) {
        throw malformed("a feed has provers, each once", { rule: "provers" });
      }
      if (feed.from_us + feed.grid_us > MAX_INTEGER) {
        throw malformed("a feed begins beyond all time", { rule: "from_us" });
      }
      feed.provers.forEach(checkVkey);
    },
  ),
  opened: entry(
    "opened",
    {
      session: s.hex16,
      conn: s.optional(s.hex16),
      prover: s.text,
      purpose: s.text,
      venue: s.optional(s.name),
      host,
      mode,
      deadline_us: s.micros,
      retry_of: s.optional(s.hex16),
    },
    (opened) => {
      checkPurpose(opened.purpose);
      if (opened.prover !== ANONYMOUS) checkVkey(opened.prover);
    },
  ),
  attested: entry("attested", { session: s.hex16, header: s.hashText }),
  aborted: entry("aborted", { session: s.hex16, reason, fault }, (aborted) => {
    if (FAULTS.get(aborted.reason) !== aborted.fault) {
      throw malformed("the fault is not the reason's", { rule: "fault" });
    }
  }),
  closed: entry("closed", { session: s.hex16, reason, messages: s.count }),
  slot: entry("slot", {
    feed: s.name,
    slot_us: s.micros,
    header: s.hashText,
    prev: s.optional(s.count),
  }),
  missed: entry("missed", { feed: s.name, slot_us: s.micros, fault }),
  policy: entry(
    "policy",
    { policy_id: s.hex32, document: s.object, effective_us: s.micros },
    (policy) => {
      const wanted = hex(sha256(encode(policy.document)));
      if (policy.policy_id !== wanted) {
        throw malformed("not the hash of the document", { rule: "policy_id", wanted });
      }
    },
  ),
  trades: entry("trades", { count: s.positive, root: s.hashText }),
  key: entry("key", { statement: readRotationStatement }),
  tick: entry("tick", {}),
};

/** Reads an entry that was decoded as a member of another document. */
export function loadEntry(value) {
  const kind = isObject(value) && typeof value.kind === "string" ? value.kind : "";
  if (!Object.hasOwn(KINDS, kind)) {
    throw malformed("unknown kind of entry", { rule: "kind", wanted: Object.keys(KINDS) });
  }
  try {
    return KINDS[kind](value);
  } catch (error) {
    if (error.name === "UntrustedError") throw malformed(error.detail, { rule: error.rule });
    throw error;
  }
}

/** Reads an entry's bytes as a log has them; throws MalformedError for another spelling. */
export function readEntry(data) {
  // A file may end in a newline; an entry, which is hashed as it stands, may not.
  if (data[data.length - 1] === 10) throw malformed("an entry ends in a newline", { rule: "entry" });
  return loadEntry(decodeObject(data, MAX_ENTRY_SIZE));
}

/** The leaf hash of a decoded entry. */
export function entryLeaf(value) {
  const data = encode(value);
  if (data.length > MAX_ENTRY_SIZE) {
    throw malformed(`an entry is larger than ${MAX_ENTRY_SIZE} bytes`, { found: data.length });
  }
  return leafHash(data);
}
