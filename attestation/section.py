"""Where the reserved sections lie in a parsed HTTP exchange.

The notary cuts reserved names from its own strict parse, and the prover repeats
the same cut to check what it was given; a prover's ``x.`` ranges are taken as
offsets and never parsed (docs/formats.md, "Sections and commitment schemes").
"""

from __future__ import annotations

import dataclasses

from attestation.commitment import SectionField, SectionRequest, commit
from attestation.errors import MalformedError
from attestation.http1 import Request, Response
from attestation.http_head import HeaderLine, Span
from attestation.transcript import Direction, Transcript


@dataclasses.dataclass(frozen=True, slots=True, kw_only=True)
class Exchange:
    """One complete request and its complete response, with their plaintext.

    Of a live session's start, the upgrade; ``frames`` are the places of the messages
    that subscribed, each one whole frame of the client's.
    """

    transcript: Transcript
    request: Request
    response: Response
    frames: tuple[Span, ...] = ()


@dataclasses.dataclass(frozen=True, slots=True, kw_only=True)
class Located:
    """A section's place and the bytes its digest is over."""

    direction: Direction
    start: int
    end: int
    framing: str
    data: bytes


def locate(name: str, exchange: Exchange) -> Located:
    """Cuts a reserved section; raises MalformedError if there is none such."""
    request, response = exchange.request, exchange.response
    match name.split(".", 2):
        case ["request", "line"]:
            return _plain(exchange, "sent", request.line)
        case ["request", "headers"]:
            return _plain(exchange, "sent", request.headers_span)
        case ["request", "header", header]:
            return _plain(exchange, "sent", _single(request.headers, header))
        case ["response", "status"]:
            return _plain(exchange, "received", response.status_line)
        case ["response", "headers"]:
            return _plain(exchange, "received", response.headers_span)
        case ["response", "header", header]:
            return _plain(exchange, "received", _single(response.headers, header))
        case ["response", "body"]:
            span = response.body_span
            return Located(
                direction="received",
                start=span.start,
                end=span.end,
                framing=response.framing,
                data=response.body,
            )
        case ["message", number] if number in map(str, range(len(exchange.frames))):
            return _plain(exchange, "sent", exchange.frames[int(number)])
    raise MalformedError("not a reserved section of the exchange", found=name)


def commit_section(wanted: SectionRequest, exchange: Exchange, algorithm: str) -> SectionField:
    """Locates and commits one requested section.

    Raises MalformedError if the section does not exist, lies outside the
    transcript or belongs to the other direction.
    """
    if wanted.start is not None and wanted.end is not None:
        data = exchange.transcript.cut(wanted.direction, wanted.start, wanted.end)
        return commit(
            wanted, data, start=wanted.start, end=wanted.end, framing="plain", algorithm=algorithm
        )
    place = locate(wanted.name, exchange)
    if place.direction != wanted.direction:
        raise MalformedError(
            f"{wanted.name} is of the other direction",
            found=wanted.direction,
            wanted=place.direction,
        )
    return commit(
        wanted,
        place.data,
        start=place.start,
        end=place.end,
        framing=place.framing,
        algorithm=algorithm,
    )


def section_bytes(wanted: SectionRequest, exchange: Exchange) -> bytes:
    """Returns the bytes a requested section commits to."""
    if wanted.start is not None and wanted.end is not None:
        return exchange.transcript.cut(wanted.direction, wanted.start, wanted.end)
    return locate(wanted.name, exchange).data


def _plain(exchange: Exchange, direction: Direction, span: Span) -> Located:
    data = exchange.transcript.cut(direction, span.start, span.end)
    return Located(direction=direction, start=span.start, end=span.end, framing="plain", data=data)


def _single(headers: tuple[HeaderLine, ...], name: str) -> Span:
    found = [line.span for line in headers if line.name == name]
    if len(found) != 1:
        raise MalformedError(f"header {name!r} occurs {len(found)} times, not once")
    return found[0]
