"""The floor of a witnessed fetch: a relay that only does what no witness can do without.

python -m benchmarks.floor --to PORT --dir FOLDER --size BYTES: prints a READY line with the
relay's port, that of its control connection, and its public key.

Relayed bytes are kept and looked at for nothing but records' heads.  What a session costs
besides: one X25519 agreement and TLS 1.3's 19 HMACs, the AEAD of its records, one check of
an ECDSA signature, two durable writes (``opened``, behind the ClientHello; the attestation's
rows), one Ed25519 signature, two where sealed.  The keys are not the connection's, the work
is: the same operations over the same bytes.  Nothing is parsed, hashed into a tree, or
found again after a crash.  Each write is one of a file that has its blocks already, in the
loop's own thread; the answer is the signature and as many bytes as an attestation has.
"""

from __future__ import annotations

import argparse
import asyncio
import gc
import hashlib
import hmac
import json
import os
import struct
import sys
import time
from pathlib import Path
from typing import cast

import uvloop
from cryptography.hazmat.primitives.asymmetric import ec
from cryptography.hazmat.primitives.asymmetric.x25519 import X25519PrivateKey
from cryptography.hazmat.primitives.ciphers.aead import AESGCM
from cryptography.hazmat.primitives.hashes import SHA256
from nacl.signing import SigningKey

from benchmarks.bare import Client, Leg

ASK = struct.Struct("!BH32s")
"""What is asked, of the connection from which local port, and a private key."""
SEAL, OPEN, CPU = range(3)
CLAIM_BYTES = 3_584
"""Of an answer, and of an attestation's rows: what the benchmark's body takes."""
OPENED_BYTES = 512
SIGNED_BYTES = 96
"""A signature and the hash that it is of."""
_HMACS = 19
_FILE_BYTES = 1 << 20
_NONCE, _INFO, _SIGNED = bytes(12), bytes(54), bytes(130)
_APPLICATION_DATA = 23
_FAR = X25519PrivateKey.generate().public_key()
_LEAF = ec.generate_private_key(ec.SECP256R1())
_PROOF = _LEAF.sign(_SIGNED, ec.ECDSA(SHA256()))
_LEAF_PUBLIC = _LEAF.public_key()


class Disk:
    """A file whose blocks are there: to overwrite one is the cheapest durable write."""

    def __init__(self, path: Path) -> None:
        self._file = os.open(path, os.O_CREAT | os.O_RDWR, 0o600)
        os.write(self._file, bytes(_FILE_BYTES))
        os.fsync(self._file)
        self._at = 0

    def write(self, data: bytes) -> None:
        """Returns once the bytes are durable."""
        os.pwrite(self._file, data, self._at)
        os.fdatasync(self._file)
        self._at = (self._at + 4096) % _FILE_BYTES


class Notary:
    """What all connections share."""

    def __init__(self, disk: Disk, size: int) -> None:
        self.disk = disk
        self.size = size
        self.key = SigningKey.generate()
        self.sessions: dict[int, Session] = {}

    def signed(self, data: bytes | bytearray) -> bytes:
        """Returns a signature of the data's hash, and the hash."""
        return bytes(self.key.sign(hashlib.sha256(data).digest()))


def _open_records(key: AESGCM, raw: bytes) -> None:
    """The AEAD of each encrypted record: to seal takes as long as to open."""
    at = 0
    while at + 5 <= len(raw):
        end = at + 5 + int.from_bytes(raw[at + 3 : at + 5], "big")
        if raw[at] == _APPLICATION_DATA:
            key.encrypt(_NONCE, raw[at + 5 : end], raw[at : at + 5])
        at = end


