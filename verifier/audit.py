"""Audits a log: recomputes all of it from what it serves, and names what is wrong.

Sans-IO: ``Audit`` says which entry bundle it wants next and takes its bytes
(``verifier.logfiles`` runs it over any function that reads paths).  Streaming, in memory that
does not grow with the log (but for ``spent``, the caller's); resumes from the state
of an earlier audit, whose checkpoint the log must still extend.

Whatever a server sends leads to a report or to UnavailableError.  Entries are
believed once they fold to the signed root: findings in entries that do not are
dropped, for nobody else could check them.
"""

from __future__ import annotations

from collections.abc import Iterable

from attestation import merkle
from attestation.encoding import hex_decode
from attestation.errors import (
    IncompleteError,
    InvalidProofError,
    MalformedError,
    UnavailableError,
    UsageError,
)
from attestation.hashing import hash_string
from attestation.log.bundle import parse_bundle
from attestation.log.checkpoint import Checkpoint, SignedCheckpoint
from attestation.log.entry import (
    AbortedEntry,
    AttestedEntry,
    ClosedEntry,
    Entry,
    MissedEntry,
    SlotEntry,
    read_entry,
)
from attestation.log.note import Note
from attestation.log.policy import LogPolicy
from attestation.log.report import AuditReport, AuditState, Finding
from attestation.log.rules import Rules
from attestation.log.sessions import Spent
from attestation.log.tileproof import TileReader
from attestation.log.tiles import WIDTH, Tile, tile_at
from attestation.log.tree import Frontier
from verifier.given import GivenAttestation
from verifier.tally import Tally

TOLERANCE_US = 2_000_000
"""How far a witness's clock may run ahead of the notary's, delays included."""


