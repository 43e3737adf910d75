// That an observation of a slot follows from the raw messages it rests on.

import { deriveObservation } from "./channel.js";
import { incomplete, invalidProof, QuotaryError } from "./errors.js";

/** Derives a live observation again from its messages, given by hash; `place` says which it is. */
export function checkObservation(seen, file, byHash, place) {
  if ((seen.source ?? "live") !== "live") {
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
