"""Attack row 5: one record of the client that opens under two keys, built for real.

AES-GCM does not commit to its key.  A tag is a polynomial in H = E(K, 0) over
the ciphertext's blocks, so with two keys known, one free block makes both tags
equal: it is the solution of a linear equation over GF(2^128).
"""

from __future__ import annotations

import hashlib

from cryptography.hazmat.primitives.asymmetric.x25519 import X25519PrivateKey, X25519PublicKey
from cryptography.hazmat.primitives.ciphers import Cipher, algorithms, modes

from attestation.errors import InvalidProofError
from attestation.tls13.schedule import SUITE_BY_CODE, KeySchedule
from tests.tls13.capture import Pipe
from tests.tls13.certs import HOST, server
from tests.tls13.tlsclient import Client
from tests.tls13.tlspeer import Keys
from tests.tls13.tlsserver import Server
from tests.tls13.verifying import refused, texts, verify

REQUEST = b"GET /true HTTP/1.1\r\nHost: api.venue.example\r\nX-Filler: "
FALSE_KEY = bytes(range(32, 64))


def multiply(x: int, y: int) -> int:
    """Multiplies in GF(2^128) as NIST SP 800-38D section 6.3 defines it."""
    product = 0
    for bit in range(127, -1, -1):
        if x >> bit & 1:
            product ^= y
        y = y >> 1 ^ (0xE1 << 120 if y & 1 else 0)
    return product


def power(x: int, exponent: int) -> int:
    result = 1 << 127
    while exponent:
        if exponent & 1:
            result = multiply(result, x)
        x = multiply(x, x)
        exponent >>= 1
    return result


class Gcm:
    """The parts of AES-GCM under one key and the nonce of its first record."""

    def __init__(self, keys: Keys) -> None:
        self._ecb = Cipher(algorithms.AES(keys.key), modes.ECB())
        self.h = int.from_bytes(self._block(bytes(16)), "big")
        self.iv = keys.iv

    def _block(self, block: bytes) -> bytes:
        return self._ecb.encryptor().update(block)

    def mask(self) -> int:
        return int.from_bytes(self._block(self.iv + (1).to_bytes(4, "big")), "big")

    def stream(self, blocks: int) -> bytes:
        counters = (self.iv + number.to_bytes(4, "big") for number in range(2, blocks + 2))
        return b"".join(map(self._block, counters))

    def tag(self, blocks: list[int]) -> int:
        state = 0
        for block in blocks:
            state = multiply(state ^ block, self.h)
        return state ^ self.mask()


def xor(one: bytes, two: bytes) -> bytes:
    return bytes(a ^ b for a, b in zip(one, two, strict=False))


def to_blocks(data: bytes) -> list[int]:
    parts = (data[start : start + 16] for start in range(0, len(data), 16))
    return [int.from_bytes(part.ljust(16, b"\0"), "big") for part in parts]


def two_key_record(true: Keys, false: Keys, text: bytes) -> bytes:
    """Builds a record that opens under both keys, under ``true`` to text that begins so."""
    one, two = Gcm(true), Gcm(false)
    streams = one.stream(256), two.stream(256)
    free = -(-len(text) // 16)
    # The content type is the last octet: it has to be 23 under both keys, so the
    # record ends where the two key streams agree.
    end = next(
        position
        for position in range((free + 1) * 16, 4096)
        if streams[0][position] == streams[1][position]
    )
    inner = text.ljust(end, b".") + b"\x17"
    ciphertext = xor(inner, streams[0])
    header = b"\x17\x03\x03" + (len(ciphertext) + 16).to_bytes(2, "big")
    lengths = (8 * len(header)) << 64 | 8 * len(ciphertext)
    blocks = [*to_blocks(header), *to_blocks(ciphertext), lengths]
    place = 1 + free
    blocks[place] = 0
    exponent = len(blocks) - place
    factor = power(one.h, exponent) ^ power(two.h, exponent)
    difference = one.tag(blocks) ^ two.tag(blocks)
    blocks[place] = multiply(difference, power(factor, 2**128 - 2))
    tag = one.tag(blocks)
    assert tag == two.tag(blocks)
    solved = blocks[place].to_bytes(16, "big")
    ciphertext = ciphertext[: free * 16] + solved + ciphertext[free * 16 + 16 :]
    return header + ciphertext + tag.to_bytes(16, "big")


def false_keys(client: Client, side: Server) -> Keys:
    """The client's application keys if its private key were ``FALSE_KEY``."""
    messages, rest = [], bytes(client.transcript)
    while rest:
        size = 4 + int.from_bytes(rest[1:4], "big")
        messages.append(rest[:size])
        rest = rest[size:]
    share = X25519PublicKey.from_public_bytes(side.share.public_bytes)
    shared = X25519PrivateKey.from_private_bytes(FALSE_KEY).exchange(share)
    hellos = hashlib.sha256(b"".join(messages[:2])).digest()
    through_finished = hashlib.sha256(b"".join(messages[:-1])).digest()
    schedule = KeySchedule(SUITE_BY_CODE[0x1301], shared, hellos)
    return Keys(0x1301, schedule.application(through_finished)[0])


def test_two_key_record_has_one_reading_under_an_ephemeral_opening() -> None:
    client, side = Client(HOST), Server(server(), suite=0x1301)
    pipe = Pipe(client, side)
    pipe.pump()
    false = false_keys(client, side)
    raw = two_key_record(Keys(0x1301, client.client_application), false, REQUEST)

    # It is what it claims to be: both keys open it, to different application data.
    true_text = Keys(0x1301, client.client_application).open(raw)
    false_text = Keys(0x1301, false.secret).open(raw)
    assert true_text[0] == false_text[0] == 23
    assert true_text[1].startswith(REQUEST)
    assert not false_text[1].startswith(b"GET")

    pipe.sent += raw
    session = pipe.capture()
    assert texts(verify(session))[0] == true_text[1]
    with refused("opening.private_key", "not the one", InvalidProofError):
        verify(session, private_key=FALSE_KEY)
