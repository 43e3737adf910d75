"""Whoever controls the path between one notary and a venue, and has the prover's keys.

The venue is honest and its certificate true: the handshake passes untouched.  Then
the attacker, who derives what the prover derives, opens each record of the venue
and encrypts another in its place; or it asks no venue at all, and plays back what
one said on an earlier connection.  TLS cannot tell: its keys are shared.
"""

from __future__ import annotations

import contextlib
import socket
import threading
from collections.abc import Callable
from typing import Self

from cryptography.exceptions import InvalidTag

from tests.tls13.tlsclient import Client
from tests.tls13.tlspeer import FINISHED, SUITES, Keys, Share, digest, expand, mac

SECONDS = 60.0
Rewrite = Callable[[bytes], bytes]
"""What becomes of the plaintext of one record of the venue's."""


class PathAttacker:
    """Listens on loopback in the place of the venue at port ``venue``; a context manager.

    ``errors`` keeps what went wrong in the attacker itself.
    """

    def __init__(self, venue: int) -> None:
        self.errors: list[BaseException] = []
        self._venue = venue
        self._client: Client | None = None
        self._rewrite: Rewrite = bytes
        self._replay: bytes | None = None
        self._recorded = bytearray()
        self._over = threading.Event()
        self._listener = socket.create_server(("127.0.0.1", 0))
        self._threads: list[threading.Thread] = []
        self.port: int = self._listener.getsockname()[1]

    def rewriting(self, client: Client, rewrite: Rewrite) -> None:
        """Changes what the venue says on the next connection, with that client's keys."""
        self._client, self._rewrite, self._replay = client, rewrite, None

    def replaying(self, recorded: bytes) -> None:
        """Answers the next connection, which must begin as an earlier one did, with its bytes."""
        self._replay = recorded

    def recorded(self) -> bytes:
        """All that went to the notary on the last connection, once that is over."""
        assert self._over.wait(SECONDS)
        return bytes(self._recorded)

    def __enter__(self) -> Self:
        self._start(self._accept)
        return self

    def __exit__(self, *_: object) -> None:
        self._listener.shutdown(socket.SHUT_RDWR)
        self._listener.close()
        for thread in self._threads:
            thread.join(10)
        assert self.errors == []

    def _start(self, run: Callable[[], None]) -> None:
        def guarded() -> None:
            try:
                run()
            except OSError:
                pass  # either side went away, or the listener was closed
            except BaseException as error:
                self.errors.append(error)

        thread = threading.Thread(target=guarded, name="path", daemon=True)
        self._threads.append(thread)
        thread.start()

    def _accept(self) -> None:
        while True:
            notary, _ = self._listener.accept()
            notary.settimeout(SECONDS)
            self._recorded = bytearray()
            self._over.clear()
            with notary, contextlib.suppress(OSError):
                if self._replay is None:
                    self._sit_between(notary)
                else:
                    self._play_back(notary, self._replay)
            self._over.set()

    def _play_back(self, notary: socket.socket, recorded: bytes) -> None:
        """The flight answers the hello; what came after the client's Finished, its request."""
        stream, records = _Records(notary), _cut(recorded)
        stream.next()
        # ServerHello, ChangeCipherSpec, and the flight in one record.
        flight = 1 + next(index for index, raw in enumerate(records) if raw[0] == 23)
        notary.sendall(b"".join(records[:flight]))
        while stream.next()[0] != 23:
            pass
        stream.next()
        notary.sendall(b"".join(records[flight:]))
        notary.shutdown(socket.SHUT_WR)
        while stream.next():
            pass

    def _sit_between(self, notary: socket.socket) -> None:
        with socket.create_connection(("127.0.0.1", self._venue), timeout=SECONDS) as venue:
            hello: list[bytes] = []

            def forth() -> None:
                stream = _Records(notary)
                while raw := stream.next():
                    hello.append(raw)
                    venue.sendall(raw)
                with contextlib.suppress(OSError):
                    venue.shutdown(socket.SHUT_WR)

            self._start(forth)
            stream, keys = _Records(venue), None
            while raw := stream.next():
                if self._client is not None and keys is None:
                    keys = _VenueKeys(self._client, hello[0][5:], raw[5:])
                elif keys is not None and raw[0] == 23:
                    raw = keys.forge(raw, self._rewrite)
                self._recorded += raw
                notary.sendall(raw)
            notary.shutdown(socket.SHUT_WR)


class _VenueKeys:
    """The keys under which a venue writes, as the prover derives them (RFC 8446 7.1)."""

    def __init__(self, client: Client, hello: bytes, server_hello: bytes) -> None:
        session = server_hello[38]
        suite = int.from_bytes(server_hello[39 + session : 41 + session], "big")
        group, share = _key_share(server_hello[44 + session :])
        private: Share = client.keys[group]
        self._suite = suite
        self._transcript = hello + server_hello
        size = SUITES[suite][0]().digest_size
        empty = digest(suite, b"")
        early = expand(suite, mac(suite, bytes(size), bytes(size)), "derived", empty)
        handshake = mac(suite, early, private.exchange(share))
        secret = expand(suite, handshake, "s hs traffic", digest(suite, self._transcript))
        self._master = mac(suite, expand(suite, handshake, "derived", empty), bytes(size))
        self._read = Keys(suite, secret)
        self._write: Keys | None = None

    def forge(self, raw: bytes, rewrite: Rewrite) -> bytes:
        """Returns the record to send in place of ``raw``; blindly altered under wrong keys."""
        try:
            kind, content = self._read.open(raw)
        except InvalidTag:
            return raw[:5] + raw[:4:-1]
        if self._write is None:
            self._transcript += content
            if _last_message(content) == FINISHED:
                hashed = digest(self._suite, self._transcript)
                secret = expand(self._suite, self._master, "s ap traffic", hashed)
                self._read, self._write = Keys(self._suite, secret), Keys(self._suite, secret)
            return raw
        return self._write.seal(kind, rewrite(content) if kind == 23 else content)


class _Records:
    """Takes whole records off a socket; empty at its end."""

    def __init__(self, connection: socket.socket) -> None:
        self._connection = connection
        self._buffer = b""

    def next(self) -> bytes:
        while len(self._buffer) < 5 or len(self._buffer) < _size(self._buffer):
            data = self._connection.recv(65536)
            if not data:
                return b""
            self._buffer += data
        size = _size(self._buffer)
        raw, self._buffer = self._buffer[:size], self._buffer[size:]
        return raw


def _cut(stream: bytes) -> list[bytes]:
    found = []
    while stream:
        found.append(stream[: _size(stream)])
        stream = stream[_size(stream) :]
    return found


def _size(data: bytes) -> int:
    return 5 + int.from_bytes(data[3:5], "big")


def _key_share(block: bytes) -> tuple[int, bytes]:
    """Finds the group and the share among a ServerHello's extensions."""
    while int.from_bytes(block[:2], "big") != 51:
        block = block[4 + int.from_bytes(block[2:4], "big") :]
    return int.from_bytes(block[4:6], "big"), block[8 : 4 + int.from_bytes(block[2:4], "big")]


def _last_message(content: bytes) -> int:
    kind = -1
    while content:
        kind, content = content[0], content[4 + int.from_bytes(content[1:4], "big") :]
    return kind
