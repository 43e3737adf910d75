// The live sessions that slots name: whose bytes their messages are (S4).

import { isPublic } from "../core/address.js";
import { expectation, incomplete, invalidProof, malformed } from "../core/errors.js";
import { checkLiveStart } from "../core/livestart.js";
import { LIVE, mayCount } from "./slots.js";

const WHAT = {
  prover: "prover is none of the feed's",
  start: "first answer came after the quote",
  order: "attestation was logged after a slot that names it",
  closed: "end was logged before the slot",
};

const contradicts = (member, found, wanted) =>
  invalidProof(`the session's ${WHAT[member]}`, { rule: `session.${member}`, found, wanted });

/** A session's attestation and its `attested` entry, which is at `index` of the log. */
export function loggedSession(attested, entry, index) {
  for (const [member, found, wanted] of [
    ["session", entry.session, attested.session.id],
    ["header", entry.header, attested.headerHash],
  ]) {
    if (found !== wanted) {
      throw invalidProof("the entry is of another session's attestation", {
        rule: `session.entry.${member}`,
        found,
        wanted,
      });
    }
  }
  if (entry.logged_us < attested.header.issued_us) {
    throw invalidProof("logged before it was issued", {
      rule: "session.entry.logged_us",
      found: entry.logged_us,
      wanted: attested.header.issued_us,
    });
  }
  return { ...attested, index };
}

const place = (notary, session) => JSON.stringify([notary, session]);

/** Sessions by notary and id; throws MalformedError for two of one. */
export class KnownSessions {
  #known = new Map();

  constructor(sessions) {
    for (const session of sessions) {
      const at = place(session.notary, session.session.id);
      if (this.#known.has(at)) {
        throw malformed("two attestations of one session", {
          rule: "sessions.duplicate",
          found: [session.notary, session.session.id],
        });
      }
      this.#known.set(at, session);
    }
  }

  get(notary, session) {
    return this.#known.get(place(notary, session));
  }

  /** Why the policy takes no observation from a session; null where it does. */
  refusal(policy, notary, id) {
    const known = this.get(notary, id);
    if (known === undefined) return null;
    const { session, server } = known;
    if (!policy.modes.includes(session.mode)) return `a session of the mode ${session.mode}`;
    if (!policy.bindings.includes(session.binding)) {
      return `a session of the binding ${session.binding}`;
    }
    if (policy.roots !== undefined && server.roots !== policy.roots) {
      return "a session under other root certificates";
    }
    return null;
  }
}

/** Checks the session of every live observation that the policy may count; `logs` by notary. */
export function checkSessions(policy, logs, slots, sessions, files, allowDevelopment) {
  const entries = new Map([...logs].map(([name, log]) => [name, readEntries(log)]));
  const checked = new Set();
  for (const slot of slots) {
    for (const venue of policy.venues) {
      const seen = slot.fields.get(venue.venue);
      if (!mayCount(seen, venue, policy) || (seen.source ?? LIVE) !== LIVE) continue;
      const known = sessions.get(slot.notary, seen.session);
      if (known === undefined) {
        throw incomplete("the session of a quote that counts is not given", {
          rule: "sessions.missing",
          found: [slot.notary, slot.slot.slot_us, venue.venue],
          wanted: seen.session,
        });
      }
      const at = JSON.stringify([slot.notary, seen.session, venue.venue]);
      if (!checked.has(at)) {
        checked.add(at);
        const { feed } = policy.notaries.find((one) => one.notary === slot.notary);
        const { provers } = logs.get(slot.notary).feed;
        checkFeed(known, feed, venue.instrument, files.get(venue.venue), provers);
        if (!allowDevelopment && !isPublic(known.connection.address)) {
          throw expectation("the notary connected to an address that is not public", {
            rule: "session.address",
            found: known.connection.address,
          });
        }
      }
      checkOrder(slot, seen, known, entries.get(slot.notary));
    }
  }
}

function readEntries(log) {
  const slots = new Map();
  const closedUs = new Map();
  log.entries.forEach((entry, at) => {
    if (entry.kind === "slot" && !slots.has(entry.header)) slots.set(entry.header, log.first + at);
    if (entry.kind === "closed" && !closedUs.has(entry.session)) {
      closedUs.set(entry.session, entry.logged_us);
    }
  });
  return { slots, closedUs };
}

function checkFeed(known, feed, instrument, venue, provers) {
  checkLiveStart(known, { feed, venue, instrument });
  const { prover } = known.session;
  if (!provers.includes(prover)) throw contradicts("prover", prover, provers);
}

function checkOrder(slot, seen, known, entries) {
  const answeredUs = known.connection.response_first_us;
  if (seen.received_us < answeredUs) throw contradicts("start", seen.received_us, answeredUs);
  const index = entries.slots.get(slot.headerHash);
  if (index < known.index) throw contradicts("order", index, known.index);
  const closedUs = entries.closedUs.get(seen.session);
  if (closedUs !== undefined && closedUs < slot.slot.slot_us) {
    throw contradicts("closed", slot.slot.slot_us, closedUs);
  }
}
