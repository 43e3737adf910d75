"""A TLS 1.3 client on Python's own ``ssl`` that opens the secrets it logs.

The fallback where no libssl can be bound: its sessions bind as ``template``
(docs/witness.md, "Openings").  The key log is memory where the system has such
files, else a file of its owner's alone without a name; never a pipe, which
would stop the handshake once it is full.
"""

from __future__ import annotations

import contextlib
import os
import ssl
import tempfile
import threading
import time
from functools import cache
from pathlib import Path

from attestation.errors import (
    IncompleteError,
    MalformedError,
    UnavailableError,
    UntrustedError,
    UsageError,
)
from attestation.request import KeylogOpened
from attestation.tls13.certificates import RootStore
from prover.keylog import KeyLog
from prover.reading import Reading
from prover.tls import OwnConnection

_CHUNK = 64 * 1024


class StdlibContext:
    """Trusted roots and a key log, shared by connections of any thread.

    ``roots_pem`` replaces certifi's bundle.  Raises UsageError if the PEM holds
    no certificate, UnavailableError if no key log can be made.
    """

    binding = "template"

    def __init__(self, roots_pem: bytes | None = None) -> None:
        context = ssl.SSLContext(ssl.PROTOCOL_TLS_CLIENT)
        context.minimum_version = ssl.TLSVersion.TLSv1_3
        context.options |= ssl.OP_NO_TICKET
        context.set_alpn_protocols(["http/1.1"])
        if roots_pem is None:
            import certifi

            roots_pem = Path(certifi.where()).read_bytes()
        try:
            context.load_verify_locations(cadata=roots_pem.decode("ascii"))
        except (ssl.SSLError, UnicodeDecodeError):
            raise UsageError("no certificate in the PEM of trusted roots") from None
        self.roots_pem = roots_pem
        self._lock = threading.Lock()
        self._log = KeyLog()
        self._descriptor: int | None = _log_into(context)
        self._context = context

    def connect(self, host: str, *, keep_raw: bool = True) -> StdlibClient:
        """Starts a connection to ``host``, whose name the certificate must hold.

        Without ``keep_raw`` the raw streams are not kept, and nothing is opened.
        """
        if self._descriptor is None:
            raise UsageError("the TLS context is closed")
        return StdlibClient(self, self._context, host, keep_raw)

    def advance(self, tls: ssl.SSLObject, client_random: bytes | None) -> KeylogOpened | None:
        """Advances a handshake; returns what it logged once it is complete.

        What the library raises is passed on.  One handshake at a time moves, so
        that the log can be emptied after each step.
        """
        with self._lock:
            if self._descriptor is None:
                raise UsageError("the TLS context is closed")
            if client_random is not None:
                self._log.expect(client_random)
            try:
                tls.do_handshake()
            finally:
                self._log.feed(_whole(self._descriptor))
                os.ftruncate(self._descriptor, 0)
            return None if client_random is None else self._log.secrets(client_random)

    def forget(self, client_random: bytes) -> None:
        """Drops what a connection logged."""
        with self._lock:
            self._log.forget(client_random)

    def close(self) -> None:
        """Closes the key log; connections already established are not touched."""
        with self._lock:
            descriptor, self._descriptor = self._descriptor, None
            if descriptor is not None:
                os.close(descriptor)

    def __del__(self) -> None:
        if getattr(self, "_descriptor", None) is not None:
            self.close()


