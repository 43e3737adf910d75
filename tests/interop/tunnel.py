"""A loopback port whose connections go through the notary, each as a session of its own.

With it a client that knows nothing of notaries is tried as it is: the notary
sees its ClientHello and answers for it.  Nothing is opened, so nothing is
attested; the mode is ``open``, in which the venue's answer comes at once.
"""

from __future__ import annotations

import base64
import socket
import threading
from typing import Self

from attestation.errors import QuotaryError, RefusedError
from prover import Notary
from prover.flow import Timeouts, run
from prover.notary_client import seal_call
from prover.session import GrantedSession, SessionSpec
from tests.interop.leaves import HOST
from tests.interop.path import pump, wake

_SPEC = SessionSpec(host=HOST, port=443, mode="open", adhoc="tunnel")


class Tunnel:
    """Listens on ``port`` while it is entered; ``sessions`` are those of its connections."""

    def __init__(self, notary: Notary) -> None:
        self._notary = notary
        self._listener = socket.create_server(("127.0.0.1", 0))
        self._threads: list[threading.Thread] = []
        self.port: int = self._listener.getsockname()[1]
        self.sessions: list[GrantedSession] = []

    def __enter__(self) -> Self:
        self._start(self._accept)
        return self

    def __exit__(self, *_: object) -> None:
        wake(self._listener)
        for thread in self._threads:
            thread.join(20)

    def verdict(self, session: GrantedSession) -> QuotaryError:
        """Returns why the notary ended a session, or that it has no seal if it did not."""
        lane = run(self._notary.acquire(), Timeouts())
        try:
            run(lane.control.call(seal_call(session)), Timeouts())
        except RefusedError as error:
            return error
        finally:
            self._notary.release(lane)
        raise AssertionError("a session in the mode `open` was sealed")

    def _start(self, target: object, *arguments: object) -> None:
        thread = threading.Thread(target=target, args=arguments, daemon=True)  # type: ignore[arg-type]
        self._threads.append(thread)
        thread.start()

    def _accept(self) -> None:
        while True:
            try:
                near, _ = self._listener.accept()
            except OSError:
                return
            far = self._connect()
            self._start(pump, near, far)
            self._start(pump, far, near)

    def _connect(self) -> socket.socket:
        lane = run(self._notary.acquire(_SPEC), Timeouts())
        session = run(lane.take_session(_SPEC), Timeouts())
        self._notary.release(lane)
        self.sessions.append(session)
        far = socket.create_connection((session.proxy_host, session.proxy_port), timeout=20)
        far.settimeout(None)
        secret = base64.b64encode(f"{session.id}:{session.token}".encode()).decode()
        head = f"CONNECT {HOST}:443 HTTP/1.1\r\nHost: {HOST}:443\r\n"
        far.sendall(f"{head}Proxy-Authorization: Basic {secret}\r\n\r\n".encode())
        answer = b""
        while not answer.endswith(b"\r\n\r\n"):
            answer += far.recv(1)
        assert b" 200 " in answer, answer
        return far
