"""The error tree: every failure has one kind, named after who is at fault.

Each class carries its process exit code and HTTP status as data, so that one
boundary per program maps them (docs/formats.md, "Errors").  Exit code 1 is
never used here: it is left to bugs.
"""

from __future__ import annotations

import contextlib
from collections.abc import Iterator
from typing import ClassVar


class QuotaryError(Exception):
    """Base of every error raised on purpose.

    ``detail`` is one sentence for people.  ``rule`` names the rule that failed
    (``W1``..``W14`` of docs/witness.md, or a dotted member such as
    ``expect.not_after_us``).  ``found`` and ``wanted`` are JSON-able values,
    present where a comparison failed.
    """

    exit_code: ClassVar[int] = 1
    http_status: ClassVar[int] = 500
    slug: ClassVar[str] = "error"

    def __init__(
        self,
        detail: str,
        *,
        rule: str | None = None,
        found: object = None,
        wanted: object = None,
    ) -> None:
        super().__init__(detail)
        self.detail = detail
        self.rule = rule
        self.found = found
        self.wanted = wanted

    def __str__(self) -> str:
        return f"{self.rule}: {self.detail}" if self.rule else self.detail


class UsageError(QuotaryError):
    """The caller's mistake: wrong arguments, contradictory configuration."""

    exit_code, http_status, slug = 2, 422, "usage"


class MalformedError(QuotaryError):
    """Bytes are not the format they claim to be."""

    exit_code, http_status, slug = 10, 400, "malformed"


class InvalidProofError(QuotaryError):
    """A signature, path, commitment or tag does not match."""

    exit_code, http_status, slug = 11, 422, "invalid_proof"


class UntrustedError(QuotaryError):
    """A key is unknown, expired or revoked, or an algorithm is unsupported."""

    exit_code, http_status, slug = 12, 403, "untrusted"


class StaleError(QuotaryError):
    """Outside the times asked for."""

    exit_code, http_status, slug = 13, 409, "stale"


class OutcomeMismatchError(QuotaryError):
    """A recomputed outcome differs from the one claimed."""

    exit_code, http_status, slug = 14, 422, "outcome_mismatch"


class IncompleteError(QuotaryError):
    """A field, section, log proof, quorum or slot is missing."""

    exit_code, http_status, slug = 15, 422, "incomplete"


class AuditFinding(QuotaryError):
    """The log shows misbehaviour."""

    exit_code, http_status, slug = 16, 500, "finding"


class ExpectationError(QuotaryError):
    """Authentic, but not what the consumer expects: host, mode, purpose ..."""

    exit_code, http_status, slug = 17, 422, "expectation"


class RefusedError(QuotaryError):
    """The notary refuses or ends a session; ``rule`` says why.

    ``http_status`` may be overridden per instance: 403 not allowed, 409 wrong
    state or place taken, 422 a check failed, 429 over a limit.
    """

    exit_code, http_status, slug = 18, 422, "refused"

    def __init__(
        self,
        detail: str,
        *,
        rule: str | None = None,
        found: object = None,
        wanted: object = None,
        http_status: int = 422,
    ) -> None:
        super().__init__(detail, rule=rule, found=found, wanted=wanted)
        self.http_status = http_status  # type: ignore[misc]


class UnavailableError(QuotaryError):
    """Network, disk or venue is down: nothing is wrong with the bytes."""

    exit_code, http_status, slug = 20, 503, "unavailable"


@contextlib.contextmanager
def naming(rule: str) -> Iterator[None]:
    """Gives an error that names no rule the document or member it is about."""
    try:
        yield
    except QuotaryError as error:
        error.rule = error.rule or rule
        raise
