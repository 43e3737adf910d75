"""What a fetch needs of a TLS client, and what it then knows of its connection.

Two clients do: ``prover.libssl``, which opens its ephemeral key, and
``prover.stdlib_tls``, Python's own with a key log, for where there is no libssl.
"""

from __future__ import annotations

import dataclasses
from typing import Protocol

from attestation.errors import UntrustedError
from attestation.request import Opened


@dataclasses.dataclass(frozen=True, slots=True, kw_only=True)
class OwnConnection:
    """What this side knows of a connection to a venue whose handshake is complete.

    ``sent`` and ``received`` are the raw streams from byte 0; they may grow.
    ``chain_der`` holds the certificates as sent, leaf first.
    """

    suite: str
    group: str
    chain_der: tuple[bytes, ...]
    sent: bytes | bytearray = dataclasses.field(repr=False)
    received: bytes | bytearray = dataclasses.field(repr=False)
    opening: Opened = dataclasses.field(repr=False)


class TlsClient(Protocol):
    """One client connection as a state machine: bytes in, bytes out, no socket."""

    sent: bytearray
    received: bytearray
    close_notify: bool
    refused: UntrustedError | None
    """Why the server's certificate does not verify: then nothing can be written or read."""

    def feed(self, data: bytes) -> None:
        """Takes raw bytes that arrived from the server."""

    def outgoing(self) -> bytes:
        """Returns the raw bytes to send now, and counts them as sent."""

    def handshake(self) -> bool:
        """Advances the handshake; true once complete, false while bytes are needed."""

    def write(self, data: bytes) -> None:
        """Encrypts application data."""

    def finish(self) -> None:
        """Says that nothing more will be sent (close_notify)."""

    def read(self) -> bytes:
        """Returns all application data decrypted so far, possibly none."""

    def own(self) -> OwnConnection:
        """Opens the connection; to be asked once the client's Finished was sent."""

    @property
    def alpn(self) -> bytes:
        """The protocol the server chose, empty if none."""

    def close(self) -> None:
        """Frees the connection with its keys; more than once is harmless."""


class TlsContext(Protocol):
    """Trusted roots and settings, shared by connections; ``binding`` is what they give."""

    binding: str

    def connect(self, host: str, *, keep_raw: bool = True) -> TlsClient:
        """Starts a connection to ``host``, whose name the certificate must hold."""

    def close(self) -> None:
        """Frees the context; connections already made keep theirs alive."""
