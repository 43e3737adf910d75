"""Servers as processes: started, waited for, stopped; their output is kept for failures."""

from __future__ import annotations

import contextlib
import math
import os
import socket
import subprocess
import time
from collections.abc import Callable, Iterator, Mapping, Sequence
from contextlib import contextmanager
from pathlib import Path

from tests.interop.path import Address, connect

START_SECONDS = 60.0
_ATTEMPTS = 5


class Running:
    """A server process; ``wait_for`` returns once it takes connections."""

    def __init__(
        self,
        command: Sequence[str | Path],
        *,
        folder: Path,
        name: str,
        environment: Mapping[str, str] | None = None,
        stdin: int = subprocess.DEVNULL,
    ) -> None:
        self.name = name
        self.output = folder / f"{name}.out"
        with self.output.open("wb") as output:
            self.process = subprocess.Popen(
                [str(part) for part in command],
                cwd=folder,
                env={**os.environ, **(environment or {})},
                stdin=stdin,
                stdout=output,
                stderr=subprocess.STDOUT,
            )

    def wait_for(self, addresses: Sequence[Address]) -> None:
        """Raises RuntimeError if the process ends before it listens on all addresses."""
        self.until(lambda: all(_listens(address) for address in addresses))

    def until(self, ready: Callable[[], object], *, forever: bool = False) -> None:
        """Raises RuntimeError if the process ends, or takes too long, before ``ready``."""
        deadline = math.inf if forever else time.monotonic() + START_SECONDS
        while not ready():
            if self.process.poll() is not None or time.monotonic() > deadline:
                raise RuntimeError(f"{self.name} ended or hangs:\n{self.text()[-4000:]}")
            time.sleep(0.02)

    def text(self) -> str:
        """What the process printed so far."""
        return self.output.read_text("utf-8", "replace")

    def stop(self) -> None:
        """Ends the process."""
        if self.process.stdin is not None:
            with contextlib.suppress(OSError):
                self.process.stdin.close()
        self.process.kill()
        self.process.wait(20)


@contextmanager
def running(process: Running, addresses: Sequence[Address]) -> Iterator[Running]:
    """Waits until the server listens; stops it at the end of the block."""
    try:
        process.wait_for(addresses)
        yield process
    finally:
        process.stop()


def start_on_port(start: Callable[[int], Running]) -> tuple[Running, int]:
    """Starts a server that cannot take port 0 on a port the system just chose.

    Another process may take the port in between: then it is tried again.
    """
    for attempt in range(_ATTEMPTS):
        with socket.create_server(("127.0.0.1", 0)) as chosen:
            port: int = chosen.getsockname()[1]
        process = start(port)
        try:
            process.wait_for([("127.0.0.1", port)])
            process.until(lambda started=process: started.process.poll() is None)
        except RuntimeError:
            process.stop()
            if attempt + 1 == _ATTEMPTS:
                raise
        else:
            return process, port
    raise AssertionError


def _listens(address: Address) -> bool:
    try:
        connect(address).close()
    except OSError:
        return False
    return True
