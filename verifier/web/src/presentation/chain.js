// The sessions shown beside a slot, as verifier/chain.py.

import * as e from "../core/errors.js";
import { clientText } from "../core/frame.js";
import { checkLiveStart } from "../core/livestart.js";
import { authenticate, openSections } from "./authenticate.js";
import { among, checkDate, checkPeer, checkServerName } from "./expectations.js";
import { checkLog, witnessedUs } from "./logproof.js";
import { checkStructure, rederiveQuote } from "./rederive.js";

/** Authenticates the sessions shown beside a slot; returns them by id. */
export function openSessions(presentation, slot, reader) {
  const { trust, logPolicy, nowUs } = reader;
  const demanded = reader.expect?.log;
  const expect = demanded === undefined ? undefined : { ...demanded, max_delay_us: undefined };
  const seen = [...slot.venues.values()].filter((field) => !field.gap);
  const named = new Set(seen.map((field) => field.session));
  const found = new Map();
  for (const shown of presentation.sessions ?? []) {
    const fields = authenticate(shown, {
      trust,
      nowUs,
      witnessedUs: witnessedUs(shown, { trust, logPolicy, expect }),
    });
    if (fields.kind !== "session") {
      throw e.malformed("a slot stands beside a slot", { rule: "sessions" });
    }
    const { id } = fields.session;
    if (found.has(id))
      throw e.malformed("a session is shown twice", { rule: "sessions", found: id });
    if (!named.has(id)) {
      throw e.invalidProof("a session that no shown observation names", {
        rule: "sessions",
        found: id,
      });
    }
    if (fields.notary.name !== slot.notary.name) {
      throw e.invalidProof("another notary's session", {
        rule: "session.notary",
        found: fields.notary.name,
        wanted: slot.notary.name,
      });
    }
    if (fields.header.issued_us > slot.header.issued_us) {
      throw e.invalidProof("the session's start was attested after the slot", {
        rule: "session.issued_us",
        found: fields.header.issued_us,
        wanted: slot.header.issued_us,
      });
    }
    const opened = openSections(shown, fields.sections);
    if (shown.log !== undefined || expect !== undefined) {
      const { header, notary } = fields;
      checkLog(shown.log, { header, of: fields, notary, trust, logPolicy, expect });
    }
    found.set(id, { fields, opened });
  }
  return found;
}

function same(rule, found, wanted) {
  if (found !== wanted) {
    throw e.invalidProof("the session is not the one observed", {
      rule,
      found: found ?? null,
      wanted: wanted ?? null,
    });
  }
}

/** Checks that a live session is the one that an observation says, on the venue's channel. */
export function checkLiveSession({ fields, opened }, seen, slot, venue, expect) {
  same("session.mode", fields.session.mode, "live");
  same("session.binding", fields.session.binding, "full");
  checkLiveStart(fields, { feed: slot.slot.feed, venue, instrument: seen.instrument });
  checkSubscription(opened, venue.subscriptions(seen.instrument));
  if (seen.received_us < fields.connection.response_first_us) {
    throw e.invalidProof("the session's first answer came after the quote", {
      rule: "session.start",
      found: seen.received_us,
      wanted: fields.connection.response_first_us,
    });
  }
  checkStructure(fields, opened);
  checkPeer(fields, expect);
  checkDate(fields, expect);
}

/** Each opened frame of the subscription says what the venue file has in its place. */
function checkSubscription(opened, patterns) {
  const rule = "session.subscription";
  for (const [name, section] of opened) {
    if (!name.startsWith("message.")) continue;
    if (section.data === null) {
      throw e.incomplete("a frame of the subscription is opened in part", { rule });
    }
    const number = name.slice("message.".length);
    const pattern = patterns.find((_, at) => String(at) === number) ?? null;
    const said = clientText(section.data);
    if (pattern === null || said === null || !pattern.test(said)) {
      const wanted = pattern?.source ?? null;
      throw e.invalidProof("not the channel's subscription", { rule, found: said, wanted });
    }
  }
}

/** Checks that a sealed session is the slot's, and derives the quote of a request again. */
export function checkRequestSession({ fields, opened }, seen, slot, expect, venueFiles) {
  const { feed, slot_us: slotUs } = slot.slot;
  same("session.purpose", fields.session.purpose, `slot/${feed}/${seen.venue}/${slotUs}`);
  same("session.mode", fields.session.mode, "sealed");
  among(fields.session.binding, expect.bindings, "bindings", "bound in another way");
  checkServerName(fields);
  const extensions = checkStructure(fields, opened);
  const claim = rederiveQuote(fields, opened, extensions, expect, venueFiles);
  for (const member of ["venue", "instrument", "bid", "ask", "exchange_us"]) {
    same(`observation.${member}`, seen[member], claim[member]);
  }
  same("observation.received_us", seen.received_us, claim.observed_us);
  checkPeer(fields, expect);
  checkDate(fields, expect);
}
