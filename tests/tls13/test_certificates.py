"""W4: whose chain counts, for which name, when (attack row 21), and the chain cache."""

from __future__ import annotations

import base64
import gc
import ipaddress
import math
import time
from collections.abc import Callable
from datetime import timedelta

import certifi
import pytest
from cryptography import x509
from cryptography.hazmat.primitives import hashes
from cryptography.hazmat.primitives.asymmetric import ec, ed448, rsa
from cryptography.hazmat.primitives.asymmetric.ed25519 import Ed25519PublicKey
from cryptography.hazmat.primitives.serialization import Encoding, PublicFormat
from cryptography.x509.oid import ExtendedKeyUsageOID

from attestation.errors import (
    InvalidProofError,
    MalformedError,
    QuotaryError,
    UntrustedError,
    UsageError,
)
from attestation.tls13.certificates import (
    ChainCache,
    RootStore,
    VerifiedChain,
    verify_certificate_verify,
    verify_chain,
)
from tests.tls13.capture import exchange
from tests.tls13.certs import (
    HOST,
    NOW,
    NOW_US,
    Identity,
    intermediate,
    issue,
    make_key,
    root,
    roots_pem,
    server,
)
from tests.tls13.tlsclient import Client
from tests.tls13.tlsserver import Server
from tests.tls13.verifying import honest, refused, roots, verify

DAY_US = 86_400_000_000
NAMES = (x509.DNSName(HOST),)


def check(identity: Identity, **changes: object) -> VerifiedChain:
    arguments = {"host": HOST, "roots": roots(), "now_us": NOW_US} | changes
    return verify_chain(identity.chain_der, **arguments)  # type: ignore[arg-type]


@pytest.mark.filterwarnings("ignore::cryptography.utils.CryptographyDeprecationWarning")
@pytest.mark.parametrize("index", [0, 1], ids=["leaf", "intermediate"])
@pytest.mark.parametrize("bit", [0, 3, 6])
def test_one_bit_flipped_in_what_is_signed_is_refused(index: int, bit: int) -> None:
    chain = list(server().chain_der)
    genuine = chain[index]
    # Of the signature, the count of its unused bits may change where those are zero.
    signed = 4 + len(x509.load_der_x509_certificate(genuine).tbs_certificate_bytes)
    for position in range(signed):
        changed = bytearray(genuine)
        changed[position] ^= 1 << bit
        chain[index] = bytes(changed)
        with refused("W4"):
            verify_chain(chain, host=HOST, roots=roots(), now_us=NOW_US)


def test_chain_to_a_root_is_verified() -> None:
    chain = check(server())
    assert chain.not_after_us == NOW_US + 80 * DAY_US
    assert chain.valid_from_us == NOW_US - 10 * DAY_US


def test_wildcard_of_one_label_is_accepted() -> None:
    check(issue("wild", issuer=intermediate(), hosts=(x509.DNSName("*.venue.example"),)))


def _leaf_as_issuer() -> Identity:
    return issue("below", issuer=server(), hosts=NAMES)


def _under(other: Identity) -> Identity:
    return issue("server", issuer=other, hosts=NAMES)


def _names(*names: x509.GeneralName) -> Identity:
    return issue("server", issuer=intermediate(), hosts=names or None)


WEAK = {
    "a leaf as issuer": _leaf_as_issuer,
    "an expired leaf": lambda: issue(
        "server", issuer=intermediate(), hosts=NAMES, not_after=NOW - timedelta(seconds=1)
    ),
    "a leaf of the future": lambda: issue(
        "server", issuer=intermediate(), hosts=NAMES, not_before=NOW + timedelta(seconds=1)
    ),
    "an expired intermediate": lambda: _under(
        issue("old", issuer=root(), is_ca=True, not_after=NOW - timedelta(seconds=1))
    ),
    "the wrong extended key usage": lambda: issue(
        "server", issuer=intermediate(), hosts=NAMES, usage=ExtendedKeyUsageOID.CLIENT_AUTH
    ),
    "a common name only": lambda: issue(HOST, issuer=intermediate()),
    "another name": lambda: _names(x509.DNSName("other.example")),
    "a wildcard over two labels": lambda: _names(x509.DNSName("*.example")),
    "a bare wildcard": lambda: _names(x509.DNSName("*")),
    "a wildcard inside a label": lambda: _names(x509.DNSName("a*.venue.example")),
    "an IP address": lambda: _names(x509.IPAddress(ipaddress.ip_address("192.0.2.1"))),
    "an unknown root": lambda: _under(issue("Other Root", issuer=None, is_ca=True)),
    "itself as issuer": lambda: issue("server", issuer=None, hosts=NAMES),
    "a missing intermediate": lambda: Identity(
        server().certificate, server().key, (server().certificate,)
    ),
    "another root of the same name": lambda: _under(issue("Test Root", issuer=None, is_ca=True)),
}


