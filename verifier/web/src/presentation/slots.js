// The quotes of a slot: what a notary saw of each expected venue at one instant, as verifier/slots.py.

import * as e from "../core/errors.js";
import { hashString, parseHash } from "../core/hashing.js";
import { checkObservation } from "../core/observation.js";
import { fraction } from "../core/price.js";
import { openSections } from "./authenticate.js";
import { checkLiveSession, checkRequestSession, openSessions } from "./chain.js";
import { among, checkInterval, checkWanted } from "./expectations.js";
import { expectedVenue } from "./rederive.js";

const sourceOf = (seen) => seen.source ?? "live";
const modeOf = (seen) => (sourceOf(seen) === "live" ? "live" : "sealed");

/** The purpose of a slot, or of one venue's observation in it. */
export const purposeOf = ({ slot }, venue = null) =>
  `slot/${slot.feed}/${venue === null ? "" : `${venue}/`}${slot.slot_us}`;

/** The observations of all expected venues, in the slot's order, with what was checked of each. */
export function observe(presentation, slot, reader) {
  const { expect, venueFiles } = reader;
  const found = expectedNames(slot, expect).map((name) => observation(name, slot, reader));
  if (found.length !== 1) checkWanted(purposeOf(slot), expect);
  openSections(presentation, new Map());
  const messages = matchMessages(slot, presentation.messages ?? []);
  const sessions = openSessions(presentation, slot, reader);
  return found.map(({ seen, venue }) => {
    const live = sourceOf(seen) === "live";
    const session = sessions.get(seen.session);
    let read = false;
    if (live && seen.messages.some(({ hash }) => messages.has(hash))) {
      checkObservation(seen, venue, messages, seen.venue);
      read = true;
    }
    if (session !== undefined && live) checkLiveSession(session, seen, slot, venue, expect);
    else if (session !== undefined) {
      checkRequestSession(session, seen, slot, expect, venueFiles);
      read = true;
    } else if (!live && !expect.bindings.includes("template")) {
      throw e.incomplete("the session of a request, with its binding, is not shown", {
        rule: "expect.bindings",
        found: seen.session,
        wanted: expect.bindings,
      });
    }
    if (session === undefined && expect.roots !== undefined) {
      throw e.incomplete("the session, with its root certificates, is not shown", {
        rule: "expect.roots",
        found: seen.session,
      });
    }
    const checked = ["signature", "inclusion", "times", "expectations"];
    const left = ["log"];
    (read ? checked : left).push("messages");
    (session === undefined ? left : checked).push("session");
    left.push("tls_evidence");
    const purpose = purposeOf(slot, seen.venue);
    return { seen, mode: modeOf(seen), purpose, checked, notChecked: left };
  });
}

/** Messages by their hash as shown observations spell it; each must be named by one. */
function matchMessages(slot, messages) {
  const wanted = new Set(
    [...slot.venues.values()]
      .filter((field) => !field.gap)
      .flatMap((field) => field.messages.map(({ hash }) => hash)),
  );
  for (const text of wanted) parseHash(text);
  const found = new Map();
  for (const message of messages) {
    const hash = hashString(message);
    if (!wanted.has(hash)) {
      throw e.invalidProof("a message that no shown observation rests on", { rule: "messages" });
    }
    found.set(hash, message);
  }
  return found;
}

function expectedNames({ slot }, expect) {
  if (expect.venues === undefined) {
    throw e.expectation("a slot has quotes of venues", { rule: "expect.hosts" });
  }
  if (expect.venues.some((name) => !slot.venues.includes(name))) {
    throw e.expectation("the slot is not of every expected venue", {
      rule: "expect.venues",
      found: slot.venues,
      wanted: expect.venues,
    });
  }
  return slot.venues.filter((name) => expect.venues.includes(name));
}

function observation(name, slot, { expect, nowUs, venueFiles }) {
  const seen = slot.venues.get(name);
  if (seen === undefined) {
    throw e.incomplete(`${name} is not shown in the slot`, { rule: "expect.venues", found: name });
  }
  if (seen.gap) {
    throw e.incomplete(`the slot has a gap of ${name}: ${seen.reason}`, {
      rule: "slot.gap",
      found: seen.fault,
    });
  }
  among(modeOf(seen), expect.modes, "modes", "witnessed in another mode");
  if (sourceOf(seen) === "live") {
    among("full", expect.bindings, "bindings", "bound in another way");
  }
  const { market, slot_us: slotUs } = slot.slot;
  const venue = expectedVenue(name, market, seen.instrument, expect, venueFiles, null);
  if (seen.received_us > slotUs) {
    throw e.invalidProof("observed after its slot", { rule: "observation.received_us" });
  }
  const [bid, ask] = [fraction(seen.bid), fraction(seen.ask)];
  if (bid.n <= 0n || bid.compare(ask) > 0) {
    throw e.invalidProof("bid and ask are no quote", { rule: "observation.bid" });
  }
  checkInterval(expect, nowUs, seen.received_us, seen.received_us);
  if (new Set(expect.venues).size === 1) checkWanted(purposeOf(slot, name), expect);
  return { seen, venue };
}
