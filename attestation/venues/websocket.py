"""The ``[websocket]`` section of a venue file: a channel of quotes, as data.

Texts to the venue and ``equals`` may hold ``{instrument}`` and ``{stream}`` (how the
channel spells the instrument, ``stream`` of its listing); texts to the venue also
``{time_s}``, the sender's clock in whole seconds.  Pointers may hold ``{instrument}``.

    [websocket]
    hosts = ["ws.example.com"]               # "*" in a label only with a token
    port = 443
    target = "/ws"
    subscribe = ['{"subscribe":"{stream}"}'] # text messages, in this order
    prices = "string"
    encoding = "gzip"                        # optional: the venue's are binary, a member each
    push = "on_change"                       # or "timed"
    staleness_ms = 3000                      # age from which a quote is stale
    sends = { requests = 5, seconds = 1 }    # messages to the venue
    connects = { requests = 300, seconds = 300 }
    keep_alive = { sender = "venue", form = "frame", every_s = 20, silence_s = 60 }
    messages = [                             # all that is no quote; anything else is malformed
        { kind = "ack", when = [{ at = "/event", equals = '"subscribed"' }] },
        { kind = "status", text = "hello" },
    ]

    [websocket.quote]
    when = [{ at = "/symbol", equals = '"{instrument}"' }]
    bid = "/bid"
    ask = "/ask"
    sequence = "/seq"
    order = "sequence"                       # a lower one is late, and no quote
"""

from __future__ import annotations

import dataclasses
import re
from typing import Annotated, Literal

from attestation.errors import MalformedError
from attestation.schema import Between, Document, OneOf, Pattern, Text
from attestation.venues.parts import Check, ExchangeTime, Port, Rate, SentAs, Template

STREAM = "{stream}"
TIME = "{time_s}"
ECHO = "{echo}"

Stream = Annotated[str, Pattern(r"[A-Za-z0-9][A-Za-z0-9._:/-]{0,31}", "a stream's name")]
HostPattern = Annotated[
    str,
    Pattern(
        r"(?=.{1,253}\Z)(?:[a-z0-9*](?:[a-z0-9*-]{0,61}[a-z0-9*])?\.)*"
        r"[a-z0-9](?:[a-z0-9-]{0,61}[a-z0-9])?\.[a-z][a-z0-9-]{0,61}[a-z0-9]",
        'a lower-case host name, "*" in labels before the last two',
    ),
]
Seconds = Annotated[int, Between(1, 86_400)]
KINDS = ("ack", "greeting", "heartbeat", "ping", "pong", "status", "reconnect", "refusal")
"""What a message that is no quote may be.

``heartbeat`` and ``status`` need no answer, a ``ping`` does; ``pong`` answers ours.
``reconnect`` announces the end of the connection, ``refusal`` says no to the subscription.
"""

_PATH = re.compile(r"/(?:[A-Za-z0-9._~-]+/)*[A-Za-z0-9._~-]*", re.ASCII)
_PLACEHOLDERS = re.compile(r"\{[a-z_]*\}")


@dataclasses.dataclass(frozen=True, slots=True, kw_only=True)
class MessageRule(Document):
    """A message that is no quote: its whole ``text``, or ``when`` all checks hold.

    ``present`` pointers must be there, ``absent`` must not; ``channel`` points to an id that
    quotes repeat at ``quote.channel``.
    """

    kind: Annotated[str, OneOf(KINDS)]
    text: Text | None = None
    when: tuple[Check, ...] | None = None
    present: tuple[Template, ...] | None = None
    absent: tuple[Template, ...] | None = None
    channel: Template | None = None

    def __post_init__(self) -> None:
        if (self.text is None) == (not self.when and not self.present):
            raise MalformedError("a message has either text, or when or present", rule="messages")


