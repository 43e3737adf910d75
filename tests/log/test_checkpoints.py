"""Checkpoints and cosignatures: whose signature counts, and what it is over."""

from __future__ import annotations

import dataclasses

import pytest
from hypothesis import given
from hypothesis import strategies as st

from attestation import merkle
from attestation.errors import (
    InvalidProofError,
    MalformedError,
    QuotaryError,
    UntrustedError,
    UsageError,
)
from attestation.keys import VerifyingKey
from attestation.log.checkpoint import (
    Checkpoint,
    check_extends,
    open_checkpoint,
    sign_checkpoint,
)
from attestation.log.cosignature import WitnessKey, cosign, cosignature_time
from attestation.log.lines import base64_decode
from attestation.log.note import Note, NoteSignature, sign_note
from tests.log.keys import (
    LOG,
    ORIGIN,
    OTHER_LOG,
    SPEC_CHECKPOINT,
    SPEC_WITNESS_VKEY,
    TIME,
    WITNESS_KEYS,
    WITNESSES,
    leaves,
    signing_key,
)

HEAD = Checkpoint(origin=ORIGIN, size=5, root=merkle.root(leaves(5)))
KEYS = [LOG.verifying_key, OTHER_LOG.verifying_key]


def test_example_of_the_specification_is_read() -> None:
    note = Note.parse(SPEC_CHECKPOINT)
    head = Checkpoint.parse(note.text)
    assert (head.origin, head.size) == ("example.com/behind-the-sofa", 20_852_163)
    assert head.encode() == note.text
    log, witness = note.signatures
    assert len(log.signature) == 64
    assert cosignature_time(witness.signature) == 1_679_315_147
    assert note.encode() == SPEC_CHECKPOINT


def test_head_of_gos_checksum_database_is_written_alike() -> None:
    # The value of golang.org/x/mod/sumdb/tlog: the record hash of "hello world".
    root = merkle.leaf_hash(b"hello world")
    head = Checkpoint(origin="go.sum database tree", size=123_456_789_012, root=root)
    assert head.encode() == (
        b"go.sum database tree\n123456789012\nTszzRgjTG6xce+z2AG31kAXYKBgQVtCSCE40HmuwBb0=\n"
    )


def test_published_times_of_cosignatures_are_read() -> None:
    text = (
        "ZGhGuQAAAABm/qTPeyKXD+R2rzyQsxPiP8mXum7qq/iF0u4vanlqJyocWODBt97w9uL+8qT7S5gxEHWWOworDcFiEBYJ"
        "XORmnFBOBA=="
    )
    assert cosignature_time(base64_decode(text)[4:]) == 1_727_964_367
    with pytest.raises(InvalidProofError):
        cosignature_time(base64_decode(text)[4:-8])


def test_published_witness_key_is_read() -> None:
    key = WitnessKey.parse(SPEC_WITNESS_VKEY)
    assert (key.name, key.key_id.hex()) == ("remora.n621.de", "da77ade7")
    assert key.vkey == SPEC_WITNESS_VKEY


def test_log_and_witnesses_are_told_apart() -> None:
    note = sign_checkpoint(HEAD, LOG)
    cosigned = note.add(*(cosign(note.text, key, TIME + 1) for key in WITNESSES[:2]))
    opened = open_checkpoint(cosigned.encode(), logs=KEYS, witnesses=WITNESS_KEYS)
    assert opened.checkpoint == HEAD
    assert opened.log == LOG.verifying_key
    assert opened.times == {WITNESS_KEYS[0]: TIME + 1, WITNESS_KEYS[1]: TIME + 1}


def test_earliest_cosignature_of_a_witness_counts() -> None:
    note = sign_checkpoint(HEAD, LOG)
    lines = [cosign(note.text, WITNESSES[0], time) for time in (TIME + 9, TIME + 2, TIME + 5)]
    opened = open_checkpoint(note.add(*lines).encode(), logs=KEYS, witnesses=WITNESS_KEYS)
    assert opened.times == {WITNESS_KEYS[0]: TIME + 2}


def test_time_of_a_cosignature_is_signed() -> None:
    note = sign_checkpoint(HEAD, LOG)
    line = cosign(note.text, WITNESSES[0], TIME)
    moved = dataclasses.replace(line, signature=(TIME - 1).to_bytes(8, "big") + line.signature[8:])
    with pytest.raises(InvalidProofError):
        open_checkpoint(note.add(moved).encode(), logs=KEYS, witnesses=WITNESS_KEYS)


def test_logs_signature_is_no_cosignature_nor_the_reverse() -> None:
    note = sign_checkpoint(HEAD, LOG)
    (plain,) = note.signatures
    as_witness = WitnessKey.of(LOG.verifying_key)
    padded = NoteSignature(
        name=ORIGIN, key_id=as_witness.key_id, signature=bytes(8) + plain.signature
    )
    with pytest.raises(InvalidProofError):
        open_checkpoint(note.add(padded).encode(), logs=KEYS, witnesses=[as_witness])
    line = cosign(note.text, LOG, TIME)
    stripped = NoteSignature(name=ORIGIN, key_id=plain.key_id, signature=line.signature[8:])
    with pytest.raises(InvalidProofError):
        open_checkpoint(Note(text=note.text, signatures=(stripped,)).encode(), logs=KEYS)


def test_cosignatures_alone_make_no_checkpoint() -> None:
    text = HEAD.encode()
    note = Note(text=text, signatures=(cosign(text, WITNESSES[0], TIME),))
    with pytest.raises(UntrustedError):
        open_checkpoint(note.encode(), logs=KEYS, witnesses=WITNESS_KEYS)


