"""Clients as they are, each by its command: whose ClientHello the notary lets go out.

A client that offers what W2 refuses is stopped before a byte of it reaches the
venue; none of these knows of notaries.
"""

from __future__ import annotations

import dataclasses
import sys
from collections.abc import Callable
from pathlib import Path
from typing import TypeAlias

from tests.interop.leaves import HOST
from tests.interop.site import TARGET

Command: TypeAlias = Callable[[int, Path], "list[str | Path]"]
"""Makes a command from the port to connect to and the file of roots."""

URL = f"https://{HOST}{TARGET}"
REQUEST = f"GET {TARGET} HTTP/1.1\r\nHost: {HOST}\r\nConnection: close\r\n\r\n".encode()

_PYTHON = """\
import socket, ssl, sys
port, roots, host, count, alpn, request = sys.argv[1:]
context = ssl.create_default_context(cafile=roots)
if alpn:
    context.set_alpn_protocols(alpn.split())
session = None
for _ in range(int(count)):
    with socket.create_connection(("127.0.0.1", int(port))) as plain:
        with context.wrap_socket(plain, server_hostname=host, session=session) as tls:
            tls.sendall(request.encode())
            while data := tls.recv(4096):
                sys.stdout.write(data.decode())
            session = tls.session
"""
_NODE = """\
const [port, roots, host, path, alpn] = process.argv.slice(1);
const chosen = { host: '127.0.0.1', port, path, servername: host, headers: { host } };
if (alpn) chosen.ALPNProtocols = alpn.split(' ');
chosen.ca = require('fs').readFileSync(roots);
require('https').get(chosen, (answer) => answer.pipe(process.stdout));
"""


@dataclasses.dataclass(frozen=True, kw_only=True)
class Client:
    """A command; ``refused`` is what the notary says of its last connection, empty if nothing."""

    name: str
    peer: str
    command: Command
    refused: str = ""
    connections: int = 1


def _curl(*options: str, urls: int = 1) -> Command:
    def command(port: int, roots: Path) -> list[str | Path]:
        where = ["--connect-to", f"{HOST}:443:127.0.0.1:{port}", "--cacert", roots]
        return ["curl", "-sS", *where, "-H", "Connection: close", *options, *[URL] * urls]

    return command


def _s_client(*options: str, sni: str = HOST) -> Command:
    def command(port: int, roots: Path) -> list[str | Path]:
        name = ["-servername", sni] if sni else ["-noservername"]
        where = ["-connect", f"127.0.0.1:{port}", "-CAfile", roots]
        return ["openssl", "s_client", *where, *name, "-quiet", "-ign_eof", *options]

    return command


def _gnutls(*options: str) -> Command:
    def command(port: int, roots: Path) -> list[str | Path]:
        names = ["--sni-hostname", HOST, "--verify-hostname", HOST]
        where = ["--x509cafile", roots, "-p", str(port), "127.0.0.1"]
        return ["gnutls-cli", *names, *options, *where]

    return command


def _python(*, count: int = 1, alpn: str = "") -> Command:
    def command(port: int, roots: Path) -> list[str | Path]:
        arguments = [str(port), roots, HOST, str(count), alpn, REQUEST.decode()]
        return [sys.executable, "-I", "-c", _PYTHON, *arguments]

    return command


def _node(alpn: str = "") -> Command:
    def command(port: int, roots: Path) -> list[str | Path]:
        return ["node", "-e", _NODE, str(port), roots, HOST, TARGET, alpn]

    return command


_ALPN = "offers ALPN other than http/1.1"
_PSK = "offers pre_shared_key"
CLIENTS = (
    Client(name="curl --http1.1", peer="curl", command=_curl("--http1.1")),
    Client(name="curl", peer="curl", command=_curl(), refused=_ALPN),
    Client(
        name="curl --http1.1 --tls-max 1.2",
        peer="curl",
        command=_curl("--http1.1", "--tls-max", "1.2"),
        refused="lacks supported_versions",
    ),
    Client(
        name="curl --http1.1, twice",
        peer="curl",
        command=_curl("--http1.1", urls=2),
        refused=_PSK,
        connections=2,
    ),
    Client(
        name="curl --http1.1 --no-sessionid, twice",
        peer="curl",
        command=_curl("--http1.1", "--no-sessionid", urls=2),
        connections=2,
    ),
    Client(name="openssl s_client", peer="openssl", command=_s_client()),
    Client(name="openssl s_client -enable_pha", peer="openssl", command=_s_client("-enable_pha")),
    Client(
        name="openssl s_client -psk 00112233",
        peer="openssl",
        command=_s_client("-psk", "00112233"),
        refused=_PSK,
    ),
    Client(
        name="openssl s_client -alpn h2",
        peer="openssl",
        command=_s_client("-alpn", "h2"),
        refused=_ALPN,
    ),
    Client(
        name="openssl s_client -noservername",
        peer="openssl",
        command=_s_client(sni=""),
        refused="lacks server_name",
    ),
    Client(
        name="openssl s_client -servername another",
        peer="openssl",
        command=_s_client(sni="venue.example"),
        refused="names another host",
    ),
    Client(
        name="openssl s_client -maxfraglen 512",
        peer="openssl",
        command=_s_client("-maxfraglen", "512"),
        refused="offers extension 0x0001",
    ),
    Client(name="gnutls-cli", peer="gnutls", command=_gnutls()),
    Client(
        name="gnutls-cli --compress-cert=zlib",
        peer="gnutls",
        command=_gnutls("--compress-cert=zlib"),
    ),
    Client(
        name="gnutls-cli --heartbeat",
        peer="gnutls",
        command=_gnutls("--heartbeat"),
        refused="offers extension 0x000f",
    ),
    Client(name="Python ssl", peer="python", command=_python()),
    Client(
        name="Python ssl, ALPN h2 and http/1.1",
        peer="python",
        command=_python(alpn="h2 http/1.1"),
        refused=_ALPN,
    ),
    Client(
        name="Python ssl, the session taken up again",
        peer="python",
        command=_python(count=2),
        refused=_PSK,
        connections=2,
    ),
    Client(name="node https", peer="node", command=_node()),
    Client(
        name="node https, ALPN h2 and http/1.1",
        peer="node",
        command=_node("h2 http/1.1"),
        refused=_ALPN,
    ),
)
