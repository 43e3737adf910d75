"""Targets: HTTP/1.1 whole and as it arrives, the CONNECT head, JSON as venues send it, prices."""

from __future__ import annotations

import base64
import contextlib
import functools
import gzip
import json
import math
import zlib
from collections.abc import Callable, Iterable
from decimal import Decimal
from fractions import Fraction
from typing import Any

import h11
import orjson

from attestation.chunked import ChunkWalk
from attestation.errors import MalformedError, QuotaryError, RefusedError
from attestation.http1 import (
    MAX_BODY,
    Request,
    Response,
    check_host,
    first_request,
    first_response,
    read_request,
    read_response,
)
from attestation.http_date import http_date_us
from attestation.inflate import MAX_INFLATED, gunzip
from attestation.price import MAX_DIGITS, format_exact, fraction, mid, normalize
from attestation.quote import check_fresh
from attestation.section import Exchange, Located, locate
from attestation.strictjson import Scalar, check_pointer, scalar, scalars
from attestation.transcript import Transcript
from notary.connect import read_connect
from prover.control import Call, Ticket, _json
from tests.attestation.http1_messages import CHUNKED, GET, PLAIN, POST
from tests.fuzz.oracle import Target, certain, demand, parse
from tests.verifier import forge

METHODS = ("GET", "HEAD", "POST")


def http_request(data: bytes) -> None:
    """A request is the same whole, in pieces, and to another reader; sections lie inside it."""
    request = parse(lambda: read_request(data))
    first = _arrives(data, lambda part: first_request(part))
    if request is None:
        return
    demand(first == (request, len(data)), "a request that arrives is another")
    parse(lambda: check_host(request, host="api.example.com", port=443))
    events = _h11(h11.SERVER, None, data)
    (head, body) = events
    demand(head.method == request.method.encode(), "h11 reads another method")
    demand(head.target == request.target.encode(), "h11 reads another target")
    _same_headers(head.headers, request)
    demand(body == data[request.body.start : request.body.end], "h11 reads another body")
    _check_sections(
        Exchange(
            transcript=Transcript(sent=data, received=PLAIN),
            request=request,
            response=read_response(PLAIN, method="GET"),
        ),
        "request",
    )


def http_response(data: bytes) -> None:
    """A response is the same whole, in pieces, and to another reader.

    The first byte chooses the request's method and whether the server closed.
    """
    choice, data = (data[0], data[1:]) if data else (0, b"")
    method, closed = METHODS[choice % 3], bool(choice & 0x80)
    response = parse(lambda: read_response(data, method=method, closed=closed))
    chunks = ChunkWalk(MAX_BODY)
    first = _arrives(data, lambda part: _first(part, method, chunks))
    if response is None:
        return
    if response.keep_alive or not closed:
        demand(first == (response, len(data)), "a response that arrives is another")
    parse(lambda: check_fresh(response), QuotaryError)
    head, body = _h11(h11.CLIENT, method, data)
    demand(head.status_code == response.status, "h11 reads another status")
    _same_headers(head.headers, response)
    demand(body == response.body, "h11 reads another body")
    date = response.header("date") if _count(response, "date") == 1 else None
    if date is not None and date.isascii():
        parse(lambda: http_date_us(date.decode("ascii")))
    _check_sections(
        Exchange(
            transcript=Transcript(sent=GET, received=data),
            request=read_request(GET),
            response=response,
        ),
        "response",
    )


def _first(data: bytes, method: str, chunks: ChunkWalk) -> tuple[Response, int] | None:
    """Goes on with the chunks walked before, and demands what a walk from the start gives."""
    fresh = first_response(data, method=method)
    demand(first_response(data, method=method, chunks=chunks) == fresh, "chunks walked otherwise")
    return fresh


