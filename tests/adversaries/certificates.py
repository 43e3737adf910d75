"""A certificate authority valid now, and leaves as weak as a test wants them.

``tests.tls13.certs`` issues for a fixed day; a running notary has today's clock.
"""

from __future__ import annotations

from datetime import UTC, datetime, timedelta
from typing import Any

from cryptography import x509
from cryptography.hazmat.primitives.serialization import Encoding

from tests.tls13.certs import Identity, issue

DAY = timedelta(days=1)


class Issuer:
    """A root, an intermediate below it, and what they issue."""

    def __init__(self) -> None:
        self.now = datetime.now(UTC)
        root = self._issue("Hostile Test Root", issuer=None, is_ca=True)
        self.root = Identity(root.certificate, root.key, ())
        self.intermediate = self._issue("Hostile Test Intermediate", issuer=self.root, is_ca=True)

    @property
    def root_pem(self) -> bytes:
        return self.root.certificate.public_bytes(Encoding.PEM)

    def leaf(self, *hosts: str, **changes: Any) -> Identity:
        """Issues a server's certificate for DNS names; ``changes`` as of ``certs.issue``."""
        names = tuple(x509.DNSName(host) for host in hosts)
        return self._issue("server", **{"issuer": self.intermediate, "hosts": names, **changes})

    def _issue(self, subject: str, **options: Any) -> Identity:
        dates = {"not_before": self.now - DAY, "not_after": self.now + 30 * DAY}
        return issue(subject, **{**dates, **options})
