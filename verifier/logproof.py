"""That an attestation is logged, as its presentation shows it (docs/formats.md, "Log proof").

The log's key and the witnesses' are the trust file's.  A proof under a log that the
trust file does not name shows nothing, and is not counted as checked; any other
proof that is wrong refuses the presentation, demanded or not.  No I/O, no clock.
"""

from __future__ import annotations

import contextlib
import dataclasses
from collections.abc import Mapping, Sequence

from attestation.document import Header, SessionField, SlotField
from attestation.encoding import MAX_INTEGER
from attestation.errors import (
    IncompleteError,
    InvalidProofError,
    StaleError,
    UntrustedError,
    UsageError,
)
from attestation.expect import LogExpectation
from attestation.http_date import SECOND_US
from attestation.keys import VerifyingKey
from attestation.log.checkpoint import SignedCheckpoint, open_note
from attestation.log.cosignature import WitnessKey
from attestation.log.inclusion import Inclusion
from attestation.log.note import Note
from attestation.presentation import Presentation
from attestation.trust import Trust, TrustedKey
from verifier.authenticate import AuthenticSession, AuthenticSlot

AHEAD_US = 2_000_000
"""How far a notary's clock may run ahead of the witnesses'."""


@dataclasses.dataclass(frozen=True, slots=True, kw_only=True)
class VerifiedLog:
    """Where a trusted log has an attestation, and since when it cannot be taken out unseen.

    ``logged_us`` is the notary's word.  ``quorum_us`` is when as many witnesses as
    were demanded had cosigned, on their clocks, in whole seconds; absent where none
    were demanded.  ``witnesses`` are those that counted by then, sorted.
    """

    origin: str
    operator: str
    index: int
    size: int
    logged_us: int
    quorum_us: int | None
    witnesses: tuple[str, ...]

    @property
    def seen_by_us(self) -> int | None:
        """By when the quorum had seen it at the latest: a cosignature tells its second."""
        return None if self.quorum_us is None else self.quorum_us + SECOND_US


def check_log(
    inclusion: Inclusion | None,
    *,
    header: Header,
    of: SessionField | SlotField | None,
    notary: TrustedKey,
    trust: Trust,
    expect: LogExpectation | None,
) -> VerifiedLog | None:
    """Verifies the log proof of an attestation that ``notary`` signed.

    Returns None where there is none, or it is of a log that the trust file does not
    name, and ``expect`` demands none.  ``of`` is the attestation's first field, None
    while the fields are not authenticated yet.  In this order, else the error in brackets:

    - there is a proof, if one is demanded (IncompleteError)
    - the entry is this attestation's, logged no earlier than it was issued, and its
      path leads to the proof's checkpoint (InvalidProofError)
    - the trust file names the log (UntrustedError, if a proof is demanded)
    - log and known witnesses have signed the checkpoint (InvalidProofError,
      UntrustedError), and the log is run by the notary's operator (UntrustedError)
    - the witnesses that are demanded have cosigned (IncompleteError), not so long
      before the entry was logged that one of the clocks must be wrong
      (InvalidProofError), and in time (StaleError)
    - the log's key was valid (UntrustedError)
    """
    if inclusion is None:
        if expect is not None:
            raise IncompleteError("no log proof is presented", rule="expect.log")
        return None
    folded = inclusion.fold()
    entry = folded.check_header(header)
    if isinstance(of, SessionField):
        folded.check_session(of.id)
    elif of is not None:
        folded.check_slot(of.feed, of.slot_us)
    origin = folded.checkpoint.origin
    logs = trust.logs_of(origin)
    if not logs:
        if expect is not None:
            raise UntrustedError("the log is not in the trust file", rule="log.key", found=origin)
        return None
    known = [key for key, entry in trust.witnesses.items() if entry.revoked_at_us is None]
    if expect is not None and trust.log_policy is not None:
        ours = {witness.key for witness in trust.log_policy.witnesses.values()}
        known += sorted(ours - set(trust.witnesses), key=lambda key: key.vkey)
    signed = _open(folded.note, logs, known)
    log = logs[signed.log]
    if log.operator != notary.operator:
        raise UntrustedError(
            "another operator's log: who watches the notary would not look there",
            rule="log.operator",
            found=log.operator,
            wanted=notary.operator,
        )
    quorum = None
    if expect is not None:
        quorum = _quorum(signed, notary, trust, expect)
        _check_times(quorum.complete_us, entry.logged_us, expect)
    complete_us = None if quorum is None else quorum.complete_us
    _check_validity(log, entry.logged_us, complete_us)
    return VerifiedLog(
        origin=origin,
        operator=log.operator,
        index=folded.index,
        size=folded.checkpoint.size,
        logged_us=entry.logged_us,
        quorum_us=complete_us,
        witnesses=() if quorum is None else quorum.names,
    )


def authenticate_log(
    presentation: Presentation,
    authentic: AuthenticSession | AuthenticSlot,
    *,
    trust: Trust,
    expect: LogExpectation | None,
) -> VerifiedLog | None:
    """Verifies the log proof of an authentic presentation, as ``check_log``."""
    return check_log(
        presentation.log,
        header=authentic.header,
        of=authentic.session if isinstance(authentic, AuthenticSession) else authentic.slot,
        notary=authentic.notary,
        trust=trust,
        expect=expect,
    )


