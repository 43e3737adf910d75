"""The keylog opening: four traffic secrets as stock TLS clients log them.

They are unlinked siblings of the key schedule, so this opening is weaker than the
ephemeral one and stands only with a commitment made before any application data
passed, and with a request known byte for byte (docs/witness.md, "Openings").
"""

from __future__ import annotations

from collections.abc import Mapping
from typing import Final

from attestation.errors import InvalidProofError, MalformedError
from attestation.tls13.hello import ClientHello, ServerHello
from attestation.tls13.registry import NAMED_GROUPS
from attestation.tls13.schedule import Secrets, Suite


class KeylogOpening:
    """The secrets of one connection, with the client random that the log names it by.

    Each secret has the length of the suite's hash, in bytes.  Nothing is derived
    from the key exchange, so that any group of the registry may have been used.
    """

    __slots__ = (
        "_client_application",
        "_client_handshake",
        "_client_random",
        "_server_application",
        "_server_handshake",
    )
    kind: Final = "keylog"
    groups: Final[Mapping[int, str]] = NAMED_GROUPS

    def __init__(
        self,
        *,
        client_random: bytes,
        client_handshake: bytes,
        server_handshake: bytes,
        client_application: bytes,
        server_application: bytes,
    ) -> None:
        self._client_random = client_random
        self._client_handshake = client_handshake
        self._server_handshake = server_handshake
        self._client_application = client_application
        self._server_application = server_application

    def __repr__(self) -> str:
        return "KeylogOpening(...)"

    def secrets(
        self,
        *,
        suite: Suite,
        client: ClientHello,
        server: ServerHello,
        hello_hash: bytes,
    ) -> Secrets:
        """Returns the secrets as they were logged; see ``Opening``.

        Raises InvalidProofError (``opening.client_random``) for those of another
        connection, MalformedError for a secret that is not of the suite.
        """
        if client.random != self._client_random:
            raise InvalidProofError(
                "opened secrets are of another connection than the ClientHello's",
                rule="opening.client_random",
                found=self._client_random.hex(),
                wanted=client.random.hex(),
            )
        for name in (
            "client_handshake",
            "server_handshake",
            "client_application",
            "server_application",
        ):
            if len(getattr(self, f"_{name}")) != suite.hash_size:
                raise MalformedError(
                    "an opened secret has not the length of the suite's hash",
                    rule=f"opening.{name}",
                    wanted=suite.hash_size,
                )
        return _LoggedSecrets(
            self._client_handshake,
            self._server_handshake,
            (self._client_application, self._server_application),
        )


class _LoggedSecrets:
    """Secrets that follow from nothing: every Finished and every tag has to bear them out."""

    __slots__ = ("_application", "client_handshake", "server_handshake")

    def __init__(
        self, client_handshake: bytes, server_handshake: bytes, application: tuple[bytes, bytes]
    ) -> None:
        self.client_handshake = client_handshake
        self.server_handshake = server_handshake
        self._application = application

    def application(self, finished_hash: bytes) -> tuple[bytes, bytes]:
        return self._application
