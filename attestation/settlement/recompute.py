"""Recomputes a trade's outcome from its bundle, and refuses whatever does not hold (S10)."""

from __future__ import annotations

import dataclasses
from collections.abc import Mapping

from attestation.encoding import MAX_INTEGER, hex_decode
from attestation.errors import (
    AuditFinding,
    ExpectationError,
    IncompleteError,
    InvalidProofError,
    OutcomeMismatchError,
    StaleError,
    naming,
)
from attestation.hashing import hash_string
from attestation.log.checkpoint import Checkpoint
from attestation.log.entry import AttestedEntry, FeedEntry, PolicyEntry, load_entry
from attestation.log.policy import LogPolicy, Witnessed
from attestation.log.tree import Frontier
from attestation.settlement.attested import AttestedSlot, verify_session, verify_slot
from attestation.settlement.bundle import BundleLog, SettlementBundle, entry_leaf
from attestation.settlement.entries import LogRange, check_policy, read_slots, trade_terms
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
from attestation.settlement.policy import PolicyNotary, SettlementPolicy, policy_files
from attestation.settlement.rule import Terms, settle
from attestation.settlement.sessions import KnownSessions, LoggedSession, check_sessions
from attestation.settlement.slots import Fault
from attestation.settlement.trade import TradeLeaf
from attestation.trust import Trust
from attestation.venues import VenueFile

SECOND_US = 1_000_000
TOLERANCE_US = 2_000_000
"""How far a notary's clock and the witnesses' may differ."""


@dataclasses.dataclass(frozen=True, slots=True, kw_only=True)
class VerifiedRange:
    """Entries ``first`` to just before ``size`` of a notary's log, the last of ``until_us``.

    ``quorum_us`` is when the witnesses asked for had cosigned, None where none is.
    """

    notary: str
    origin: str
    first: int
    size: int
    until_us: int
    quorum_us: int | None
    witnesses: tuple[str, ...]


