"""That an entry is logged, as attestations carry it and presentations embed it."""

from __future__ import annotations

import dataclasses

from attestation.encoding import JsonObject, encode
from attestation.log.entry import Entry, read_entry
from attestation.log.policy import LogPolicy, Witnessed
from attestation.log.proof import LogProof
from attestation.schema import Document


@dataclasses.dataclass(frozen=True, slots=True, kw_only=True)
class Inclusion(Document):
    """An entry, and a c2sp.org/tlog-proof@v1 of it as text; nothing verified yet."""

    entry: JsonObject
    proof: str

    def open(self, policy: LogPolicy) -> tuple[Entry, Witnessed]:
        """Verifies under a log policy; returns the entry and the checkpoint it is under.

        Raises MalformedError, UntrustedError (another log), InvalidProofError, and
        IncompleteError where too few witnesses have cosigned.
        """
        data = encode(self.entry)
        entry = read_entry(data)
        proof = LogProof.parse(self.proof.encode("utf-8"))
        witnessed = policy.open(proof.note)
        proof.check(data, witnessed.signed)
        return entry, witnessed
