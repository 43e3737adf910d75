"""A server behind the page, honest or not: what it sends is bytes that the page must judge."""

from __future__ import annotations

import contextlib
import http.server
import threading
from collections.abc import Callable, Iterator

from verifier.page import page, page_headers

Send = Callable[[http.server.BaseHTTPRequestHandler], None]


class Site:
    """Files by path, and what else a path does; remembers what was asked for."""

    def __init__(self) -> None:
        self.files: dict[str, bytes] = {"/": page()}
        self.acts: dict[str, Send] = {}
        self.asked: list[str] = []
        self.closing = threading.Event()
        self.url = ""

    def link(self, bundle: str = "/bundle.json", **members: str) -> str:
        """A permalink of the page."""
        more = "".join(f"&{name}={value}" for name, value in members.items())
        return f"{self.url}/#bundle={bundle}{more}"

    def never(self, handler: http.server.BaseHTTPRequestHandler) -> None:
        """Takes the request and says nothing."""
        self.closing.wait(60)

    def endless(self, handler: http.server.BaseHTTPRequestHandler) -> None:
        """Sends a hundred megabytes, as far as they are taken."""
        handler.send_response(200)
        handler.end_headers()
        with contextlib.suppress(OSError):
            for _ in range(100):
                handler.wfile.write(b" " * 1_000_000)

    def elsewhere(self, handler: http.server.BaseHTTPRequestHandler) -> None:
        """Sends the reader to another address."""
        handler.send_response(302)
        handler.send_header("Location", "/other.json")
        handler.end_headers()


@contextlib.contextmanager
def serve() -> Iterator[Site]:
    """Serves a site over plain HTTP on this machine."""
    site = Site()

    class Handler(http.server.BaseHTTPRequestHandler):
        def do_GET(self) -> None:
            path = self.path.partition("?")[0]
            site.asked.append(path)
            if path in site.acts:
                site.acts[path](self)
                return
            data = site.files.get(path)
            self.send_response(404 if data is None else 200)
            kind = "text/html; charset=utf-8" if path == "/" else "application/octet-stream"
            self.send_header("Content-Type", kind)
            for name, value in page_headers().items() if path == "/" else ():
                self.send_header(name, value)
            self.end_headers()
            with contextlib.suppress(OSError):
                self.wfile.write(b"nothing here" if data is None else data)

        def log_message(self, *arguments: object) -> None:
            pass

    server = http.server.ThreadingHTTPServer(("127.0.0.1", 0), Handler)
    server.daemon_threads = True
    thread = threading.Thread(target=server.serve_forever, daemon=True)
    thread.start()
    site.url = f"http://127.0.0.1:{server.server_port}"
    try:
        yield site
    finally:
        site.closing.set()
        server.shutdown()
        thread.join()
        server.server_close()