def test_log_signs_under_its_own_origin_alone() -> None:
    with pytest.raises(UntrustedError):
        open_checkpoint(sign_note(HEAD.encode(), OTHER_LOG).encode(), logs=KEYS)
    with pytest.raises(UsageError, match="origin"):
        sign_checkpoint(HEAD, OTHER_LOG)


def test_key_with_the_origins_name_and_another_seed_is_unknown() -> None:
    twin = signing_key(ORIGIN, 99)
    with pytest.raises(UntrustedError):
        open_checkpoint(sign_checkpoint(HEAD, twin).encode(), logs=KEYS)


def test_extension_lines_are_signed_and_kept() -> None:
    head = dataclasses.replace(HEAD, extensions=("one", "two"))
    note = sign_checkpoint(head, LOG)
    assert open_checkpoint(note.encode(), logs=KEYS).checkpoint == head
    altered = note.encode().replace(b"two\n", b"too\n")
    with pytest.raises(InvalidProofError):
        open_checkpoint(altered, logs=KEYS)


ROOT = "CsUYapGGPo4dkMgIAUqom/Xajj7h2fB2MPA3j2jxq2I="


@pytest.mark.parametrize(
    "text",
    [
        "",
        "\n",
        "log\n5\n",
        f"log\n5\n{ROOT}",
        f"\n5\n{ROOT}\n",
        f"log\n\n{ROOT}\n",
        f"log\n5\n{ROOT}\n\n",
        f"log\n5\n{ROOT}\nextension\n\nmore\n",
        f"log\n05\n{ROOT}\n",
        f"log\n+5\n{ROOT}\n",
        f"log\n-5\n{ROOT}\n",
        f"log\n5 \n{ROOT}\n",
        f"log\n5_0\n{ROOT}\n",
        f"log\n\N{ARABIC-INDIC DIGIT FIVE}\n{ROOT}\n",
        f"log\n0x5\n{ROOT}\n",
        f"log\n{2**53}\n{ROOT}\n",
        f"log\n{10**40}\n{ROOT}\n",
        f"log\n5\n{ROOT[:-1]}\n",
        f"log\n5\n{ROOT[:-2]}J=\n",
        f"log\n5\n{ROOT} \n",
        "log\n5\nAAAA\n",
        f"log\n0\n{ROOT}\n",
    ],
)
def test_anything_but_a_checkpoint_is_malformed(text: str) -> None:
    with pytest.raises(MalformedError):
        Checkpoint.parse(text.encode())


def test_head_that_no_checkpoint_can_hold_is_not_signed() -> None:
    for changes in ({"size": -1}, {"size": 2**53}, {"root": b"x"}, {"extensions": ("",)}):
        with pytest.raises(UsageError):
            sign_checkpoint(dataclasses.replace(HEAD, **changes), LOG)
    with pytest.raises(UsageError):
        dataclasses.replace(HEAD, origin="two\nlines").encode()


def test_head_extends_the_older_one_of_the_same_log_alone() -> None:
    hashes = leaves(9)
    old = Checkpoint(origin=ORIGIN, size=5, root=merkle.root(hashes[:5]))
    new = Checkpoint(origin=ORIGIN, size=9, root=merkle.root(hashes))
    proof = merkle.consistency_proof(hashes, 5)
    check_extends(old, new, proof)
    forked = dataclasses.replace(new, root=merkle.root(leaves(9, "other")))
    for a, b in ((old, forked), (new, old), (dataclasses.replace(old, origin="x"), new)):
        with pytest.raises(InvalidProofError):
            check_extends(a, b, proof)
    empty = Checkpoint(origin=ORIGIN, size=0, root=merkle.root(()))
    check_extends(empty, new, [])
    check_extends(empty, empty, [])
    with pytest.raises(InvalidProofError):
        check_extends(empty, new, proof)


@pytest.mark.parametrize(
    "vkey",
    [
        "",
        "w",
        "w+00000000+",
        SPEC_WITNESS_VKEY.replace("da77", "da78"),
        SPEC_WITNESS_VKEY.replace("da77", "DA77"),
        SPEC_WITNESS_VKEY + "=",
        SPEC_WITNESS_VKEY[:-4],
        LOG.verifying_key.vkey,
        "w+00000000+é",
    ],
)
def test_vkey_of_no_witness_is_malformed(vkey: str) -> None:
    with pytest.raises(MalformedError):
        WitnessKey.parse(vkey)


def test_witness_key_has_another_id_than_the_same_key_of_a_log() -> None:
    key = LOG.verifying_key
    assert isinstance(key, VerifyingKey)
    assert WitnessKey.of(key).key_id != key.key_id
    with pytest.raises(UsageError):
        cosign(HEAD.encode(), WITNESSES[0], -1)
    with pytest.raises(InvalidProofError):
        cosignature_time((2**63).to_bytes(8, "big") + bytes(64))


@given(st.integers(0, 400), st.binary(min_size=1, max_size=3))
def test_altered_checkpoint_opens_as_what_was_signed_or_not_at_all(at: int, patch: bytes) -> None:
    note = sign_checkpoint(HEAD, LOG)
    data = note.add(cosign(note.text, WITNESSES[0], TIME)).encode()
    at %= len(data)
    altered = data[:at] + patch + data[at + len(patch) :]
    try:
        opened = open_checkpoint(altered, logs=KEYS, witnesses=WITNESS_KEYS)
    except QuotaryError:
        return
    assert opened.checkpoint == HEAD
    assert set(opened.times.values()) <= {TIME}
