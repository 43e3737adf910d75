"""The witness protocol: each status the specification names, and when."""

from __future__ import annotations

import dataclasses

import pytest
from hypothesis import given
from hypothesis import strategies as st

from attestation import merkle
from attestation.errors import InvalidProofError, MalformedError, UntrustedError, UsageError
from attestation.log.checkpoint import Checkpoint, open_checkpoint, sign_checkpoint
from attestation.log.note import Note
from attestation.log.witness import (
    MAX_HASHES,
    SIZE_TYPE,
    AddCheckpoint,
    Decision,
    Head,
    decide,
    parse_conflict,
    read_cosignatures,
)
from tests.log.keys import LOG, ORIGIN, OTHER_LOG, TIME, WITNESS_KEYS, WITNESSES, leaves

LEAVES = leaves(20)
FORK = leaves(20, "fork")


def note(size: int, hashes: list[bytes] = LEAVES) -> Note:
    head = Checkpoint(origin=ORIGIN, size=size, root=merkle.root(hashes[:size]))
    return sign_checkpoint(head, LOG)


def request(old: int, size: int, hashes: list[bytes] = LEAVES) -> AddCheckpoint:
    proof = merkle.consistency_proof(hashes[:size], old) if old <= size else []
    return AddCheckpoint(old_size=old, proof=tuple(proof), note=note(size, hashes).encode())


def head(size: int) -> Head:
    return Head(size=size, root=merkle.root(LEAVES[:size]))


def ask(what: AddCheckpoint | bytes, latest: Head | None = None) -> Decision:
    body = what if isinstance(what, bytes) else what.encode()
    return decide(body, logs=[LOG.verifying_key], latest={ORIGIN: latest}.get)


def test_example_request_of_the_specification_is_read_back() -> None:
    body = (
        b"old 20852014\n"
        b"PlRNCrwHpqhGrupue0L7gxbjbMiKA9temvuZZDDpkaw=\n"
        b"jrJZDmY8Y7SyJE0MWLpLozkIVMSMZcD5kvuKxPC3swk=\n"
        b"5+pKlUdi2LeF/BcMHBn+Ku6yhPGNCswZZD1X/6QgPd8=\n"
        b"/6WVhPs2CwSsb5rYBH5cjHV/wSmA79abXAwhXw3Kj/0=\n"
        b"\n"
        b"example.com/behind-the-sofa\n"
        b"20852163\n"
        b"CsUYapGGPo4dkMgIAUqom/Xajj7h2fB2MPA3j2jxq2I=\n"
        b"\n"
        + "— example.com/behind-the-sofa "
        "Az3grlgtzPICa5OS8npVmf1Myq/5IZniMp+ZJurmRDeOoRDe4URYN7u5/Zhcyv2q1gGzGku9nTo+zyWE+xeMcTOAYQ8="
        "\n".encode()
    )
    read = AddCheckpoint.parse(body)
    assert (read.old_size, len(read.proof)) == (20_852_014, 4)
    assert read.encode() == body
    assert ask(body).status == 404


@pytest.mark.parametrize(("old", "size"), [(0, 0), (0, 1), (0, 7), (7, 7), (7, 8), (8, 20)])
def test_head_that_extends_the_last_one_is_cosigned(old: int, size: int) -> None:
    answer = ask(request(old, size), head(old) if old else None)
    assert (answer.status, answer.head) == (200, head(size))
    body = answer.respond(WITNESSES[0], TIME)
    signed = open_checkpoint(note(size).encode(), logs=[LOG.verifying_key])
    lines = read_cosignatures(body, signed, WITNESS_KEYS[0])
    opened = open_checkpoint(
        note(size).add(*lines).encode(), logs=[LOG.verifying_key], witnesses=WITNESS_KEYS
    )
    assert opened.times == {WITNESS_KEYS[0]: TIME}


def test_unknown_log_is_not_found() -> None:
    other = sign_checkpoint(Checkpoint(origin=OTHER_LOG.name, size=1, root=LEAVES[0]), OTHER_LOG)
    assert ask(AddCheckpoint(old_size=0, proof=(), note=other.encode())).status == 404


def test_checkpoint_that_its_log_did_not_sign_is_forbidden() -> None:
    unsigned = Note(text=note(3).text, signatures=note(4).signatures)
    assert ask(dataclasses.replace(request(0, 3), note=unsigned.encode())).status == 403
    foreign = dataclasses.replace(note(3).signatures[0], key_id=bytes(4))
    alone = Note(text=note(3).text, signatures=(foreign,))
    assert ask(dataclasses.replace(request(0, 3), note=alone.encode())).status == 403


