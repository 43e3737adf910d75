"""Hash algorithms by name: published values, and no other name."""

from __future__ import annotations

import contextlib

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from attestation.errors import MalformedError, UntrustedError
from attestation.hashing import HASHES, digest, format_hash, hash_string, hasher, parse_hash

PROPERTY = settings(derandomize=True, deadline=None, max_examples=200)

# FIPS 180-4 and FIPS 202 examples: the message "abc" and the empty message.
PUBLISHED = [
    ("sha256", b"abc", "ba7816bf8f01cfea414140de5dae2223b00361a396177a9cb410ff61f20015ad"),
    ("sha256", b"", "e3b0c44298fc1c149afbf4c8996fb92427ae41e4649b934ca495991b7852b855"),
    ("sha3-256", b"abc", "3a985da74fe225b2045c172d6bd390bd855f086e3e9d525b46bfe24511431532"),
    ("sha3-256", b"", "a7ffc6f8bf1ed76651c14756a061d662f580ff4de43b49fa82d80a4b80f8434a"),
]


@pytest.mark.parametrize(("algorithm", "message", "value"), PUBLISHED)
def test_published_digests_are_reproduced(algorithm: str, message: bytes, value: str) -> None:
    assert digest(message, algorithm).hex() == value
    assert hash_string(message, algorithm) == f"{algorithm}:{value}"


def test_sha256_is_the_default() -> None:
    assert hash_string(b"abc").startswith("sha256:")
    assert digest(b"abc") == digest(b"abc", "sha256")


@pytest.mark.parametrize("algorithm", ["", "md5", "sha1", "SHA256", "sha-256", "sha256 ", "sha512"])
def test_unregistered_algorithm_is_untrusted(algorithm: str) -> None:
    for use in (hasher, lambda name: digest(b"", name), lambda name: parse_hash(name + ":" + "00")):
        with pytest.raises(UntrustedError):
            use(algorithm)


def test_registry_cannot_be_extended_at_run_time() -> None:
    with pytest.raises(TypeError):
        HASHES["md5"] = hasher("sha256")  # type: ignore[index]


@PROPERTY
@given(st.sampled_from(sorted(HASHES)), st.binary(min_size=32, max_size=32))
def test_hash_strings_round_trip(algorithm: str, value: bytes) -> None:
    assert parse_hash(format_hash(value, algorithm)) == (algorithm, value)


@PROPERTY
@given(st.text(max_size=20) | st.from_regex(r"sha256:[0-9a-fA-F]{60,66}", fullmatch=True))
def test_any_text_is_a_hash_string_or_a_named_error(text: str) -> None:
    with contextlib.suppress(MalformedError, UntrustedError):
        algorithm, value = parse_hash(text)
        assert format_hash(value, algorithm) == text


@pytest.mark.parametrize(
    "text",
    [
        "",
        "sha256",
        "00" * 32,
        "sha256:",
        "sha256:" + "00" * 31,
        "sha256:" + "00" * 33,
        "sha256:" + "0" * 63,
        "sha256:" + "AA" * 32,
        "sha256:" + "00" * 32 + "\n",
        "sha256: " + "00" * 32,
        "sha256::" + "00" * 32,
    ],
)
def test_misspelt_hash_string_is_malformed(text: str) -> None:
    with pytest.raises(MalformedError):
        parse_hash(text)
