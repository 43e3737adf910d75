"""Recomputes a trade's outcome from its bundle, and refuses whatever does not hold (S10)."""

from __future__ import annotations

import dataclasses
from collections.abc import Mapping
from typing import NamedTuple

from attestation.encoding import JsonObject, decode_object, encode_decoded
from attestation.errors import (
    ExpectationError,
    IncompleteError,
    InvalidProofError,
    OutcomeMismatchError,
    naming,
)
from attestation.hashing import hash_string
from attestation.log.entry import PolicyEntry, load_entry
from attestation.log.policy import LogPolicy, Witnessed
from attestation.recent import Same
from attestation.settlement.attested import AttestedSlot
from attestation.settlement.bundle import SettlementBundle
from attestation.settlement.entries import (
    LogRange,
    ReadSlots,
    check_policy,
    read_slots,
    trade_terms,
)
from attestation.settlement.expect import (
    SettlementExpect,
    check_operators,
    check_promised,
    check_trade,
)
from attestation.settlement.messages import check_messages
from attestation.settlement.outcome import (
    OutcomeDocument,
    judged_slots,
    void_fault,
    write_outcome,
)
from attestation.settlement.policy import SettlementPolicy, policy_files
from attestation.settlement.ranges import (
    RangeVerifier,
    VerifiedRange,
    check_witnessed,
    verified_range,
)
from attestation.settlement.rule import Terms, settle
from attestation.settlement.sessions import KnownSessions, LoggedSession, check_sessions
from attestation.settlement.slots import Fault
from attestation.settlement.trade import TradeLeaf
from attestation.trust import Trust
from attestation.venues import VenueFile

KEPT_SHOWN = 8
"""Ranges that a verifier keeps: trades come in the order of the log."""
KEPT_QUOTES = 16_384
"""Quotes that a verifier keeps, derived from their messages."""


@dataclasses.dataclass(frozen=True, slots=True, kw_only=True)
class VerifiedSettlement:
    """A trade's settlement and what it was recomputed from.  Made by ``verify_settlement`` alone.

    ``slots`` and ``messages`` count what was judged and read again; ``fault`` is whose a
    void is; ``settlement`` is the hash of the settlement document, ``outcome``.
    """

    policy: SettlementPolicy
    leaf: TradeLeaf
    terms: Terms
    logs: tuple[VerifiedRange, ...]
    sessions: tuple[LoggedSession, ...]
    slots: int
    messages: int
    fault: Fault | None
    outcome: OutcomeDocument
    settlement: str


def recompute(
    bundle: SettlementBundle,
    *,
    trust: Trust,
    log_policy: bytes,
    expect: SettlementExpect,
    venue_files: Mapping[str, VenueFile],
) -> OutcomeDocument:
    """Returns the settlement document that ``verify_settlement`` recomputes."""
    return verify_settlement(
        bundle, trust=trust, log_policy=log_policy, expect=expect, venue_files=venue_files
    ).outcome


def verify_settlement(
    bundle: SettlementBundle,
    *,
    trust: Trust,
    log_policy: bytes,
    expect: SettlementExpect,
    venue_files: Mapping[str, VenueFile],
) -> VerifiedSettlement:
    """Recomputes a trade's settlement document; raises unless it is the claimed one.

    ``log_policy`` is the text of the log policy the reader trusts; the settlement
    policy names its hash, and those of ``venue_files``, by name.  In this order, else
    the error in brackets:

    - policy, trade and operators are the expected ones, the log policy and the venue files
      the named ones (ExpectationError, UntrustedError)
    - every checkpoint is its log's, the last with the witnesses asked for
      (UntrustedError, InvalidProofError, IncompleteError)
    - frontier and entries fold to the roots (InvalidProofError; IncompleteError for
      another number of entries)
    - policy, feeds and batch are logged (InvalidProofError, ExpectationError)
    - sessions and slots (``verify_session``, ``verify_slot``, ``read_slots``), rule (``settle``)
    - the sessions behind the slots judged are the policy's (``check_sessions``), the quotes
      follow from their messages (``check_messages``)
    - the last checkpoints had their witnesses in time (StaleError)
    - the claim is what follows (OutcomeMismatchError)
    """
    verifier = SettlementVerifier(trust=trust, log_policy=log_policy, venue_files=venue_files)
    return verifier.verify(bundle, expect)


