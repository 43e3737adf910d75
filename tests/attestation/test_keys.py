"""Keys: published vectors, every weak key and second signature refused."""

from __future__ import annotations

import base64
import contextlib
import dataclasses
import hashlib
import subprocess
import sys

import pytest
from cryptography.hazmat.primitives.asymmetric.ed25519 import Ed25519PublicKey
from hypothesis import given, settings
from hypothesis import strategies as st

from attestation.document import Header
from attestation.errors import InvalidProofError, MalformedError, QuotaryError, UntrustedError
from attestation.hashing import hash_string
from attestation.keys import ALGORITHMS, SigningKey, VerifyingKey, check_name

PROPERTY = settings(derandomize=True, deadline=None, max_examples=150)

C2SP_VKEY = "example.com/foo+530d903a+AekyeRrm56hApGFkyQR4ZCbV54Id2LKaANYcrnKv3U2k"
# The key pair and signature of the Go signed-note package's documentation.
NOTE_VKEY = "PeterNeumann+c74f20a3+ARpc2QcUPDhMQegwxbzhKqiBfsVkmqq/LDE4izWy10TW"
NOTE_SKEY = "PRIVATE+KEY+PeterNeumann+c74f20a3+AYEKFALVFGyNhPJEMzD1QIDr+Y7hfZx09iUvxdXHKDFz"
NOTE_TEXT = (
    b"If you think cryptography is the answer to your problem,\n"
    b"then you don't know what your problem is.\n"
)
NOTE_SIGNATURE = (
    "x08go/ZJkuBS9UG/SffcvIAQxVBtiFupLLr8pAcElZInNIuGUgYN1FFYC2pZSNXgKvqfqdngotpRZb6KE6RyyBwJnAM="
)

# RFC 8032 7.1: seed, public key, message, signature.
RFC8032 = [
    (
        "9d61b19deffd5a60ba844af492ec2cc44449c5697b326919703bac031cae7f60",
        "d75a980182b10ab7d54bfed3c964073a0ee172f3daa62325af021a68f707511a",
        "",
        (
            "e5564300c360ac729086e2cc806e828a84877f1eb8e5d974d873e06522490155"
            "5fb8821590a33bacc61e39701cf9b46bd25bf5f0595bbe24655141438e7a100b"
        ),
    ),
    (
        "4ccd089b28ff96da9db6c346ec114e0f5b8a319f35aba624da8cf6ed4fb8a6fb",
        "3d4017c3e843895a92b70aa74d1b7ebc9c982ccf2ec4968cc0cd55f12af4660c",
        "72",
        (
            "92a009a9f0d4cab8720e820b5f642540a2b27b5416503f8fb3762223ebdb69da"
            "085ac1e43e15996e458f3613d0f11d8c387b2eaeb4302aeeb00d291612bb0c00"
        ),
    ),
    (
        "c5aa8df43f9f837bedb7442f31dcb7b166d38535076f094b85ce3a2e0b4458f7",
        "fc51cd8e6218a1a38da47ed00230f0580816ed13ba3303ac5deb911548908025",
        "af82",
        (
            "6291d657deec24024827e69c3abe01a30ce548a284743a445e3680d7db5ac3ac"
            "18ff9b538d16f290ae67f760984dc6594a7c15e9716ed28dc027beceea1ec40a"
        ),
    ),
    (
        "833fe62409237b9d62ec77587520911e9a759cec1d19755b7da901b96dca3d42",
        "ec172b93ad5e563bf4932c70e1245034c35467ef2efd4d64ebf819683467e2bf",
        hashlib.sha512(b"abc").hexdigest(),
        (
            "dc2a4459e7369633a52b1bf277839a00201009a3efbf3ecb69bea2186c26b589"
            "09351fc9ac90b3ecfdfbc7c66431e0303dca179c138ac17ad9bef1177331a704"
        ),
    ),
]
ED25519_PRIME = 2**255 - 19
ED25519_ORDER = 2**252 + 27742317777372353535851937790883648493
SIGN_BIT = 1 << 255
ORDER_EIGHT = [
    int.from_bytes(bytes.fromhex(text), "little")
    for text in (
        "26e8958fc2b227b045c3f489f2ef98f0d5dfac05d3c63339b13802886d53fc05",
        "c7176a703d4dd84fba3c0b760d10670f2a2053fa2c39ccc64ec7fd7792ac037a",
    )
]
BASE_POINT = bytes.fromhex("58" + "66" * 31)

