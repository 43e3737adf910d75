"""The fairness page in a browser of this machine: what a player would see, read off the page."""

from __future__ import annotations

import contextlib
import http.server
import threading
from collections.abc import Iterator
from dataclasses import dataclass
from functools import partial
from pathlib import Path
from typing import Any

from examples.demo.browser import Tab

RULE = """[...document.querySelectorAll("dt")]
  .find((one) => one.textContent === "Rule")?.nextSibling.textContent ?? \"\""""


@dataclass(frozen=True, slots=True)
class Shown:
    """The page's verdict: its first line, and the rule where it refuses."""

    headline: str
    rule: str | None


def show(tab: Tab, url: str) -> Shown:
    """Opens the page and reads its verdict; raises UnavailableError if it shows none."""
    tab.open(url)
    tab.wait("document.querySelector('#verdict')")
    rule = tab.run(RULE)
    return Shown(tab.text("#verdict").replace("\u00a0", " "), None if rule == "" else rule)


@contextlib.contextmanager
def serve(folder: Path) -> Iterator[str]:
    """Serves a folder's files on this machine; yields the URL."""
    handler = partial(_Quiet, directory=str(folder))
    with http.server.ThreadingHTTPServer(("127.0.0.1", 0), handler) as server:
        thread = threading.Thread(target=server.serve_forever, daemon=True)
        thread.start()
        try:
            yield f"http://127.0.0.1:{server.server_port}"
        finally:
            server.shutdown()
            thread.join()


class _Quiet(http.server.SimpleHTTPRequestHandler):
    def log_message(self, format: str, *args: Any) -> None:
        """Says nothing."""
