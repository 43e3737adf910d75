"""A TLS 1.3 client for tests; see ``tlspeer``."""

from __future__ import annotations

from tests.tls13.tlspeer import (
    CERTIFICATE,
    CERTIFICATE_REQUEST,
    FINISHED,
    HELLO,
    P256,
    P384,
    RETRY_RANDOM,
    SERVER_HELLO,
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

SCHEMES = (0x0403, 0x0503, 0x0804, 0x0805, 0x0806, 0x0807)


class Client(Peer):
    """Offers ``suites``, ``groups`` and key shares of ``shares``.

    ``extra`` adds extensions to the hello, ``without`` leaves some out;
    ``before_finished`` is called when the client's Finished is due.
    Tamper names: client_hello, client_hello_2, certificate, finished.
    """

    side = "client"

    def __init__(
        self,
        host: str,
        *,
        suites: tuple[int, ...] = (0x1301, 0x1302, 0x1303),
        groups: tuple[int, ...] = (X25519, P256, P384),
        shares: tuple[int, ...] = (X25519,),
        schemes: tuple[int, ...] = SCHEMES,
        alpn: bytes | None = b"http/1.1",
        compress: bool = False,
        extra: tuple[tuple[int, bytes], ...] = (),
        without: tuple[int, ...] = (),
        hello_version: int = 0x0301,
        hello_pieces: int = 2**14,
        ccs: bool = True,
        hold_finished: bool = False,
        tamper: Tamper | None = None,
        seed: int = 1,
    ) -> None:
        super().__init__(tamper=tamper, seed=seed)
        self.random = self.rng.randbytes(32)
        self.session_id = self.rng.randbytes(32)
        self.suites, self.groups, self.schemes = suites, groups, schemes
        self.keys = {group: Share(group, self.rng) for group in (X25519, P256, P384)}
        self.shares = shares
        self.hello_pieces = hello_pieces
        self.ccs = ccs
        self.hold_finished = hold_finished
        self.established = False
        self.group = 0
        self.certificate_requested = False
        self.offers = [
            (0, u16(b"\0" + u16(host.encode()))),
            (10, u16(b"".join(group.to_bytes(2, "big") for group in groups))),
            (13, u16(b"".join(scheme.to_bytes(2, "big") for scheme in schemes))),
            (43, u8(b"\x03\x04")),
            *([(16, u16(u8(alpn)))] if alpn is not None else []),
            *([(27, u8(b"\0\x01"))] if compress else []),
        ]
        self.offers = [offer for offer in self.offers if offer[0] not in without]
        self.offers += extra
        self._retried = False
        self._send_hello("client_hello", (), hello_version)

    @property
    def private_key(self) -> bytes:
        """The ephemeral private key of the group the server chose."""
        return self.keys[self.group].private_bytes

    def _send_hello(
        self, name: str, more: tuple[tuple[int, bytes], ...], version: int = 0x0303
    ) -> None:
        shares = b"".join(
            group.to_bytes(2, "big") + u16(self.keys[group].public_bytes) for group in self.shares
        )
        offers = [*self.offers, *more, (51, u16(shares))]
        body = (
            b"\x03\x03"
            + self.random
            + u8(self.session_id)
            + u16(b"".join(suite.to_bytes(2, "big") for suite in self.suites))
            + b"\x01\0"
            + u16(b"".join(extension(kind, data) for kind, data in offers))
        )
        hello = self.make(name, message(HELLO, body))
        for start in range(0, len(hello), self.hello_pieces):
            self.outgoing += record(22, hello[start : start + self.hello_pieces], version)

    def on_message(self, kind: int, whole: bytes) -> None:
        if kind == SERVER_HELLO and self.write_keys is None:
            self._on_server_hello(whole)
            return
        self.transcript += whole
        if kind == CERTIFICATE_REQUEST:
            self.certificate_requested = True
        elif kind == FINISHED:
            self.finish_schedule()
            self.read_keys = Keys(self.suite, self.server_application)
            if not self.hold_finished:
                self.send_finished()

    def _on_server_hello(self, whole: bytes) -> None:
        self.suite = int.from_bytes(whole[39 + len(self.session_id) :][:2], "big")
        extensions = parse_extensions(whole[44 + len(self.session_id) :])
        group = int.from_bytes(extensions.get(51, b"")[:2], "big")
        if whole[6:38] == RETRY_RANDOM:
            self.replace_first_hello()
            self.transcript += whole
            self._send_ccs()
            self.shares = (group,) if group else self.shares
            cookie = ((44, extensions[44]),) if 44 in extensions else ()
            self._send_hello("client_hello_2", cookie)
            return
        self.transcript += whole
        self.group = group
        self.start_schedule(self.keys[group].exchange(extensions[51][4:]))
        self._send_ccs()
        self.write_keys = Keys(self.suite, self.client_handshake)
        self.read_keys = Keys(self.suite, self.server_handshake)

    def _send_ccs(self) -> None:
        if self.ccs:
            self.outgoing += record(20, b"\x01")
            self.ccs = False

    def send_finished(self) -> None:
        """Sends the client's flight and moves to application keys."""
        if self.certificate_requested:
            empty = self.make("certificate", message(CERTIFICATE, b"\0" + u24(b"")))
            self.send(22, empty)
        self.send(22, self.make("finished", self.finished(self.client_handshake)))
        self.write_keys = Keys(self.suite, self.client_application)
        self.established = True