SECP256K1_ORDER = 0xFFFFFFFFFFFFFFFFFFFFFFFFFFFFFFFEBAAEDCE6AF48A03BBFD25E8CD0364141
# Deterministic signatures used across Bitcoin libraries: scalar, message, r || s.
RFC6979 = [
    (
        1,
        b"Satoshi Nakamoto",
        (
            "934b1ea10a4b3c1757e2b0c017d0b6143ce3c9a7e6a4a49860d7a6ab210ee3d8"
            "2442ce9d2b916064108014783e923ec36b49743e2ffa1c4496f01a512aafd9e5"
        ),
    ),
    (
        1,
        b"All those moments will be lost in time, like tears in rain. Time to die...",
        (
            "8600dbd41e348fe5c9465ab92d23e3db8b98b873beecd930736488696438cb6b"
            "547fe64427496db33bf66019dacbf0039c04199abb0122918601db38a72cfc21"
        ),
    ),
    (
        SECP256K1_ORDER - 1,
        b"Satoshi Nakamoto",
        (
            "fd567d121db66e382991534ada77a6bd3106f0a1098c231e47993447cd6af2d0"
            "6b39cd0eb1bc8603e159ef5c20a5c8ad685a45b06ce9bebed3f153d10d93bed5"
        ),
    ),
]


def signing_key(algorithm: str = "ed25519", seed: bytes = bytes(range(32))) -> SigningKey:
    return SigningKey(name="notary.example", algorithm=algorithm, seed=seed)


def refused(key: VerifyingKey, signature: bytes, message: bytes) -> bool:
    try:
        key.verify(signature, message)
    except InvalidProofError:
        return True
    return False


# vkeys


def test_c2sp_example_key_parses_and_its_id_recomputes() -> None:
    key = VerifyingKey.parse(C2SP_VKEY)
    assert (key.name, key.algorithm, key.key_id.hex()) == ("example.com/foo", "ed25519", "530d903a")
    assert key.short == "example.com/foo+530d903a"
    assert key.vkey == C2SP_VKEY
    hashed = b"example.com/foo\n\x01" + key.public
    assert key.key_id == hashlib.sha256(hashed).digest()[:4]


def test_signed_note_key_pair_signs_its_published_note() -> None:
    key = SigningKey.parse(NOTE_SKEY)
    published = base64.b64decode(NOTE_SIGNATURE)
    assert key.verifying_key.vkey == NOTE_VKEY
    assert key.verifying_key.key_id + key.sign(NOTE_TEXT) == published
    VerifyingKey.parse(NOTE_VKEY).verify(published[4:], NOTE_TEXT)


@pytest.mark.parametrize("algorithm", ALGORITHMS)
def test_keys_round_trip_as_text(algorithm: str) -> None:
    key = signing_key(algorithm)
    assert SigningKey.parse(key.encode()) == key
    assert VerifyingKey.parse(key.verifying_key.vkey) == key.verifying_key


def test_secp256k1_vkey_has_type_ff_with_its_name() -> None:
    key = signing_key("ecdsa-secp256k1").verifying_key
    tagged = base64.b64decode(key.vkey.split("+", 2)[2])
    assert tagged == b"\xffecdsa-secp256k1" + key.public
    assert len(key.public) == 33
    hashed = key.name.encode() + b"\n" + tagged
    assert key.key_id == hashlib.sha256(hashed).digest()[:4]


