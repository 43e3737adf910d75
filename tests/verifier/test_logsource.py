"""A log over HTTP and in a folder: whatever a server does, reading ends, in bounds."""

from __future__ import annotations

import gzip
import socket
import threading
import time
from collections.abc import Callable, Iterator
from http.server import BaseHTTPRequestHandler, ThreadingHTTPServer
from pathlib import Path

import pytest

from attestation.errors import UnavailableError, UsageError
from attestation.log.note import MAX_NOTE_SIZE
from tests.adversaries.log import ServedLog
from tests.log.example import entries
from tests.log.keys import LOG
from tests.verifier.auditing import audited
from verifier.logsource import FolderSource, HttpSource, open_source, size_limit

Serve = Callable[[ServedLog], str]


@pytest.fixture
def serve() -> Iterator[Serve]:
    """Serves logs under ``/prefix/``, with HTTP/1.1 and kept-alive connections."""
    servers: list[ThreadingHTTPServer] = []

    def start(log: ServedLog) -> str:
        class Handler(BaseHTTPRequestHandler):
            protocol_version = "HTTP/1.1"

            def do_GET(self) -> None:
                data = log.files.get(self.path.removeprefix("/prefix/"))
                log.asked.append(f"{self.client_address[1]} {self.path}")
                self.send_response(200 if data is not None else 404)
                packed = data or b""
                # As tlog-tiles allows: without a negotiation.
                if "/tile/" in self.path:
                    packed = gzip.compress(packed)
                    self.send_header("Content-Encoding", "gzip")
                self.send_header("Content-Length", str(len(packed)))
                self.end_headers()
                self.wfile.write(packed)

            def log_message(self, *arguments: object) -> None:
                pass

        server = ThreadingHTTPServer(("127.0.0.1", 0), Handler)
        server.daemon_threads = True
        threading.Thread(target=server.serve_forever, daemon=True).start()
        servers.append(server)
        return f"http://127.0.0.1:{server.server_address[1]}/prefix/"

    yield start
    for server in servers:
        server.shutdown()
        server.server_close()


@pytest.fixture
def answer() -> Iterator[Callable[..., str]]:
    """Serves fixed bytes to every connection, then closes it, or goes on as told."""
    listeners: list[socket.socket] = []

    def start(data: bytes, then: Callable[[socket.socket], None] | None = None) -> str:
        listener = socket.create_server(("127.0.0.1", 0))
        listeners.append(listener)

        def run() -> None:
            while True:
                try:
                    connection, _ = listener.accept()
                except OSError:
                    return
                with connection:
                    try:
                        connection.recv(65_536)
                        connection.sendall(data)
                        if then is not None:
                            then(connection)
                    except OSError:
                        continue

        threading.Thread(target=run, daemon=True).start()
        return f"http://127.0.0.1:{listener.getsockname()[1]}"

    yield start
    for listener in listeners:
        listener.close()


def ok(body: bytes, *headers: str) -> bytes:
    lines = ["HTTP/1.1 200 OK", f"Content-Length: {len(body)}", *headers]
    return "\r\n".join([*lines, "", ""]).encode() + body


def test_log_is_audited_over_http_on_one_connection(serve: Serve) -> None:
    log = ServedLog(LOG).log(entries())
    for number in range(600):
        log.entries.append(b"x%d" % number)
    url = serve(log.publish())
    with HttpSource(url) as source:
        for path, data in log.files.items():
            assert source.read(path) == data
        with pytest.raises(UnavailableError, match="404"):
            source.read("tile/0/999")
        assert source.read("checkpoint") == log.files["checkpoint"]
    assert len({line.split()[0] for line in log.asked}) <= 2


def test_log_is_the_same_from_a_folder(tmp_path: Path) -> None:
    log = ServedLog(LOG).log(entries())
    for path, data in log.files.items():
        (tmp_path / path).parent.mkdir(parents=True, exist_ok=True)
        (tmp_path / path).write_bytes(data)
    with open_source(str(tmp_path)) as source:
        log.read = source.read  # type: ignore[method-assign]
        assert audited(log)[1].findings == ()
        with pytest.raises(UnavailableError):
            source.read("tile/0/001")
        (tmp_path / "checkpoint").write_bytes(bytes(MAX_NOTE_SIZE + 1))
        with pytest.raises(UnavailableError, match="larger"):
            source.read("checkpoint")