class SettlementVerifier:
    """Recomputes many settlements for one reader, as ``verify_settlement`` does each.

    What bundles share, as those that a ``PartReader`` joins do, is verified once: by
    identity, and never for another trust, log policy or venue files than its own.
    """

    def __init__(
        self, *, trust: Trust, log_policy: bytes, venue_files: Mapping[str, VenueFile]
    ) -> None:
        self._trust = trust
        self._log_policy = log_policy
        self._venue_files = venue_files
        self._policies = Same[tuple[SettlementPolicy, str]](KEPT_SHOWN)
        self._shown = Same[_Shown](KEPT_SHOWN)
        self._ranges: RangeVerifier | None = None
        self._derived = Same[bool](KEPT_QUOTES)

    def verify(self, bundle: SettlementBundle, expect: SettlementExpect) -> VerifiedSettlement:
        """Recomputes a trade's settlement document; raises as ``verify_settlement``."""
        policy = self._policy(bundle, expect)
        check_trade(bundle.trade, expect)
        check_operators(policy, self._trust, expect)
        files = policy_files(policy, self._venue_files)
        shown = self._shown.get(bundle.policy, bundle.logs, bundle.slots, bundle.messages)
        if shown is None:
            shown = self._open(policy, bundle)
        terms = trade_terms(policy, shown.first, bundle.batch, bundle.trade)
        check_promised(terms, expect)
        if shown.read is None:
            shown.read_slots(policy, self._reader().slots(bundle.slots, shown.witnessed))
            # Kept from here on, where all that trades share was found to hold.
            self._shown.keep(bundle.policy, bundle.logs, bundle.slots, bundle.messages, value=shown)
        development = bool(expect.insecure_allow_development)
        judged = shown.judged.get((terms, development))
        if judged is None:
            judged = self._judge(policy, terms, bundle, shown, files, development)
            shown.judged[terms, development] = judged
        trade = bundle.trade.leaf.trade
        document = hash_string(encode_decoded({**judged.written, "trade": trade}))
        outcome = dataclasses.replace(judged.outcome, trade=trade)
        _check_claim(bundle, outcome, document)
        return VerifiedSettlement(
            policy=policy,
            leaf=bundle.trade.leaf,
            terms=terms,
            logs=tuple(
                [verified_range(shown.witnessed[name], log) for name, log in shown.ranges.items()]
            ),
            sessions=tuple(shown.sessions),
            slots=judged.slots,
            messages=len(bundle.messages),
            fault=judged.fault,
            outcome=outcome,
            settlement=document,
        )

    def _reader(self) -> RangeVerifier:
        if self._ranges is None:
            self._ranges = RangeVerifier(self._trust, LogPolicy.parse(self._log_policy))
        return self._ranges

    def _policy(self, bundle: SettlementBundle, expect: SettlementExpect) -> SettlementPolicy:
        # By itself alone: what a reader expects of it may differ from trade to trade.
        known = self._policies.get(bundle.policy)
        if known is None:
            known = self._policies.keep(bundle.policy, value=_read_policy(bundle))
        policy, policy_id = known
        _check_policy(policy, policy_id, bundle, self._log_policy, expect)
        return policy

    def _open(self, policy: SettlementPolicy, bundle: SettlementBundle) -> _Shown:
        reader = self._reader()
        witnessed: dict[str, Witnessed] = {}
        ranges: dict[str, LogRange] = {}
        sessions: list[LoggedSession] = []
        for notary, log in zip(policy.notaries, bundle.logs, strict=True):
            witnessed[notary.notary] = seen = reader.open(notary, log)
            ranges[notary.notary] = reader.range(log, seen.signed.checkpoint)
            sessions += reader.sessions(log, seen)
        first = policy.notaries[0].notary
        signed = witnessed[first].signed.checkpoint
        check_policy(policy, bundle.policy.open(signed, PolicyEntry, "policy.entry"))
        return _Shown(witnessed, ranges, sessions, ranges[first])

    def _judge(
        self,
        policy: SettlementPolicy,
        terms: Terms,
        bundle: SettlementBundle,
        shown: _Shown,
        files: Mapping[str, VenueFile],
        development: bool,
    ) -> _Judged:
        assert shown.read is not None
        assert shown.known is not None
        settlement = settle(
            policy,
            terms,
            shown.read.logged,
            read_from_us=shown.read.read_from_us,
            read_until_us=shown.read.read_until_us,
        )
        judged = set(judged_slots(policy, terms, settlement))
        deciding = [slot for slot in shown.slots if slot.slot.slot_us in judged]
        check_sessions(
            policy, shown.ranges, deciding, shown.known, files, allow_development=development
        )
        check_messages(policy, deciding, bundle.messages, files, self._derived)
        latest_us = settlement.final_after_us + policy.max_cosign_delay_us
        for name, seen in shown.witnessed.items():
            check_witnessed(name, seen, shown.ranges[name].until_us, latest_us)
        outcome = write_outcome(
            settlement,
            policy=policy,
            terms=terms,
            trade=bundle.trade.leaf.trade,
            logged=shown.read.logged,
        )
        written = decode_object(outcome.encode())
        return _Judged(outcome, written, len(deciding), void_fault(settlement))


