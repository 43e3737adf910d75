"""A headless Chromium, driven over its own protocol: opens pages, files and keys like a person."""

from __future__ import annotations

import base64
import contextlib
import http.client
import json
import re
import shutil
import signal
import subprocess
import tempfile
import time
from collections.abc import Iterator
from pathlib import Path
from typing import Any

from websockets.sync.client import ClientConnection, connect

from attestation.errors import UnavailableError

LIMIT = 60.0
"""Seconds that any one thing may take on a busy machine."""
BROWSERS = ("chromium", "chromium-browser", "google-chrome", "google-chrome-stable")


def find_browser() -> str | None:
    """Returns the path of a Chromium of this machine, or None."""
    return next((path for name in BROWSERS if (path := shutil.which(name))), None)


class Tab:
    """One page.  Remembers what its console and its policy complained about."""

    def __init__(self, connection: ClientConnection) -> None:
        self._connection = connection
        self._number = 0
        self._hurried: list[str] = []
        self.complaints: list[str] = []
        for domain in ("Page", "Runtime", "Log", "DOM"):
            self.call(f"{domain}.enable")

    def call(self, method: str, **parameters: Any) -> dict[str, Any]:
        """Sends a command and returns its result."""
        self._number += 1
        message = {"id": self._number, "method": method, "params": parameters}
        self._connection.send(json.dumps(message))
        while True:
            found = json.loads(self._connection.recv(timeout=LIMIT))
            self._note(found)
            if found.get("id") == self._number:
                if "error" in found:
                    raise UnavailableError(f"{method}: {found['error']}", rule="browser")
                result: dict[str, Any] = found["result"]
                return result

    def _note(self, found: dict[str, Any]) -> None:
        parameters = found.get("params", {})
        if found.get("method") == "Runtime.exceptionThrown":
            self.complaints.append(json.dumps(parameters["exceptionDetails"])[:2000])
        elif found.get("method") == "Log.entryAdded" and parameters["entry"]["level"] == "error":
            self.complaints.append(parameters["entry"]["text"])

    def run(self, expression: str) -> Any:
        """Evaluates an expression, promises too, and returns its JSON value."""
        found = self.call(
            "Runtime.evaluate", expression=expression, returnByValue=True, awaitPromise=True
        )
        if "exceptionDetails" in found:
            raise UnavailableError(str(found["exceptionDetails"]), rule="browser")
        return found["result"].get("value")

    def wait(self, expression: str) -> None:
        """Waits until an expression is true."""
        end = time.monotonic() + LIMIT
        while not self.run(f"!!({expression})"):
            if time.monotonic() > end:
                raise UnavailableError(
                    f"never came true: {expression}; {self.text()[:2000]}", rule="browser"
                )
            time.sleep(0.02)

    def hurry(self, times: int) -> None:
        """Has timers of the pages opened from now on run so many times faster."""
        source = f"""{{ const timer = globalThis.setTimeout;
          globalThis.setTimeout = (act, ms = 0) => timer(act, ms / {times}); }}"""
        found = self.call("Page.addScriptToEvaluateOnNewDocument", source=source)
        self._hurried.append(found["identifier"])

    def rest(self) -> None:
        """Has timers run as they do."""
        while self._hurried:
            self.call("Page.removeScriptToEvaluateOnNewDocument", identifier=self._hurried.pop())

    def open(self, url: str) -> None:
        """Goes to an address, anew even where only what follows # differs."""
        self.call("Page.navigate", url="about:blank")
        self.wait("location.href === 'about:blank'")
        self.call("Page.navigate", url=url)
        self.wait("location.href !== 'about:blank' && document.readyState === 'complete'")

    def give(self, *files: Path) -> None:
        """Chooses files in the page's file control, and waits for the verdict on them."""
        self.run("document.querySelector('h1')?.setAttribute('data-old', '')")
        root = self.call("DOM.getDocument")["root"]["nodeId"]
        node = self.call("DOM.querySelector", nodeId=root, selector="#files")["nodeId"]
        self.call("DOM.setFileInputFiles", nodeId=node, files=[str(file) for file in files])
        self.wait("document.querySelector('h1:not([data-old])') !== null")

    def text(self, selector: str = "main") -> str:
        """The text a reader sees."""
        found: str = self.run(f"document.querySelector({json.dumps(selector)})?.innerText ?? ''")
        return found

    def key(self, key: str, code: int, *, shift: bool = False) -> None:
        """Presses a key."""
        for kind in ("keyDown", "keyUp"):
            self.call(
                "Input.dispatchKeyEvent",
                type=kind,
                key=key,
                code=key,
                windowsVirtualKeyCode=code,
                modifiers=8 if shift else 0,
                **({"text": "\r"} if key == "Enter" and kind == "keyDown" else {}),
            )

    def look(self, *, width: int, height: int, dark: bool = False, phone: bool = False) -> None:
        """Sets the size of the window and the reader's preferences."""
        self.call(
            "Emulation.setDeviceMetricsOverride",
            width=width,
            height=height,
            deviceScaleFactor=2 if phone else 1,
            mobile=phone,
        )
        features = [
            {"name": "prefers-color-scheme", "value": "dark" if dark else "light"},
            {"name": "prefers-reduced-motion", "value": "reduce"},
        ]
        self.call("Emulation.setEmulatedMedia", features=features)

    def picture(self, path: Path, *, whole: bool = True) -> None:
        """Saves what is seen as a PNG."""
        found = self.call("Page.captureScreenshot", captureBeyondViewport=whole, format="png")
        path.write_bytes(base64.b64decode(found["data"]))


@contextlib.contextmanager
def chromium(command: str) -> Iterator[Tab]:
    """Starts a browser with a profile of its own, and ends it."""
    profile = tempfile.mkdtemp(prefix="quotary-chromium-")
    process = subprocess.Popen(
        [
            command,
            "--headless=new",
            "--no-sandbox",  # root may run it, who has none
            "--disable-gpu",
            "--disable-dev-shm-usage",
            "--disable-background-networking",
            "--disable-component-update",
            "--no-first-run",
            "--hide-scrollbars",
            "--remote-debugging-port=0",
            f"--user-data-dir={profile}",
            "about:blank",
        ],
        stdout=subprocess.DEVNULL,
        stderr=subprocess.PIPE,
        text=True,
        start_new_session=True,
    )
    try:
        port = _port(process)
        with connect(_target(port), max_size=None, open_timeout=LIMIT) as connection:
            yield Tab(connection)
    finally:
        process.send_signal(signal.SIGTERM)
        try:
            process.wait(10)
        except subprocess.TimeoutExpired:
            process.kill()
            process.wait(10)
        if process.stderr is not None:
            process.stderr.close()
        shutil.rmtree(profile, ignore_errors=True)


def _port(process: subprocess.Popen[str]) -> int:
    assert process.stderr is not None
    for line in process.stderr:
        if found := re.search(r"DevTools listening on ws://[^:]+:([0-9]+)/", line):
            return int(found[1])
    raise UnavailableError("the browser ended before it listened", rule="browser")


def _target(port: int) -> str:
    end = time.monotonic() + LIMIT
    while time.monotonic() < end:
        link = http.client.HTTPConnection("127.0.0.1", port, timeout=LIMIT)
        with contextlib.closing(link):
            link.request("GET", "/json/list")
            for tab in json.loads(link.getresponse().read()):
                if tab["type"] == "page":
                    url: str = tab["webSocketDebuggerUrl"]
                    return url
        time.sleep(0.05)
    raise UnavailableError("the browser shows no page", rule="browser")
