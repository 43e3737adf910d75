"""Where a venue's channel is now: by its file alone, or by a token that it gives anyone.

The token's request is plain HTTPS of this machine's, witnessed by nobody: it says where to
connect and nothing of prices, and only hosts that the venue's file allows are taken.
"""

from __future__ import annotations

import ssl

import httpx

from attestation.errors import MalformedError, QuotaryError, UnavailableError
from attestation.quote import text_of
from attestation.strictjson import scalars
from attestation.subscription import read_endpoint, upgrade_target
from attestation.venues import VenueFile
from attestation.venues.websocket import Token
from prover.feed.conversation import Place

MAX_ANSWER = 64 * 1024
TIMEOUT_S = 10.0


class Locator:
    """Finds places; ``roots_pem`` replaces certifi, ``connect_to`` is for simulated venues."""

    def __init__(
        self, *, roots_pem: bytes | None = None, connect_to: tuple[str, int] | None = None
    ) -> None:
        self._roots_pem, self._connect_to = roots_pem, connect_to
        self._context: ssl.SSLContext | None = None

    async def __call__(self, venue: VenueFile, instrument: str) -> Place:
        """Returns the place of a venue's channel; raises MalformedError, UnavailableError."""
        file = venue.channel
        every_us = file.keep_alive.every_s * 1_000_000
        if file.token is None:
            host = file.hosts[0]
            target = upgrade_target(venue, instrument, host=host)
            return Place(host, file.port, target, every_us)
        body = await self._ask(venue, file.token)
        host, path, token = read_endpoint(venue, body)
        target = upgrade_target(venue, instrument, host=host, token=token, path=path)
        return Place(host, file.port, target, min(every_us, _wanted_us(file.token, body, every_us)))

    async def _ask(self, venue: VenueFile, token: Token) -> bytes:
        host, port = venue.hosts[0], venue.port
        address, actual = self._connect_to or (host, port)
        url = httpx.URL(scheme="https", host=address, port=actual, path=token.target)
        name = host if port == 443 else f"{host}:{port}"
        try:
            async with (
                httpx.AsyncClient(verify=self._tls(), timeout=TIMEOUT_S, trust_env=False) as client,
                client.stream(
                    token.method,
                    url,
                    headers={"Host": name, "User-Agent": "quotary"},
                    extensions={"sni_hostname": host},
                ) as answer,
            ):
                if answer.status_code != 200:
                    raise UnavailableError(
                        f"{venue.name} gives no token: status {answer.status_code}", rule="token"
                    )
                body = b""
                async for piece in answer.aiter_bytes():
                    body += piece
                    if len(body) > MAX_ANSWER:
                        raise MalformedError("the token's answer is too long", rule="W13")
                return body
        except (httpx.HTTPError, httpx.InvalidURL) as error:
            text = f"{venue.name} gives no token: {error!r}"
            raise UnavailableError(text[:200], rule="token") from None

    def _tls(self) -> ssl.SSLContext:
        if self._context is None:
            if self._roots_pem is None:
                import certifi

                self._context = ssl.create_default_context(cafile=certifi.where())
            else:
                text = self._roots_pem.decode("ascii")
                self._context = ssl.create_default_context(cadata=text)
        return self._context


def _wanted_us(rule: Token, body: bytes, default: int) -> int:
    """Reads how often the venue wants to be spoken to; no sooner than each second."""
    if rule.every_ms is None:
        return default
    try:
        found = scalars(body).get(rule.every_ms)
        text = "" if found is None else text_of(found, "number")
    except QuotaryError:
        return default
    return max(int(text), 1_000) * 1_000 if text.isdigit() and len(text) < 10 else default