@dataclasses.dataclass(frozen=True, slots=True, kw_only=True)
class VerifiedSettlement:
    """A trade's settlement and what it was recomputed from.  Made by ``verify_settlement`` alone.

    ``slots`` and ``messages`` count what was judged and read again; ``fault`` is whose a
    void is.
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
    policy = _policy(bundle, log_policy, expect)
    check_trade(bundle.trade, expect)
    check_operators(policy, trust, expect)
    files = policy_files(policy, venue_files)
    logs = LogPolicy.parse(log_policy)
    witnessed: dict[str, Witnessed] = {}
    ranges: dict[str, LogRange] = {}
    sessions: list[LoggedSession] = []
    for notary, log in zip(policy.notaries, bundle.logs, strict=True):
        witnessed[notary.notary] = seen = _open(notary, log, logs)
        ranges[notary.notary] = _range(log, seen.signed.checkpoint, logs)
        sessions += _sessions(log, trust, seen)
    first = policy.notaries[0].notary
    signed = witnessed[first].signed.checkpoint
    check_policy(policy, bundle.policy.open(signed, PolicyEntry, "policy.entry"))
    terms = trade_terms(policy, ranges[first], bundle.batch, bundle.trade)
    check_promised(terms, expect)
    slots = _slots(bundle, trust, witnessed)
    known = KnownSessions(sessions)
    read = read_slots(policy, list(ranges.values()), slots, known.refused(policy))
    settlement = settle(
        policy,
        terms,
        read.logged,
        read_from_us=read.read_from_us,
        read_until_us=read.read_until_us,
    )
    judged = set(judged_slots(policy, terms, settlement))
    deciding = [slot for slot in slots if slot.slot.slot_us in judged]
    development = bool(expect.insecure_allow_development)
    check_sessions(policy, ranges, deciding, known, files, allow_development=development)
    check_messages(policy, deciding, bundle.messages, files)
    latest_us = settlement.final_after_us + policy.max_cosign_delay_us
    for name, seen in witnessed.items():
        _check_witnessed(name, seen, ranges[name].until_us, latest_us)
    outcome = write_outcome(
        settlement,
        policy=policy,
        terms=terms,
        trade=bundle.trade.leaf.trade,
        logged=read.logged,
    )
    _check_claim(bundle, outcome)
    return VerifiedSettlement(
        policy=policy,
        leaf=bundle.trade.leaf,
        terms=terms,
        logs=tuple([_verified(witnessed[name], log) for name, log in ranges.items()]),
        sessions=tuple(sessions),
        slots=len(deciding),
        messages=len(bundle.messages),
        fault=void_fault(settlement),
        outcome=outcome,
    )


def _verified(seen: Witnessed, log: LogRange) -> VerifiedRange:
    time = seen.quorum_time
    return VerifiedRange(
        notary=log.notary,
        origin=seen.signed.checkpoint.origin,
        first=log.first,
        size=seen.signed.checkpoint.size,
        until_us=log.until_us,
        quorum_us=None if time is None else _time_us(time),
        witnesses=tuple(sorted(key.name for key in seen.signed.times)),
    )


def _policy(
    bundle: SettlementBundle, log_policy: bytes, expect: SettlementExpect
) -> SettlementPolicy:
    """Returns the policy, which its id stands for; that it is logged is checked later."""
    entry = load_entry(bundle.policy.entry)
    if not isinstance(entry, PolicyEntry):
        raise InvalidProofError("an entry of another kind", rule="policy.entry", found=entry.kind)
    with naming("policy.document"):
        policy = SettlementPolicy.from_json(entry.document)
    pairs = [
        ("expect.policy_id", entry.policy_id, expect.policy_id),
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
    return policy


def _open(notary: PolicyNotary, log: BundleLog, logs: LogPolicy) -> Witnessed:
    with naming("log.checkpoint"):
        witnessed = logs.open(log.checkpoint.encode("utf-8"))
    origin = witnessed.signed.checkpoint.origin
    if origin != notary.log:
        raise ExpectationError(
            "a checkpoint of another log", rule="log.origin", found=origin, wanted=notary.log
        )
    return witnessed


def _range(log: BundleLog, checkpoint: Checkpoint, logs: LogPolicy) -> LogRange:
    """Folds frontier and entries to the roots of both checkpoints."""
    with naming("log.start"):
        opened = logs.open_log(log.start.encode("utf-8"))
    start = opened.checkpoint
    if start.origin != checkpoint.origin:
        raise ExpectationError(
            "a checkpoint of another log",
            rule="log.start",
            found=start.origin,
            wanted=checkpoint.origin,
        )
    with naming("log.frontier"):
        tree = Frontier(start.size, [hex_decode(node, 32) for node in log.frontier])
    if tree.root() != start.root:
        raise InvalidProofError(
            "the frontier does not fold to the first checkpoint", rule="log.frontier"
        )
    with naming("log.entries"):
        tree.extend(entry_leaf(entry) for entry in log.entries)
    if tree.size != checkpoint.size:
        raise IncompleteError(
            "not all entries between the checkpoints are there",
            rule="log.entries",
            found=tree.size,
            wanted=checkpoint.size,
        )
    if tree.root() != checkpoint.root:
        raise InvalidProofError(
            "the entries do not fold to the last checkpoint", rule="log.entries"
        )
    with naming("log.entries"):
        entries = tuple([load_entry(entry) for entry in log.entries])
    found = LogRange(
        notary=log.notary,
        feed=log.feed.open(checkpoint, FeedEntry, "feed.entry"),
        first=start.size,
        entries=entries,
    )
    # Whatever follows a checkpoint was logged after its first cosignature.
    cosigned_us = _time_us(min(opened.times.values(), default=0))
    if found.entries[0].logged_us < cosigned_us - TOLERANCE_US:
        raise AuditFinding(
            "logged earlier than a cosigned checkpoint before it",
            rule="log.backdated",
            found=found.entries[0].logged_us,
            wanted=cosigned_us,
        )
    return found


def _sessions(log: BundleLog, trust: Trust, seen: Witnessed) -> list[LoggedSession]:
    found = []
    for session in log.sessions:
        entry = session.entry.open(seen.signed.checkpoint, AttestedEntry, "session.entry")
        attested = verify_session(
            session.attestation, trust=trust, witnessed_us=_witnessed_us(seen)
        )
        if attested.notary != log.notary:
            raise InvalidProofError(
                "a session of another notary",
                rule="session.notary",
                found=attested.notary,
                wanted=log.notary,
            )
        found.append(LoggedSession(attested=attested, entry=entry, index=session.entry.index))
    return found


def _slots(
    bundle: SettlementBundle, trust: Trust, witnessed: Mapping[str, Witnessed]
) -> list[AttestedSlot]:
    found = []
    for attestation in bundle.slots:
        # Logs of several notaries: only its own has seen this one's attestation.
        seen = witnessed.get(attestation.header.key.rpartition("+")[0])
        time = None if seen is None else _witnessed_us(seen)
        found.append(verify_slot(attestation, trust=trust, witnessed_us=time))
    return found


def _witnessed_us(seen: Witnessed) -> int | None:
    """When a quorum had seen a log's entries: a cosignature tells its second."""
    return None if seen.quorum_time is None else _time_us(seen.quorum_time) + SECOND_US


def _check_witnessed(name: str, seen: Witnessed, logged_us: int, latest_us: int) -> None:
    """Checks when the witnesses had seen a log's entries, the last of ``logged_us``."""
    if seen.quorum_time is None:
        return
    seen_us = _time_us(seen.quorum_time)
    if seen_us > latest_us:
        raise StaleError(
            f"the witnesses of {name}'s log came late",
            rule="settlement.quorum_time",
            found=seen_us,
            wanted=latest_us,
        )
    if logged_us >= seen_us + SECOND_US + TOLERANCE_US:
        raise AuditFinding(
            f"{name}'s clock runs ahead of the witnesses'",
            rule="log.ahead",
            found=logged_us,
            wanted=seen_us,
        )


def _time_us(seconds: int) -> int:
    if seconds * SECOND_US > MAX_INTEGER:
        raise InvalidProofError("cosigned at no time", rule="log.quorum", found=str(seconds))
    return seconds * SECOND_US


def _check_claim(bundle: SettlementBundle, outcome: OutcomeDocument) -> None:
    document = hash_string(outcome.encode())
    for rule, found, wanted in (
        ("outcome.outcome", bundle.outcome, outcome.outcome),
        ("settlement", bundle.settlement, document),
    ):
        if found != wanted:
            raise OutcomeMismatchError(
                "the claim does not follow from the log", rule=rule, found=found, wanted=wanted
            )
