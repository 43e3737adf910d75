"""Targets: the TLS 1.3 transcript verifier, from single messages to whole sessions.

Whole sessions are changed below the encryption: fuzzed bytes say which records to
alter, add, drop, repeat or swap, and the result is encrypted again under the true
keys, so that what is tried is the verifier's rules and not the AEAD.  A model that
knows the keys says what the session's plaintext is; the verifier may refuse, or
must say the same.
"""

from __future__ import annotations

import dataclasses
from collections.abc import Iterable
from functools import cache
from typing import Literal

from attestation.errors import MalformedError, QuotaryError, UntrustedError
from attestation.tls13.certificates import ChainCache, RootStore
from attestation.tls13.keylog import KeylogOpening
from attestation.tls13.opening import EphemeralOpening, Opening
from attestation.tls13.session import TranscriptVerifier
from attestation.tls13.wire import Direction, Record, RecordReader
from notary.claims import Claim, ClaimReader
from notary.limits import Deadlines
from notary.recorded import Stream
from tests.fuzz.edits import Edits
from tests.fuzz.oracle import Target, demand, parse
from tests.tls13.capture import REQUEST, RESPONSE, Pipe
from tests.tls13.certs import HOST, NOW_US, roots_pem, server
from tests.tls13.test_parsers import GENUINE, PARSERS
from tests.tls13.tlsclient import Client
from tests.tls13.tlspeer import Keys, message
from tests.tls13.tlsserver import Server

_NAMES = tuple(sorted(PARSERS))
_CACHE = ChainCache()


@cache
def roots() -> RootStore:
    return RootStore.from_pem(roots_pem())


def messages(data: bytes) -> None:
    """A handshake message; the first byte chooses the parser."""
    choice, body = (data[0], data[1:]) if data else (0, b"")
    name = _NAMES[choice % len(_NAMES)]
    parse(lambda: PARSERS[name](message(GENUINE[name][0], body)), MalformedError, UntrustedError)


def message_seeds() -> Iterable[bytes]:
    for index, name in enumerate(_NAMES):
        yield bytes((index,)) + GENUINE[name][4:]


def record_stream(data: bytes) -> None:
    """A raw stream gives the same records however it is cut; the first byte is its direction."""
    direction: Direction = "received" if data[:1] == b"\x01" else "sent"
    data = data[1:]
    whole = parse(lambda: RecordReader(direction).feed(data))
    reader, found, refused = RecordReader(direction), [], False
    for byte in data:
        more = parse(lambda byte=byte: reader.feed(bytes((byte,))))
        if more is None:
            refused = True
            break
        found += more
    demand(refused == (whole is None), "cut in pieces it is judged otherwise")
    if whole is not None:
        demand(found == whole, "cut in pieces it has other records")
        read = b"".join(record.raw for record in whole)
        demand(data.startswith(read), "records that were not sent")


def stream_seeds() -> Iterable[bytes]:
    session = honest()
    yield b"\x00" + session.raw("sent")
    yield b"\x01" + session.raw("received")[:600]


Epoch = Literal[0, 1, 2]
"""0 in plaintext, 1 under the handshake keys, 2 under the application keys."""


@dataclasses.dataclass(frozen=True)
class Piece:
    """One record before its encryption: in plaintext the record, else the inner plaintext."""

    epoch: Epoch
    inner: bytes
    updates: bool = False
    """Whether the keys change after it."""


@dataclasses.dataclass(frozen=True)
class Session:
    """A session that can be encrypted again."""

    pieces: dict[Direction, list[Piece]]
    secrets: dict[tuple[Direction, int], bytes]
    private_key: bytes
    client_random: bytes
    suite: int

    def raw(self, direction: Direction) -> bytes:
        """Encrypts one direction, record numbers in the order in which the records stand."""
        keys: dict[int, Keys] = {}
        stream = bytearray()
        for piece in self.pieces[direction]:
            if piece.epoch == 0:
                stream += piece.inner
                continue
            secret = self.secrets[direction, piece.epoch]
            used = keys.setdefault(piece.epoch, Keys(self.suite, secret))
            stream += used.seal_inner(piece.inner)
            if piece.updates:
                keys[piece.epoch] = used.updated()
        return bytes(stream)

    def plaintext(self, direction: Direction) -> bytes:
        """What the records under the application keys say."""
        inner = [piece.inner.rstrip(b"\0") for piece in self.pieces[direction] if piece.epoch == 2]
        return b"".join(content[:-1] for content in inner if content[-1:] == b"\x17")


@cache
def honest() -> Session:
    """A session with padding, a ticket and key updates of both sides, taken apart."""
    return _make(updates=True)


