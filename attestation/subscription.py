"""What a client of a venue's live channel sends, and nothing else (rule W12).

The prover sends these bytes; the notary accepts no others: the upgrade, the file's
subscription in its order, keep-alives, answers to the venue's pings, pongs, close.
"""

from __future__ import annotations

import base64
import re

from attestation.errors import MalformedError, UsageError
from attestation.quote import same_scalar, text_of
from attestation.strictjson import scalars
from attestation.venues import VenueFile
from attestation.venues.websocket import TIME

MAX_ANSWERS = 16
"""Pings of a venue that may wait for their answers."""

_TOKEN = re.compile(r"[A-Za-z0-9_=.+/%-]{1,1024}", re.ASCII)
_ENDPOINT = re.compile(r"wss://([a-z0-9.-]{1,253})(/[!-~]*)?", re.ASCII)


def upgrade_target(
    venue: VenueFile, instrument: str, *, token: str | None = None, path: str = "/"
) -> str:
    """Returns the target of the upgrade.

    ``token`` and ``path`` are those of ``read_endpoint`` where the venue file wants one.
    Raises UsageError for a token too many or too few, MalformedError (W14) for a form of
    it, or a path, that the file does not allow, and for an unlisted instrument.
    """
    channel = venue.channel
    target = venue.streamed(channel.target, instrument)
    if (token is None) != (channel.token is None):
        raise UsageError(f"{venue.name} takes {'no' if token else 'a'} token", rule="token")
    if token is None or channel.token is None:
        return target
    if not _TOKEN.fullmatch(token):
        raise MalformedError("not a token", rule="W14", found=token[:40])
    if path not in channel.token.paths:
        raise MalformedError(
            "a path the venue file does not allow",
            rule="W14",
            found=path[:80],
            wanted=list(channel.token.paths),
        )
    return target.replace("{path}", path).replace("{token}", token)


def check_upgrade_target(venue: VenueFile, instrument: str, host: str, target: str) -> None:
    """Raises MalformedError (W14) for a host or target that is not the venue file's."""
    channel = venue.channel
    if not channel.allows(host):
        raise MalformedError(
            "not a host of the channel", rule="W14", found=host[:80], wanted=list(channel.hosts)
        )
    wanted = re.escape(venue.streamed(channel.target, instrument))
    if channel.token is not None:
        paths = "|".join(re.escape(path) for path in channel.token.paths)
        wanted = wanted.replace(r"\{path\}", f"(?:{paths})")
        wanted = wanted.replace(r"\{token\}", _TOKEN.pattern)
    if not re.fullmatch(wanted, target, re.ASCII):
        raise MalformedError("not the target of the channel", rule="W14", found=target[:80])


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
    instrument = venue.markets[0].instrument
    check_upgrade_target(
        venue, instrument, host, upgrade_target(venue, instrument, token=token, path=path)
    )
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


class ClientMessages:
    """Judges a client's text messages of one session, in order."""

    def __init__(self, venue: VenueFile, instrument: str) -> None:
        self._wanted = [_pattern(venue, instrument, text) for text in venue.channel.subscribe]
        message = venue.channel.keep_alive.message
        self._keep_alive = None if message is None else _pattern(venue, instrument, message)
        self._answers: list[bytes] = []
        self._sent = 0

    @property
    def subscribed(self) -> bool:
        """Whether all of the subscription was sent."""
        return self._sent == len(self._wanted)

    def expect_answer(self, answer: bytes) -> None:
        """Takes note of an answer (``Passed.answer``) that the client owes."""
        if len(self._answers) == MAX_ANSWERS:
            raise MalformedError("too many pings of the venue", rule="W12")
        self._answers.append(answer)

    @property
    def owed(self) -> int:
        """How many answers the client owes."""
        return len(self._answers)

    def take(self, message: bytes) -> str:
        """Returns what a message is: subscribe, keep_alive or answer.

        Raises MalformedError (W12) for any other.
        """
        if message in self._answers:
            self._answers.remove(message)
            return "answer"
        if not self.subscribed:
            if self._wanted[self._sent].fullmatch(message):
                self._sent += 1
                return "subscribe"
        elif self._keep_alive is not None and self._keep_alive.fullmatch(message):
            return "keep_alive"
        raise MalformedError(
            "the client may not send this",
            rule="W12",
            found=message[:80].decode("utf-8", "replace"),
        )


def _pattern(venue: VenueFile, instrument: str, template: str) -> re.Pattern[bytes]:
    text = re.escape(venue.streamed(template, instrument))
    return re.compile(text.replace(re.escape(TIME), "[0-9]{10}").encode("utf-8"))
