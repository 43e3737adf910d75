"""What a notary signed that is not so, kept as evidence: files of their owner's alone.

One incident a file, ``<at_us>-<number>.json``, mode 0600: canonical JSON
``quotary/feed_incident/v1`` with the rule, what was found and wanted, and the notary's own
signed words.
"""

from __future__ import annotations

import dataclasses
from collections.abc import Callable
from pathlib import Path
from typing import ClassVar

from attestation.encoding import Json, JsonObject, encode
from attestation.errors import QuotaryError, UnavailableError, UsageError
from attestation.schema import Document, Micros, Text
from prover.feed.metrics import Metrics
from prover.vault import write_private

MAX_FILES = 1_000
"""Incidents of one run that are kept; the metric counts them all."""
MAX_SHOWN = 4_096
"""Characters of what was found, and wanted, as text."""


@dataclasses.dataclass(frozen=True, slots=True, kw_only=True)
class Incident(Document):
    """A notary's statement that contradicts what this prover saw, or a lie in itself.

    ``evidence`` is what the notary said, an event of its stream or an attestation, or
    the handshake (``prover.feed.handshake``) over which it and this prover differ.
    """

    TYPE: ClassVar[str | None] = "quotary/feed_incident/v1"

    at_us: Micros
    notary: Text
    rule: Text
    detail: Text
    found: Text | None = None
    wanted: Text | None = None
    evidence: JsonObject


class Incidents:
    """Keeps incidents in ``folder``, None to count them only."""

    def __init__(
        self, folder: Path | None, *, clock_us: Callable[[], int], metrics: Metrics
    ) -> None:
        self._folder, self._clock_us, self._metrics = folder, clock_us, metrics
        self.count = 0
        self.last = ""

    def note(self, notary: str, error: QuotaryError, evidence: JsonObject) -> None:
        """Keeps what contradicts; never raises: the feed goes on."""
        self.count += 1
        self.last = f"{notary}: {error}"
        rule = error.rule or "unknown"
        self._metrics.count("incidents_total", notary=notary, rule=rule)
        if self._folder is None or self.count > MAX_FILES:
            return
        incident = Incident(
            at_us=self._clock_us(),
            notary=notary,
            rule=rule,
            detail=error.detail,
            found=_shown(error.found),
            wanted=_shown(error.wanted),
            evidence=evidence,
        )
        try:
            self._folder.mkdir(mode=0o700, parents=True, exist_ok=True)
            path = self._folder / f"{incident.at_us}-{self.count:04d}.json"
            write_private(path, incident.encode() + b"\n")
        except (OSError, UnavailableError):
            # The metric has it; a full disk must not stop the feed.
            self._metrics.count("incidents_unkept_total", notary=notary)


def _shown(value: object) -> str | None:
    if value is None:
        return None
    plain: Json = value if isinstance(value, str | int | list | dict) else str(value)
    try:
        text = plain if isinstance(plain, str) else encode(plain).decode("utf-8")
    except UsageError:
        text = str(value)
    return text[:MAX_SHOWN]