class StdlibClient:
    """One client connection as a state machine; see ``prover.tls.TlsClient``."""

    def __init__(
        self, context: StdlibContext, settings: ssl.SSLContext, host: str, keep_raw: bool
    ) -> None:
        self._context = context
        self._keep_raw = keep_raw
        self._opened: KeylogOpened | None = None
        self._in, self._out = ssl.MemoryBIO(), ssl.MemoryBIO()
        self.host = host
        self.sent = bytearray()
        self.received = bytearray()
        self.close_notify = False
        self.refused: UntrustedError | None = None  # The handshake ends with the refusal.
        try:
            self._tls: ssl.SSLObject | None = settings.wrap_bio(
                self._in, self._out, server_hostname=host
            )
        except (ValueError, UnicodeError):
            raise UsageError("not a host name", found=host[:80]) from None

    def feed(self, data: bytes) -> None:
        """Takes raw bytes that arrived from the server."""
        if self._keep_raw:
            self.received += data
        self._in.write(data)

    def outgoing(self) -> bytes:
        """Returns the raw bytes to send now, and counts them as sent."""
        data = self._out.read()
        if self._keep_raw:
            self.sent += data
        return data

    def handshake(self) -> bool:
        """Advances the handshake; true once complete, false while bytes are needed.

        Raises UntrustedError (rule W4) for a certificate that does not verify,
        UnavailableError for any other failure of the handshake.
        """
        try:
            self._opened = self._context.advance(self._live(), self._random())
        except ssl.SSLWantReadError:
            return False
        except ssl.SSLCertVerificationError as error:
            text = error.verify_message
            raise UntrustedError(
                f"certificate of {self.host} does not verify: {text}", rule="W4", found=text
            ) from None
        except ssl.SSLError as error:
            raise UnavailableError(
                f"TLS handshake with {self.host} failed: {error.reason or error}", rule="tls"
            ) from None
        return True

    def write(self, data: bytes) -> None:
        """Encrypts application data; an empty write is none."""
        if not data:
            return
        try:
            self._live().write(data)
        except ssl.SSLError as error:
            raise UnavailableError(f"TLS write failed: {error.reason}", rule="tls") from None

    def finish(self) -> None:
        """Says that nothing more will be sent (close_notify)."""
        with contextlib.suppress(ssl.SSLWantReadError):
            # What it waits for is the peer's close_notify.
            self._live().unwrap()

    def read(self) -> bytes:
        """Returns all application data decrypted so far, possibly none.

        Raises MalformedError for a record that does not open and for a fatal
        alert of the peer.
        """
        data = bytearray()
        try:
            while part := self._live().read(_CHUNK):
                data += part
            self.close_notify = True
        except ssl.SSLWantReadError:
            pass
        except ssl.SSLZeroReturnError:
            self.close_notify = True
        except ssl.SSLError as error:
            raise MalformedError(f"TLS read failed: {error.reason}", rule="W6") from None
        return bytes(data)

    def own(self) -> OwnConnection:
        """Opens the connection by what it logged, and verifies the handshake again with it."""
        if self._opened is None:
            raise IncompleteError("Python's ssl logged no secrets", rule="keylog")
        reading = Reading(self.host, roots=_root_store(self._context.roots_pem), clock_us=_now_us)
        reading.feed("sent", bytes(self.sent))
        reading.feed("received", bytes(self.received))
        reading.open(self._opened)
        facts = reading.own()
        return OwnConnection(
            suite=facts.suite,
            group=facts.group,
            chain_der=facts.chain_der,
            sent=self.sent,
            received=self.received,
            opening=self._opened,
        )

    @property
    def alpn(self) -> bytes:
        """The protocol the server chose, empty if none."""
        return (self._live().selected_alpn_protocol() or "").encode("ascii")

    def close(self) -> None:
        """Frees the connection with its keys; more than once is harmless."""
        self._tls = None
        self._opened = None
        if (client_random := self._random()) is not None:
            self._context.forget(client_random)

    def _live(self) -> ssl.SSLObject:
        if self._tls is None:
            raise UsageError("the TLS connection is closed")
        return self._tls

    def _random(self) -> bytes | None:
        """The ClientHello's random, once it was sent: RFC 8446 sections 4.1.2 and 5.1.

        A record's header, a handshake message's and the version precede it.
        """
        return bytes(self.sent[11:43]) if len(self.sent) >= 43 else None


def _log_into(context: ssl.SSLContext) -> int:
    """Gives a context an unnamed key log; returns its descriptor."""
    try:
        if hasattr(os, "memfd_create"):
            descriptor = os.memfd_create("quotary-keylog", os.MFD_CLOEXEC)
            context.keylog_filename = f"/proc/self/fd/{descriptor}"
            return descriptor
        descriptor, name = tempfile.mkstemp(prefix="quotary-keylog-")
        try:
            context.keylog_filename = name
        finally:
            # The library holds it open, and so do we.
            os.unlink(name)
        return descriptor
    except OSError as error:
        raise UnavailableError(f"no key log can be made: {error.strerror}", rule="keylog") from None


def _whole(descriptor: int) -> bytes:
    data = bytearray()
    while part := os.pread(descriptor, _CHUNK, len(data)):
        data += part
    return bytes(data)


@cache
def _root_store(pem: bytes) -> RootStore:
    return RootStore.from_pem(pem)


def _now_us() -> int:
    return time.time_ns() // 1000
