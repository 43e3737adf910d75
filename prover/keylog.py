"""What a TLS client logs of its connections: the NSS key log format, routed by client random.

A log belongs to a client, not to a connection: it may hold lines of any number
of them, and of connections that never came this way.  Kept are the lines of
those randoms that were seen in a ClientHello and are still awaited; all others
are dropped as they are read.

    <LABEL> <client random, 32 bytes of hex> <secret, hex>

Of TLS 1.3's labels four are needed; comments and other labels are passed over.
"""

from __future__ import annotations

import dataclasses
import re
from collections.abc import Mapping
from types import MappingProxyType

from attestation.errors import IncompleteError, MalformedError
from attestation.request import KeylogOpened

RULE = "keylog"
LABELS: Mapping[str, str] = MappingProxyType(
    {
        "CLIENT_HANDSHAKE_TRAFFIC_SECRET": "client_handshake",
        "SERVER_HANDSHAKE_TRAFFIC_SECRET": "server_handshake",
        "CLIENT_TRAFFIC_SECRET_0": "client_application",
        "SERVER_TRAFFIC_SECRET_0": "server_application",
    }
)
"""The labels of one TLS 1.3 connection, and the members they become."""

MAX_LINE = 1024
"""Bytes of a line; no secret needs so many."""

_HEX = re.compile(r"[0-9a-fA-F]+")
_SECRET_SIZES = (32, 48)
"""Bytes of a hash of the supported suites: SHA-256, SHA-384."""


@dataclasses.dataclass(slots=True)
class _Lines:
    """The secrets logged for one connection, or what is wrong with its lines."""

    secrets: dict[str, str] = dataclasses.field(default_factory=dict)
    error: MalformedError | None = None


class KeyLog:
    """Reads a key log as it grows and routes its lines.  No I/O."""

    __slots__ = ("_awaited", "_rest", "_skipping")

    def __init__(self) -> None:
        self._awaited: dict[str, _Lines] = {}
        self._rest = b""
        self._skipping = False

    def __repr__(self) -> str:
        return f"KeyLog(awaiting {len(self._awaited)} connections)"

    def expect(self, client_random: bytes) -> None:
        """Keeps the lines of a connection from now on."""
        self._awaited.setdefault(client_random.hex(), _Lines())

    def forget(self, client_random: bytes) -> None:
        """Drops what was logged of a connection."""
        self._awaited.pop(client_random.hex(), None)

    def feed(self, data: bytes) -> None:
        """Takes bytes that were appended; a line counts once its end is there."""
        *lines, self._rest = (self._rest + data).split(b"\n")
        for line in lines:
            if self._skipping:
                self._skipping = False
            else:
                self._take(line)
        if len(self._rest) > MAX_LINE:
            self._rest, self._skipping = b"", True

    def restart(self) -> None:
        """Tells that the log begins anew: part of a line is not continued."""
        self._rest, self._skipping = b"", False

    def secrets(self, client_random: bytes) -> KeylogOpened | None:
        """Returns a connection's four secrets, None while lines are missing.

        Raises MalformedError (``keylog``) for lines that cannot be right.
        """
        lines = self._awaited.get(client_random.hex())
        if lines is None or (lines.error is None and len(lines.secrets) < len(LABELS)):
            return None
        if lines.error is not None:
            raise lines.error
        if len({len(secret) for secret in lines.secrets.values()}) != 1:
            raise MalformedError("secrets of a connection differ in size", rule=RULE)
        return KeylogOpened(kind="keylog", client_random=client_random.hex(), **lines.secrets)

    def missing(self, client_random: bytes, name: str) -> IncompleteError:
        """Returns the error that says which lines ``name`` lacks for a connection."""
        lines = self._awaited.get(client_random.hex(), _Lines())
        labels = [label for label, member in LABELS.items() if member not in lines.secrets]
        if len(labels) == len(LABELS):
            text = "no line for this connection: does the client write its key log there?"
        else:
            text = "lines of this connection are missing"
        return IncompleteError(f"{name} holds {text}", rule=RULE, wanted=labels)

    def _take(self, line: bytes) -> None:
        if len(line) > MAX_LINE:
            return
        label, _, rest = line.decode("ascii", "replace").rstrip("\r").partition(" ")
        random, _, secret = rest.partition(" ")
        lines = self._awaited.get(random.lower())
        member = LABELS.get(label)
        if lines is None or member is None:
            return
        if not _HEX.fullmatch(secret) or len(secret) not in [2 * size for size in _SECRET_SIZES]:
            lines.error = MalformedError(
                f"the line {label} holds no secret of 32 or 48 bytes", rule=RULE
            )
        elif lines.secrets.setdefault(member, secret.lower()) != secret.lower():
            lines.error = MalformedError(f"two lines {label} of one connection", rule=RULE)