@pytest.mark.parametrize(
    "vkey",
    [
        "",
        "+",
        "name",
        "name+530d903a",
        C2SP_VKEY.replace("530d903a", "530d903b"),
        C2SP_VKEY.replace("530d903a", "530D903A"),
        C2SP_VKEY.replace("530d903a", "0530d903a"),
        C2SP_VKEY.replace("530d903a", ""),
        C2SP_VKEY.replace("foo", "bar"),
        C2SP_VKEY.replace("foo", "f oo"),
        C2SP_VKEY + "\n",
        " " + C2SP_VKEY,
        C2SP_VKEY + "=",
        C2SP_VKEY + "A",
        C2SP_VKEY + "AAAA",
        C2SP_VKEY[:-1],
        C2SP_VKEY[:-4],
        C2SP_VKEY[:-1] + "é",
        C2SP_VKEY.split("+", 2)[0] + "+530d903a+AQ==",
    ],
)
def test_misspelt_vkey_is_malformed(vkey: str) -> None:
    with pytest.raises(MalformedError):
        VerifyingKey.parse(vkey)


def test_base64_with_stray_bits_is_not_a_vkey() -> None:
    # Two trailing padding characters leave four bits that decoders ignore.
    vkey = signing_key("ecdsa-secp256k1").verifying_key.vkey
    assert vkey.endswith("==")
    alphabet = "ABCDEFGHIJKLMNOPQRSTUVWXYZabcdefghijklmnopqrstuvwxyz0123456789+/"
    stray = vkey[:-3] + alphabet[alphabet.index(vkey[-3]) + 1] + "=="
    assert base64.b64decode(stray.split("+", 2)[2]) == base64.b64decode(vkey.split("+", 2)[2])
    with pytest.raises(MalformedError):
        VerifyingKey.parse(stray)


@pytest.mark.parametrize("tag", [b"", b"\x00", b"\x02", b"\x04", b"\xff", b"\xffecdsa-p256"])
def test_vkey_of_unknown_type_is_untrusted(tag: bytes) -> None:
    body = base64.b64encode(tag + bytes(32)).decode()
    with pytest.raises(UntrustedError):
        VerifyingKey.parse(f"name+00000000+{body}")


@pytest.mark.parametrize(
    "name",
    [
        "",
        "a+b",
        "a b",
        " a",
        "a\n",
        "a\tb",
        "a\x00b",
        "a\x7fb",
        "a\x85b",
        "a\u00a0b",
        "a\u3000b",
        "a\u2028b",
        "a\u202eb",
        "a\u200bb",
        "a\ufeffb",
        "a\ud800b",
        "a" * 256,
        "é" * 128,
    ],
)
def test_key_name_with_plus_space_or_control_is_malformed(name: str) -> None:
    with pytest.raises(MalformedError):
        VerifyingKey(name=name, algorithm="ed25519", public=bytes.fromhex(RFC8032[0][1]))
    with pytest.raises(MalformedError):
        SigningKey(name=name, algorithm="ed25519", seed=bytes(32))


@pytest.mark.parametrize("name", ["n" * 255, "é" * 127])
def test_header_can_name_every_key(name: str) -> None:
    key = SigningKey(name=name, algorithm="ed25519", seed=bytes(32)).verifying_key
    header = Header(id="00" * 16, key=key.short, root=hash_string(b""), size=1, issued_us=1)
    assert Header.decode(header.encode()) == header


@pytest.mark.parametrize("name", ["a", "notary.example", "example.com/log-2025", "нотариус", "é"])
def test_key_name_without_space_is_accepted(name: str) -> None:
    key = VerifyingKey(name=name, algorithm="ed25519", public=bytes.fromhex(RFC8032[0][1]))
    assert VerifyingKey.parse(key.vkey) == key


@PROPERTY
@given(st.text())
def test_any_text_is_a_vkey_or_a_named_error(text: str) -> None:
    for parse in (VerifyingKey.parse, SigningKey.parse, check_name):
        with contextlib.suppress(MalformedError, UntrustedError):
            parse(text)


