"""Signed requests of provers: each is fresh, under its prover's key, and used once."""

from __future__ import annotations

from collections import OrderedDict

from attestation.errors import InvalidProofError, RefusedError, StaleError, naming
from notary.envelope import prover_key

REPLAY_WINDOW_US = 30_000_000


class Replays:
    """Which requests were used.

    Requests from before ``started_us`` are refused, so that a restart does not forget
    what was used.
    """

    def __init__(self, started_us: int) -> None:
        self._started_us = started_us
        self._nonces: OrderedDict[tuple[str, str], int] = OrderedDict()

    def check(self, prover: str, nonce: str, at_us: int, now_us: int) -> None:
        """Raises StaleError for a request of another time, RefusedError (409) for a used one."""
        earliest = max(now_us - REPLAY_WINDOW_US, self._started_us)
        if not earliest <= at_us <= now_us + REPLAY_WINDOW_US:
            raise StaleError(
                "the request was signed too long ago, or with a wrong clock",
                rule="request.at_us",
                found=at_us,
                wanted=now_us,
            )
        self.prune(now_us)
        used = (prover, nonce)
        if used in self._nonces:
            raise RefusedError(
                "the request was used already", rule="request.nonce", http_status=409
            )
        self._nonces[used] = now_us + 2 * REPLAY_WINDOW_US

    def prune(self, now_us: int) -> None:
        """Forgets nonces of requests that are too old by now."""
        nonces = self._nonces
        while nonces:
            key = next(iter(nonces))
            if nonces[key] >= now_us:
                return
            del nonces[key]


def check_signature(prover: str, data: bytes, signature: bytes) -> None:
    """Raises InvalidProofError (``signature``) unless the prover's key signed ``data``."""
    with naming("prover"):
        key = prover_key(prover)
    try:
        key.verify(signature, data)
    except InvalidProofError as error:
        raise InvalidProofError(error.detail, rule="signature") from None
