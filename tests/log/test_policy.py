"""Log policies: the format to the letter, and when a quorum is complete."""

from __future__ import annotations

import contextlib

import pytest
from hypothesis import given
from hypothesis import strategies as st

from attestation import merkle
from attestation.errors import (
    IncompleteError,
    MalformedError,
    QuotaryError,
    UntrustedError,
    UsageError,
)
from attestation.keys import SigningKey
from attestation.log.checkpoint import Checkpoint, sign_checkpoint
from attestation.log.cosignature import WitnessKey, cosign
from attestation.log.policy import MAX_DEFINITIONS, LogPolicy
from tests.log.keys import LOG, ORIGIN, OTHER_LOG, TIME, WITNESS_KEYS, WITNESSES, signing_key

VKEYS = [key.vkey for key in WITNESS_KEYS]
LOG_LINE = f"log {LOG.verifying_key.vkey}\n"
# The shape of c2sp.org/tlog-policy's example.
POLICY = (
    LOG_LINE
    + "".join(f"witness X{number + 1} {VKEYS[number]}\n" for number in range(3))
    + "group X-witnesses 2 X1 X2 X3\n\n"
    + "".join(f"witness Y{number + 1} {VKEYS[number + 3]}\n" for number in range(3))
    + "group Y-witnesses any Y1 Y2 Y3\n\n"
    + "group X-and-Y all X-witnesses Y-witnesses\nquorum X-and-Y\n"
)


def cosigned(*witnesses: int, key: SigningKey = LOG) -> bytes:
    """A checkpoint cosigned by these witnesses, each a second after the one before."""
    note = sign_checkpoint(Checkpoint(origin=key.name, size=1, root=merkle.leaf_hash(b"")), key)
    lines = [cosign(note.text, WITNESSES[number], TIME + at) for at, number in enumerate(witnesses)]
    return note.add(*lines).encode()


@pytest.mark.parametrize(
    ("witnesses", "at"),
    [
        ((0, 1, 3), 2),
        ((3, 1, 0), 2),
        ((3, 4, 5, 2, 1), 4),
        ((0, 1, 2, 3, 4, 5), 3),
        ((5, 2, 0, 1), 2),
        ((0, 1, 2), None),
        ((0, 3, 4, 5), None),
        ((), None),
    ],
)
def test_quorum_is_complete_when_its_last_needed_member_is(
    witnesses: tuple[int, ...], at: int | None
) -> None:
    policy = LogPolicy.parse(POLICY.encode())
    if at is None:
        with pytest.raises(IncompleteError, match="quorum"):
            policy.open(cosigned(*witnesses))
    else:
        assert policy.open(cosigned(*witnesses)).quorum_time == TIME + at


def test_single_witness_or_none_may_be_the_quorum() -> None:
    one = LogPolicy.parse(f"{LOG_LINE}witness w {VKEYS[0]} https://w.example/\nquorum w\n".encode())
    assert one.open(cosigned(0)).quorum_time == TIME
    assert one.witnesses["w"].url == "https://w.example/"
    with pytest.raises(IncompleteError):
        one.open(cosigned(1))
    nobody = LogPolicy.parse(f"{LOG_LINE}quorum none\n".encode())
    assert nobody.open(cosigned()).quorum_time is None


def test_other_logs_checkpoint_is_not_of_the_policy() -> None:
    policy = LogPolicy.parse(f"{LOG_LINE}quorum none\n".encode())
    with pytest.raises(QuotaryError, match="no known"):
        policy.open(cosigned(key=OTHER_LOG))


def test_blanks_tabs_and_comments_are_free() -> None:
    text = f"  # comment\n\t\n \tlog \t{LOG.verifying_key.vkey}  \t\n#\n  quorum\tnone \n"
    assert LogPolicy.parse(text.encode()).logs[0].key == LOG.verifying_key
    opaque = f"witness n\xe4me {VKEYS[0]}\ngroup g all n\xe4me\nquorum g\n".encode("latin-1")
    assert LogPolicy.parse(opaque).quorum == "g"


