"""A name server that lies, and a notary in this process that has to believe it."""

from __future__ import annotations

import asyncio
import json
import socket
import threading
from collections.abc import Awaitable, Callable, Iterable
from typing import Any, Self

import notary.server
from notary.config import load_config
from notary.crowd import Crowd
from notary.relay import Relay, VenueLeg
from notary.resolve import Endpoint
from notary.server import load_roots, load_signer, serve
from tests.adversaries.stage import SECONDS, NotaryProcess


class HostileDns:
    """Answers for ``.example`` names from a table, each answer once, the last for ever.

    An answer is a list of addresses; an empty one means that there is no such
    name.  Everything else goes to the system.  ``asked`` counts by name.
    """

    def __init__(self) -> None:
        self.answers: dict[str, list[list[str]]] = {}
        self.asked: dict[str, int] = {}
        self._system = socket.getaddrinfo

    def set(self, host: str, *answers: Iterable[str]) -> None:
        self.answers[host] = [list(answer) for answer in answers]
        self.asked[host] = 0

    def getaddrinfo(self, host: Any, port: Any, *args: Any, **kwargs: Any) -> list[Any]:
        if host not in self.answers:
            return self._system(host, port, *args, **kwargs)
        self.asked[host] += 1
        left = self.answers[host]
        answer = left.pop(0) if len(left) > 1 else left[0]
        if not answer:
            raise socket.gaierror(socket.EAI_NONAME, "no such name")
        return [
            (
                socket.AF_INET6 if ":" in address else socket.AF_INET,
                socket.SOCK_STREAM,
                socket.IPPROTO_TCP,
                "",
                (address, port, 0, 0) if ":" in address else (address, port),
            )
            for address in answer
        ]


class NotaryThread(NotaryProcess):
    """The same notary in a thread of this process; ``dial`` reaches the venue for it."""

    dial: Callable[[Endpoint], Awaitable[VenueLeg]]

    def start(self) -> Self:
        settings = load_config(self.config, development=True)
        self._loop = asyncio.new_event_loop()
        self._stop = asyncio.Event()
        self._thread = threading.Thread(target=self._run, args=(settings,), daemon=True)
        self._announced = threading.Event()
        self._thread.start()
        assert self._announced.wait(SECONDS)
        return self

    def end(self, number: int = 0) -> int:
        self._loop.call_soon_threadsafe(self._stop.set)
        self._thread.join(SECONDS)
        self._loop.close()
        return 0

    def __exit__(self, *_: object) -> None:
        self.end()

    def _announce(self, line: str) -> None:
        answer = json.loads(line)
        self.url, self.relay = answer["control"], answer["relay"]
        self._announced.set()

    def _run(self, settings: Any) -> None:
        asyncio.set_event_loop(self._loop)
        serving = serve(
            settings,
            load_signer(settings),
            load_roots(settings),
            announce=self._announce,
            stop=self._stop,
        )
        self._loop.run_until_complete(serving)


def dialing(dial: Callable[[Endpoint], Awaitable[VenueLeg]]) -> Callable[..., Relay]:
    """A relay that reaches venues by ``dial``, to put in the place of the server's own."""
    assert notary.server.Relay is Relay

    def make(desk: Any, *, crowd: Crowd) -> Relay:
        return Relay(desk, crowd=crowd, dial=dial)

    return make
