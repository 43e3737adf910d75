"""A client record with two readings, in a request that is complete under the true key."""

from __future__ import annotations

from types import SimpleNamespace

from tests.adversaries.prover import HOST, Attempt
from tests.tls13.test_two_keys import false_keys, two_key_record
from tests.tls13.tlspeer import Keys


def two_key_request(attempt: Attempt, server_share: bytes) -> bytes:
    """Builds a POST that opens under the client's key and under ``FALSE_KEY``.

    The record's free block lies in the body, so that under the true key the
    request is a whole one; its Content-Length is found by trial, as the record's
    size depends on both key streams.
    """
    client = attempt.client
    side = SimpleNamespace(share=SimpleNamespace(public_bytes=server_share))
    false = false_keys(client, side)  # type: ignore[arg-type]
    for digits in range(1, 5):
        length = 10 ** (digits - 1)
        for _ in range(2):
            head = (
                f"POST /true HTTP/1.1\r\nHost: {HOST}\r\n"
                f"Content-Length: {length:0{digits}}\r\nConnection: close\r\n\r\n"
            ).encode()
            record = two_key_record(Keys(0x1301, client.client_application), false, head)
            # 5 bytes of header, the content type, 16 of the tag.
            body = len(record) - 22 - len(head)
            if body == length:
                return record
            length = body
    raise AssertionError("no length fits")
