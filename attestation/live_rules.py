"""What the client of a live session has to send, and may, by the venue's file (W12, W14)."""

from __future__ import annotations

import re
from collections.abc import Callable

from attestation.errors import MalformedError
from attestation.feed import Channel, Passed
from attestation.live import LiveRules
from attestation.venues import VenueFile
from attestation.venues.websocket import TIME, WebSocket

ANSWER_US = 4_000_000
"""An answer is late after this: sooner than for any venue (crypto.com closes after 5 s),
or a client that does not answer could have the venue blamed for closing."""

_TOKEN = r"[A-Za-z0-9._~+/=%-]{1,2048}"
"""A token as a query's value: nothing that could add a parameter."""


def live_rules(venue: VenueFile, instrument: str, *, host: str) -> LiveRules:
    """Returns the rules for one instrument's channel at ``host``.

    Raises MalformedError (W14) for an instrument or host the file does not list,
    UsageError for a file without a channel.
    """
    file = venue.channel
    if not file.allows(host):
        raise MalformedError(
            f"host is not a live one of {venue.name}",
            rule="W14",
            found=host[:253],
            wanted=list(file.hosts),
        )
    keep, message = file.keep_alive, file.keep_alive.message

    def text(template: str) -> re.Pattern[bytes]:
        rendered = re.escape(venue.streamed(template, instrument))
        return re.compile(rendered.replace(re.escape(TIME), "([1-9][0-9]{9})").encode())

    return LiveRules(
        host=host,
        port=file.port,
        target=_target(file, venue.streamed(file.target, instrument)),
        subscribe=tuple([text(one) for one in file.subscribe]),
        keep_alive=() if message is None else (text(message),),
        pings=(keep.sender, keep.form) == ("client", "frame"),
        answer=None if keep.answer is None else _answer(Channel(venue, instrument)),
        asks=file.sent_as,
        answer_us=ANSWER_US,
        sends=file.sends,
        # Half way between when it should speak and when the venue gives it up.
        silence_us=(keep.every_s + keep.silence_s) * 500_000 if keep.sender == "client" else None,
    )


def _target(file: WebSocket, rendered: str) -> re.Pattern[bytes]:
    pattern = re.escape(rendered)
    if file.token is not None:
        paths = "|".join([re.escape(path) for path in file.token.paths])
        pattern = pattern.replace(re.escape("{path}"), f"(?:{paths})")
        pattern = pattern.replace(re.escape("{token}"), _TOKEN)
    return re.compile(pattern.encode())


def _answer(channel: Channel) -> Callable[[bytes], bytes | None]:
    def answer(message: bytes) -> bytes | None:
        try:
            found = channel.read(message, 0)
        except MalformedError:
            return None  # no question, whatever else it is
        return found.answer if isinstance(found, Passed) else None

    return answer