def test_kept_alive_connection_that_ends_between_requests_is_made_again(
    answer: Callable[..., str],
) -> None:
    # The server closes after each answer without having said so.
    with HttpSource(answer(ok(b"data"))) as source:
        for _ in range(3):
            assert source.read("checkpoint") == b"data"


TOO_MUCH = b"x" * (MAX_NOTE_SIZE + 1)


@pytest.mark.parametrize(
    "data",
    [
        b"",
        b"garbage\r\n\r\n",
        b"HTTP/1.1 200 OK\r\nContent-Length: 10\r\n\r\nshort",
        b"HTTP/1.1 200 OK\r\nX: cut",
        b"HTTP/1.1 200 OK\r\n\r\nwithout a length",
        b"HTTP/1.1 200 OK\r\nTransfer-Encoding: chunked\r\n\r\n5\r\nshort\r\n",
        b"HTTP/1.1 200 OK\r\nContent-Length: x\r\nTransfer-Encoding: chunked\r\n\r\nzz\r\n",
        b"HTTP/1.1 200 OK\r\n" + b"X: y\r\n" * 200 + b"\r\n",
        b"HTTP/1.1 200 OK\r\nX: " + b"y" * 100_000 + b"\r\n\r\n",
        b"HTTP/1.1 302 Found\r\nLocation: http://127.0.0.1:1/\r\nContent-Length: 0\r\n\r\n",
        b"HTTP/1.1 503 Busy\r\nContent-Length: 0\r\n\r\n",
        ok(TOO_MUCH),
        ok(gzip.compress(TOO_MUCH), "Content-Encoding: gzip"),
        ok(gzip.compress(b"data")[:-3], "Content-Encoding: gzip"),
        ok(gzip.compress(b"data") + b"x", "Content-Encoding: gzip"),
        ok(b"not gzip", "Content-Encoding: gzip"),
        ok(b"data", "Content-Encoding: br"),
    ],
)
def test_bad_answer_is_unavailable(answer: Callable[..., str], data: bytes) -> None:
    with HttpSource(answer(data)) as source, pytest.raises(UnavailableError, match="checkpoint"):
        source.read("checkpoint")


def test_answer_that_trickles_is_cut_off(answer: Callable[..., str]) -> None:
    def trickle(connection: socket.socket) -> None:
        while True:
            connection.sendall(b"x")
            time.sleep(0.02)

    for head in (b"HTTP/1.1 200 OK\r\nContent-Length: 100000\r\n\r\n", b"HTTP/1.1 200 OK\r\nX: "):
        with (
            HttpSource(answer(head, trickle), answer_s=0.3) as source,
            pytest.raises(UnavailableError),
        ):
            source.read("checkpoint")


def test_silent_server_and_none_at_all_are_unavailable(answer: Callable[..., str]) -> None:
    silent = answer(b"", lambda connection: connection.recv(1) and None)
    with HttpSource(silent, timeout_s=0.2) as source, pytest.raises(UnavailableError):
        source.read("checkpoint")
    with socket.create_server(("127.0.0.1", 0)) as listener:
        port = listener.getsockname()[1]
    with HttpSource(f"http://127.0.0.1:{port}") as source, pytest.raises(UnavailableError):
        source.read("checkpoint")


@pytest.mark.parametrize(
    "name",
    [
        "http://",
        "http://[::1",
        "https://log.example:port/",
        "http://log.example/?x",
        "http://log.example/#x",
        "http://me@log.example/",
        "ftp://log.example/",
        "no-such-folder",
    ],
)
def test_source_that_is_neither_url_nor_folder_is_a_usage_error(name: str) -> None:
    with pytest.raises(UsageError):
        open_source(name)


def test_each_file_has_a_limit_of_its_own() -> None:
    assert size_limit("checkpoint") == MAX_NOTE_SIZE
    assert size_limit("tile/0/000") == 8_192
    assert size_limit("tile/entries/000") == 256 * 65_537
    assert isinstance(FolderSource(Path()), FolderSource)
