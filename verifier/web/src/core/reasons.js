// Why a session or a slot ended without an attestation, and whose fault that is (docs/log.md).

export const PARTIES = ["venue", "prover", "notary"];

const BY_PARTY = {
  venue: ["venue_closed", "venue_refused", "venue_silent", "venue_malformed", "venue_tls"],
  prover: [
    "prover_closed",
    "prover_slow",
    "keepalive_missed",
    "not_opened",
    "invalid",
    "violation",
    "timeout",
    "absent",
  ],
  notary: ["restart", "clock", "overload"],
};

/** The fault of each reason. */
export const FAULTS = new Map(
  PARTIES.flatMap((party) => BY_PARTY[party].map((reason) => [reason, party])),
);