@PROPERTY
@given(st.integers(0, len(C2SP_VKEY) - 1), st.characters())
def test_any_changed_character_of_a_vkey_is_refused(place: int, character: str) -> None:
    changed = C2SP_VKEY[:place] + character + C2SP_VKEY[place + 1 :]
    if changed != C2SP_VKEY:
        with pytest.raises(QuotaryError):
            VerifyingKey.parse(changed)


def test_any_truncated_vkey_or_private_key_is_refused() -> None:
    for length in range(len(C2SP_VKEY)):
        with pytest.raises(QuotaryError):
            VerifyingKey.parse(C2SP_VKEY[:length])
    for length in range(len(NOTE_SKEY)):
        with pytest.raises(QuotaryError):
            SigningKey.parse(NOTE_SKEY[:length])


def test_equal_keys_of_two_names_have_two_ids() -> None:
    public = bytes.fromhex(RFC8032[0][1])
    ids = {VerifyingKey(name=n, algorithm="ed25519", public=public).key_id for n in ("a", "b")}
    assert len(ids) == 2


# Private keys


@pytest.mark.parametrize("algorithm", ALGORITHMS)
def test_seed_is_in_no_representation(algorithm: str) -> None:
    key = signing_key(algorithm, b"secret-secret-secret-secret-sec!")
    shown = repr(key) + str(key) + f"{key}" + repr(key.verifying_key)
    assert "secret" not in shown
    assert base64.b64encode(key.seed).decode() not in shown
    assert key.seed.hex() not in shown


def test_errors_of_private_keys_do_not_show_them() -> None:
    body = NOTE_SKEY.rsplit("+", 1)[1]
    for text in (NOTE_SKEY.replace("c74f20a3", "c74f20a4"), NOTE_SKEY + "A", NOTE_SKEY[:-1]):
        with pytest.raises(MalformedError) as caught:
            SigningKey.parse(text)
        error = caught.value
        assert body[:12] not in f"{error} {error.found} {error.wanted} {error!r}"


@pytest.mark.parametrize("size", [0, 31, 33, 64])
@pytest.mark.parametrize("algorithm", ALGORITHMS)
def test_seed_of_another_size_is_malformed(algorithm: str, size: int) -> None:
    with pytest.raises(MalformedError):
        signing_key(algorithm, b"\1" * size)


@pytest.mark.parametrize("scalar", [0, SECP256K1_ORDER, SECP256K1_ORDER + 1, 2**256 - 1])
def test_secp256k1_seed_outside_the_group_is_malformed(scalar: int) -> None:
    with pytest.raises(MalformedError):
        signing_key("ecdsa-secp256k1", scalar.to_bytes(32, "big"))


@pytest.mark.parametrize("algorithm", ["", "ED25519", "rsa", "ecdsa-p256"])
def test_unregistered_algorithm_is_untrusted(algorithm: str) -> None:
    with pytest.raises(UntrustedError):
        signing_key(algorithm)
    with pytest.raises(UntrustedError):
        VerifyingKey(name="n", algorithm=algorithm, public=bytes(32))


# Ed25519


@pytest.mark.parametrize(("seed", "public", "message", "signature"), RFC8032)
def test_rfc8032_vectors(seed: str, public: str, message: str, signature: str) -> None:
    key = signing_key("ed25519", bytes.fromhex(seed))
    assert key.verifying_key.public.hex() == public
    assert key.sign(bytes.fromhex(message)).hex() == signature
    key.verifying_key.verify(bytes.fromhex(signature), bytes.fromhex(message))


