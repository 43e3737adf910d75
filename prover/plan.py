"""From an httpx request to the exact bytes sent and the session they belong to."""

from __future__ import annotations

import dataclasses
from collections.abc import Sequence
from functools import cache

import httpx

from attestation.errors import MalformedError, UsageError
from attestation.http1 import read_request
from attestation.keys import DEFAULT_SIGNATURE
from attestation.quote import check_plain_request
from attestation.template import render_template
from attestation.venues import load_venue, shipped_venues
from prover.fetch import FetchPlan
from prover.sections import DEFAULT_SECTIONS, Section
from prover.session import FETCH, MODES, Purpose, SessionSpec

USER_AGENT = b"quotary"
FORM = "quotary"
"""The form of the requests that are made here."""
_OWN_HEADERS = frozenset({b"host", b"accept-encoding", b"connection", b"transfer-encoding"})


@dataclasses.dataclass(frozen=True, slots=True, kw_only=True)
class TransportOptions:
    """What every request of a transport shares.

    ``venue`` with ``market`` or ``instrument`` admits only that venue's quote;
    without them the URL decides.  ``binding`` is what the notary object's TLS
    client gives; ``template`` admits quotes of registered venues alone.
    """

    mode: str = "sealed"
    venue: str | None = None
    market: str | None = None
    instrument: str | None = None
    purpose: Purpose = FETCH
    sections: Sequence[Section] = DEFAULT_SECTIONS
    hash_algorithm: str = "sha256"
    signature_algorithm: str = DEFAULT_SIGNATURE
    binding: str = "full"

    def __post_init__(self) -> None:
        if self.mode not in MODES:
            raise UsageError("mode is sealed or open", rule="mode", found=self.mode, wanted=MODES)
        if self.venue is None:
            if self.market is not None or self.instrument is not None:
                raise UsageError("a market or instrument needs its venue", rule="venue")
        elif self.market is not None and self.instrument is not None:
            raise UsageError("name a market or an instrument, not both", rule="market")

    @property
    def place(self) -> tuple[str, int, str, str] | None:
        """Host, port, target and instrument of the one quote asked for, if there is one."""
        if self.venue is None:
            return None
        venue = load_venue(self.venue)
        if self.instrument is not None:
            instrument = self.instrument
        elif self.market is not None:
            instrument = venue.instrument(self.market)
        else:
            return None
        return venue.hosts[0], venue.port, venue.target(instrument), instrument


def plan_request(request: httpx.Request, body: bytes, options: TransportOptions) -> FetchPlan:
    """Plans the fetch of an httpx request whose body was read.

    Raises UsageError for what cannot be attested: another scheme than https, a
    URL that is not the venue's, a trade at an ad hoc host.
    """
    url = request.url
    if url.scheme != "https":
        raise UsageError("only https can be attested", rule="url", found=str(url)[:200])
    host = url.raw_host.decode("ascii").lower()
    port = url.port or 443
    target = url.raw_path.decode("ascii")
    quote = _quote_of(options, request.method, host, port, target)
    spec = SessionSpec(
        host=host,
        port=port,
        mode=options.mode,
        venue=None if quote is None else quote[0],
        instrument=None if quote is None else quote[1],
        target=None if quote is None else target,
        adhoc=options.purpose.adhoc,
        trade=options.purpose.trade,
        leg=options.purpose.leg,
        retry_of=options.purpose.retry_of,
    )
    headers = _headers(request, host, port, options.mode, venue=quote is not None)
    if body:
        headers.append((b"Content-Length", b"%d" % len(body)))
    head = b"%s %s HTTP/1.1\r\n" % (request.method.encode("ascii"), target.encode("ascii"))
    plaintext = head + b"".join(b"%s: %s\r\n" % item for item in headers) + b"\r\n" + body
    try:
        # What the notary would refuse after the fact is the caller's mistake before it.
        parsed = read_request(plaintext)
        if quote is not None:
            check_plain_request(parsed)
    except MalformedError as error:
        raise UsageError(
            f"the request cannot be attested: {error}",
            rule=error.rule,
            found=error.found,
            wanted=error.wanted,
        ) from None
    accept = next((value for name, value in headers if name.lower() == b"accept"), b"")
    if options.binding == "template":
        spec = _bound_by_template(spec, plaintext)
    return FetchPlan(
        spec=spec,
        plaintext=plaintext,
        request=parsed,
        sections=options.sections,
        expect_json=quote is not None or accept == b"application/json",
        hash_algorithm=options.hash_algorithm,
        signature_algorithm=options.signature_algorithm,
    )