@pytest.mark.parametrize("weakness", WEAK)
def test_chain_is_refused_for(weakness: str) -> None:
    with refused("W4", kind=UntrustedError):
        check(WEAK[weakness]())


def _resigned(identity: Identity, old: bytes, new: bytes) -> Identity:
    """Changes bytes of a certificate and signs it again with its issuer's key."""
    body = identity.certificate.tbs_certificate_bytes
    assert body.count(old) == 1
    body = body.replace(old, new)
    signature = intermediate().key.sign(body, ec.ECDSA(hashes.SHA256()))
    algorithm = bytes.fromhex("300a06082a8648ce3d040302")  # ecdsa-with-SHA256
    content = body + algorithm + b"\x03" + bytes((len(signature) + 1,)) + b"\0" + signature
    der = b"\x30\x82" + len(content).to_bytes(2, "big") + content
    certificate = x509.load_der_x509_certificate(der)
    return Identity(certificate, identity.key, (certificate, *identity.chain[1:]))


def _point_off_the_curve() -> Identity:
    key = server().key.public_key()
    point = key.public_bytes(Encoding.X962, PublicFormat.UncompressedPoint)
    return _resigned(server(), point, point[:-1] + bytes((point[-1] ^ 1,)))


def _rsa_pss_key() -> Identity:
    # rsaEncryption with NULL; RSASSA-PSS with an empty sequence of parameters.
    encryption, pss = "06092a864886f70d0101010500", "06092a864886f70d01010a3000"
    return _resigned(server("rsa"), bytes.fromhex(encryption), bytes.fromhex(pss))


WEAK_KEYS = {
    "RSA of 1024 bits": lambda: rsa.generate_private_key(65537, 1024),
    "Ed448": ed448.Ed448PrivateKey.generate,
    "secp256k1": lambda: ec.generate_private_key(ec.SECP256K1()),
    "secp521r1": lambda: make_key("ecdsa-p521"),
}


@pytest.mark.parametrize("kind", WEAK_KEYS)
def test_leaf_key_is_refused(kind: str) -> None:
    leaf = issue("server", issuer=intermediate(), key=WEAK_KEYS[kind](), hosts=NAMES)
    with refused("W4", "unsupported or weak key", UntrustedError):
        check(leaf)


@pytest.mark.parametrize("kind", [_point_off_the_curve, _rsa_pss_key])
def test_leaf_key_that_cannot_be_used_is_refused(kind: Callable[[], Identity]) -> None:
    with refused("W4", "unsupported or weak key", UntrustedError):
        check(kind())


def test_intermediate_with_a_weak_key_is_refused() -> None:
    weak = issue("weak", issuer=root(), key=rsa.generate_private_key(65537, 1024), is_ca=True)
    with refused("W4", "too weak", UntrustedError):
        check(_under(weak))


def test_weak_chain_ends_a_session() -> None:
    with refused("W4", kind=UntrustedError):
        verify(exchange(Client(HOST), Server(_leaf_as_issuer())))


@pytest.mark.parametrize("days", [-11, 81])
def test_session_outside_the_chains_validity_is_refused(days: int) -> None:
    with refused("W4", kind=UntrustedError):
        verify(honest(), now_us=NOW_US + days * DAY_US)


