"""Signed notes: published values, the order of checks, every refusal by name."""

from __future__ import annotations

import dataclasses

import pytest
from hypothesis import given
from hypothesis import strategies as st

from attestation.errors import InvalidProofError, MalformedError, UntrustedError, UsageError
from attestation.keys import SigningKey, VerifyingKey
from attestation.log.lines import base64_encode
from attestation.log.note import MAX_SIGNATURES, Note, NoteSignature, sign_line, sign_note
from tests.log.keys import (
    ENOCH,
    ENOCH_LINE,
    LOG,
    OTHER_LOG,
    PETER,
    PETER_LINE,
    PETER_SEED,
    QUOTE,
    SPEC_NOTE,
    SPEC_VKEY,
    signing_key,
)

TEXT = b"one\n\ntwo\n"


def test_example_of_the_specification_verifies() -> None:
    note = Note.parse(SPEC_NOTE)
    ((key, line),) = note.verify([VerifyingKey.parse(SPEC_VKEY)])
    assert note.text == b"This is an example message.\n"
    assert (key.name, line.key_id.hex()) == ("example.com/foo", "530d903a")
    assert note.encode() == SPEC_NOTE


def test_examples_of_go_verify_and_are_signed_alike() -> None:
    whole = (QUOTE + "\n" + PETER_LINE + ENOCH_LINE).encode()
    note = Note.parse(whole)
    keys = [VerifyingKey.parse(PETER), VerifyingKey.parse(ENOCH)]
    assert [key for key, _ in note.verify(keys)] == keys
    assert [key for key, _ in note.verify(keys[1:])] == keys[1:]
    signed = sign_note(QUOTE.encode(), SigningKey.parse(PETER_SEED))
    assert signed.encode() == (QUOTE + "\n" + PETER_LINE).encode()


def test_text_ends_at_the_last_empty_line() -> None:
    note = Note.parse(sign_note(TEXT, LOG).encode())
    assert note.text == TEXT
    note.verify([LOG.verifying_key])
    longer = Note.parse(sign_note(b"text\n\n\n", LOG).encode())
    assert longer.text == b"text\n\n\n"
    longer.verify([LOG.verifying_key])


def test_unknown_keys_are_ignored_also_with_a_known_name_or_id() -> None:
    note = sign_note(TEXT, LOG)
    (line,) = note.signatures
    strangers = (
        dataclasses.replace(line, name="log.example/twin"),
        dataclasses.replace(line, key_id=bytes(4)),
        NoteSignature(name="\u200bodd", key_id=b"\0\1\2\3", signature=b"x"),
    )
    mixed = Note.parse(note.add(*strangers).encode())
    assert [found for _, found in mixed.verify([LOG.verifying_key])] == [line]
    with pytest.raises(UntrustedError):
        Note(text=TEXT, signatures=strangers).verify([LOG.verifying_key])


def test_one_bad_signature_of_a_known_key_fails_the_note() -> None:
    note = sign_note(TEXT, LOG, OTHER_LOG)
    good, other = note.signatures
    bad = dataclasses.replace(other, signature=bytes(64))
    keys = [LOG.verifying_key, OTHER_LOG.verifying_key]
    for lines in ((good, bad), (bad, good), (good, other, bad)):
        with pytest.raises(InvalidProofError, match="note"):
            Note(text=TEXT, signatures=lines).verify(keys)
    # Whoever does not know the other key is not disturbed.
    assert Note(text=TEXT, signatures=(good, bad)).verify(keys[:1])


def test_signature_of_another_text_fails() -> None:
    note = Note(text=b"two\n", signatures=(sign_line(b"one\n", LOG),))
    with pytest.raises(InvalidProofError):
        note.verify([LOG.verifying_key])


def test_sixteen_signatures_are_accepted_and_their_number_is_bounded() -> None:
    keys = [signing_key(f"key{number}", number + 1) for number in range(MAX_SIGNATURES)]
    whole = sign_note(TEXT, *keys)
    assert MAX_SIGNATURES >= 16
    assert len(Note.parse(whole.encode()).verify([key.verifying_key for key in keys])) == len(keys)
    with pytest.raises(MalformedError, match="more than"):
        Note.parse(whole.add(sign_line(TEXT, LOG)).encode())