def _bound_by_template(spec: SessionSpec, plaintext: bytes) -> SessionSpec:
    """Names the form; raises UsageError for a request that no template is."""
    if spec.venue is None or spec.instrument is None:
        raise UsageError(
            "without libssl only registered venues' quotes can be attested: see `prover venues "
            "list`",
            rule="binding",
            found=spec.host,
        )
    wanted = render_template(load_venue(spec.venue), spec.instrument, form=FORM, mode=spec.mode)
    if plaintext != wanted:
        raise UsageError(
            "without libssl the request has to be the venue's template, with no header added or "
            "changed",
            rule="binding",
        )
    return dataclasses.replace(spec, binding="template", form=FORM)


def _headers(
    request: httpx.Request, host: str, port: int, mode: str, *, venue: bool
) -> list[tuple[bytes, bytes]]:
    """Host, Accept, Accept-Encoding, Connection, User-Agent, then the caller's own.

    Of the caller's Connection only ``close`` in ``open`` mode is heeded.
    """
    given = {name.lower(): (name, value) for name, value in request.headers.raw}
    accept = given[b"accept"][1] if b"accept" in given else b"*/*"
    agent = given[b"user-agent"][1] if b"user-agent" in given else USER_AGENT
    wish = given[b"connection"][1].lower() if b"connection" in given else b""
    keep = mode == "open" and wish != b"close"
    headers = [
        (b"Host", host.encode("ascii") if port == 443 else f"{host}:{port}".encode("ascii")),
        (b"Accept", b"application/json" if venue and accept == b"*/*" else accept),
        (b"Accept-Encoding", b"identity"),
        (b"Connection", b"keep-alive" if keep else b"close"),
        (b"User-Agent", USER_AGENT if agent.startswith(b"python-httpx/") else agent),
    ]
    done = _OWN_HEADERS | {b"accept", b"user-agent", b"content-length"}
    headers += [item for item in request.headers.raw if item[0].lower() not in done]
    return headers


def _quote_of(
    options: TransportOptions, method: str, host: str, port: int, target: str
) -> tuple[str, str] | None:
    place = options.place
    if place is not None:
        assert options.venue is not None
        if (method, host, port, target) != ("GET", *place[:3]):
            raise UsageError(
                f"the URL is not {options.venue}'s for this instrument",
                rule="url",
                found=f"https://{host}:{port}{target}"[:200],
                wanted=f"https://{place[0]}:{place[1]}{place[2]}",
            )
        return options.venue, place[3]
    found = _quotes().get((method, host, port, target))
    if options.venue is not None and (found is None or found[0] != options.venue):
        raise UsageError(f"the URL is no quote of {options.venue}", rule="url", found=target[:200])
    if found is None and options.purpose.trade is not None:
        raise UsageError(
            "a trade settles on a registered venue's quote: the URL is none",
            rule="url",
            found=f"https://{host}:{port}{target}"[:200],
        )
    return found


@cache
def _quotes() -> dict[tuple[str, str, int, str], tuple[str, str]]:
    """Maps (method, host, port, target) of every quote of a venue file to its place."""
    return {
        (venue.method, venue.hosts[0], venue.port, venue.target(listing.instrument)): (
            venue.name,
            listing.instrument,
        )
        for venue in shipped_venues().values()
        for listing in venue.markets
    }