def _arrives(data: bytes, read: Callable[[bytes], Any]) -> Any:
    """Reads every beginning: once found the message stays, and once refused so is all that follows.

    Long inputs are read at a few dozen lengths only.
    """
    found, refused = None, False
    step = max(1, len(data) // 64)
    for size in sorted({*range(0, len(data), step), len(data)}):
        part = data[:size]
        try:
            now = read(part)
        except MalformedError:
            demand(found is None, "a message is refused after it was found")
            refused = True
            continue
        demand(not refused or now is None, "a message is found after it was refused")
        demand(not refused, "a refused beginning becomes possible again")
        if found is not None:
            demand(now == found, "a message changes after it was found")
        found = found or now
    return found


def _h11(role: Any, method: str | None, data: bytes) -> tuple[Any, bytes]:
    """Reads with another reader what ours took; both must take it the same way."""
    connection = h11.Connection(role, max_incomplete_event_size=1 << 20)
    if method is not None:
        connection.send(h11.Request(method=method, target="/", headers=[("Host", "a")]))
        connection.send(h11.EndOfMessage())
    connection.receive_data(data)
    head, body = None, b""
    closed = False
    while True:
        try:
            event = connection.next_event()
        except h11.RemoteProtocolError as error:
            # Narrower than ours: bytes from 0x80 on in a reason, a Content-Length beside
            # a 304, the Host's letters.  A difference of bodies would be one of meaning.
            raise _Narrower from error
        if event is h11.NEED_DATA and not closed:
            connection.receive_data(b"")
            closed = True
            continue
        if isinstance(event, (h11.Request, h11.Response)):
            head = event
        elif isinstance(event, h11.Data):
            body += bytes(event.data)
        else:
            break
    demand(head is not None, "h11 finds no message")
    return head, body


class _Narrower(Exception):
    """The other reader refuses what ours takes."""


def _narrow(run: Callable[[bytes], None]) -> Callable[[bytes], None]:
    @functools.wraps(run)
    def wrapped(data: bytes) -> None:
        with contextlib.suppress(_Narrower):
            run(data)

    return wrapped


def _same_headers(theirs: Any, message: Request | Response) -> None:
    ours = [(line.name.encode(), line.value) for line in message.headers]
    demand(
        [(bytes(name), bytes(value)) for name, value in theirs] == ours, "h11 reads other headers"
    )


def _count(message: Request | Response, name: str) -> int:
    return sum(line.name == name for line in message.headers)


def _check_sections(exchange: Exchange, side: str) -> None:
    message = exchange.request if side == "request" else exchange.response
    names = ["line", "headers"] if side == "request" else ["status", "headers", "body"]
    names += [f"header.{line.name}" for line in message.headers]
    for name in names:
        located = parse(lambda name=name: _located(f"{side}.{name}", exchange))
        if located is not None and located.framing == "plain":
            whole = exchange.transcript.direction(located.direction)
            demand(whole[located.start : located.end] == located.data, "a section lies elsewhere")


def _located(name: str, exchange: Exchange) -> Located:
    return locate(name, exchange)


def connect(data: bytes) -> None:
    """A CONNECT head is read once it is whole, however it arrives, and repeats no token."""
    whole = parse(lambda: read_connect(data), MalformedError, RefusedError)
    if whole is None:
        return
    demand(data.endswith(whole.rest), "the rest is not what follows")
    head = data[: len(data) - len(whole.rest)]
    for size in range(len(head)):
        with certain("a beginning of a good head is no error"):
            demand(read_connect(head[:size]) is None, "a head is found before its end")
    if whole.token not in (whole.session, whole.host):
        demand(whole.token not in repr(whole), "a token is shown")
    demand(0 < whole.port < 65_536, "a port that is none")


def connect_seeds() -> Iterable[bytes]:
    credentials = base64.b64encode(b"0" * 32 + b":" + b"1" * 32)
    yield (
        b"CONNECT api.kraken.com:443 HTTP/1.1\r\nHost: api.kraken.com:443\r\n"
        b"Proxy-Authorization: Basic " + credentials + b"\r\n\r\n\x16\x03\x01"
    )
    yield b"CONNECT a:1 HTTP/1.0\r\n\r\n"
    yield b"CONNECT a:1 HTTP/1.1\r\nContent-Length: 1\r\n\r\n"


def strict_json(data: bytes) -> None:
    """Strict JSON is JSON to every reader, with the same values at the same pointers."""
    found = parse(lambda: scalars(data))
    if found is None:
        return
    try:
        value = json.loads(data, parse_float=str, parse_int=str, parse_constant=_no_constant)
    except (ValueError, RecursionError) as error:
        demand(False, f"another reader refuses it: {error}")
        return
    if not any(_beyond(each) for each in found.values()):
        demand(_orjson_takes(data), "orjson refuses it")
    walked = dict(_walk(value, ""))
    demand(walked.keys() == found.keys(), "other pointers")
    for pointer, each in found.items():
        check_pointer(pointer)
        demand(data[each.start : each.end] == each.raw, "a value stands elsewhere")
        demand(_read(each) == walked[pointer], "another value")
        demand(scalar(each.raw) == each._replace(start=0, end=len(each.raw)), "another alone")
    demand(list(walked) == list(found), "another order")


def _no_constant(text: str) -> None:
    demand(False, f"{text} is taken")


def _beyond(each: Scalar) -> bool:
    """A number that overflows a double, which orjson refuses and JSON does not."""
    return each.kind == "number" and not math.isfinite(float(each.raw))


def _orjson_takes(data: bytes) -> bool:
    try:
        orjson.loads(data)
    except ValueError:
        return False
    return True


def _read(each: Scalar) -> Any:
    if each.kind == "string":
        return each.text()
    if each.kind == "number":
        return each.raw.decode()
    return json.loads(each.raw)


def _walk(value: Any, pointer: str) -> Iterable[tuple[str, Any]]:
    if isinstance(value, dict) and value:
        for key, item in value.items():
            token = key.replace("~", "~0").replace("/", "~1")
            yield from _walk(item, f"{pointer}/{token}")
    elif isinstance(value, list) and value:
        for index, item in enumerate(value):
            yield from _walk(item, f"{pointer}/{index}")
    else:
        yield pointer, value


def json_seeds() -> Iterable[bytes]:
    for body in forge.BODIES.values():
        yield body.format(bid=forge.BID, ask=forge.ASK, last=forge.LAST).encode()
    yield b' {"a/b~":[1e5,-0,"\\u00e9\\n",true,null,[],{ }],"":{"":0.10}} '
    yield b'"\\ud834\\udd1e"'


def prices(data: bytes) -> None:
    """A price in normal form is exact, the only one of its value, and stays what it is."""
    text = data.decode("utf-8", "replace")
    left, _, right = text.partition(" ")
    price = parse(lambda: normalize(left))
    parse(lambda: fraction(left))
    other = parse(lambda: normalize(right))
    if price is None:
        return
    with certain("a price in normal form is one"):
        exact = fraction(price)
        demand(exact == Fraction(Decimal(left)), "another value")
        demand(normalize(price) == price, "normal form has a normal form")
        demand(format_exact(exact) == price, "a price is written otherwise")
        if other is not None:
            middle = mid(price, other)
            demand(2 * middle == exact + fraction(other), "the middle is not the middle")
    if other is not None:
        written = parse(lambda: format_exact(middle))
        if written is not None:
            demand(fraction(written) == middle, "the middle is written otherwise")
        demand((price == other) == (exact == fraction(other)), "two texts for one price")
    demand(sum(map(str.isdigit, price)) <= MAX_DIGITS, "too many digits")


def price_seeds() -> Iterable[bytes]:
    yield from (b"0.10", b"-0.0", b"64000.1 64000.3", b"1" * 30, b"0." + b"1" * 29, b"1e5", b"00 0")


def gzip_members(data: bytes) -> None:
    """A gzip member holds what another reader finds in it, and no more than is allowed.

    The first byte's lowest bit gives what follows the frame of a true member.
    """
    member = data[1:]
    if data[:1] and data[0] & 1:
        inside = b""
        with contextlib.suppress(zlib.error):
            inside = zlib.decompressobj(-15).decompress(member, 2 * MAX_INFLATED)
        tail = zlib.crc32(inside).to_bytes(4, "little") + len(inside).to_bytes(4, "little")
        member = b"\x1f\x8b\x08" + bytes(7) + member + tail
    text = parse(lambda: gunzip(member))
    if text is None:
        return
    demand(len(text) <= MAX_INFLATED, "more than is allowed")
    with certain("what was read is a member to another reader"):
        demand(gzip.decompress(member) == text, "another text")
        demand(gunzip(gzip.compress(text, mtime=0)) == text, "another member says another thing")


def member_seeds() -> Iterable[bytes]:
    for text in (b"", b'{"ping":1777897816000}', b"7" * 300, b"1" * MAX_INFLATED, bytes(70_000)):
        for level in (0, 1, 9):
            member = gzip.compress(text, level, mtime=0)
            yield b"\0" + member
            yield b"\1" + member[10:-8]


def notary_answers(data: bytes) -> None:
    """What a notary answers a prover is a value or an error; the first byte is the status."""
    status, body = (data[0] % 6 * 100 or 404, data[1:]) if data else (200, b"")
    ticket = Ticket(Call(method="POST", path="/", body=None, what="fuzz"), (status, body))
    value = parse(lambda: _json(ticket), QuotaryError)
    demand(value is None or (isinstance(value, dict) and status < 300), "a refusal as a value")


def answer_seeds() -> Iterable[bytes]:
    yield b"\x02" + json.dumps({"id": "0" * 32, "token": "1" * 32}).encode()
    problem = {"type": "urn:quotary:problem:refused", "title": "t", "status": 422, "detail": "d"}
    yield b"\x04" + json.dumps(problem | {"rule": "W9", "found": [1], "wanted": {"a": 1}}).encode()
    yield b"\x05<html>"


def _requests() -> Iterable[bytes]:
    return (GET, POST)


def _response_seeds() -> Iterable[bytes]:
    for message in (PLAIN, CHUNKED, CHUNKED.replace(b"close", b"keep-alive")):
        yield b"\x00" + message
    yield b"\x80HTTP/1.1 200 OK\r\nDate: Thu, 14 May 2026 09:26:53 GMT\r\nAge: 0\r\n\r\nuntil close"
    yield b"\x01HTTP/1.1 200 OK\r\nContent-Length: 9\r\n\r\n"
    yield b"\x00HTTP/1.1 304 Not Modified\r\nContent-Length: 9\r\n\r\n"
    yield b"\x00HTTP/1.1 204 \r\nA: b\r\nA: c\r\n\r\n"


TARGETS = (
    Target(name="http_request", run=_narrow(http_request), seeds=_requests, max_size=2_048),
    Target(name="http_response", run=_narrow(http_response), seeds=_response_seeds, max_size=2_048),
    Target(name="connect", run=connect, seeds=connect_seeds, max_size=2_048),
    Target(name="strict_json", run=strict_json, seeds=json_seeds),
    Target(name="prices", run=prices, seeds=price_seeds, max_size=256),
    Target(name="gzip_members", run=gzip_members, seeds=member_seeds),
    Target(name="notary_answers", run=notary_answers, seeds=answer_seeds),
)
