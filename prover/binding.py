"""Which TLS client fetches: the one that opens its ephemeral key, or, if asked, its fallback."""

from __future__ import annotations

import dataclasses

from attestation.errors import UnavailableError
from prover.libssl import ClientContext
from prover.stdlib_tls import StdlibContext
from prover.tls import TlsContext


@dataclasses.dataclass(frozen=True, slots=True)
class Choice:
    """A TLS context; ``fallback`` says why it is not the one that binds fully."""

    context: TlsContext
    fallback: str | None = None


def choose_tls(roots_pem: bytes | None, *, allow_template: bool) -> Choice:
    """Returns libssl's context, or Python's own where there is no libssl and that is allowed.

    Raises UnavailableError (``libssl``) naming the places looked at, and the cure.
    """
    try:
        return Choice(ClientContext(roots_pem))
    except UnavailableError as error:
        if error.rule != "libssl":
            raise
        if not allow_template:
            error.detail += (
                "; or fetch quotes of registered venues with the weaker binding template: "
                "--allow-template"
            )
            raise
        text = (
            f"{error.detail}: falling back to a key log, which binds registered venues' quotes "
            "alone, and those as template"
        )
    return Choice(StdlibContext(roots_pem), text)
