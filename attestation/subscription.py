"""What a client of a venue's live channel sends, by the venue's file.

``attestation.live_rules`` holds what a notary accepts of it: the same texts.
"""

from __future__ import annotations

import base64
import re

from attestation.errors import MalformedError, UsageError
from attestation.live_rules import live_rules
from attestation.quote import same_scalar, text_of
from attestation.strictjson import scalars
from attestation.venues import VenueFile
from attestation.venues.websocket import TIME

_ENDPOINT = re.compile(r"wss://([a-z0-9.-]{1,253})(/[!-~]*)?", re.ASCII)


def upgrade_target(
    venue: VenueFile, instrument: str, *, host: str, token: str | None = None, path: str = "/"
) -> str:
    """Returns the target of the upgrade at ``host``.

    ``token`` and ``path`` are those of ``read_endpoint`` where the venue file wants one.
    Raises UsageError for a token too many or too few, MalformedError (W14) for a host,
    path or form of token that the file does not allow, and for an unlisted instrument.
    """
    channel = venue.channel
    target = venue.streamed(channel.target, instrument)
    if (token is None) != (channel.token is None):
        raise UsageError(f"{venue.name} takes {'a' if token is None else 'no'} token", rule="token")
    if token is not None:
        target = target.replace("{path}", path).replace("{token}", token)
    if not live_rules(venue, instrument, host=host).target.fullmatch(target.encode("utf-8")):
        raise MalformedError("not a target of the channel", rule="W14", found=target[:80])
    return target


def upgrade_request(host: str, port: int, target: str, key: bytes) -> bytes:
    """Returns the whole upgrade; ``key`` is 16 random bytes (RFC 6455 section 4.1)."""
    name = host if port == 443 else f"{host}:{port}"  # W10
    lines = (
        f"GET {target} HTTP/1.1",
        f"Host: {name}",
        "User-Agent: quotary",
        "Upgrade: websocket",
        "Connection: Upgrade",
        f"Sec-WebSocket-Key: {base64.b64encode(key).decode('ascii')}",
        "Sec-WebSocket-Version: 13",
        "",
        "",
    )
    return "\r\n".join(lines).encode("ascii")


def read_endpoint(venue: VenueFile, body: bytes) -> tuple[str, str, str]:
    """Reads the answer to a token's request; returns host, path and token.

    Raises MalformedError (W11, W14): not the answer, or a host or path that the venue
    file does not allow.  The host comes from data: nothing else may name it.
    """
    rule = venue.channel.token
    if rule is None:
        raise UsageError(f"{venue.name} needs no token", rule="token")
    found = scalars(body)
    for check in rule.checks or ():
        value = found.get(check.at)
        if value is None or not same_scalar(value, check.wanted):
            raise MalformedError("no token was given", rule="W11", found=check.at)
    if rule.endpoint not in found or rule.token not in found:
        raise MalformedError("no endpoint or token", rule="W11")
    endpoint = _ENDPOINT.fullmatch(text_of(found[rule.endpoint], "string"))
    if endpoint is None:
        raise MalformedError("endpoint is no wss URL", rule="W14")
    host, path = endpoint[1], endpoint[2] or "/"
    token = text_of(found[rule.token], "string")
    upgrade_target(venue, venue.markets[0].instrument, host=host, token=token, path=path)
    return host, path, token


def subscription(venue: VenueFile, instrument: str, *, time_s: int) -> tuple[bytes, ...]:
    """Returns the text messages that subscribe; ``time_s`` is the client's clock."""
    return tuple(
        venue.streamed(text, instrument).replace(TIME, str(time_s)).encode("utf-8")
        for text in venue.channel.subscribe
    )


def keep_alive(venue: VenueFile, instrument: str, *, time_s: int) -> bytes | None:
    """Returns the text message a client keeps the channel alive with; None for none."""
    message = venue.channel.keep_alive.message
    if message is None:
        return None
    return venue.streamed(message, instrument).replace(TIME, str(time_s)).encode("utf-8")