def test_threshold_counts_names() -> None:
    policy = LogPolicy.threshold([LOG.verifying_key], WITNESS_KEYS[:3], 2)
    assert policy.open(cosigned(2, 1, 0)).quorum_time == TIME + 1
    with pytest.raises(IncompleteError):
        policy.open(cosigned(2, 2, 5))
    assert LogPolicy.threshold([LOG.verifying_key], [], 0).open(cosigned()).quorum_time is None
    for keys, count in ((WITNESS_KEYS[:3], 4), ((WITNESS_KEYS[0],) * 2, 1), (WITNESS_KEYS, -1)):
        with pytest.raises(UsageError):
            LogPolicy.threshold([LOG.verifying_key], keys, count)


def test_thirty_two_definitions_of_a_kind_are_accepted_and_their_number_is_bounded() -> None:
    def text(count: int) -> bytes:
        names = [f"w{number}" for number in range(count)]
        keys = [signing_key(f"k{number}", number + 1) for number in range(count)]
        rows = [
            f"witness {name} {_witness_vkey(key)}\n" for name, key in zip(names, keys, strict=True)
        ]
        return (
            LOG_LINE + "".join(rows) + f"group all all {' '.join(names)}\nquorum all\n"
        ).encode()

    assert len(LogPolicy.parse(text(MAX_DEFINITIONS)).witnesses) == MAX_DEFINITIONS >= 32
    with pytest.raises(MalformedError, match="more than"):
        LogPolicy.parse(text(MAX_DEFINITIONS + 1))


def _witness_vkey(key: SigningKey) -> str:
    return WitnessKey.of(key.verifying_key).vkey


TWO = f"witness a {VKEYS[0]}\nwitness b {VKEYS[1]}\n"


@pytest.mark.parametrize(
    "text",
    [
        "",
        LOG_LINE,
        "quorum none",
        "quorum none\nquorum none\n",
        "quorum a\n" + TWO,
        "quorum missing\n",
        "quorum\n",
        "quorum none x\n",
        "QUORUM none\n",
        "log\nquorum none\n",
        "log x\nquorum none\n",
        f"log {VKEYS[0]}\nquorum none\n",
        LOG_LINE + LOG_LINE + "quorum none\n",
        LOG_LINE.strip() + " url url\nquorum none\n",
        f"witness none {VKEYS[0]}\nquorum none\n",
        f"witness a {LOG.verifying_key.vkey}\nquorum a\n",
        f"witness a {VKEYS[0]}\nwitness b {VKEYS[0]}\nquorum a\n",
        f"witness a {VKEYS[0]}\nwitness a {VKEYS[1]}\nquorum a\n",
        TWO + "group a all b\nquorum a\n",
        TWO + "group none all b\nquorum a\n",
        TWO + "group g all\nquorum g\n",
        TWO + "group g all a a\nquorum g\n",
        TWO + "group g all a\ngroup h all a\nquorum g\n",
        TWO + "group g all g\nquorum g\n",
        TWO + "group g all none\nquorum g\n",
        TWO + "group g all missing\nquorum g\n",
        TWO + "group g 0 a b\nquorum g\n",
        TWO + "group g 3 a b\nquorum g\n",
        TWO + "group g 02 a b\nquorum g\n",
        TWO + "group g +1 a b\nquorum g\n",
        TWO + "group g \N{ARABIC-INDIC DIGIT ONE} a b\nquorum g\n",
        TWO + "group g some a b\nquorum g\n",
        "quorum none\r\n",
        "quorum none\n\x00\n",
        "quorum none\n" + "#" * 70_000 + "\n",
    ],
)
def test_anything_but_a_policy_is_malformed(text: str) -> None:
    with pytest.raises((MalformedError, UntrustedError)):
        LogPolicy.parse(text.encode())


@given(st.integers(0, 2_000), st.binary(min_size=1, max_size=4))
def test_any_bytes_are_a_policy_or_one_of_our_errors(at: int, patch: bytes) -> None:
    data = POLICY.encode()
    at %= len(data)
    for text in (data[:at] + patch + data[at + len(patch) :], patch, data[:at]):
        with contextlib.suppress(MalformedError, UntrustedError):
            LogPolicy.parse(text)


def test_origin_of_a_log_is_its_keys_name() -> None:
    assert LogPolicy.parse(POLICY.encode()).logs[0].key.name == ORIGIN
