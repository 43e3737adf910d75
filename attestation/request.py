"""What a prover asks a notary for and opens to it, and the purposes that bind its sessions."""

from __future__ import annotations

import dataclasses
import re
from typing import Annotated, ClassVar, Self, cast

from attestation.commitment import SectionRequest
from attestation.document import Binding, Host, Mode, Port
from attestation.encoding import Json, JsonObject
from attestation.errors import MalformedError
from attestation.hashing import hash_string
from attestation.schema import Document, Hex, Hex16, Hex32, Micros, Name, OneOf, Pattern, Text
from attestation.template import FORMS

MAX_SECTIONS = 64
MAX_EXTENSIONS = 8

AdhocText = Annotated[str, Pattern(r"[ -~]{1,128}", "1 to 128 printable ASCII characters")]
Leg = Annotated[str, OneOf(("open", "close"))]
Form = Annotated[str, OneOf(FORMS)]
TrafficSecret = Annotated[
    str, Pattern("(?:[0-9a-f]{64}|[0-9a-f]{96})", "32 or 48 bytes of lower-case hex")
]
"""A secret of the suite's hash: SHA-256 or SHA-384."""


@dataclasses.dataclass(frozen=True, slots=True, kw_only=True)
class SessionRequest(Document):
    """A prover's request for one session, signed over its canonical bytes.

    Names either a registered venue and instrument, or a host and port; exactly
    one purpose: ``adhoc`` text, ``trade`` and ``leg``, or ``feed``, with ``slot_us``
    for one slot of it.  A feed without ``slot_us`` is what the mode ``live`` is for,
    and there ``host`` may say which of the channel's hosts.  ``conn`` names the
    first session of a kept-alive connection to continue.  ``form`` says whose header
    lines the request will have; it belongs to the binding ``template``.  ``retry_of``
    names the session of the same place that is tried again.  ``notary``, ``at_us``
    (the prover's clock) and ``nonce`` keep the request from being replayed.
    """

    TYPE: ClassVar[str | None] = "quotary/session_request/v1"

    notary: Text
    at_us: Micros
    nonce: Hex16
    prover: Text
    mode: Mode
    binding: Binding
    venue: Name | None = None
    instrument: Text | None = None
    host: Host | None = None
    port: Port | None = None
    form: Form | None = None
    conn: Hex16 | None = None
    adhoc: AdhocText | None = None
    trade: Name | None = None
    leg: Leg | None = None
    feed: Name | None = None
    slot_us: Micros | None = None
    retry_of: Hex16 | None = None

    def __post_init__(self) -> None:
        live = self.mode == "live"
        venue = self.venue is not None and self.instrument is not None
        host = self.host is not None and self.port is not None
        named = self.venue is not None or self.instrument is not None
        placed = self.host is not None or self.port is not None
        if live and venue and self.port is None:
            placed = False  # The host is which one of the channel's.
        if named != venue or placed != host or venue == placed:
            raise MalformedError("name either venue and instrument, or host and port")
        purposes = [self.adhoc is not None, self.trade is not None, self.feed is not None]
        if purposes.count(True) != 1 or (self.trade is None) != (self.leg is None):
            raise MalformedError("name exactly one purpose: adhoc, trade and leg, or feed")
        if host and self.adhoc is None:
            raise MalformedError("an ad hoc host takes an adhoc purpose", rule="W14")
        self._check_feed(live=live)
        if (self.binding == "template") != (self.form is not None):
            raise MalformedError("a form belongs to the binding template", rule="form")
        if self.form is not None and (host or live):
            raise MalformedError(
                "a template is of a venue's request, sealed or open", rule="binding"
            )

    def _check_feed(self, *, live: bool) -> None:
        if self.slot_us is not None and self.feed is None:
            raise MalformedError("a slot belongs to a feed", rule="slot_us")
        if live != (self.feed is not None and self.slot_us is None):
            raise MalformedError("live is the mode of a feed's sessions without slot", rule="mode")
        if self.slot_us is not None and self.mode != "sealed":
            raise MalformedError("a session for one slot is sealed", rule="mode")
        if self.conn is not None and self.feed is not None:
            raise MalformedError("a feed's session continues no other", rule="conn")
        if self.retry_of is not None and live:
            raise MalformedError("live sessions follow one another freely", rule="retry_of")

    @property
    def purpose(self) -> str:
        """The purpose the notary attests; ``check_purpose`` tells the forms."""
        if self.adhoc is not None:
            return f"adhoc/{self.adhoc}"
        if self.feed is None:
            return f"trade/{self.trade}/{self.leg}"
        if self.slot_us is None:
            return f"live/{self.feed}/{self.venue}"
        return f"slot/{self.feed}/{self.venue}/{self.slot_us}"


