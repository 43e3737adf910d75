"""A TLS connection to a venue through a notary's relay."""

from __future__ import annotations

import base64
import json
import socket

from attestation.chunked import ChunkWalk
from attestation.errors import MalformedError, UnavailableError
from attestation.http1 import MAX_BODY, Response, first_response, read_response, response_length
from prover.control import problem
from prover.flow import Channel, Flow, connect, receive, send
from prover.libssl import ClientContext
from prover.notary_client import Notary
from prover.session import GrantedSession
from prover.tls import OwnConnection, TlsClient

MAX_HEAD = 16 * 1024


class Link:
    """A TLS connection to the venue through the notary's relay."""

    def __init__(self, channel: Channel, tls: TlsClient, host: str) -> None:
        self._channel = channel
        self._own: OwnConnection | None = None
        self.tls = tls
        self.host = host

    @classmethod
    def open(
        cls, notary: Notary, session: GrantedSession, *, complete_refused: bool = False
    ) -> Flow[Link]:
        """Connects to the relay and completes the handshake.

        With ``complete_refused`` also where the certificate does not verify
        (``TlsClient.refused``), if libssl is the client.
        """
        channel: Channel | None = None
        tls: TlsClient
        if complete_refused and isinstance(notary.tls, ClientContext):
            tls = notary.tls.connect(session.host, complete_refused=True)
        else:
            tls = notary.tls.connect(session.host)
        try:
            tls.handshake()
            # The ClientHello goes along, which saves a round trip; a relay that
            # refuses has sent nothing of it on.
            channel, rest = yield from dial(session, tls.outgoing())
            link = cls(channel, tls, session.host)
            if rest:
                tls.feed(rest)
            while not tls.handshake():
                if hello := tls.outgoing():
                    yield from send(channel, hello)
                yield from link._receive_raw()
            if tls.alpn not in (b"", b"http/1.1"):
                raise MalformedError("the server chose another protocol", rule="W2")
            return link
        except BaseException:
            if channel is not None:
                channel.close()
            tls.close()
            raise

    def send(self, data: bytes) -> Flow[None]:
        """Sends application data, together with what the handshake left to send."""
        self.tls.write(data)
        yield from send(self._channel, self.tls.outgoing())

    def say_goodbye(self) -> Flow[None]:
        """Ends the own direction with close_notify, after what the handshake left to send."""
        self.tls.finish()
        yield from send(self._channel, self.tls.outgoing())

    def receive_response(self, method: str) -> Flow[tuple[bytes, Response]]:
        """Returns the plaintext of one complete response, and the response."""
        data = self.tls.read()
        while not data:
            yield from self._receive_raw()
            data = self.tls.read()
        chunks = ChunkWalk(MAX_BODY)
        while True:
            closed = self.tls.close_notify
            found = first_response(data, method=method, closed=closed, chunks=chunks)
            if found is not None and found[1] == len(data):
                return data, found[0]
            if found is not None or self.tls.close_notify:
                # Never complete, or more than one: the error says what it is.
                return data, read_response(data, method=method, closed=self.tls.close_notify)
            yield from self._receive_raw()
            data += self.tls.read()

    def receive_size(self, size: int) -> Flow[bytes]:
        """Receives until ``size`` raw bytes arrived from byte 0; returns their new plaintext."""
        while len(self.tls.received) < size:
            yield from self._receive_raw()
        return self.tls.read()

    @property
    def own(self) -> OwnConnection:
        """What this side knows of the connection, its opening included; after ``send``."""
        if self._own is None:
            self._own = self.tls.own()
        return self._own

    def is_stale(self) -> bool:
        """Whether an idle connection was closed, or heard what it did not ask for.

        Session tickets may come at any time and are taken.
        """
        while (data := self._channel.poll()) is not None:
            if not data:
                return True
            self.tls.feed(data)
            try:
                if self.tls.read() or self.tls.close_notify:
                    return True
            except MalformedError:
                return True
        return self.tls.close_notify

    def detach(self) -> socket.socket:
        """Hands over the socket, which is then the caller's to close, as ``tls`` is."""
        return self._channel.socket

    def close(self) -> None:
        """Closes the socket without a close_notify, which nobody would count, and frees TLS."""
        self._channel.close()
        self.tls.close()

    def _receive_raw(self) -> Flow[None]:
        data = yield from receive(self._channel)
        if not data:
            raise UnavailableError(
                f"the connection to {self.host} through the {self._channel.peer} ended early",
                rule="network",
            )
        self.tls.feed(data)


def dial(session: GrantedSession, first: bytes = b"") -> Flow[tuple[Channel, bytes]]:
    """Connects to a session's venue through the relay.

    ``first`` goes along with the CONNECT.  Returns the tunnel and the bytes that
    came with the relay's answer; raises what the relay refuses with.
    """
    peer = f"relay {session.proxy_host}:{session.proxy_port}"
    channel = yield from connect(session.proxy_host, session.proxy_port, peer)
    try:
        place = f"{session.host}:{session.port}"
        credentials = base64.b64encode(f"{session.id}:{session.token}".encode()).decode("ascii")
        head = (
            f"CONNECT {place} HTTP/1.1\r\nHost: {place}\r\n"
            f"Proxy-Authorization: Basic {credentials}\r\n\r\n"
        )
        yield from send(channel, head.encode("ascii") + first)
        return channel, (yield from _tunnel(channel, session))
    except BaseException:
        channel.close()
        raise


def _tunnel(channel: Channel, session: GrantedSession) -> Flow[bytes]:
    """Reads the relay's answer to CONNECT; returns bytes of the tunnel that came with it."""
    data = bytearray()
    while (end := data.find(b"\r\n\r\n")) < 0 and len(data) <= MAX_HEAD:
        more = yield from receive(channel)
        if not more:
            raise UnavailableError(f"the {channel.peer} closed before it answered", rule="network")
        data += more
    if end >= 0 and data.startswith((b"HTTP/1.1 200 ", b"HTTP/1.0 200 ")):
        return bytes(data[end + 4 :])
    while response_length(data, method="GET") is None:
        more = yield from receive(channel)
        if not more:
            break
        data += more
    answer = read_response(bytes(data), method="GET", closed=True)
    try:
        document = json.loads(answer.body)
    except (ValueError, RecursionError):
        document = {}
    if not isinstance(document, dict):
        document = {}
    raise problem(f"CONNECT {session.host}:{session.port}", answer.status, document)
