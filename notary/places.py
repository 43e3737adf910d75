"""One session for each place, and the retry rule (docs/log.md).

A place is a purpose and a venue: a leg of a trade, or a slot of a feed.  Who could
fetch twice for one place could show the better of two prices.
"""

from __future__ import annotations

import dataclasses
from collections.abc import Sequence

from attestation.errors import RefusedError

MAX_RETRIES = 2


@dataclasses.dataclass(frozen=True, slots=True, kw_only=True)
class Earlier:
    """A session that was opened for the same place; ``retriable`` once it has ended so."""

    session: str
    retry_of: str | None
    retriable: bool


def is_place(purpose: str) -> bool:
    """Whether a purpose is bound to a place; ad hoc and live sessions are free."""
    return purpose.startswith(("trade/", "slot/"))


def check_place(earlier: Sequence[Earlier], retry_of: str | None) -> None:
    """Raises RefusedError (409) unless one more session may be opened.

    ``earlier`` are the place's sessions.  A retry names the latest of them, which
    nothing has retried and which ended by the venue's fault alone.
    """
    if not earlier:
        if retry_of is not None:
            raise _refused("nothing was opened that could be tried again")
        return
    if retry_of is None:
        raise _refused("the place is taken: another session was opened for it")
    retried = {session.retry_of for session in earlier}
    latest = [session for session in earlier if session.session not in retried]
    if not any(session.session == retry_of and session.retriable for session in latest):
        raise _refused("that session cannot be tried again")
    if len(earlier) > MAX_RETRIES:
        raise _refused(f"tried again {MAX_RETRIES} times already")


def _refused(detail: str) -> RefusedError:
    return RefusedError(detail, rule="place", http_status=409)
