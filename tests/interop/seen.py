"""What a session's evidence shows of a server: that it did what its site was told to do."""

from __future__ import annotations

import dataclasses
from unittest import mock

from attestation.tls13 import application, flight
from attestation.tls13.certificates import RootStore
from attestation.tls13.hello import read_extensions
from attestation.tls13.registry import ALPN
from attestation.tls13.wire import CHANGE_CIPHER_SPEC, Reader, RecordReader
from prover.fetch import AttestedFetch
from verifier.recheck import _replay

_OVERHEAD = 17
"""A content type octet and the AEAD's tag."""
_HEADER = 4
"""Of a handshake message."""


@dataclasses.dataclass(frozen=True, kw_only=True)
class Seen:
    """Counts are of the connection from its first byte to the end of the claim.

    ``records`` are those of the response, ``padding`` the octets of padding in
    them; ``updates`` the KeyUpdates of client and server.  ``length`` is how the
    response tells its end: by "content-length", "chunked", or "close".
    """

    retried: bool
    scheme: str
    certificate_requested: bool
    alpn: bool
    change_cipher_spec: bool
    records: int
    padding: int
    tickets: int
    updates: tuple[int, int]
    length: str


def look(fetch: AttestedFetch, roots: RootStore) -> Seen:
    """Opens the records of a fetch's evidence once more, and counts."""
    with (
        mock.patch.object(
            application, "check_session_ticket", wraps=application.check_session_ticket
        ) as tickets,
        mock.patch.object(
            flight, "check_encrypted_extensions", wraps=flight.check_encrypted_extensions
        ) as extensions,
    ):
        verifier = _replay(fetch.evidence, roots, None)
    received = RecordReader("received").feed(fetch.evidence.received)
    spans = verifier.plaintext("received").spans
    server, sent, answers = (
        verifier._server_flight,
        verifier._sent_stream,
        verifier._received_stream,
    )
    assert server is not None and sent is not None and answers is not None
    message = extensions.call_args.args[0]
    answered = read_extensions(Reader(message[_HEADER:], what="", rule=""), "", "")
    response = fetch.exchange.response
    plain = "close" if response.header("content-length") is None else "content-length"
    return Seen(
        retried=verifier._retry is not None,
        scheme=verifier.facts.scheme,
        certificate_requested=server.certificate_requested,
        alpn=ALPN in answered,
        change_cipher_spec=any(item.content_type == CHANGE_CIPHER_SPEC for item in received),
        records=len(spans),
        padding=sum(
            len(received[index].payload) - _OVERHEAD - (end - start) for index, start, end in spans
        ),
        tickets=tickets.call_count,
        updates=(sent._key_updates, answers._key_updates),
        length="chunked" if response.framing == "chunked" else plain,
    )