def test_old_size_beyond_the_checkpoints_is_a_bad_request() -> None:
    assert ask(request(9, 8), head(9)).status == 400


@pytest.mark.parametrize("old", [0, 6, 8])
def test_other_old_size_than_the_latest_is_a_conflict_that_names_it(old: int) -> None:
    answer = ask(request(old, 12), head(7))
    assert (answer.status, answer.body, answer.content_type) == (409, b"7\n", SIZE_TYPE)
    assert parse_conflict(answer.body) == 7
    assert answer.head is None
    assert ask(request(3, 12)).body == b"0\n"


def test_same_size_with_another_root_is_a_conflict_and_kept_as_proof() -> None:
    answer = ask(request(7, 7, FORK), head(7))
    assert answer.status == 409
    assert answer.proof_of_fork == note(7, FORK).encode()
    assert answer.head is None


def test_fork_is_unprocessable_and_changes_nothing() -> None:
    answer = ask(request(7, 12, FORK), head(7))
    assert (answer.status, answer.head) == (422, None)
    with pytest.raises(UsageError):
        answer.respond(WITNESSES[0], TIME)


@pytest.mark.parametrize("proof", [(), (bytes(32),), (bytes(32),) * MAX_HASHES])
def test_proof_that_does_not_verify_is_unprocessable(proof: tuple[bytes, ...]) -> None:
    assert ask(dataclasses.replace(request(7, 12), proof=proof), head(7)).status == 422
    # From size 0 the proof is empty: the tree before has nothing to be consistent with.
    assert ask(dataclasses.replace(request(0, 12), proof=proof)).status == (422 if proof else 200)


GOOD = request(7, 12).encode()


@pytest.mark.parametrize(
    "body",
    [
        b"",
        b"\n\n",
        GOOD[1:],
        GOOD.replace(b"old 7", b"old 07"),
        GOOD.replace(b"old 7", b"old  7"),
        GOOD.replace(b"old 7", b"new 7"),
        GOOD.replace(b"old 7", b"old 7\nAAAA"),
        GOOD.replace(b"old 7\n", b"old 7\n\n"),
        GOOD.replace(b"\n\n", b"\n", 1),
        GOOD[:-1],
        GOOD.replace(b"old 7", b"old 7" + (b"\n" + b"A" * 43 + b"=") * 64),
        b"\xff" + GOOD,
        GOOD + b"x" * 400_000,
    ],
)
def test_anything_but_a_request_is_a_bad_request(body: bytes) -> None:
    assert ask(body, head(7)).status == 400


@given(st.integers(0, 500), st.integers(0, 255), st.binary(max_size=30))
def test_any_bytes_get_an_answer_and_only_the_logs_own_head_a_signature(
    at: int, value: int, junk: bytes
) -> None:
    mutated = bytearray(GOOD)
    mutated[at % len(mutated)] = value
    for body in (bytes(mutated), junk, GOOD + junk):
        answer = ask(body, head(7))
        assert answer.status in (200, 400, 403, 404, 409, 422)
        assert answer.head == (head(12) if answer.status == 200 else None)


def test_answer_of_a_lying_witness_is_refused() -> None:
    signed = open_checkpoint(note(5).encode(), logs=[LOG.verifying_key])
    good = ask(request(0, 5)).respond(WITNESSES[0], TIME)
    other_head = ask(request(0, 6)).respond(WITNESSES[0], TIME)
    for body, kind in (
        (b"", MalformedError),
        (b"garbage", MalformedError),
        (good[:-1], MalformedError),
        (other_head, InvalidProofError),
        (good + other_head, InvalidProofError),
        (ask(request(0, 5)).respond(WITNESSES[1], TIME), UntrustedError),
    ):
        with pytest.raises(kind):
            read_cosignatures(body, signed, WITNESS_KEYS[0])
    several = good + ask(request(0, 5)).respond(WITNESSES[1], TIME)
    assert len(read_cosignatures(several, signed, WITNESS_KEYS[0])) == 1
    for body in (b"", b"7", b"07\n", b"-7\n", b"7\n\n", b"7" * 40 + b"\n"):
        with pytest.raises(MalformedError):
            parse_conflict(body)


def test_request_that_no_tree_has_is_not_written() -> None:
    with pytest.raises(UsageError):
        AddCheckpoint(old_size=0, proof=(bytes(32),) * 64, note=b"").encode()
