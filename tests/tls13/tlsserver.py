"""A TLS 1.3 server for tests; see ``tlspeer``."""

from __future__ import annotations

import zlib

from cryptography.hazmat.primitives import hashes
from cryptography.hazmat.primitives.asymmetric import ec, ed25519, padding, rsa

from tests.tls13.certs import Identity
from tests.tls13.tlspeer import (
    CERTIFICATE,
    CERTIFICATE_REQUEST,
    CERTIFICATE_VERIFY,
    COMPRESSED,
    EXTENSIONS,
    FINISHED,
    HELLO,
    RETRY_RANDOM,
    SERVER_HELLO,
    TICKET,
    X25519,
    Keys,
    Peer,
    Share,
    Tamper,
    extension,
    message,
    parse_extensions,
    record,
    u8,
    u16,
    u24,
)

_HASHES = {4: hashes.SHA256(), 5: hashes.SHA384(), 6: hashes.SHA512()}


def default_scheme(identity: Identity) -> int:
    """The signature scheme that fits a key."""
    key = identity.key
    if isinstance(key, rsa.RSAPrivateKey):
        return 0x0804
    if isinstance(key, ed25519.Ed25519PrivateKey):
        return 0x0807
    return 0x0403 if key.curve.key_size == 256 else 0x0503


def sign(identity: Identity, scheme: int, content: bytes) -> bytes:
    """Signs by a TLS 1.3 signature scheme."""
    key = identity.key
    if isinstance(key, rsa.RSAPrivateKey):
        algorithm = _HASHES[scheme & 0xFF]
        pss = padding.PSS(padding.MGF1(algorithm), padding.PSS.DIGEST_LENGTH)
        return key.sign(content, pss, algorithm)
    if isinstance(key, ed25519.Ed25519PrivateKey):
        return key.sign(content)
    return key.sign(content, ec.ECDSA(_HASHES[4 if scheme == 0x0403 else 5]))


