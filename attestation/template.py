"""The requests that a key log may open, byte for byte (docs/witness.md, "Templates").

The secrets of a key log are not linked to one another, and an AEAD does not commit
to its key: a client could write one record that two keys open to two requests.  It
cannot if the whole plaintext of the record is fixed before the keys are.  So under
the binding ``template`` the request is one that the notary renders itself, and it
fills one record without padding, with no other record before it.
"""

from __future__ import annotations

from collections.abc import Container, Sequence
from typing import TYPE_CHECKING, Final

from attestation.errors import MalformedError, UsageError
from attestation.tls13.wire import MIN_CIPHERTEXT, Record

if TYPE_CHECKING:
    from attestation.tls13.application import Plaintext
    from attestation.venues import VenueFile

# Header lines as the client of that name writes them; curl puts its own before
# those it is given, httpx keeps the place of what it sends by default.
_HEADERS: Final = {
    "quotary": (
        "Host: {host}",
        "Accept: application/json",
        "Accept-Encoding: identity",
        "Connection: {connection}",
        "User-Agent: quotary",
    ),
    "httpx": (
        "Host: {host}",
        "Accept: */*",
        "Accept-Encoding: identity",
        "Connection: {connection}",
        "User-Agent: quotary",
    ),
    "curl": (
        "Host: {host}",
        "User-Agent: quotary",
        "Accept: */*",
        "Accept-Encoding: identity",
        "Connection: {connection}",
    ),
}
_CONNECTION: Final = {"sealed": "close", "open": "keep-alive"}

FORMS: Final = tuple(_HEADERS)
"""Whose header lines a template has."""
STATUS: Final = b"HTTP/1.1 200 "
"""How every response under the binding ``template`` starts."""


def render_template(venue: VenueFile, instrument: str, *, form: str, mode: str) -> bytes:
    """Returns the whole request for an instrument of the venue file's closed list.

    ``form`` is one of ``FORMS``, ``mode`` sealed or open.  Raises MalformedError (W14)
    for an instrument that is not listed, UsageError for another form or mode.
    """
    return render_request(
        venue.method,
        venue.target(instrument),
        host=venue.hosts[0],
        port=venue.port,
        form=form,
        mode=mode,
    )


def render_request(
    method: str, target: str, *, host: str, port: int, form: str, mode: str
) -> bytes:
    """Returns a request without a body in one of the forms; see ``render_template``."""
    if form not in _HEADERS:
        raise UsageError("no such form", rule="form", found=form[:40], wanted=list(FORMS))
    if mode not in _CONNECTION:
        raise UsageError(
            "only sealed and open sessions have templates", rule="mode", found=mode[:40]
        )
    # W10: the bare host for port 443, else host:port.
    name = host if port == 443 else f"{host}:{port}"
    lines = [line.format(host=name, connection=_CONNECTION[mode]) for line in _HEADERS[form]]
    head = [f"{method} {target} HTTP/1.1", *lines, ""]
    return "".join(f"{line}\r\n" for line in head).encode("ascii")


def check_requests(
    plaintext: Plaintext,
    records: Sequence[Record],
    templates: Container[bytes],
    *,
    first_record: int,
    first_span: int = 0,
) -> None:
    """Demands that each span from ``first_span`` on is a whole template in one record.

    ``plaintext`` and the raw ``records`` are the client's; ``first_record`` is the
    index of the record that the first of these requests has to be in, and the
    others follow without a gap: no KeyUpdate, no empty record.  Raises
    MalformedError (``template.request``, ``template.record``).
    """
    for wanted, (index, start, end) in enumerate(plaintext.spans[first_span:], first_record):
        if bytes(plaintext.data[start:end]) not in templates:
            raise MalformedError(
                "the request is not the template, whole and in one record",
                rule="template.request",
            )
        if index != wanted:
            raise MalformedError(
                "another record of the client precedes the request",
                rule="template.record",
                found=index,
                wanted=wanted,
            )
        if len(records[index].payload) != end - start + MIN_CIPHERTEXT:
            raise MalformedError("the request's record is padded", rule="template.record")


def check_response(received: bytes) -> None:
    """Demands the fixed beginning of a response, as far as it has come.

    A server that echoes what it is sent, instead of answering, could be made to
    write a record with two readings.  Raises MalformedError (``template.response``).
    """
    found = received[: len(STATUS)]
    if not STATUS.startswith(found):
        raise MalformedError(
            "the response does not start with the status 200",
            rule="template.response",
            found=found.decode("ascii", "replace"),
            wanted=STATUS.decode("ascii"),
        )
