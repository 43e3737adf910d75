"""Answers a client owes its server (RFC 6455 section 5.5.3): pongs, and a venue's own."""

from __future__ import annotations

from collections import deque

from attestation.errors import MalformedError

MAX_OWED = 1_024
"""Questions that wait for their answers; a server that asks more often is broken."""


class OwedAnswers:
    """What was asked and not answered yet, oldest first.  Times are the caller's.

    An answer names what it answers by its bytes alone.  Answers come in the order of
    the questions, but a client may leave out all but the most recent ("MAY elect to
    send a Pong frame for only the most recently processed Ping frame"): an answer
    settles everything asked before it, and cannot be given to any of that later.
    Where several questions want the same bytes, all of them are settled, and each of
    them may still be answered.
    """

    __slots__ = ("_asked", "_settled")

    def __init__(self) -> None:
        self._asked: deque[tuple[bytes, int]] = deque()
        self._settled = 0

    @property
    def oldest_us(self) -> int | None:
        """When the oldest question without an answer came; None if all are answered."""
        return self._asked[self._settled][1] if self._settled < len(self._asked) else None

    def ask(self, answer: bytes, at_us: int) -> None:
        """Notes a question and the one answer to it; raises MalformedError (W12) for too many."""
        if len(self._asked) >= MAX_OWED:
            if not self._settled:
                raise MalformedError("the server asks faster than anyone answers", rule="W12")
            self._asked.popleft()
            self._settled -= 1
        self._asked.append((answer, at_us))

    def give(self, answer: bytes) -> bool:
        """Takes an answer; False if nothing asked for it."""
        matches = [at for at, (wanted, _) in enumerate(self._asked) if wanted == answer]
        if not matches:
            return False
        answered = matches[0] + 1
        self._settled = max(self._settled, matches[-1] + 1) - answered
        for _ in range(answered):
            self._asked.popleft()
        return True
