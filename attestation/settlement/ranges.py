"""Notaries' logs as a bundle shows them, folded to their checkpoints (S10)."""

from __future__ import annotations

import dataclasses
from collections.abc import Iterable, Mapping

from attestation.document import Attestation
from attestation.encoding import MAX_INTEGER, JsonObject, hex_decode
from attestation.errors import (
    AuditFinding,
    ExpectationError,
    IncompleteError,
    InvalidProofError,
    StaleError,
    naming,
)
from attestation.log.checkpoint import Checkpoint
from attestation.log.entry import AttestedEntry, Entry, FeedEntry, load_entry
from attestation.log.policy import LogPolicy, Witnessed
from attestation.log.tree import Frontier
from attestation.recent import Same
from attestation.settlement.attested import AttestationVerifier, AttestedSlot
from attestation.settlement.bundle import BundleLog, entry_leaf
from attestation.settlement.entries import LogRange
from attestation.settlement.policy import PolicyNotary
from attestation.settlement.sessions import LoggedSession
from attestation.trust import Trust

SECOND_US = 1_000_000
TOLERANCE_US = 2_000_000
"""How far a notary's clock and the witnesses' may differ."""


KEPT_ENTRIES = 65_536
"""Entries that a reader keeps, of bundles that share them."""


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


def verified_range(seen: Witnessed, log: LogRange) -> VerifiedRange:
    """Returns what a range was found to be."""
    time = seen.quorum_time
    return VerifiedRange(
        notary=log.notary,
        origin=seen.signed.checkpoint.origin,
        first=log.first,
        size=seen.signed.checkpoint.size,
        until_us=log.until_us,
        quorum_us=None if time is None else time_us(time),
        witnesses=tuple(sorted(key.name for key in seen.signed.times)),
    )


class RangeVerifier:
    """Verifies what bundles show of logs, under one trust and log policy.

    What bundles share is verified once, as far as they share its objects.
    """

    def __init__(self, trust: Trust, logs: LogPolicy) -> None:
        self._logs = logs
        self._attestations = AttestationVerifier(trust)
        self._leaves = Same[bytes](KEPT_ENTRIES)
        self._entries = Same[Entry](KEPT_ENTRIES)

    def open(self, notary: PolicyNotary, log: BundleLog) -> Witnessed:
        """Opens the last checkpoint of a log, with the witnesses asked for."""
        with naming("log.checkpoint"):
            witnessed = self._logs.open(log.checkpoint.encode("utf-8"))
        origin = witnessed.signed.checkpoint.origin
        if origin != notary.log:
            raise ExpectationError(
                "a checkpoint of another log", rule="log.origin", found=origin, wanted=notary.log
            )
        return witnessed

    def range(self, log: BundleLog, checkpoint: Checkpoint) -> LogRange:
        """Folds frontier and entries to the roots of both checkpoints."""
        with naming("log.start"):
            opened = self._logs.open_log(log.start.encode("utf-8"))
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
            tree.extend(self._leaf(entry) for entry in log.entries)
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
            entries = tuple([self._entry(entry) for entry in log.entries])
        found = LogRange(
            notary=log.notary,
            feed=log.feed.open(checkpoint, FeedEntry, "feed.entry"),
            first=start.size,
            entries=entries,
        )
        # Whatever follows a checkpoint was logged after its first cosignature.
        cosigned_us = time_us(min(opened.times.values(), default=0))
        if found.entries[0].logged_us < cosigned_us - TOLERANCE_US:
            raise AuditFinding(
                "logged earlier than a cosigned checkpoint before it",
                rule="log.backdated",
                found=found.entries[0].logged_us,
                wanted=cosigned_us,
            )
        return found

    def sessions(self, log: BundleLog, seen: Witnessed) -> list[LoggedSession]:
        """Verifies the sessions that a log is shown with."""
        found = []
        for session in log.sessions:
            entry = session.entry.open(seen.signed.checkpoint, AttestedEntry, "session.entry")
            attested = self._attestations.session(
                session.attestation, witnessed_us=witnessed_us(seen)
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

    def slots(
        self, slots: Iterable[Attestation], witnessed: Mapping[str, Witnessed]
    ) -> list[AttestedSlot]:
        """Verifies slots, each by its own notary's log."""
        found = []
        for attestation in slots:
            # Logs of several notaries: only its own has seen this one's attestation.
            seen = witnessed.get(attestation.header.key.rpartition("+")[0])
            time = None if seen is None else witnessed_us(seen)
            found.append(self._attestations.slot(attestation, witnessed_us=time))
        return found

    def _leaf(self, entry: JsonObject) -> bytes:
        found = self._leaves.get(entry)
        return self._leaves.keep(entry, value=entry_leaf(entry)) if found is None else found

    def _entry(self, entry: JsonObject) -> Entry:
        found = self._entries.get(entry)
        return self._entries.keep(entry, value=load_entry(entry)) if found is None else found


def witnessed_us(seen: Witnessed) -> int | None:
    """When a quorum had seen a log's entries: a cosignature tells its second."""
    return None if seen.quorum_time is None else time_us(seen.quorum_time) + SECOND_US


def check_witnessed(name: str, seen: Witnessed, logged_us: int, latest_us: int) -> None:
    """Checks when the witnesses had seen a log's entries, the last of ``logged_us``."""
    if seen.quorum_time is None:
        return
    seen_us = time_us(seen.quorum_time)
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


def time_us(seconds: int) -> int:
    """Returns a cosignature's time; raises InvalidProofError for one that is none."""
    if seconds * SECOND_US > MAX_INTEGER:
        raise InvalidProofError("cosigned at no time", rule="log.quorum", found=str(seconds))
    return seconds * SECOND_US
