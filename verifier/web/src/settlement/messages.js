// That observed quotes follow from the venues' raw messages, read once more (S4).

import { checkObservation } from "../core/observation.js";
import { mayCount } from "./slots.js";

/** Derives every observation that the policy may count again; `byHash` maps hash to message. */
export function checkMessages(policy, slots, byHash, files) {
  for (const slot of slots) {
    for (const venue of policy.venues) {
      const seen = slot.fields.get(venue.venue);
      if (mayCount(seen, venue, policy)) {
        const place = [slot.notary, slot.slot.slot_us, venue.venue];
        checkObservation(seen, files.get(venue.venue), byHash, place);
      }
    }
  }
}