@dataclasses.dataclass(frozen=True, slots=True, kw_only=True)
class KeepAlive(Document):
    """Who says that he lives, how, and how often.

    ``form`` is ``frame`` (ping frames of RFC 6455, answered by pong frames) or ``text``.
    ``message`` is what a client sends as text; ``answer`` what it sends to a venue's
    ``ping`` message, ``{echo}`` being the raw value at ``echo`` of that message.
    ``every_s`` is at most for a client, about for a venue; after ``silence_s`` without
    it the other side may be given up.
    """

    sender: Annotated[str, OneOf(("client", "venue"))]
    form: Annotated[str, OneOf(("frame", "text"))]
    every_s: Seconds
    silence_s: Seconds
    message: Text | None = None
    answer: Text | None = None
    echo: Template | None = None

    def __post_init__(self) -> None:
        sends_text = self.sender == "client" and self.form == "text"
        if (self.message is not None) != sends_text:
            raise MalformedError("message is what a client sends as text", rule="keep_alive")
        if self.answer is not None and (self.sender, self.form) != ("venue", "text"):
            raise MalformedError("answer is to a venue's text", rule="keep_alive")
        if (self.echo is not None) != (self.answer is not None and ECHO in self.answer):
            raise MalformedError("echo and {echo} of the answer need each other", rule="keep_alive")


@dataclasses.dataclass(frozen=True, slots=True, kw_only=True)
class Events(Document):
    """Quotes as changes of single sides, several in one message, applied in order.

    All members but ``at`` point into one event.  A side whose ``remaining`` is zero is
    empty, and there is no quote before another price comes.
    """

    at: Template
    when: tuple[Check, ...]
    ignore: tuple[Check, ...] | None = None
    side: Template
    bid: Text
    ask: Text
    price: Template
    remaining: Template

    def __post_init__(self) -> None:
        for equals in (self.bid, self.ask):
            Check(at=self.side, equals=equals)


@dataclasses.dataclass(frozen=True, slots=True, kw_only=True)
class StreamQuote(Document):
    """Which messages are quotes, and what stands where.

    ``present`` pointers must be there, ``absent`` must not: a second row, an array of
    another length.  With ``events`` bid and ask
    come from the messages that last changed them, otherwise both from one message.
    ``order`` names what never falls: ``sequence``, or ``time`` of the quote; with
    ``contiguous`` the sequence rises by one in every message that has it.
    """

    when: tuple[Check, ...]
    present: tuple[Template, ...] | None = None
    absent: tuple[Template, ...] | None = None
    channel: Template | None = None
    bid: Template | None = None
    ask: Template | None = None
    last: Template | None = None
    events: Events | None = None
    exchange_time: ExchangeTime | None = None
    sequence: Template | None = None
    order: Annotated[str, OneOf(("sequence", "time"))] | None = None
    contiguous: bool | None = None

    def __post_init__(self) -> None:
        sides = self.bid is not None, self.ask is not None
        if sides not in ((True, True), (False, False)) or all(sides) == (self.events is not None):
            raise MalformedError("a quote has bid and ask, or events", rule="quote")
        if self.events is not None and not self.contiguous:
            raise MalformedError("events need a contiguous sequence", rule="quote.contiguous")
        if (self.order == "sequence" or self.contiguous) and self.sequence is None:
            raise MalformedError("no sequence to order by", rule="quote.order")
        time = self.exchange_time
        if self.order == "time" and (time is None or time.of != "quote"):
            raise MalformedError("no time of the quote to order by", rule="quote.order")
        if not self.when and self.channel is None:
            raise MalformedError("nothing tells a quote from other messages", rule="quote.when")

    @property
    def pointers(self) -> tuple[str, ...]:
        """All pointer templates that are read outside of events."""
        time = self.exchange_time.at if self.exchange_time else None
        single = (self.channel, self.bid, self.ask, self.last, self.sequence, time)
        several = (*(self.present or ()), *(self.absent or ()))
        checks = [check.at for check in self.when]
        return (*checks, *several, *(one for one in single if one is not None))


@dataclasses.dataclass(frozen=True, slots=True, kw_only=True)
class Token(Document):
    """A request, on the first REST host, whose answer names the host and a public token.

    ``endpoint`` points to a wss URL whose host must match ``hosts`` and whose path be
    one of ``paths``; ``every_ms`` to the ping interval the venue wants.
    """

    method: Annotated[str, OneOf(("POST",))]
    target: Text
    checks: tuple[Check, ...] | None = None
    token: Template
    endpoint: Template
    every_ms: Template | None = None
    paths: tuple[Text, ...]

    def __post_init__(self) -> None:
        for path in (self.target, *self.paths):
            if not _PATH.fullmatch(path):
                raise MalformedError("not a path", rule="token", found=path[:80])
        if not self.paths:
            raise MalformedError("no path is allowed", rule="token.paths")