_PURPOSE = re.compile(
    r"adhoc/[ -~]{1,128}"
    r"|trade/[a-z0-9][a-z0-9._-]{0,63}/(?:open|close)"
    r"|live/[a-z0-9][a-z0-9._-]{0,63}/[a-z0-9][a-z0-9._-]{0,63}"
    r"|slot/[a-z0-9][a-z0-9._-]{0,63}/[a-z0-9][a-z0-9._-]{0,63}/(?:0|[1-9][0-9]{0,15})",
    re.ASCII,
)


def check_purpose(purpose: str) -> None:
    """Raises MalformedError unless the purpose is one a notary builds."""
    if not _PURPOSE.fullmatch(purpose):
        raise MalformedError("not a purpose a notary builds", found=purpose[:160])


class Opened(Document):
    """What a prover opens, told by ``kind``: KeyOpening or KeylogOpened.

    Secrets alone: no key, iv, nonce or record number has a member.
    """

    __slots__ = ()
    kind: str

    @classmethod
    def from_json(cls, value: Json) -> Self:
        """Builds the opening of the value's kind; raises MalformedError."""
        if cls is not Opened:
            return super().from_json(value)
        kind = value.get("kind") if type(value) is dict else None
        if kind == "keylog":
            return cast(Self, KeylogOpened.from_json(value))
        # Any other kind is refused there.
        return cast(Self, KeyOpening.from_json(value))


@dataclasses.dataclass(frozen=True, slots=True, kw_only=True)
class KeyOpening(Opened):
    """The client's ephemeral private key of the session's (EC)DHE group, opened.

    X25519: 32 bytes; NIST curves: the scalar, big-endian, of the field's size.
    """

    kind: Annotated[str, OneOf(("ephemeral",))]
    private_key: Hex

    def __repr__(self) -> str:
        return "KeyOpening(kind='ephemeral', private_key=...)"


@dataclasses.dataclass(frozen=True, slots=True, kw_only=True)
class KeylogOpened(Opened):
    """The four secrets of one connection from its client's key log, opened.

    ``client_random`` is the ClientHello's, which the log names the secrets by; they
    are CLIENT_ and SERVER_HANDSHAKE_TRAFFIC_SECRET and CLIENT_ and
    SERVER_TRAFFIC_SECRET_0, each of the length of the suite's hash.
    """

    kind: Annotated[str, OneOf(("keylog",))]
    client_random: Hex32
    client_handshake: TrafficSecret
    server_handshake: TrafficSecret
    client_application: TrafficSecret
    server_application: TrafficSecret

    def __repr__(self) -> str:
        return "KeylogOpened(kind='keylog', ...)"

    def commitment(self, *, session: str, nonce: str) -> KeylogCommitment:
        """Returns what binds these secrets to a session before anything is sent."""
        return KeylogCommitment(
            session=session,
            nonce=nonce,
            client_random=self.client_random,
            client_handshake=self.client_handshake,
            server_handshake=self.server_handshake,
            client_application=self.client_application,
            server_application=self.server_application,
        )


@dataclasses.dataclass(frozen=True, slots=True, kw_only=True)
class KeylogCommitment(Document):
    """What is hashed to commit to a key log; it is never sent itself.

    ``session`` and ``nonce`` are the notary's, from the session's creation.
    """

    TYPE: ClassVar[str | None] = "quotary/commit/v1"

    session: Hex16
    nonce: Hex16
    client_random: Hex32
    client_handshake: TrafficSecret
    server_handshake: TrafficSecret
    client_application: TrafficSecret
    server_application: TrafficSecret

    def __repr__(self) -> str:
        return f"KeylogCommitment(session={self.session!r}, ...)"

    @property
    def digest(self) -> str:
        """The commitment as it is sent: the SHA-256 of the canonical bytes, as a hash string."""
        return hash_string(self.encode())


@dataclasses.dataclass(frozen=True, slots=True, kw_only=True)
class ExtensionRequest(Document):
    """An extension asked for by id; ``value``, if given, must be what the notary derives."""

    id: Annotated[str, Pattern(r"[a-z0-9_]+/v[1-9][0-9]*", "an extension id")]
    value: JsonObject | None = None


@dataclasses.dataclass(frozen=True, slots=True, kw_only=True)
class AttestationRequest(Document):
    """The sections and extensions to attest, and the algorithms to use."""

    TYPE: ClassVar[str | None] = "quotary/request/v1"

    session: Hex16
    hash: Text
    signature: Text
    sections: tuple[SectionRequest, ...]
    extensions: tuple[ExtensionRequest, ...]

    def __post_init__(self) -> None:
        if len(self.sections) > MAX_SECTIONS or len(self.extensions) > MAX_EXTENSIONS:
            raise MalformedError("too many sections or extensions")
        names = [section.name for section in self.sections]
        ids = [extension.id for extension in self.extensions]
        if len(set(names)) != len(names) or len(set(ids)) != len(ids):
            raise MalformedError("section names and extension ids must be unique")
