"""Serves the sites of a JSON file over TLS on Unix sockets, for the interoperation tests."""

from __future__ import annotations

import gzip
import json
import socketserver
import ssl
import sys
import threading
from http.server import BaseHTTPRequestHandler
from pathlib import Path
from typing import Any


class Handler(BaseHTTPRequestHandler):
    """Answers every GET in the way of the server's ``site``."""

    protocol_version = "HTTP/1.1"

    def do_GET(self) -> None:
        site: dict[str, str] = self.server.site  # type: ignore[attr-defined]
        body = site["body"].encode()
        if site["trait"] == "interim":
            self.send_response_only(102)
            self.end_headers()
        self.send_response(200)
        self.send_header("Content-Type", "application/json")
        if site["trait"] == "gzip":
            body = gzip.compress(body)
            self.send_header("Content-Encoding", "gzip")
        if site["trait"] == "no-length":
            self.close_connection = True
        else:
            self.send_header("Content-Length", str(len(body)))
        self.end_headers()
        self.wfile.write(body)

    def address_string(self) -> str:
        return "unix"


class Server(socketserver.ThreadingMixIn, socketserver.UnixStreamServer):
    """One site; the handshake is done by the connection's own thread."""

    daemon_threads = True
    request_queue_size = 64

    def __init__(self, site: dict[str, str]) -> None:
        self.site = site
        self.context = _context(site)
        super().__init__(site["socket"], Handler)

    def finish_request(self, request: Any, client_address: Any) -> None:
        with self.context.wrap_socket(request, server_side=True) as connection:
            self.RequestHandlerClass(connection, client_address, self)
            # Tells the end of a body without a length; who has closed needs no telling.
            if self.site["trait"] == "no-length":
                connection.unwrap()


def _context(site: dict[str, str]) -> ssl.SSLContext:
    context = ssl.SSLContext(ssl.PROTOCOL_TLS_SERVER)
    if site["trait"] == "weak-key":
        context.set_ciphers("DEFAULT:@SECLEVEL=0")
    context.load_cert_chain(site["identity"])
    context.minimum_version = ssl.TLSVersion.TLSv1_3
    context.set_alpn_protocols(["http/1.1"])
    if site["group"]:
        context.set_ecdh_curve(site["group"])
    if site["trait"] == "tls12":
        context.minimum_version = context.maximum_version = ssl.TLSVersion.TLSv1_2
    elif site["trait"] == "client-certificate":
        context.verify_mode = ssl.CERT_OPTIONAL
    return context


if __name__ == "__main__":
    for told in json.loads(Path(sys.argv[1]).read_text()):
        threading.Thread(target=Server(told).serve_forever).start()
