"""That a presentation's attestation is in a log, and whose cosignatures show when.

What makes withholding visible is the log; this is its other half: a price that
counts must be one that was logged.  No I/O, clock or randomness.
"""

from __future__ import annotations

from attestation.document import Header
from attestation.errors import (
    IncompleteError,
    InvalidProofError,
    MalformedError,
    StaleError,
    UsageError,
    naming,
)
from attestation.expect import LogExpectation
from attestation.hashing import hash_string
from attestation.keys import VerifyingKey
from attestation.log.cosignature import WitnessKey
from attestation.log.entry import AttestedEntry, Entry, SlotEntry
from attestation.log.inclusion import Inclusion
from attestation.log.policy import LogPolicy
from attestation.trust import Trust, TrustedKey
from verifier.authenticate import AuthenticSession, AuthenticSlot

SECOND_US = 1_000_000


def check_logged(
    inclusion: Inclusion | None,
    authentic: AuthenticSession | AuthenticSlot,
    *,
    trust: Trust,
    expect: LogExpectation,
) -> None:
    """Checks the log proof of an authentic attestation against what is expected.

    Raises IncompleteError where there is none or too few witnesses have cosigned,
    UntrustedError for a log that is not the notary's operator's, InvalidProofError
    for one that does not hold or is of another attestation, StaleError for one that
    was witnessed too late.
    """
    entry, time = open_inclusion(
        inclusion, authentic.header, authentic.notary, trust=trust, expect=expect
    )
    if isinstance(authentic, AuthenticSession):
        same = isinstance(entry, AttestedEntry) and entry.session == authentic.session.id
    else:
        same = isinstance(entry, SlotEntry) and (entry.feed, entry.slot_us) == (
            authentic.slot.feed,
            authentic.slot.slot_us,
        )
    if not same:
        raise InvalidProofError("the entry is of another session or slot", rule="log.entry")
    if entry.logged_us < authentic.header.issued_us:
        raise InvalidProofError(
            "the attestation was issued after it was logged",
            rule="log.entry",
            found=authentic.header.issued_us,
            wanted=entry.logged_us,
        )
    if expect.max_delay_us is not None and time * SECOND_US - entry.logged_us > expect.max_delay_us:
        raise StaleError(
            "the witnesses saw the entry too late",
            rule="expect.log.max_delay_us",
            found=time * SECOND_US - entry.logged_us,
            wanted=expect.max_delay_us,
        )


def open_inclusion(
    inclusion: Inclusion | None,
    header: Header,
    notary: TrustedKey,
    *,
    trust: Trust,
    expect: LogExpectation,
) -> tuple[Entry, int]:
    """Returns the entry that names the header, and when the witnesses' quorum was complete (s).

    The log is one that the trust file gives the notary's operator; the witnesses
    are those of the trust file, counted by name.
    """
    if inclusion is None:
        raise IncompleteError("no log proof is presented", rule="expect.log")
    policy = _policy(notary, trust, expect, header.issued_us)
    try:
        with naming("log"):
            entry, witnessed = inclusion.open(policy)
    except IncompleteError as error:
        raise IncompleteError(
            error.detail, rule="expect.log.quorum", found=error.found, wanted=expect.quorum
        ) from None
    except UsageError as error:
        # The entry of a document made in memory, which no file could hold.
        raise MalformedError(error.detail, rule="log.entry") from error
    if not isinstance(entry, AttestedEntry | SlotEntry) or entry.header != hash_string(
        header.encode_decoded()
    ):
        raise InvalidProofError("the entry is of another attestation", rule="log.entry")
    if witnessed.quorum_time is None:
        raise IncompleteError("no witness is asked for", rule="expect.log.quorum")
    return entry, witnessed.quorum_time


def witnessed_before_us(
    inclusion: Inclusion,
    header: Header,
    notary: TrustedKey,
    *,
    trust: Trust,
    expect: LogExpectation,
) -> int:
    """Returns by when, at the latest, a quorum of witnesses had seen a header.

    This is what a revoked key's signature is still worth: whoever stole the key
    can sign at any time, but cannot have had it witnessed before.
    """
    _, time = open_inclusion(inclusion, header, notary, trust=trust, expect=expect)
    # Cosignatures tell whole seconds: it may have been at the end of one.
    return (time + 1) * SECOND_US


def _policy(notary: TrustedKey, trust: Trust, expect: LogExpectation, at_us: int) -> LogPolicy:
    valid = [
        entry
        for entry in trust.keys
        if entry.revoked_at_us is None and entry.valid_from_us <= at_us < entry.valid_until_us
    ]
    logs = [
        entry.key
        for entry in valid
        if entry.role == "log"
        and entry.operator == notary.operator
        and isinstance(entry.key, VerifyingKey)
    ]
    witnesses = [
        entry.key if isinstance(entry.key, WitnessKey) else WitnessKey.of(entry.key)
        for entry in valid
        if entry.role == "witness"
    ]
    if expect.quorum > len({witness.name for witness in witnesses}):
        raise IncompleteError(
            "the trust file has fewer witnesses than are expected",
            rule="expect.log.quorum",
            found=len(witnesses),
            wanted=expect.quorum,
        )
    return LogPolicy.threshold(logs, witnesses, expect.quorum)