@pytest.mark.parametrize("der", [b"\0", b"\x30\x03\x02\x01\x00", server().chain_der[0] + b"\0"])
def test_certificate_that_does_not_parse_is_malformed(der: bytes) -> None:
    with refused("W4", kind=MalformedError):
        verify_chain([der], host=HOST, roots=roots(), now_us=NOW_US)


@pytest.mark.parametrize("version", [1, 3, 255])
def test_certificate_of_an_unknown_version_is_malformed(version: int) -> None:
    leaf, *above = server().chain_der
    other = leaf.replace(bytes.fromhex("a003020102"), b"\xa0\x03\x02\x01" + bytes([version]), 1)
    assert other != leaf
    with pytest.raises(MalformedError) as caught:
        verify_chain((other, *above), host=HOST, roots=roots(), now_us=NOW_US)
    assert caught.value.rule == "W4"
    with pytest.raises(UsageError, match="no certificate that loads"):
        RootStore([other])


def test_damaged_certificate_never_leaves_another_error() -> None:
    der = bytearray(server().chain_der[0])
    for position in range(0, len(der), 3):
        der[position] ^= 0xFF
        with pytest.raises(QuotaryError):
            verify_chain(
                [bytes(der), *server().chain_der[1:]], host=HOST, roots=roots(), now_us=NOW_US
            )
        der[position] ^= 0xFF


def test_key_made_to_be_slow_is_refused_before_it_is_used() -> None:
    pair = make_key("rsa").private_numbers()
    order = (pair.p - 1) * (pair.q - 1)
    # A small private exponent: its inverse is as long as the modulus.
    private = next(d for d in range(2**64 + 1, 2**65, 2) if math.gcd(d, order) == 1)
    public = rsa.RSAPublicNumbers(pow(private, -1, order), pair.public_numbers.n)
    slow = rsa.RSAPrivateNumbers(
        p=pair.p,
        q=pair.q,
        d=private,
        dmp1=private % (pair.p - 1),
        dmq1=private % (pair.q - 1),
        iqmp=pair.iqmp,
        public_numbers=public,
    ).private_key(unsafe_skip_rsa_key_validation=True)
    issuer = issue("Slow", issuer=None, key=slow, is_ca=True)
    above = [issue("Slow", issuer=issuer, key=slow, is_ca=True).chain_der[0] for _ in range(15)]
    leaf = issue("leaf", issuer=issuer, hosts=NAMES)
    gc.collect()  # not while it is timed: the garbage is other tests'
    started = time.thread_time()
    with refused("W4", "too slow", UntrustedError):
        verify_chain([leaf.chain_der[0], *above], host=HOST, roots=roots(), now_us=NOW_US)
    assert time.thread_time() - started < 0.1  # 0.76 s without the check


@pytest.mark.parametrize("now_us", [-(10**18), 0, 10**18])
def test_time_far_away_is_refused(now_us: int) -> None:
    with refused("W4"):
        check(server(), now_us=now_us)


# Ed25519: the points of small order, under which lax verifiers accept forgeries.

IDENTITY = b"\x01" + bytes(31)
SMALL_ORDER = [
    IDENTITY,
    b"\xec" + b"\xff" * 30 + b"\x7f",
    bytes(32),
    bytes(31) + b"\x80",
    bytes.fromhex("26e8958fc2b227b045c3f489f2ef98f0d5dfac05d3c63339b13802886d53fc05"),
    bytes.fromhex("c7176a703d4dd84fba3c0b760d10670f2a2053fa2c39ccc64ec7fd7792ac037a"),
]
ORDER = 2**252 + 27742317777372353535851937790883648493


@pytest.mark.parametrize("point", SMALL_ORDER)
def test_forgery_under_a_small_order_ed25519_key_is_refused(point: bytes) -> None:
    key = Ed25519PublicKey.from_public_bytes(point)
    for number in range(16):
        with refused("W5", "does not verify", InvalidProofError):
            verify_certificate_verify(key, 0x0807, IDENTITY + bytes(32), bytes((number,)) * 32)


