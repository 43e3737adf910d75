// That an attestation is logged, as its presentation shows it, as verifier/logproof.py.

import { utf8 } from "../core/bytes.js";
import { MAX_INTEGER } from "../core/canonical.js";
import * as e from "../core/errors.js";
import { hashString } from "../core/hashing.js";
import { verifyInclusion } from "../core/merkle.js";
import { canonical } from "../core/schema.js";
import { openNote, parseCheckpoint } from "../log/checkpoint.js";
import { entryLeaf, loadEntry } from "../log/entry.js";
import { parseNote } from "../log/note.js";
import { parseLogProof } from "../log/proof.js";

const SECOND_US = 1000000;
const AHEAD_US = 2000000;

/** Reads entry and proof, and checks that they lead to the root of the proof's checkpoint. */
function fold({ entry: value, proof: text }) {
  return e.naming("log", () => {
    // What is too large is not read.
    const leaf = entryLeaf(value);
    const entry = loadEntry(value);
    const proof = parseLogProof(utf8(text));
    const note = parseNote(proof.note);
    const checkpoint = parseCheckpoint(note.textBytes);
    const { size, root } = checkpoint;
    verifyInclusion({ leaf, index: proof.index, size, proof: proof.path, root });
    return { entry, index: proof.index, note, checkpoint };
  });
}

const other = (member, found, wanted) =>
  e.invalidProof("the log proof is of another entry", {
    rule: `log.entry.${member}`,
    found: found ?? null,
    wanted,
  });

function checkEntry({ entry }, header, of) {
  if (entry.kind !== "attested" && entry.kind !== "slot") {
    throw other("kind", entry.kind, ["attested", "slot"]);
  }
  const wanted = hashString(canonical(header));
  if (entry.header !== wanted) throw other("header", entry.header, wanted);
  if (entry.logged_us < header.issued_us) {
    throw e.invalidProof("logged before it was issued", {
      rule: "log.entry.logged_us",
      found: entry.logged_us,
      wanted: header.issued_us,
    });
  }
  if (of === null) return;
  if (of.session !== undefined) {
    if (entry.kind !== "attested") throw other("kind", entry.kind, "attested");
    if (entry.session !== of.session.id) throw other("session", entry.session, of.session.id);
    return;
  }
  if (entry.kind !== "slot") throw other("kind", entry.kind, "slot");
  for (const member of ["feed", "slot_us"]) {
    if (entry[member] !== of.slot[member]) throw other(member, entry[member], of.slot[member]);
  }
}

/**
 * Verifies the log proof of an attestation that `notary` signed; `of` is the authentic attestation,
 * null while its fields are not authenticated. Null where there is none, or it is of a log that the
 * trust file does not name, and none is demanded.
 */
export function checkLog(inclusion, { header, of, notary, trust, logPolicy = null, expect }) {
  if (inclusion === undefined) {
    if (expect !== undefined)
      throw e.incomplete("no log proof is presented", { rule: "expect.log" });
    return null;
  }
  const folded = fold(inclusion);
  checkEntry(folded, header, of);
  const { origin } = folded.checkpoint;
  const logs = trust.logsOf(origin);
  if (!logs.length) {
    if (expect !== undefined) {
      throw e.untrusted("the log is not in the trust file", { rule: "log.key", found: origin });
    }
    return null;
  }
  const witnesses = [...trust.witnesses.values()]
    .filter((entry) => entry.revokedAtUs === null)
    .map((entry) => entry.key);
  if (expect !== undefined && logPolicy !== null) {
    const known = new Set([...trust.witnesses.keys()]);
    witnesses.push(...[...logPolicy.witnesses.values()].filter((key) => !known.has(key.vkey)));
  }
  const signed = open(folded.note, logs, witnesses);
  const log = logs.find((entry) => entry.key.vkey === signed.log.vkey);
  if (log.operator !== notary.operator) {
    throw e.untrusted("another operator's log: who watches the notary would not look there", {
      rule: "log.operator",
      found: log.operator,
      wanted: notary.operator,
    });
  }
  const loggedUs = folded.entry.logged_us;
  let quorum = null;
  if (expect !== undefined) {
    quorum = quorumOf(signed, notary, trust, logPolicy, expect);
    checkTimes(quorum.completeUs, loggedUs, expect);
  }
  const quorumUs = quorum?.completeUs ?? null;
  checkValidity(log, loggedUs, quorumUs);
  return { origin, index: folded.index, loggedUs, quorumUs, witnesses: quorum?.names ?? [] };
}

