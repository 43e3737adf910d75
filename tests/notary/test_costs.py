"""What verifying costs the notary's one thread grows with the bytes, however they come."""

from __future__ import annotations

import time

from attestation.tls13.certificates import ChainCache, RootStore
from attestation.tls13.opening import EphemeralOpening
from attestation.tls13.wire import RecordReader
from notary.claims import Claim, ClaimReader
from notary.limits import Deadlines
from notary.recorded import Stream
from tests.tls13.capture import REQUEST, Pipe
from tests.tls13.certs import HOST, NOW_US, roots_pem, server
from tests.tls13.tlsclient import Client
from tests.tls13.tlsserver import Server

CHUNKS = 16_000


def test_many_chunks_in_many_records_are_walked_once() -> None:
    """Open mode looks for the end at each record: from the start each time took ten seconds."""
    client, venue = Client(HOST), Server(server())
    pipe = Pipe(client, venue)
    pipe.pump()
    client.write(REQUEST)
    pipe.pump()
    head = b"HTTP/1.1 200 OK\r\nTransfer-Encoding: chunked\r\n\r\n"
    venue.write(head + b"1\r\nx\r\n" * CHUNKS + b"0\r\n\r\n", size=50)
    pipe.pump()
    sent, received = Stream("sent"), Stream("received")
    for record in RecordReader("sent").feed(bytes(pipe.sent)):
        sent.add(record, 1)
    reader = ClaimReader(
        host=HOST,
        port=443,
        opening=EphemeralOpening(client.private_key),
        roots=RootStore.from_pem(roots_pem()),
        chains=ChainCache(),
        now_us=NOW_US,
        sent=sent,
        received=received,
    )
    claim: Claim | None = None
    started = time.thread_time()
    for record in RecordReader("received").feed(bytes(pipe.received)):
        assert claim is None
        received.add(record, 2)
        reader.follow()
        claim = reader.next(ended=False, released_us=0, deadlines=Deadlines(), template=None)
    assert time.thread_time() - started < 2.0
    assert claim is not None
    assert claim.exchange.response.body == b"x" * CHUNKS
