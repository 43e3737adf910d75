"""What a session's evidence shows of a server: that it did what its site was told to do."""

from __future__ import annotations

import dataclasses
from unittest import mock

from attestation.secrets import Evidence
from attestation.tls13 import application
from attestation.tls13.certificates import RootStore
from attestation.tls13.wire import APPLICATION_DATA, RecordReader
from verifier.recheck import _replay

_OVERHEAD = 17
"""A content type octet and the AEAD's tag."""


@dataclasses.dataclass(frozen=True, kw_only=True)
class Seen:
    """Counts are of the connection from its first byte to the end of the claim.

    ``records`` are those of the response, ``padding`` the octets of padding in
    them; ``updates`` the KeyUpdates of client and server.
    """

    retried: bool
    certificate_requested: bool
    records: int
    padding: int
    tickets: int
    updates: tuple[int, int]
    compatible: bool
    """Whether the server sent the ChangeCipherSpec of middlebox compatibility."""


def look(evidence: Evidence, roots: RootStore) -> Seen:
    """Opens the records once more, and counts."""
    with mock.patch.object(
        application, "check_session_ticket", wraps=application.check_session_ticket
    ) as tickets:
        verifier = _replay(evidence, roots, None)
    received = RecordReader("received").feed(evidence.received)
    spans = verifier.plaintext("received").spans
    flight, sent, answers = (
        verifier._server_flight,
        verifier._sent_stream,
        verifier._received_stream,
    )
    assert flight is not None and sent is not None and answers is not None
    return Seen(
        retried=verifier._retry is not None,
        certificate_requested=flight.certificate_requested,
        records=len(spans),
        padding=sum(
            len(received[index].payload) - _OVERHEAD - (end - start) for index, start, end in spans
        ),
        tickets=tickets.call_count,
        updates=(sent._key_updates, answers._key_updates),
        compatible=any(record.content_type < APPLICATION_DATA - 2 for record in received),
    )
