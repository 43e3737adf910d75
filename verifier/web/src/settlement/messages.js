// That observed quotes follow from the venues' raw messages, read once more (S4).

import { deriveObservation } from "../core/channel.js";
import { incomplete, invalidProof, QuotaryError } from "../core/errors.js";
import { LIVE, mayCount } from "./slots.js";

/** Derives every observation that the policy may count again; `byHash` maps hash to message. */
export function checkMessages(policy, slots, byHash, files) {
  for (const slot of slots) {
    for (const venue of policy.venues) {
      const seen = slot.fields.get(venue.venue);
      if (mayCount(seen, venue, policy)) {
        check(seen, files.get(venue.venue), byHash, [slot.notary, slot.slot.slot_us, venue.venue]);
      }
    }
  }
}

function check(seen, file, byHash, place) {
  if ((seen.source ?? LIVE) !== LIVE) {
    throw incomplete("a quote of a request cannot be read again from messages", {
      rule: "messages.source",
      found: place,
    });
  }
  const { messages } = seen;
  if (messages.some((message, at) => at && messages[at - 1].index >= message.index)) {
    throw invalidProof("messages are in the order they came in", {
      rule: "messages.order",
      found: place,
    });
  }
  const missing = messages.find((message) => !byHash.has(message.hash));
  if (missing !== undefined) {
    throw incomplete("a message that a quote rests on is not given", {
      rule: "messages.missing",
      found: place,
      wanted: missing.hash,
    });
  }
  let derived;
  try {
    derived = deriveObservation(
      file,
      seen.instrument,
      messages.map((message) => byHash.get(message.hash)),
    );
  } catch (error) {
    if (!(error instanceof QuotaryError)) throw error;
    throw invalidProof(`the messages give no quote: ${error.detail}`, {
      rule: "observation.messages",
      found: place,
    });
  }
  for (const member of ["bid", "ask", "exchange_us"]) {
    if (seen[member] !== derived[member]) {
      throw invalidProof("the quote does not follow from its messages", {
        rule: `observation.${member}`,
        found: seen[member] ?? null,
        wanted: derived[member] ?? null,
      });
    }
  }
}