@pytest.mark.parametrize("sign", [0, SIGN_BIT], ids=["plus", "minus"])
@pytest.mark.parametrize(
    "y",
    [0, 1, ED25519_PRIME - 1, *ORDER_EIGHT, *range(ED25519_PRIME, 2**255)],
)
def test_small_order_or_non_canonical_ed25519_key_is_refused(y: int, sign: int) -> None:
    public = (y | sign).to_bytes(32, "little")
    with pytest.raises(MalformedError):
        VerifyingKey(name="n", algorithm="ed25519", public=public)
    body = base64.b64encode(b"\x01" + public).decode()
    with pytest.raises(MalformedError, match=r"small order|canonical"):
        VerifyingKey.parse(f"n+00000000+{body}")
    # Neither does the library verify anything under it, were it ever asked to:
    # R = B, S = 1 holds for every message where the key is the neutral element.
    forged = BASE_POINT + (1).to_bytes(32, "little")
    assert not ALGORITHMS["ed25519"].is_valid(public, forged, b"anything")


def test_another_library_accepts_what_a_small_order_key_forges() -> None:
    # The reason why Ed25519 is verified by libsodium alone.
    neutral = (1).to_bytes(32, "little")
    forged = BASE_POINT + (1).to_bytes(32, "little")
    Ed25519PublicKey.from_public_bytes(neutral).verify(forged, b"anything")


def test_ed25519_key_that_is_no_point_verifies_nothing() -> None:
    # y = 2 is on no point of the curve.
    key = VerifyingKey(name="n", algorithm="ed25519", public=(2).to_bytes(32, "little"))
    assert refused(key, signing_key().sign(b"m"), b"m")


@pytest.mark.parametrize("multiple", range(1, 15))
def test_ed25519_signature_with_s_not_below_the_order_is_refused(multiple: int) -> None:
    key = signing_key()
    signature = key.sign(b"message")
    s = int.from_bytes(signature[32:], "little") + multiple * ED25519_ORDER
    assert refused(key.verifying_key, signature[:32] + s.to_bytes(32, "little"), b"message")


@pytest.mark.parametrize("y", [0, 1, ED25519_PRIME - 1, *ORDER_EIGHT, ED25519_PRIME + 1])
def test_ed25519_signature_with_small_order_r_is_refused(y: int) -> None:
    key = signing_key()
    forged = y.to_bytes(32, "little") + bytes(32)
    assert refused(key.verifying_key, forged, b"message")


# secp256k1


@pytest.mark.parametrize(("scalar", "message", "signature"), RFC6979)
def test_rfc6979_vectors(scalar: int, message: bytes, signature: str) -> None:
    key = signing_key("ecdsa-secp256k1", scalar.to_bytes(32, "big"))
    assert key.sign(message).hex() == signature
    key.verifying_key.verify(bytes.fromhex(signature), message)


def test_secp256k1_signatures_are_low_s_and_deterministic() -> None:
    key = signing_key("ecdsa-secp256k1")
    again = SigningKey.parse(key.encode())
    for number in range(40):
        message = b"message %d" % number
        signature = key.sign(message)
        assert signature == again.sign(message)
        assert int.from_bytes(signature[32:], "big") <= SECP256K1_ORDER // 2
        key.verifying_key.verify(signature, message)


def test_secp256k1_high_s_is_refused() -> None:
    key = signing_key("ecdsa-secp256k1")
    signature = key.sign(b"message")
    high = SECP256K1_ORDER - int.from_bytes(signature[32:], "big")
    assert refused(key.verifying_key, signature[:32] + high.to_bytes(32, "big"), b"message")


@pytest.mark.parametrize("member", ["r", "s"])
@pytest.mark.parametrize("value", [0, SECP256K1_ORDER, SECP256K1_ORDER + 1, 2**256 - 1])
def test_secp256k1_numbers_outside_the_group_are_refused(member: str, value: int) -> None:
    key = signing_key("ecdsa-secp256k1")
    signature, number = key.sign(b"message"), value.to_bytes(32, "big")
    changed = number + signature[32:] if member == "r" else signature[:32] + number
    assert refused(key.verifying_key, changed, b"message")