@cache
def bare() -> Session:
    """One whose request is one record without padding, as a template wants it."""
    return _make(updates=False)


def _make(*, updates: bool) -> Session:
    client, side = Client(HOST), Server(server(), tickets=1)
    pipe = Pipe(client, side)
    pipe.pump()
    if updates:
        client.write(REQUEST[:90])
        client.key_update()
        client.write(REQUEST[90:], padding=9)
    else:
        client.write(REQUEST)
    pipe.pump()
    side.write(RESPONSE[:40])
    if updates:
        side.key_update()
    side.write(RESPONSE[40:], size=50)
    side.close()
    client.close()
    pipe.pump()
    secrets: dict[tuple[Direction, int], bytes] = {
        ("sent", 1): client.client_handshake,
        ("sent", 2): client.client_application,
        ("received", 1): client.server_handshake,
        ("received", 2): client.server_application,
    }
    made = Session(
        pieces={
            "sent": _take_apart("sent", bytes(pipe.sent), secrets),
            "received": _take_apart("received", bytes(pipe.received), secrets),
        },
        secrets=secrets,
        private_key=client.private_key,
        client_random=client.random,
        suite=client.suite,
    )
    demand(made.raw("sent") == pipe.sent, "the session is not put together again")
    demand(made.raw("received") == pipe.received, "the session is not put together again")
    return made


def _take_apart(
    direction: Direction, stream: bytes, secrets: dict[tuple[Direction, int], bytes]
) -> list[Piece]:
    epoch: Epoch = 1
    keys = Keys(0x1301, secrets[direction, 1])
    pieces, text = [], b""
    for record in RecordReader(direction).feed(stream):
        if record.content_type != 23:
            pieces.append(Piece(0, record.raw))
            continue
        inner = keys.aead.decrypt(keys.nonce(), record.payload, record.raw[:5])
        content = inner.rstrip(b"\0")
        updates = epoch == 2 and content[-1] == 22 and content[0] == 24
        pieces.append(Piece(epoch, inner, updates))
        if updates:
            keys = keys.updated()
        if epoch == 1:
            text += content[:-1]
            # Finished is the last of both flights.
            if _ends_with_finished(text):
                epoch, keys = 2, Keys(0x1301, secrets[direction, 2])
    return pieces


def _ends_with_finished(text: bytes) -> bool:
    kind = -1
    while len(text) >= 4:
        size = 4 + int.from_bytes(text[1:4], "big")
        if len(text) < size:
            return False
        kind, text = text[0], text[size:]
    return kind == 20


def transcript(data: bytes) -> None:
    """A session changed below its encryption is refused, or says what its records say."""
    edits = Edits(data)
    session = bare() if edits.number(3) == 2 else honest()
    pieces = {name: list(items) for name, items in session.pieces.items()}
    while edits.left and edits.number(256) < 240:
        direction: Direction = "received" if edits.number(2) else "sent"
        _change(pieces[direction], edits)
    changed = dataclasses.replace(session, pieces=pieces)
    raw = {direction: changed.raw(direction) for direction in pieces}
    cut = False
    if edits.left and edits.number(4) == 1:
        direction = "received" if edits.number(2) else "sent"
        raw[direction] = edits.splice(raw[direction])
        cut = True
    cuts = 1 + edits.number(4_096)
    opening, template = _opening(changed, edits)
    _judge(changed, raw, opening, template, cut=cut, cuts=cuts)


def _opening(session: Session, edits: Edits) -> tuple[Opening, bytes | None]:
    """The ephemeral key or the key log, true or altered; a key log with the request it binds."""
    kind = edits.number(5)
    secrets = dict(session.secrets)
    if kind < 2:
        key = edits.splice(session.private_key) if kind else session.private_key
        return EphemeralOpening(key), None
    if kind == 4:
        name = tuple(secrets)[edits.number(4)]
        secrets[name] = edits.splice(secrets[name])
    opening = KeylogOpening(
        client_random=session.client_random,
        client_handshake=secrets["sent", 1],
        server_handshake=secrets["received", 1],
        client_application=secrets["sent", 2],
        server_application=secrets["received", 2],
    )
    return opening, None if kind == 2 else REQUEST