class Session(Client):
    """The client's socket of one connection; a ``sealed`` one holds the response back."""

    def __init__(self, port: int, notary: Notary, *, sealed: bool) -> None:
        super().__init__(port)
        self._notary = notary
        self._sealed = sealed
        self._sent, self._received = bytearray(), bytearray()
        self._keys: list[AESGCM] | None = None
        self._reads = 0
        self._asker: asyncio.Transport | None = None
        self._venue_ended = False
        self._held: list[bytes] = []
        self._name = 0

    def make_venue(self) -> Leg:
        return _Venue(self)

    def connection_made(self, transport: asyncio.BaseTransport) -> None:
        super().connection_made(transport)
        self._name = transport.get_extra_info("peername")[1]
        self._notary.sessions[self._name] = self

    def data_received(self, data: bytes) -> None:
        self.pass_on(data)
        self._sent += data
        self._reads += 1
        if self._reads == 1:
            # Behind the ClientHello: by the time the venue answers it is durable.
            self._note_opened()

    def venue_received(self, data: bytes) -> None:
        """Passes the venue's bytes on; of a sealed session, those of its handshake alone."""
        self._received += data
        if self._sealed and self._reads > 1:
            self._held.append(data)
            return
        if self.transport is not None:
            self.transport.write(data)
        if self._keys is not None and len(self._received) >= self._notary.size:
            # Asked for with the session, and begun when the response is written on.
            asyncio.get_running_loop().call_soon(self._attest)

    def venue_ended(self) -> None:
        """Seals, or ends the client's side too."""
        if self._venue_ended:
            return
        self._venue_ended = True
        if self._sealed:
            self._seal()
        elif self.transport is not None:
            self.transport.close()

    def ask_seal(self, asker: asyncio.Transport) -> None:
        """Answers with the seal, at once or when the venue has ended."""
        self._asker = asker
        self._seal()

    def open(self, asker: asyncio.Transport, private: bytes) -> None:
        """Does the work of an opening, attests, and releases what was held."""
        self._asker = asker
        secret = X25519PrivateKey.from_private_bytes(private).exchange(_FAR)
        for _ in range(_HMACS):
            secret = hmac.digest(secret, _INFO, "sha256")
        self._keys = [AESGCM(secret) for _ in range(4)]
        _LEAF_PUBLIC.verify(_PROOF, _SIGNED, ec.ECDSA(SHA256()))
        self._attest()
        if self._sealed and self.transport is not None:
            self.transport.write(b"".join(self._held))
            self.transport.close()

    def connection_lost(self, error: Exception | None) -> None:
        super().connection_lost(error)
        if self._keys is not None:
            self._notary.sessions.pop(self._name, None)

    def _note_opened(self) -> None:
        loop = asyncio.get_running_loop()
        loop.call_soon(self._notary.disk.write, bytes(OPENED_BYTES))

    def _seal(self) -> None:
        if self._venue_ended and self._asker is not None:
            self._asker.write(self._notary.signed(self._sent + self._received))

    def _attest(self) -> None:
        assert self._keys is not None and self._asker is not None  # it was opened
        for raw in (self._sent, self._received):
            _open_records(self._keys[0], bytes(raw))
            raw.clear()
        body = bytes(CLAIM_BYTES)
        self._notary.disk.write(body)
        self._asker.write(self._notary.signed(body) + body)
        if not self._venue_ended:
            self._note_opened()
        elif self.transport is None or self.transport.is_closing():
            self._notary.sessions.pop(self._name, None)


class _Venue(Leg):
    """The venue's socket."""

    def __init__(self, session: Session) -> None:
        super().__init__()
        self._session = session

    def data_received(self, data: bytes) -> None:
        self._session.venue_received(data)

    def eof_received(self) -> None:
        self._session.venue_ended()

    def connection_lost(self, error: Exception | None) -> None:
        self._session.venue_ended()


class _Control(asyncio.Protocol):
    """A control connection, kept warm; one question in each read."""

    def __init__(self, notary: Notary) -> None:
        self._notary = notary
        self._transport: asyncio.Transport

    def connection_made(self, transport: asyncio.BaseTransport) -> None:
        self._transport = cast(asyncio.Transport, transport)

    def data_received(self, data: bytes) -> None:
        what, port, private = ASK.unpack(data)
        if what == CPU:
            self._transport.write(struct.pack("!d", time.process_time()))
        elif what == SEAL:
            self._notary.sessions[port].ask_seal(self._transport)
        else:
            self._notary.sessions[port].open(self._transport, private)


def main() -> int:
    """Relays until it is ended."""
    parser = argparse.ArgumentParser(prog="python -m benchmarks.floor", description=__doc__)
    parser.add_argument("--to", type=int, required=True)
    parser.add_argument("--dir", type=Path, required=True)
    parser.add_argument("--size", type=int, required=True, help="bytes of a response's body")
    options = parser.parse_args()

    async def serve() -> None:
        loop = asyncio.get_running_loop()
        notary = Notary(Disk(options.dir / "floor.disk"), options.size)
        servers = {
            "control": await loop.create_server(lambda: _Control(notary), "127.0.0.1", 0),
            "open": await loop.create_server(
                lambda: Session(options.to, notary, sealed=False), "127.0.0.1", 0
            ),
            "sealed": await loop.create_server(
                lambda: Session(options.to, notary, sealed=True), "127.0.0.1", 0
            ),
        }
        ports = {name: one.sockets[0].getsockname()[1] for name, one in servers.items()}
        ready = {"type": "ready", "key": bytes(notary.key.verify_key).hex(), **ports}
        print(json.dumps(ready), flush=True)
        await asyncio.gather(*[one.serve_forever() for one in servers.values()])

    # What a notary that serves does, too.
    gc.collect()
    gc.freeze()
    uvloop.run(serve())
    return 0


if __name__ == "__main__":
    sys.exit(main())