def witnessed_us(
    presentation: Presentation, *, trust: Trust, expect: LogExpectation | None
) -> int | None:
    """Asks the log about a key that was revoked, and about no other.

    Returns by when witnesses had seen the attestation; raises as ``check_log``.
    """
    header, log = presentation.header, presentation.log
    notary = trust.get(header.key)
    if notary is None or notary.revoked_at_us is None or expect is None or log is None:
        return None
    seen = check_log(log, header=header, of=None, notary=notary, trust=trust, expect=expect)
    return None if seen is None else seen.seen_by_us


def log_checks(
    inclusion: Inclusion | None, log: VerifiedLog | None
) -> tuple[tuple[str, ...], tuple[str, ...]]:
    """Names what ``check_log`` found checked, and what it left, for a verdict."""
    if log is not None:
        done = ("log",) if log.quorum_us is None else ("log", "witnesses")
        return done, ("witnesses",) if log.quorum_us is None else ()
    return (), ("log",) if inclusion is None else ("log", "log_key")


def _open(
    note: Note, logs: Mapping[VerifyingKey, TrustedKey], witnesses: Sequence[WitnessKey]
) -> SignedCheckpoint:
    """Opens a checkpoint, by a key that is not revoked if one such has signed it."""
    current = [key for key, entry in logs.items() if entry.revoked_at_us is None]
    if 0 < len(current) < len(logs):
        with contextlib.suppress(UntrustedError):
            return open_note(note, logs=current, witnesses=witnesses)
    return open_note(note, logs=logs, witnesses=witnesses)


@dataclasses.dataclass(frozen=True, slots=True)
class _Quorum:
    complete_us: int
    names: tuple[str, ...]


def _quorum(
    signed: SignedCheckpoint, notary: TrustedKey, trust: Trust, expect: LogExpectation
) -> _Quorum:
    """Counts witnesses by operator, or by name, at their earliest time."""
    earliest: dict[str, tuple[int, str]] = {}
    for key, seconds in signed.times.items():
        witness, time_us = trust.witnesses.get(key), seconds * SECOND_US
        if witness is None or not witness.valid_from_us <= time_us < witness.valid_until_us:
            continue
        voice = witness.name
        if not expect.insecure_shared_operators:
            voice = witness.operator
            if voice == notary.operator:
                continue
        earliest[voice] = min((time_us, witness.name), earliest.get(voice, (time_us, witness.name)))
    counted = sorted(earliest.values())[: expect.quorum]
    if len(counted) < expect.quorum:
        raise IncompleteError(
            "too few witnesses of operators of their own have cosigned the checkpoint",
            rule="expect.log.quorum",
            found=[name for _, name in counted],
            wanted=expect.quorum,
        )
    complete_us = max(counted)[0]
    if trust.log_policy_file is not None:
        complete_us = max(complete_us, _policy_us(signed, trust))
    return _Quorum(complete_us, tuple(sorted(name for _, name in counted)))


def _policy_us(signed: SignedCheckpoint, trust: Trust) -> int:
    """When the trust file's own log policy was satisfied as well."""
    policy = trust.log_policy
    if policy is None:
        raise UsageError(
            "the trust file names a log policy, which was not read",
            rule="log_policy.file",
            found=trust.log_policy_file,
        )
    if signed.log not in [log.key for log in policy.logs]:
        raise UntrustedError(
            "the trust file's log policy does not name the log",
            rule="log_policy.log",
            found=signed.log.name,
        )
    quorum_time = policy.check(signed).quorum_time
    return 0 if quorum_time is None else quorum_time * SECOND_US


def _check_times(quorum_us: int, logged_us: int, expect: LogExpectation) -> None:
    if quorum_us > MAX_INTEGER:
        raise InvalidProofError("cosigned at no time", rule="log.quorum", found=quorum_us)
    if quorum_us + SECOND_US + AHEAD_US <= logged_us:
        raise InvalidProofError(
            "cosigned before it was logged: the notary's clock was ahead",
            rule="log.entry.logged_us",
            found=logged_us,
            wanted=quorum_us,
        )
    delay_us = quorum_us - logged_us
    if expect.max_delay_us is not None and delay_us > expect.max_delay_us:
        raise StaleError(
            "the witnesses cosigned too long after it was logged",
            rule="expect.log.max_delay_us",
            found=delay_us,
            wanted=expect.max_delay_us,
        )


def _check_validity(log: TrustedKey, logged_us: int, quorum_us: int | None) -> None:
    """The log's key was valid when witnesses saw its signature, or at the entry's own time.

    A later key of the log may prove earlier entries.
    """
    at_us = logged_us if quorum_us is None else quorum_us
    if quorum_us is not None and at_us < log.valid_from_us:
        raise UntrustedError(
            "the log's key was not valid yet", rule="log.key", found=at_us, wanted=log.valid_from_us
        )
    if at_us >= log.valid_until_us:
        raise UntrustedError(
            "the log's key had expired", rule="log.key", found=at_us, wanted=log.valid_until_us
        )
    if log.revoked_at_us is not None and (
        quorum_us is None or quorum_us + SECOND_US > log.revoked_at_us
    ):
        raise UntrustedError(
            "the log's key is revoked, and no demanded quorum of witnesses saw the entry before",
            rule="log.key",
            found=quorum_us,
            wanted=log.revoked_at_us,
        )