class Server(Peer):
    """Answers one client.

    ``retry`` is a group to ask for by HelloRetryRequest (0: for a cookie only);
    ``piece`` cuts the flight into records of that many bytes; without it the
    flight is one record, or one record a message with ``coalesce=False``.
    Tamper names: retry, server_hello, encrypted_extensions, certificate_request,
    certificate, compressed_certificate, certificate_verify, finished.
    """

    side = "server"

    def __init__(
        self,
        identity: Identity,
        *,
        suite: int = 0x1301,
        group: int = X25519,
        retry: int | None = None,
        scheme: int | None = None,
        cookie: bytes = b"",
        alpn: bool = True,
        compress: bool = False,
        request_certificate: bool = False,
        certificate_extensions: bytes = b"",
        piece: int | None = None,
        coalesce: bool = True,
        flight_padding: int = 0,
        tickets: int = 0,
        ccs: bool = True,
        tamper: Tamper | None = None,
        seed: int = 1,
    ) -> None:
        super().__init__(tamper=tamper, seed=seed)
        self.identity = identity
        self.suite = suite
        self.group = group
        self.retry = retry
        self.scheme = scheme or default_scheme(identity)
        self.cookie = cookie
        self.alpn = alpn
        self.compress = compress
        self.request_certificate = request_certificate
        self.certificate_extensions = certificate_extensions
        self.piece, self.coalesce, self.flight_padding = piece, coalesce, flight_padding
        self.ticket_count = tickets
        self.ccs = ccs
        self.share = Share(group, self.rng)
        self.established = False

    def on_message(self, kind: int, whole: bytes) -> None:
        if kind == HELLO:
            self.transcript += whole
            self._on_hello(whole)
            return
        if kind == FINISHED:
            self.read_keys = Keys(self.suite, self.client_application)
            self.established = True
            self.transcript += whole
            for number in range(self.ticket_count):
                self.send(22, ticket(number))
        else:
            self.transcript += whole

    def _on_hello(self, whole: bytes) -> None:
        session_id = whole[39 : 39 + whole[38]]
        position = 39 + len(session_id)
        position += 2 + int.from_bytes(whole[position : position + 2], "big") + 2
        extensions = parse_extensions(whole[position + 2 :])
        if self.retry is not None:
            group, self.retry = self.retry, None
            block = extension(51, group.to_bytes(2, "big")) if group else b""
            block += extension(44, u16(self.cookie)) if self.cookie else b""
            self.replace_first_hello()
            self.send(22, self.make("retry", self._hello(RETRY_RANDOM, session_id, block)))
            self._send_ccs()
            return
        shares, client_share = extensions[51][2:], b""
        while shares:
            size = int.from_bytes(shares[2:4], "big")
            if int.from_bytes(shares[:2], "big") == self.group:
                client_share = shares[4 : 4 + size]
            shares = shares[4 + size :]
        block = extension(51, self.group.to_bytes(2, "big") + u16(self.share.public_bytes))
        hello = self._hello(self.rng.randbytes(32), session_id, block)
        self.send(22, self.make("server_hello", hello))
        self._send_ccs()
        self.start_schedule(self.share.exchange(client_share))
        self.write_keys = Keys(self.suite, self.server_handshake)
        self.read_keys = Keys(self.suite, self.client_handshake)
        self._send_flight(16 in extensions)

    def _hello(self, random: bytes, session_id: bytes, block: bytes) -> bytes:
        block = extension(43, b"\x03\x04") + block
        head = b"\x03\x03" + random + u8(session_id) + self.suite.to_bytes(2, "big") + b"\0"
        return message(SERVER_HELLO, head + u16(block))

    def _send_ccs(self) -> None:
        if self.ccs:
            self.outgoing += record(20, b"\x01")
            self.ccs = False

    def _send_flight(self, alpn_offered: bool) -> None:
        block = extension(16, u16(u8(b"http/1.1"))) if self.alpn and alpn_offered else b""
        flight = [self.make("encrypted_extensions", message(EXTENSIONS, u16(block)))]
        if self.request_certificate:
            block = extension(13, u16(b"\x04\x03"))
            request = message(CERTIFICATE_REQUEST, b"\0" + u16(block))
            flight.append(self.make("certificate_request", request))
        flight.append(self._certificate())
        content = b" " * 64 + b"TLS 1.3, server CertificateVerify\0" + self.hash()
        signature = sign(self.identity, self.scheme, content)
        verify = message(CERTIFICATE_VERIFY, self.scheme.to_bytes(2, "big") + u16(signature))
        flight.append(self.make("certificate_verify", verify))
        flight.append(self.make("finished", self.finished(self.server_handshake)))
        self.finish_schedule()
        if self.piece or self.coalesce:
            whole = b"".join(flight)
            size = self.piece or len(whole)
            flight = [whole[start : start + size] for start in range(0, len(whole), size)]
        for content in flight:
            self.send(22, content, self.flight_padding)
        self.write_keys = Keys(self.suite, self.server_application)

    def _certificate(self) -> bytes:
        extensions = [self.certificate_extensions] + [b""] * len(self.identity.chain)
        entries = b"".join(
            u24(der) + u16(block)
            for der, block in zip(self.identity.chain_der, extensions, strict=False)
        )
        body = b"\0" + u24(entries)
        if not self.compress:
            return self.make("certificate", message(CERTIFICATE, body))
        compressed = b"\0\x01" + len(body).to_bytes(3, "big") + u24(zlib.compress(body))
        return self.make("compressed_certificate", message(COMPRESSED, compressed))


def ticket(number: int) -> bytes:
    """A NewSessionTicket message."""
    body = (3600).to_bytes(4, "big") + bytes(4) + u8(bytes((number,))) + u16(b"ticket") + u16(b"")
    return message(TICKET, body)