def test_two_known_keys_of_one_name_and_id_are_the_callers_mistake() -> None:
    key = LOG.verifying_key
    twin = VerifyingKey.parse(key.vkey)
    with pytest.raises(UsageError):
        sign_note(TEXT, LOG).verify([key, twin])


NAME_END = "2026 "
LINE = sign_note(TEXT, LOG).signatures[0].encode().decode()


@pytest.mark.parametrize(
    "data",
    [
        b"",
        b"\n",
        b"\n\n",
        TEXT,
        TEXT + b"\n",
        TEXT + LINE.encode(),
        TEXT + b"\n" + LINE.encode()[:-1],
        TEXT + b"\n" + LINE.encode() + b"\n",
        TEXT + b"\n" + LINE.replace("—", "-").encode(),
        TEXT + b"\n" + LINE.replace("— ", "—").encode(),
        TEXT + b"\n" + LINE.replace("— ", "—  ").encode(),
        TEXT + b"\n" + LINE.replace(NAME_END, "2026  ").encode(),
        TEXT + b"\n" + LINE.replace(NAME_END, "2026 x ").encode(),
        TEXT + b"\n" + LINE.replace(NAME_END, "20+26 ").encode(),
        TEXT + b"\n" + LINE.replace(NAME_END, "2026\u2003 ").encode(),
        TEXT + b"\n" + LINE.replace("=\n", "\n").encode(),
        TEXT + b"\n" + LINE.replace("=\n", "=\t\n").encode(),
        TEXT + b"\n" + LINE.encode() + b"not a signature\n",
        TEXT + b"\n" + "— name AAAAAA==\n".encode(),
        TEXT + b"\n" + "— name AAAAAAA\n".encode(),
        TEXT + b"\n" + "— name AAAAAAB=\n".encode(),
        b"a\rb\n\n" + LINE.encode(),
        b"a\x00b\n\n" + LINE.encode(),
        b"a\xffb\n\n" + LINE.encode(),
        b"x" * 300_000 + b"\n\n" + LINE.encode(),
    ],
)
def test_anything_but_a_note_is_malformed(data: bytes) -> None:
    with pytest.raises(MalformedError):
        Note.parse(data)


@pytest.mark.parametrize("text", [b"", b"no newline", b"tab\t\n", b"\xff\n"])
def test_text_that_no_note_can_have_is_not_signed(text: bytes) -> None:
    with pytest.raises(UsageError):
        sign_note(text, LOG)


def test_logs_sign_with_ed25519_alone() -> None:
    key = SigningKey(name="k", algorithm="ecdsa-secp256k1", seed=bytes([1]) * 32)
    with pytest.raises(UsageError, match="Ed25519"):
        sign_note(TEXT, key)


LINES = st.builds(
    NoteSignature,
    name=st.text(
        st.characters(exclude_characters="+", exclude_categories=["Cc", "Cs", "Z"]), min_size=1
    ),
    key_id=st.binary(min_size=4, max_size=4),
    signature=st.binary(min_size=1, max_size=80),
)


@given(
    st.text(st.characters(exclude_categories=["Cc", "Cs"])),
    st.lists(LINES, min_size=1, max_size=16),
)
def test_what_is_written_is_read_back(text: str, lines: list[NoteSignature]) -> None:
    note = Note(text=text.encode() + b"\n", signatures=tuple(lines))
    assert Note.parse(note.encode()) == note


@given(st.binary(max_size=60), st.integers(0, 200), st.integers(0, 255))
def test_any_bytes_are_a_note_or_malformed(junk: bytes, at: int, value: int) -> None:
    mutated = bytearray(SPEC_NOTE)
    mutated[at % len(mutated)] = value
    for data in (junk, junk + b"\n\n" + base64_encode(junk).encode() + b"\n", bytes(mutated)):
        try:
            note = Note.parse(data)
        except MalformedError:
            continue
        assert note.encode() == data