@dataclasses.dataclass(slots=True)
class _Shown:
    """What a bundle shows that is no trade's own, verified; and how trades come out of it."""

    witnessed: dict[str, Witnessed]
    ranges: dict[str, LogRange]
    sessions: list[LoggedSession]
    first: LogRange
    slots: list[AttestedSlot] = dataclasses.field(default_factory=list)
    known: KnownSessions | None = None
    read: ReadSlots | None = None
    judged: dict[tuple[Terms, bool], _Judged] = dataclasses.field(default_factory=dict)

    def read_slots(self, policy: SettlementPolicy, slots: list[AttestedSlot]) -> None:
        """Reads what the logs have of the slots."""
        self.slots = slots
        self.known = KnownSessions(self.sessions)
        self.read = read_slots(
            policy, list(self.ranges.values()), slots, self.known.refused(policy)
        )


class _Judged(NamedTuple):
    outcome: OutcomeDocument
    written: JsonObject
    slots: int
    fault: Fault | None


def _read_policy(bundle: SettlementBundle) -> tuple[SettlementPolicy, str]:
    """Returns the policy and the id that stands for it; that it is logged is checked later."""
    entry = load_entry(bundle.policy.entry)
    if not isinstance(entry, PolicyEntry):
        raise InvalidProofError("an entry of another kind", rule="policy.entry", found=entry.kind)
    with naming("policy.document"):
        return SettlementPolicy.from_json(entry.document), entry.policy_id


def _check_policy(
    policy: SettlementPolicy,
    policy_id: str,
    bundle: SettlementBundle,
    log_policy: bytes,
    expect: SettlementExpect,
) -> None:
    pairs = [
        ("expect.policy_id", policy_id, expect.policy_id),
        ("policy.log_policy", hash_string(log_policy), policy.log_policy),
    ]
    for rule, found, wanted in pairs:
        if found != wanted:
            raise ExpectationError(
                "the bundle is of another policy or log policy",
                rule=rule,
                found=found,
                wanted=wanted,
            )
    names, wanted_names = (
        [log.notary for log in bundle.logs],
        [notary.notary for notary in policy.notaries],
    )
    if names != wanted_names:
        raise IncompleteError(
            "a bundle has the logs of the policy's notaries, in its order",
            rule="logs",
            found=names,
            wanted=wanted_names,
        )


def _check_claim(bundle: SettlementBundle, outcome: OutcomeDocument, document: str) -> None:
    for rule, found, wanted in (
        ("outcome.outcome", bundle.outcome, outcome.outcome),
        ("settlement", bundle.settlement, document),
    ):
        if found != wanted:
            raise OutcomeMismatchError(
                "the claim does not follow from the log", rule=rule, found=found, wanted=wanted
            )