@pytest.mark.parametrize(
    "public",
    [
        b"\x02" + (5).to_bytes(32, "big"),  # no point has this x
        b"\x02" + (2**256 - 1).to_bytes(32, "big"),
        b"\x04" + bytes(32),
        b"\x00" + bytes(32),
        b"\x06" + signing_key("ecdsa-secp256k1").verifying_key.public[1:],
        b"",
        b"\x00",
        signing_key("ecdsa-secp256k1").verifying_key.public[1:],
        signing_key("ecdsa-secp256k1").verifying_key.public + b"\x00",
        b"\x04" + bytes(64),
    ],
)
def test_secp256k1_key_that_is_no_compressed_point_is_malformed(public: bytes) -> None:
    with pytest.raises(MalformedError):
        VerifyingKey(name="n", algorithm="ecdsa-secp256k1", public=public)


# Both


@PROPERTY
@given(st.sampled_from(sorted(ALGORITHMS)), st.integers(0, 511), st.binary(max_size=64))
def test_any_flipped_bit_of_a_signature_is_refused(
    algorithm: str, bit: int, message: bytes
) -> None:
    key = signing_key(algorithm)
    signature = bytearray(key.sign(message))
    key.verifying_key.verify(bytes(signature), message)
    signature[bit // 8] ^= 1 << bit % 8
    assert refused(key.verifying_key, bytes(signature), message)


@PROPERTY
@given(st.sampled_from(sorted(ALGORITHMS)), st.binary(max_size=130), st.binary(max_size=8))
def test_any_bytes_as_a_signature_are_refused(
    algorithm: str, signature: bytes, message: bytes
) -> None:
    assert refused(signing_key(algorithm).verifying_key, signature, message)


@pytest.mark.parametrize("algorithm", ALGORITHMS)
def test_signature_of_another_message_key_or_length_is_refused(algorithm: str) -> None:
    key, other = signing_key(algorithm), signing_key(algorithm, b"\7" * 32)
    signature = key.sign(b"message")
    assert refused(key.verifying_key, signature, b"messagf")
    assert refused(key.verifying_key, signature, b"message\x00")
    assert refused(other.verifying_key, signature, b"message")
    assert refused(key.verifying_key, signature + b"\x00", b"message")
    assert refused(key.verifying_key, signature[:-1], b"message")
    assert refused(key.verifying_key, b"", b"message")
    # Signature and message are not one string cut elsewhere.
    assert refused(key.verifying_key, signature + b"m", b"essage")


def test_signature_under_the_other_algorithm_is_refused() -> None:
    ed25519, ecdsa = signing_key("ed25519"), signing_key("ecdsa-secp256k1")
    assert refused(ed25519.verifying_key, ecdsa.sign(b"message"), b"message")
    assert refused(ecdsa.verifying_key, ed25519.sign(b"message"), b"message")


def test_key_bytes_cannot_be_read_as_the_other_algorithm() -> None:
    for algorithm, other in (("ed25519", "ecdsa-secp256k1"), ("ecdsa-secp256k1", "ed25519")):
        key = signing_key(algorithm).verifying_key
        with pytest.raises(MalformedError):
            VerifyingKey(name=key.name, algorithm=other, public=key.public)
        body = base64.b64encode(ALGORITHMS[other].tag + key.public).decode()
        with pytest.raises(MalformedError):
            VerifyingKey.parse(f"{key.short}+{body}")


def test_keys_are_frozen() -> None:
    key = signing_key()
    with pytest.raises(dataclasses.FrozenInstanceError):
        key.verifying_key.public = bytes(32)  # type: ignore[misc]
    with pytest.raises(dataclasses.FrozenInstanceError):
        key.seed = bytes(32)  # type: ignore[misc]


def test_importing_keys_loads_no_cryptographic_library() -> None:
    code = (
        "import sys, attestation.keys, attestation.trust\n"
        "loaded = {name.split('.')[0] for name in sys.modules}\n"
        "sys.exit(3 if loaded & {'nacl', 'cryptography', 'cffi'} else 0)"
    )
    assert subprocess.run([sys.executable, "-c", code], check=False).returncode == 0