@dataclasses.dataclass(frozen=True, slots=True, kw_only=True)
class WebSocket(Document):
    """A channel of quotes; see the module's docstring.

    With ``encoding`` each of the venue's messages is one gzip member in a binary message
    (``attestation.inflate``); the client's are text.  With ``await_greeting`` the
    subscription follows the venue's greeting, otherwise ``wait_ms`` after the upgrade.
    ``target`` holds ``{token}`` where a ``token`` is needed.
    """

    hosts: tuple[HostPattern, ...]
    port: Port
    target: Text
    token: Token | None = None
    subscribe: tuple[Text, ...]
    await_greeting: bool | None = None
    wait_ms: Annotated[int, Between(1, 10_000)] | None = None
    prices: SentAs
    encoding: Annotated[str, OneOf(("gzip",))] | None = None
    push: Annotated[str, OneOf(("on_change", "timed"))]
    staleness_ms: Annotated[int, Between(1, 60_000)]
    keep_alive: KeepAlive
    sends: Rate
    connects: Rate
    life_s: Seconds | None = None
    messages: tuple[MessageRule, ...]
    quote: StreamQuote

    def __post_init__(self) -> None:
        if not self.hosts or len(set(self.hosts)) != len(self.hosts):
            raise MalformedError("hosts are none or repeated", rule="hosts")
        if self.token is None and "*" in "".join(self.hosts):
            raise MalformedError("only a token's host may be a pattern", rule="hosts")
        if self.target.count("{token}") != (self.token is not None):
            raise MalformedError("target and token need each other", rule="target")
        allowed = {"{instrument}", STREAM}
        found = set(_PLACEHOLDERS.findall(self.target))
        if found - allowed - ({"{token}", "{path}"} if self.token else set()):
            raise MalformedError("target has an unknown placeholder", rule="target")
        sent = "".join((*self.subscribe, self.keep_alive.message or ""))
        if set(_PLACEHOLDERS.findall(sent)) - allowed - {TIME, "{}"}:
            raise MalformedError("a message has an unknown placeholder", rule="subscribe")
        if not (self.subscribe or found & allowed):
            raise MalformedError("nothing names the instrument", rule="subscribe")
        kinds = {rule.kind for rule in self.messages}
        if self.await_greeting and "greeting" not in kinds:
            raise MalformedError("no message is a greeting", rule="await_greeting")
        if (self.keep_alive.answer is not None) != ("ping" in kinds):
            raise MalformedError("a ping and its answer need each other", rule="keep_alive")
        assigned = any(rule.channel is not None for rule in self.messages)
        if assigned != (self.quote.channel is not None):
            raise MalformedError("no message assigns the quotes' channel", rule="quote.channel")

    @property
    def sent_as(self) -> Literal["text", "binary"]:
        """What kind of messages the venue sends."""
        return "text" if self.encoding is None else "binary"

    @property
    def pointers(self) -> tuple[str, ...]:
        """All pointer templates, those into an event behind the first one's place."""
        found = list(self.quote.pointers)
        for rule in self.messages:
            found += [check.at for check in rule.when or ()]
            found += [*(rule.present or ()), *(rule.absent or ())]
            found += [rule.channel] if rule.channel is not None else []
        if self.keep_alive.echo is not None:
            found.append(self.keep_alive.echo)
        if self.token is not None:
            found += [check.at for check in self.token.checks or ()]
            found += [self.token.token, self.token.endpoint, self.token.every_ms or ""]
        events = self.quote.events
        if events is not None:
            checks = (*events.when, *(events.ignore or ()))
            inside = (events.side, events.price, events.remaining, *(one.at for one in checks))
            found += [events.at, *(f"{events.at}/0{at}" for at in inside)]
        return tuple(found)

    def allows(self, host: str) -> bool:
        """Whether ``host`` is one of ``hosts``; "*" is any letters, digits and hyphens."""
        return any(
            re.fullmatch(re.escape(known).replace(r"\*", "[a-z0-9-]*"), host)
            for known in self.hosts
        )