class Audit:
    """One audit up to one checkpoint.

    ``start`` with the checkpoint, then ``take`` the bundle that ``wanted`` names
    until there is none, then ``finish``; then ``state`` is what to keep.  ``spent``
    belongs to ``state``.  ``given`` is looked for in the entries read, so that it
    takes an audit from the start: UsageError else.
    """

    def __init__(
        self,
        policy: LogPolicy,
        *,
        state: AuditState | None = None,
        spent: Spent | None = None,
        given: Iterable[GivenAttestation] = (),
    ) -> None:
        self._policy = policy
        self._given = {hash_string(one.header.encode()): one for one in given}
        self._logged: set[str] = set()
        if state is not None and self._given:
            raise UsageError("attestations are looked for in a whole log, not in its rest")
        self._old = state
        self._old_head = None if state is None else _head(state.checkpoint)
        self._rules = Rules(spent, None if state is None else state.rules)
        nodes = [] if state is None else [hex_decode(node, 32) for node in state.nodes]
        self._frontier = Frontier(0 if state is None else self._rules.size, nodes)
        self._tally = Tally(None if state is None else state.report)
        self._signed: SignedCheckpoint | None = None
        self._report: AuditReport | None = None
        self._broken: str | None = None
        if self._old_head is not None and (
            self._old_head.size != self._frontier.size
            or self._old_head.root != self._frontier.root()
        ):
            raise MalformedError("the state is not that of its checkpoint", rule="audit_state")

    @property
    def position(self) -> int:
        """Entries taken."""
        return self._frontier.size

    @property
    def size(self) -> int:
        """Entries under the checkpoint."""
        return self._head().size

    def start(self, note: bytes) -> None:
        """Opens the log's latest checkpoint.

        A bad signature ends the audit: ``finish`` reports it.  Raises
        UntrustedError if no log of the policy signed it, UnavailableError if it is no
        checkpoint at all.
        """
        try:
            self._signed = self._policy.open_log(note)
        except MalformedError as error:
            raise UnavailableError(
                f"the checkpoint cannot be read: {error.detail}", rule="log.checkpoint"
            ) from error
        except InvalidProofError as error:
            self._stop(note, error.detail)
            return
        if self._old_head is not None and self._old_head.origin != self._head().origin:
            raise UsageError(
                "the state is of another log",
                found=self._old_head.origin,
                wanted=self._head().origin,
            )

    def wanted(self) -> Tile | None:
        """Returns the level-0 tile whose entry bundle comes next; None if none is needed."""
        if self._report is not None or self._broken is not None or self.position >= self.size:
            return None
        return tile_at(0, self.position // WIDTH, self.size)

    def take(self, data: bytes) -> None:
        """Takes the bytes of the bundle that ``wanted`` names, whatever they are."""
        tile = self.wanted()
        if tile is None:
            raise UsageError("no bundle is wanted")
        try:
            entries = parse_bundle(data, tile.width)
        except MalformedError as error:
            self._broken = f"{tile.entries_path()}: {error.detail}"
            return
        for entry in entries[self.position - WIDTH * tile.index :]:
            self._take_entry(entry)

    def finish(self, reader: TileReader) -> AuditReport:
        """Compares roots, looks for what is missing, and reports.

        ``reader`` reads the log's tiles and is asked only where roots differ.  Raises
        UnavailableError for a log that shows an older checkpoint than before.
        """
        if self._report is None:
            if self.wanted() is not None:
                raise UsageError("bundles are wanted before the end", found=self.position)
            if self._is_wrong():
                self._diagnose(reader)
            else:
                self._conclude()
        if self._report is None:
            raise UsageError("the audit was never started")
        return self._report

    @property
    def is_sound(self) -> bool:
        """Whether the audit is finished and the entries fold to the signed root."""
        return self._signed is not None and self._report is not None and not self._is_wrong()

    def state(self) -> AuditState:
        """Returns what to keep of a finished audit; UsageError if the log is not sound."""
        if self._signed is None or not self.is_sound:
            raise UsageError("there is no audited checkpoint to go on from")
        times = self._signed.times.values()
        return AuditState(
            checkpoint=self._signed.note.encode().decode("utf-8"),
            cosigned_s=min(times, default=None),
            nodes=tuple([node.hex() for node in self._frontier.nodes]),
            rules=self._rules.state(),
            report=self._summary(self._tally),
        )

    def _head(self) -> Checkpoint:
        if self._signed is None:
            raise UsageError("the audit has no checkpoint")
        return self._signed.checkpoint

    # Entries.

    def _take_entry(self, data: bytes) -> None:
        index = self.position
        self._frontier.append(merkle.leaf_hash(data))
        try:
            entry = read_entry(data)
        except MalformedError as error:
            self._find("bad_entry", f"not an entry: {error}", index=index)
            self._rules.skip()
            return
        step = self._rules.judge(entry)
        for violation in step.violations:
            self._tally.note(violation, index)
        self._count(entry)
        self._check_witnessed(entry, index)
        if isinstance(entry, AttestedEntry | SlotEntry) and entry.header in self._given:
            self._check_given(entry, self._given[entry.header], index)
        step.take()
        for violation in self._rules.given_up():
            self._tally.note(violation, None)

    def _count(self, entry: Entry) -> None:
        self._tally.count_entry(entry.kind)
        if isinstance(entry, AttestedEntry | AbortedEntry | ClosedEntry):
            session = self._rules.open_session(entry.session)
            if session is not None:
                end = "attested" if isinstance(entry, AttestedEntry) else entry.reason
                self._tally.count_session(session.prover, session.venue, end)
        elif isinstance(entry, SlotEntry | MissedEntry) and self._rules.has_feed(entry.feed):
            end = "slot" if isinstance(entry, SlotEntry) else entry.fault
            self._tally.count_slot(entry.feed, end)

    def _check_witnessed(self, entry: Entry, index: int) -> None:
        """Entries after a cosigned checkpoint were logged after it was cosigned, or nearly."""
        old = self._old
        if old is None or old.cosigned_s is None:
            return
        if entry.logged_us < old.cosigned_s * 1_000_000 - TOLERANCE_US:
            self._find(
                "backdated",
                "logged earlier than a checkpoint before it was cosigned",
                index=index,
                checkpoints=(old.checkpoint,),
            )

    def _check_given(
        self, entry: AttestedEntry | SlotEntry, given: GivenAttestation, index: int
    ) -> None:
        self._logged.add(entry.header)
        if given.header.issued_us > entry.logged_us:
            self._find(
                "backdated",
                "an attestation was issued after it was logged",
                index=index,
                given=given,
            )
        session = entry.session if isinstance(entry, AttestedEntry) else None
        if session != given.session:
            self._find(
                "bad_entry", "the entry names another session or kind", index=index, given=given
            )

    # The end.

    def _is_wrong(self) -> bool:
        if self._broken is not None:
            return True
        head = self._head()
        return self._frontier.size != head.size or self._frontier.root() != head.root

    def _conclude(self) -> None:
        # What is overdue now may have its entry at the next audit: it is in this report alone.
        tally = self._tally.copy()
        for violation in self._rules.overdue():
            tally.note(violation, None)
        for header, given in self._given.items():
            if header not in self._logged and (
                given.header.issued_us + TOLERANCE_US < self._rules.now_us
            ):
                tally.find(
                    _plain("unlogged_attestation", "the attestation is not in the log", given=given)
                )
            if given.is_dated_otherwise:
                tally.find(
                    _plain("clock_off", "the exchange's Date disagrees with the times", given=given)
                )
        self._report = self._summary(tally)

    def _diagnose(self, reader: TileReader) -> None:
        """Tells a fork from entries that are not those of the tree."""
        head, old = self._head(), self._old_head
        before = () if self._old is None else (self._old.checkpoint,)
        notes = (*before, self._text())
        # Findings in entries that fold to no signed root prove nothing.
        self._tally = Tally(None if self._old is None else self._old.report)
        if old is not None and old.size == head.size:
            self._find("forked_log", "two roots of one size are signed", checkpoints=notes)
        elif old is not None and self._is_forked(reader, old, head):
            newer, older = (head, old) if head.size > old.size else (old, head)
            nodes = reader.consistency_proof(older.size, newer.size)
            self._find(
                "forked_log",
                f"the tree of {newer.size} entries does not begin with that of {older.size}",
                checkpoints=notes,
                proof=tuple([node.hex() for node in nodes]),
            )
        elif old is not None and head.size < old.size:
            raise UnavailableError(
                "the log shows an older checkpoint than at the last audit",
                rule="log.checkpoint",
                found=head.size,
                wanted=old.size,
            )
        else:
            detail = self._broken or "the entries served do not fold to the signed root"
            self._find("bad_root", detail, checkpoints=notes[-1:])
        self._report = self._summary(self._tally)

    def _is_forked(self, reader: TileReader, old: Checkpoint, head: Checkpoint) -> bool:
        """Tells whether tiles under one signed root contradict the other signed root."""
        newer, older = (head, old) if head.size > old.size else (old, head)
        try:
            if reader.root(newer.size) != newer.root:
                return False
            return reader.prefix_root(older.size, newer.size) != older.root
        except (MalformedError, UnavailableError):
            return False

    def _stop(self, note: bytes, detail: str) -> None:
        """Reports a checkpoint with a bad signature of a known key."""
        text = note.decode("utf-8")
        head = _head(text)
        self._find("bad_signature", detail, checkpoints=(text,))
        self._report = self._tally.report(
            origin=head.origin,
            checkpoint=text,
            size=head.size,
            last_us=self._rules.now_us,
            quorum_time=None,
            still_open=len(self._rules.open_sessions),
        )

    def _summary(self, tally: Tally) -> AuditReport:
        assert self._signed is not None
        try:
            quorum_time = self._policy.check(self._signed).quorum_time
        except IncompleteError:
            quorum_time = None
        return tally.report(
            origin=self._head().origin,
            checkpoint=self._text(),
            size=self._head().size,
            last_us=self._rules.now_us,
            quorum_time=quorum_time,
            still_open=len(self._rules.open_sessions),
        )

    def _text(self) -> str:
        assert self._signed is not None
        return self._signed.note.encode().decode("utf-8")

    def _find(
        self,
        kind: str,
        detail: str,
        *,
        index: int | None = None,
        checkpoints: tuple[str, ...] = (),
        proof: tuple[str, ...] = (),
        given: GivenAttestation | None = None,
    ) -> None:
        self._tally.find(
            _plain(kind, detail, index=index, checkpoints=checkpoints, proof=proof, given=given)
        )


def _head(note: str) -> Checkpoint:
    return Checkpoint.parse(Note.parse(note.encode("utf-8")).text)


def _plain(
    kind: str,
    detail: str,
    *,
    index: int | None = None,
    checkpoints: tuple[str, ...] = (),
    proof: tuple[str, ...] = (),
    given: GivenAttestation | None = None,
) -> Finding:
    return Finding(
        kind=kind,
        detail=detail[:1_000],
        index=index,
        entries=(),
        checkpoints=checkpoints,
        proof=proof,
        header=None if given is None else given.header,
        signature=None if given is None else given.signature,
    )
