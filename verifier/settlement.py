"""Verdicts on settlement bundles: one question in, one document out; no I/O.

{"bundle": {...}, "expect": {"policy_id": ..., "trade": ...}}
"""

from __future__ import annotations

import dataclasses
from collections.abc import Mapping

from attestation.encoding import Json, decode_message
from attestation.errors import MalformedError, QuotaryError, UsageError
from attestation.hashing import hash_string
from attestation.settlement.bundle import BUNDLE_LIMIT, SettlementBundle
from attestation.settlement.expect import SettlementExpect
from attestation.settlement.policy import SettlementPolicy
from attestation.settlement.recompute import VerifiedSettlement, verify_settlement
from attestation.settlement.verdict import SettlementVerdict, VerdictRange
from attestation.trust import Trust
from attestation.venues import VenueFile
from attestation.verdict import Rejected, VerdictNotary, rejected
from verifier.question import MissingExpectError

SETTLEMENT_BODY_LIMIT = BUNDLE_LIMIT + 64 * 1024
"""A bundle, and what is expected of it."""

CHECKED = ("log", "policy", "trade", "slots", "sessions", "messages", "outcome")
NOT_CHECKED = ("last_message", "tls_evidence")
"""That a message was its venue's last before the slot; the raw TLS records."""


@dataclasses.dataclass(frozen=True, slots=True, kw_only=True)
class SettlementMeans:
    """What a server recomputes settlements with.

    ``log_policy``: the text of the log policy, whose hash settlement policies name; None:
    no bundle is recomputed.  ``policies`` are shown by id, and decide nothing.
    """

    log_policy: bytes | None = None
    policies: tuple[SettlementPolicy, ...] = ()
    venue_files: Mapping[str, VenueFile] | None = None


@dataclasses.dataclass(frozen=True, slots=True, kw_only=True)
class SettlementQuestion:
    """A bundle as decoded JSON, to be recomputed against an expectation."""

    bundle: Json
    expect: SettlementExpect

    def answer(
        self, *, trust: Trust, log_policy: bytes, venue_files: Mapping[str, VenueFile]
    ) -> SettlementVerdict | Rejected:
        """Returns the verdict; what is wrong with a bundle is a rejection."""
        try:
            found = verify_settlement(
                SettlementBundle.from_json(self.bundle),
                trust=trust,
                log_policy=log_policy,
                expect=self.expect,
                venue_files=venue_files,
            )
        except QuotaryError as error:
            return rejected(error)
        return settlement_verdict(found, trust)


def read_settlement_question(body: bytes) -> SettlementQuestion:
    """Reads a request body; raises MalformedError (not JSON) or UsageError (not a question)."""
    value = decode_message(body, limit=SETTLEMENT_BODY_LIMIT)
    if not isinstance(value, dict):
        raise UsageError("a question is an object")
    unknown = sorted(value.keys() - {"bundle", "expect"})
    if unknown:
        raise UsageError("unknown members", found=unknown, wanted=["bundle", "expect"])
    if "bundle" not in value:
        raise UsageError("give a bundle", rule="bundle")
    if "expect" not in value:
        raise MissingExpectError("say what you expect: expect is required", rule="expect")
    try:
        expect = SettlementExpect.from_json(value["expect"])
    except MalformedError as error:
        raise UsageError(
            error.detail,
            rule=f"expect.{error.rule}" if error.rule else "expect",
            found=error.found,
            wanted=error.wanted,
        ) from error
    return SettlementQuestion(bundle=value["bundle"], expect=expect)


def settlement_verdict(found: VerifiedSettlement, trust: Trust) -> SettlementVerdict:
    """Returns the favourable verdict on a settlement that was recomputed."""
    witnessed = all(log.quorum_us is not None for log in found.logs)
    seen = ("witnesses",)
    return SettlementVerdict(
        verdict="accepted",
        trade=found.leaf,
        outcome=found.outcome,
        settlement=hash_string(found.outcome.encode()),
        notaries=tuple(
            VerdictNotary(name=log.notary, operator=trust.operator_of(log.notary))
            for log in found.logs
        ),
        logs=tuple(
            VerdictRange(
                notary=log.notary,
                origin=log.origin,
                first=log.first,
                size=log.size,
                until_us=log.until_us,
                quorum_us=log.quorum_us,
                witnesses=log.witnesses,
            )
            for log in found.logs
        ),
        checked=(*CHECKED, *(seen if witnessed else ())),
        not_checked=(*(() if witnessed else seen), *NOT_CHECKED),
    )