def test_ed25519_signature_with_s_beyond_the_order_is_refused() -> None:
    key = make_key("ed25519")
    content = b" " * 64 + b"TLS 1.3, server CertificateVerify\0" + bytes(32)
    signature = key.sign(content)
    verify_certificate_verify(key.public_key(), 0x0807, signature, bytes(32))
    malleated = int.from_bytes(signature[32:], "little") + ORDER
    forged = signature[:32] + malleated.to_bytes(32, "little")
    with refused("W5", "does not verify", InvalidProofError):
        verify_certificate_verify(key.public_key(), 0x0807, forged, bytes(32))


# Root stores.


def test_root_store_hash_does_not_depend_on_order_or_text() -> None:
    other = issue("Other Root", issuer=None, is_ca=True).chain_pem
    one = RootStore.from_pem(roots_pem() + other)
    two = RootStore.from_pem(b"# a comment\n" + other + b"\n\n" + roots_pem() + roots_pem())
    assert one.hash == two.hash != roots().hash
    assert one.count == two.count == 2


def test_root_that_does_not_load_is_skipped_and_still_named_by_the_hash() -> None:
    junk = b"-----BEGIN CERTIFICATE-----\n%s\n-----END CERTIFICATE-----\n" % base64.b64encode(
        b"junk"
    )
    store = RootStore.from_pem(junk + roots_pem())
    assert store.count == 1
    assert store.hash != roots().hash
    check(server(), roots=store)


def test_certifi_loads_but_for_roots_rfc_5280_forbids() -> None:
    with open(certifi.where(), "rb") as file:
        pem = file.read()
    store = RootStore.from_pem(pem)
    assert pem.count(b"BEGIN CERTIFICATE") - store.count <= 6  # those with serial number 0
    assert store.hash.startswith("sha256:")
    assert store.hash == RootStore.from_pem(pem).hash


@pytest.mark.parametrize(
    "pem", [b"", b"junk", b"-----BEGIN CERTIFICATE-----\nA\n-----END CERTIFICATE-----"]
)
def test_root_store_without_a_root_is_a_usage_error(pem: bytes) -> None:
    with pytest.raises(UsageError):
        RootStore.from_pem(pem)


# The cache.


def test_cached_chain_is_not_verified_twice_within_its_validity() -> None:
    cache = ChainCache()
    first = check(server(), cache=cache)
    assert check(server(), cache=cache, now_us=NOW_US + DAY_US) is first
    assert len(cache) == 1


@pytest.mark.parametrize("days", [-11, 81])
def test_cached_chain_is_refused_outside_its_validity(days: int) -> None:
    cache = ChainCache()
    check(server(), cache=cache)
    with refused("W4", kind=UntrustedError):
        check(server(), cache=cache, now_us=NOW_US + days * DAY_US)


def test_cached_chain_counts_for_its_host_and_roots_only() -> None:
    cache = ChainCache()
    check(server(), cache=cache)
    with refused("W4", kind=UntrustedError):
        check(server(), cache=cache, host="other.example")
    other = RootStore.from_pem(issue("Other Root", issuer=None, is_ca=True).chain_pem)
    with refused("W4", kind=UntrustedError):
        check(server(), cache=cache, roots=other)


def test_refused_chain_is_not_cached() -> None:
    cache = ChainCache()
    with refused("W4"):
        check(_leaf_as_issuer(), cache=cache)
    assert len(cache) == 0


def test_cache_is_bounded_and_drops_the_least_used() -> None:
    cache = ChainCache(size=2)
    hosts = tuple(f"{letter}.example" for letter in "abc")
    names = tuple(x509.DNSName(host) for host in hosts)
    identity = issue("many", issuer=intermediate(), key=make_key(), hosts=names)
    first = check(identity, host=hosts[0], cache=cache)
    second = check(identity, host=hosts[1], cache=cache)
    assert check(identity, host=hosts[0], cache=cache) is first
    check(identity, host=hosts[2], cache=cache)
    assert len(cache) == 2
    assert check(identity, host=hosts[0], cache=cache) is first
    assert check(identity, host=hosts[1], cache=cache) is not second