/** Opens a checkpoint, by a key that is not revoked if one such has signed it. */
function open(note, logs, witnesses) {
  const current = logs.filter((entry) => entry.revokedAtUs === null);
  if (current.length > 0 && current.length < logs.length) {
    try {
      return openNote(note, { logs: current.map((entry) => entry.key), witnesses });
    } catch (error) {
      if (!e.isKind(error, "UntrustedError")) throw error;
    }
  }
  return openNote(note, { logs: logs.map((entry) => entry.key), witnesses });
}

const before = ([leftUs, left], [rightUs, right]) =>
  leftUs - rightUs || (left < right ? -1 : left > right ? 1 : 0);

/** Counts witnesses by operator, or by name, at their earliest time. */
function quorumOf(signed, notary, trust, logPolicy, expect) {
  const earliest = new Map();
  for (const [vkey, seconds] of signed.times) {
    const witness = trust.witnesses.get(vkey);
    const timeUs = Number(seconds) * SECOND_US;
    if (witness === undefined || timeUs < witness.validFromUs || timeUs >= witness.validUntilUs) {
      continue;
    }
    let voice = witness.name;
    if (!expect.insecure_shared_operators) {
      voice = witness.operator;
      if (voice === notary.operator) continue;
    }
    const seen = [timeUs, witness.name];
    const known = earliest.get(voice);
    if (known === undefined || before(seen, known) < 0) earliest.set(voice, seen);
  }
  const counted = [...earliest.values()].sort(before).slice(0, expect.quorum);
  if (counted.length < expect.quorum) {
    throw e.incomplete("too few witnesses of operators of their own have cosigned the checkpoint", {
      rule: "expect.log.quorum",
      found: counted.map(([, name]) => name),
      wanted: expect.quorum,
    });
  }
  let completeUs = counted[counted.length - 1][0];
  if (trust.logPolicyFile !== null) {
    completeUs = Math.max(completeUs, policyUs(signed, trust, logPolicy));
  }
  return { completeUs, names: counted.map(([, name]) => name).sort() };
}

/** When the trust file's own log policy was satisfied as well. */
function policyUs(signed, trust, logPolicy) {
  if (logPolicy === null) {
    throw e.usage("the trust file names a log policy, which was not read", {
      rule: "log_policy.file",
      found: trust.logPolicyFile,
    });
  }
  if (!logPolicy.logs.some((key) => key.vkey === signed.log.vkey)) {
    throw e.untrusted("the trust file's log policy does not name the log", {
      rule: "log_policy.log",
      found: signed.log.name,
    });
  }
  const { quorumTime } = logPolicy.check(signed);
  return quorumTime === null ? 0 : Number(quorumTime) * SECOND_US;
}

function checkTimes(quorumUs, loggedUs, expect) {
  if (quorumUs > MAX_INTEGER) {
    throw e.invalidProof("cosigned at no time", { rule: "log.quorum", found: quorumUs });
  }
  if (quorumUs + SECOND_US + AHEAD_US <= loggedUs) {
    throw e.invalidProof("cosigned before it was logged: the notary's clock was ahead", {
      rule: "log.entry.logged_us",
      found: loggedUs,
      wanted: quorumUs,
    });
  }
  const delayUs = quorumUs - loggedUs;
  if (expect.max_delay_us !== undefined && delayUs > expect.max_delay_us) {
    throw e.stale("the witnesses cosigned too long after it was logged", {
      rule: "expect.log.max_delay_us",
      found: delayUs,
      wanted: expect.max_delay_us,
    });
  }
}

/** The log's key was valid when witnesses saw its signature, or at the entry's own time. */
function checkValidity(log, loggedUs, quorumUs) {
  const atUs = quorumUs ?? loggedUs;
  const parts = { rule: "log.key", found: atUs };
  if (quorumUs !== null && atUs < log.validFromUs) {
    throw e.untrusted("the log's key was not valid yet", { ...parts, wanted: log.validFromUs });
  }
  if (atUs >= log.validUntilUs) {
    throw e.untrusted("the log's key had expired", { ...parts, wanted: log.validUntilUs });
  }
  const { revokedAtUs } = log;
  if (revokedAtUs !== null && (quorumUs === null || quorumUs + SECOND_US > revokedAtUs)) {
    throw e.untrusted(
      "the log's key is revoked, and no demanded quorum of witnesses saw the entry before",
      { rule: "log.key", found: quorumUs, wanted: revokedAtUs },
    );
  }
}

/** Asks the log about a key that was revoked, and about no other: when witnesses had seen it. */
export function witnessedUs(presentation, { trust, logPolicy, expect }) {
  const { header, log } = presentation;
  const notary = trust.get(header.key);
  if (notary === undefined || notary.revokedAtUs === null || !expect || !log) return null;
  const seen = checkLog(log, { header, of: null, notary, trust, logPolicy, expect });
  return seen === null || seen.quorumUs === null ? null : seen.quorumUs + SECOND_US;
}
