"""Serves the sites of a JSON file over GnuTLS on Unix sockets, for the interoperation tests.

``gnutls-serv`` speaks HTTP/1.0 alone, and has no command for padding or a
KeyUpdate; the library below it, called by ctypes, has both.
"""

from __future__ import annotations

import ctypes
import json
import socket
import sys
import threading
from contextlib import suppress
from ctypes import byref, c_char_p, c_int, c_size_t, c_ssize_t, c_uint, c_void_p
from pathlib import Path

# Numbers of gnutls/gnutls.h.
_SERVER, _NO_TICKETS, _POST_HANDSHAKE_AUTH = 1, 1 << 10, 1 << 14
_PEM = _CERTIFICATE = _REQUEST = _SHUT_WR = _KU_PEER = _WAIT = 1
_REQUIRE = 2
_AGAIN = -28

_PROTOTYPES = {
    "gnutls_certificate_allocate_credentials": (c_int, (c_void_p,)),
    "gnutls_certificate_set_x509_key_file": (c_int, (c_void_p, c_char_p, c_char_p, c_int)),
    "gnutls_init": (c_int, (c_void_p, c_uint)),
    "gnutls_deinit": (None, (c_void_p,)),
    "gnutls_priority_set_direct": (c_int, (c_void_p, c_char_p, c_void_p)),
    "gnutls_credentials_set": (c_int, (c_void_p, c_int, c_void_p)),
    "gnutls_certificate_server_set_request": (None, (c_void_p, c_int)),
    "gnutls_alpn_set_protocols": (c_int, (c_void_p, c_void_p, c_uint, c_uint)),
    "gnutls_transport_set_int2": (None, (c_void_p, c_int, c_int)),
    "gnutls_handshake": (c_int, (c_void_p,)),
    "gnutls_alert_send_appropriate": (c_int, (c_void_p, c_int)),
    "gnutls_record_recv": (c_ssize_t, (c_void_p, c_void_p, c_size_t)),
    "gnutls_record_send2": (c_ssize_t, (c_void_p, c_char_p, c_size_t, c_size_t, c_uint)),
    "gnutls_record_set_max_size": (c_ssize_t, (c_void_p, c_size_t)),
    "gnutls_session_key_update": (c_int, (c_void_p, c_uint)),
    "gnutls_reauth": (c_int, (c_void_p, c_uint)),
    "gnutls_bye": (c_int, (c_void_p, c_int)),
    "gnutls_check_version": (c_char_p, (c_char_p,)),
    "gnutls_strerror": (c_char_p, (c_int,)),
}
PIECE = 40
"""Bytes of a record of the site ``small-records``."""


class _Datum(ctypes.Structure):
    _fields_ = (("data", c_char_p), ("size", c_uint))


def load() -> ctypes.CDLL:
    """Loads GnuTLS; raises OSError where it is not installed."""
    library = ctypes.CDLL("libgnutls.so.30")
    for name, (result, arguments) in _PROTOTYPES.items():
        function = getattr(library, name)
        function.restype, function.argtypes = result, arguments
    return library


class Connection:
    """One connection, from the handshake to close_notify."""

    def __init__(self, library: ctypes.CDLL, site: dict[str, str], credentials: c_void_p) -> None:
        self._library = library
        self._trait = site["trait"]
        self._response = site["response"].encode()
        self._session = c_void_p()
        flags = _SERVER
        if self._trait == "no-tickets":
            flags |= _NO_TICKETS
        elif self._trait == "post-handshake-request":
            flags |= _POST_HANDSHAKE_AUTH
        self._check(library.gnutls_init(byref(self._session), flags))
        priority = site["priority"].encode()
        self._check(library.gnutls_priority_set_direct(self._session, priority, None))
        self._check(library.gnutls_credentials_set(self._session, _CERTIFICATE, credentials))
        if self._trait.startswith("client-certificate"):
            required = self._trait == "client-certificate-required"
            library.gnutls_certificate_server_set_request(
                self._session, _REQUIRE if required else _REQUEST
            )
        name = b"h2" if self._trait == "h2" else b"http/1.1"
        protocol = _Datum(name, len(name))
        self._check(library.gnutls_alpn_set_protocols(self._session, byref(protocol), 1, 1))

    def serve(self, connection: socket.socket) -> None:
        """Answers every request until the client closes, or says that it was the last."""
        library, session = self._library, self._session
        library.gnutls_transport_set_int2(session, connection.fileno(), connection.fileno())
        try:
            self._serve()
        finally:
            library.gnutls_deinit(session)

    def _serve(self) -> None:
        library, session = self._library, self._session
        if (result := library.gnutls_handshake(session)) != 0:
            library.gnutls_alert_send_appropriate(session, result)
            return
        while request := self._request():
            if self._trait == "key-update":
                self._check(library.gnutls_session_key_update(session, 0))
            elif self._trait == "key-update-requested":
                self._check(library.gnutls_session_key_update(session, _KU_PEER))
            elif self._trait == "post-handshake-request":
                library.gnutls_certificate_server_set_request(session, _REQUEST)
                self._check(library.gnutls_reauth(session, 0))
            self._answer()
            if b"\r\nconnection: close\r\n" in request.lower():
                library.gnutls_bye(session, _SHUT_WR)
                return

    def _request(self) -> bytes:
        """Returns the next head, empty at the end."""
        request = bytearray()
        buffer = ctypes.create_string_buffer(1 << 14)
        while not request.endswith(b"\r\n\r\n"):
            count = self._library.gnutls_record_recv(self._session, buffer, len(buffer))
            if count == _AGAIN:
                continue  # A KeyUpdate came instead of data.
            if count <= 0:
                return b""
            request += buffer.raw[:count]
        return bytes(request)

    def _answer(self) -> None:
        data, size = self._response, 1 << 14
        pad = 300 if self._trait == "padding" else 0
        if self._trait == "small-records":
            size = PIECE
        elif pad:
            size = 64
        for start in range(0, len(data), size):
            piece = data[start : start + size]
            sent = self._library.gnutls_record_send2(self._session, piece, len(piece), pad, 0)
            if sent != len(piece):
                raise OSError(f"sent {sent} of {len(piece)}")

    def _check(self, result: int) -> None:
        if result != 0:
            raise OSError(self._library.gnutls_strerror(result).decode())


def serve(library: ctypes.CDLL, site: dict[str, str]) -> None:
    """Serves one site for ever."""
    credentials = c_void_p()
    library.gnutls_certificate_allocate_credentials(byref(credentials))
    chain, key = site["chain"].encode(), site["key"].encode()
    if library.gnutls_certificate_set_x509_key_file(credentials, chain, key, _PEM) != 0:
        raise OSError(f"{site['chain']} does not load")
    listener = socket.socket(socket.AF_UNIX, socket.SOCK_STREAM)
    listener.bind(site["socket"])
    listener.listen(64)
    while True:
        connection, _ = listener.accept()
        threading.Thread(target=_serve_one, args=(library, site, credentials, connection)).start()


def _serve_one(
    library: ctypes.CDLL, site: dict[str, str], credentials: c_void_p, connection: socket.socket
) -> None:
    with connection:
        Connection(library, site, credentials).serve(connection)
        # Wait for the client's end: what it still sends must not reset the connection.
        with suppress(OSError):
            connection.shutdown(socket.SHUT_WR)
            while connection.recv(4096):
                pass


if __name__ == "__main__":
    gnutls = load()
    for told in json.loads(Path(sys.argv[1]).read_text()):
        threading.Thread(target=serve, args=(gnutls, told)).start()