def _change(pieces: list[Piece], edits: Edits) -> None:
    kind, at = edits.number(9), edits.number(len(pieces) + 1)
    if kind == 0 or at == len(pieces):
        epoch: Epoch = (2, 1, 2)[edits.number(3)]  # type: ignore[assignment]
        updates = edits.number(8) == 7
        content = message(24, b"\0") if updates else edits.some()
        number = 22 if updates else edits.number(256) or 23
        inner = content + bytes((number,)) + bytes(edits.number(40))
        pieces.insert(at, Piece(epoch, inner, updates))
    elif kind == 1:
        del pieces[at]
    elif kind == 2:
        pieces.insert(at, pieces[at])
    elif kind == 3:
        other = edits.number(len(pieces))
        pieces[at], pieces[other] = pieces[other], pieces[at]
    elif kind == 4:
        piece = pieces[at]
        size = edits.number(len(piece.inner) + 1)
        kept = piece.inner.rstrip(b"\0")[-1:] or b"\x17"
        halves = [piece.inner[:size] + kept, piece.inner[size:]]
        pieces[at : at + 1] = [dataclasses.replace(piece, inner=half) for half in halves if half]
    elif kind == 5:
        pieces[at] = dataclasses.replace(
            pieces[at], inner=pieces[at].inner + bytes(edits.number(64))
        )
    elif kind == 6:
        pieces[at] = dataclasses.replace(pieces[at], epoch=edits.number(3))  # type: ignore[arg-type]
    else:
        inner = edits.splice(pieces[at].inner)
        if inner:
            pieces[at] = dataclasses.replace(pieces[at], inner=inner)


def _judge(
    session: Session,
    raw: dict[Direction, bytes],
    opening: Opening,
    template: bytes | None,
    *,
    cut: bool,
    cuts: int,
) -> None:
    """Verifies; where it is accepted, compares with what the records say."""
    records = parse(lambda: {name: _records(name, raw[name], cuts) for name in raw}, QuotaryError)
    if records is None:
        return
    verifier = TranscriptVerifier(
        host=HOST,
        opening=opening,
        roots=roots(),
        now_us=NOW_US,
        chain_cache=_CACHE,
    )

    def feed() -> bool:
        # One record of each in turn: the order must not matter.
        for index in range(max(map(len, records.values()))):
            for direction in records:
                if index < len(records[direction]):
                    verifier.feed(direction, records[direction][index])
        verifier.finish()
        return True

    accepted = parse(feed, QuotaryError) is not None
    claimed = parse(lambda: _claim(opening, template, records), QuotaryError)
    if not accepted:
        demand(claimed is None, "a claim of what is refused")
        return
    for direction in records:
        found, wanted = bytes(verifier.plaintext(direction).data), session.plaintext(direction)
        demand(
            wanted.startswith(found) if cut else found == wanted, f"{direction}: another plaintext"
        )
        if claimed is not None:
            part = claimed.exchange.transcript.direction(direction)
            demand(part == found, f"{direction}: the claim is not all that was said")
    if claimed is not None and template is not None:
        demand(claimed.exchange.transcript.sent == template, "another request than the template")


def _records(direction: Direction, stream: bytes, cuts: int) -> list[Record]:
    reader, found = RecordReader(direction), []
    for start in range(0, len(stream), cuts):
        found += reader.feed(stream[start : start + cuts])
    if reader.pending_bytes:
        raise MalformedError("cut short", rule="W1")
    return found


def _claim(
    opening: Opening, template: bytes | None, records: dict[Direction, list[Record]]
) -> Claim:
    sent, received = Stream("sent"), Stream("received")
    for number, record in enumerate(records["sent"]):
        sent.add(record, number)
    for number, record in enumerate(records["received"]):
        received.add(record, 100_000 + number)
    reader = ClaimReader(
        host=HOST,
        port=443,
        opening=opening,
        roots=roots(),
        chains=_CACHE,
        now_us=NOW_US,
        sent=sent,
        received=received,
    )
    reader.follow()
    return reader.whole(released_us=0, deadlines=Deadlines(), template=template)


def transcript_seeds() -> Iterable[bytes]:
    yield b""
    for which in (0, 2):
        start = bytes((which,))
        yield start + bytes((0, 1, 8, 6, 2, 4, 10)) + b"0123456789"
        yield (
            start + bytes((0, 0, 0, 9, 0, 0, 4)) + b"GET " + bytes((23, 3, 0, 0, 1, 1, 0, 2, 1, 7))
        )
        yield start + bytes((0, 1, 1, 3, 0, 1, 3, 5, 6, 255, 1, 1, 1, 0, 200))
        for kind in range(5):
            yield start + bytes((255, 0, 0, 0, kind, 1, 0, 3))


TARGETS = (
    Target(name="tls_messages", run=messages, seeds=message_seeds, max_size=2_048),
    Target(name="tls_records", run=record_stream, seeds=stream_seeds, max_size=2_048),
    Target(name="tls_transcript", run=transcript, seeds=transcript_seeds, max_size=512),
)
