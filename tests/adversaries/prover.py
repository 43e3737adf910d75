"""A malicious prover: every step of the protocol by hand, with its own TLS client.

Nothing of ``prover`` is used: what a test sends is what goes out.
"""

from __future__ import annotations

import base64
import contextlib
import hashlib
import http.client
import itertools
import json
import os
import socket
import time
from collections.abc import Callable
from typing import Any, Self

import httpx

from attestation.encoding import encode
from attestation.keys import SigningKey
from tests.tls13.tlsclient import Client

SECONDS = 60.0
HOST = "hostile.example"
"""The ad hoc host behind which the hostile venue sits."""
BINANCE = "data-api.binance.vision"
TARGET = "/api/v3/ticker/bookTicker?symbol=BTCUSDT"
SECRETS = ("client_handshake", "server_handshake", "client_application", "server_application")
_SEEDS = itertools.count(1_000)


class Refusal(Exception):
    """A problem document of the notary's, from control API or relay."""

    def __init__(self, status: int, document: dict[str, Any]) -> None:
        super().__init__(f"{status} {document}")
        self.status = status
        self.rule = document.get("rule")
        self.document = document


def get(host: str = HOST, target: str = "/", *lines: str) -> bytes:
    """A request that asks for the end of the connection."""
    more = "".join(f"{line}\r\n" for line in lines)
    return f"GET {target} HTTP/1.1\r\nHost: {host}\r\n{more}Connection: close\r\n\r\n".encode()


def section(name: str, direction: str = "received", **members: Any) -> dict[str, Any]:
    """One section of an attestation request, committed as a whole."""
    salt = os.urandom(32 if members.get("scheme") == "tree" else 16).hex()
    return {"name": name, "direction": direction, "scheme": "hash", "salt": salt, **members}


def whole_body() -> dict[str, Any]:
    """The body committed by JSON value, as a quote needs it."""
    return section("response.body", scheme="tree", split="json")


class MaliciousProver:
    """Speaks to one notary; ``key`` signs its session requests."""

    def __init__(self, url: str, notary: str, key: SigningKey) -> None:
        self.notary = notary
        self.key = key
        self.http = httpx.Client(base_url=url, timeout=SECONDS)
        self.sessions: list[str] = []
        self.tokens: dict[str, str] = {}

    def __enter__(self) -> Self:
        return self

    def __exit__(self, *_: object) -> None:
        self.http.close()

    # The control API.

    def request(self, **changes: Any) -> dict[str, Any]:
        """A session request of the ad hoc host; a change to None leaves a member out."""
        document = {
            "type": "quotary/session_request/v1",
            "notary": self.notary,
            "at_us": time.time_ns() // 1000,
            "nonce": os.urandom(16).hex(),
            "prover": self.key.verifying_key.vkey,
            "mode": "sealed",
            "binding": "full",
            "host": HOST,
            "port": 443,
            "adhoc": "attack",
            **changes,
        }
        return {name: value for name, value in document.items() if value is not None}

    def envelope(self, document: dict[str, Any]) -> dict[str, Any]:
        """Signs a session request."""
        return {"request": document, "signature": self.key.sign(encode(document)).hex()}

    def post(self, path: str, body: object) -> dict[str, Any]:
        """Posts bytes as they are, or a value as JSON; raises Refusal."""
        content = body if isinstance(body, bytes) else json.dumps(body).encode()
        return read(self.http.post(path, content=content, headers=self.bearer(path)))

    def session(self, **changes: Any) -> dict[str, Any]:
        """Asks for a session."""
        granted = self.post("/v1/sessions", self.envelope(self.request(**changes)))
        self.sessions.append(granted["id"])
        self.tokens[granted["id"]] = granted["token"]
        return granted

    def bearer(self, path: str) -> dict[str, str]:
        """The header that shows the token of the session that a path names, if it is one's own."""
        session = next((part for part in path.split("/") if part in self.tokens), None)
        return {} if session is None else {"Authorization": f"Bearer {self.tokens[session]}"}

    def end_sessions(self) -> None:
        """Ends every session that has not ended."""
        for session in self.sessions:
            path = f"/v1/sessions/{session}"
            self.http.delete(path, headers=self.bearer(path))

    # The relay.

    def connect(self, granted: dict[str, Any], **changes: Any) -> socket.socket:
        """Opens the tunnel of a session; raises Refusal.

        ``changes`` replace host, port, id or token; ``head`` the whole request.
        """
        place = {**granted, **changes}
        credentials = base64.b64encode(f"{place['id']}:{place['token']}".encode()).decode()
        head = (
            f"CONNECT {place['host']}:{place['port']} HTTP/1.1\r\n"
            f"Proxy-Authorization: Basic {credentials}\r\n\r\n"
        ).encode()
        tunnel = dial(granted["proxy"])
        try:
            tunnel.sendall(changes.get("head", head))
            read_tunnel(tunnel)
        except BaseException:
            tunnel.close()
            raise
        return tunnel

    def attempt(self, client: Client | None = None, **changes: Any) -> Attempt:
        """A session with its tunnel; ``client`` is the TLS client to use in it."""
        granted = self.session(**changes)
        client = client or Client(granted["host"], seed=next(_SEEDS))
        return Attempt(self, granted, self.connect(granted), client)

    def template(self, client: Client | None = None, **changes: Any) -> Attempt:
        """An attempt at a quote whose key log will be opened."""
        return self.quote(client, **{"binding": "template", "form": "httpx", **changes})

    def quote(self, client: Client | None = None, **changes: Any) -> Attempt:
        """An attempt at a quote of Binance's, whose host the hostile venue answers for."""
        place = {"host": None, "port": None, "venue": "binance", "instrument": "BTCUSDT"}
        return self.attempt(client, **{**place, **changes})


class Attempt:
    """One session under way.  ``sent`` and ``received`` are the raw bytes in the tunnel."""

    def __init__(
        self,
        prover: MaliciousProver,
        granted: dict[str, Any],
        tunnel: socket.socket,
        client: Client,
    ) -> None:
        self.prover = prover
        self.granted = granted
        self.id: str = granted["id"]
        self.tunnel = tunnel
        self.client = client
        self.sent = bytearray()
        self.received = bytearray()
        self.attestation: dict[str, Any] | None = None

    def handshake(self) -> Self:
        """Runs the handshake; raises ConnectionError if the notary ends it."""
        self.flush()
        while not self.client.established and not self._waits_for_finished():
            self.receive()
            self.flush()
        return self

    def receive(self) -> bytes:
        """Takes bytes and gives them to the TLS client; raises ConnectionError at the end."""
        data = self.tunnel.recv(65536)
        if not data:
            raise ConnectionError("the notary ended the connection")
        self.received += data
        self.client.receive(data)
        return data

    def ended(self) -> bytes:
        """Takes the rest, until the connection is ended; returns it."""
        rest = bytearray()
        with contextlib.suppress(ConnectionError):
            while data := self.tunnel.recv(65536):
                rest += data
        return bytes(rest)

    def flush(self) -> None:
        """Sends what the TLS client has to send."""
        if data := self.client.take():
            self.send_raw(data)

    def send_raw(self, data: bytes) -> None:
        """Sends bytes as they are."""
        self.sent += data
        self.tunnel.sendall(data)

    def send(self, data: bytes | None = None, **how: Any) -> Self:
        """Sends application data, by default an honest request; ``how`` as of ``write``."""
        if data is None:
            target = self.granted.get("target", "/")
            data = get(self.granted["host"], target)
        self.client.write(data, **how)
        self.flush()
        return self

    def seal(self) -> dict[str, Any]:
        """Waits for the seal."""
        return self.prover.post(f"/v1/sessions/{self.id}/seal", {})

    def opening(self, own: bytes | None = None, **members: Any) -> dict[str, Any]:
        """The opening of the TLS client's own key, or of another."""
        own = self.client.private_key if own is None else own
        return {"kind": "ephemeral", "private_key": own.hex(), **members}

    def keylog(self, **changes: bytes) -> dict[str, Any]:
        """The opening of the TLS client's key log, with some of it replaced."""
        own = {name: getattr(self.client, name) for name in SECRETS}
        values = {"client_random": self.client.random} | own | changes
        return {"kind": "keylog"} | {name: value.hex() for name, value in values.items()}

    def commit(self, opening: dict[str, Any] | None = None) -> dict[str, Any]:
        """Commits to a key log, by default to the TLS client's own."""
        members = {**(opening or self.keylog()), "type": "quotary/commit/v1", "session": self.id}
        members = {**members, "nonce": self.granted["nonce"]}
        del members["kind"]
        digest = hashlib.sha256(encode(members)).hexdigest()
        return self.prover.post(
            f"/v1/sessions/{self.id}/commitment", {"commitment": f"sha256:{digest}"}
        )

    def open_keylog(self, opening: dict[str, Any] | None = None) -> dict[str, Any]:
        """Opens a key log, by default the own, and asks for the attestation."""
        return self.ask({"opening": opening or self.keylog(), "request": self.request()})

    def request(self, *sections: dict[str, Any], **changes: Any) -> dict[str, Any]:
        """An attestation request."""
        return {
            "type": "quotary/request/v1",
            "session": self.id,
            "hash": "sha256",
            "signature": "ed25519",
            "sections": list(sections or [section("response.body")]),
            "extensions": [],
            **changes,
        }

    def open(self, key: bytes | None = None, *, request: Any = None) -> dict[str, Any]:
        """Opens and asks for the attestation."""
        return self.ask({"opening": self.opening(key), "request": request or self.request()})

    def ask(self, body: object) -> dict[str, Any]:
        """Posts to the session's attestations."""
        answer = self.prover.post(f"/v1/sessions/{self.id}/attestations", body)
        self.attestation = answer.get("attestation")
        return answer

    def submit(self, body: object) -> Callable[[], dict[str, Any]]:
        """Posts to the session's attestations; the answer is waited for by the call returned."""
        path = f"/v1/sessions/{self.id}/attestations"
        connection = http.client.HTTPConnection(self.prover.http.base_url.netloc.decode())
        headers = self.prover.bearer(path)
        connection.request("POST", path, json.dumps(body).encode(), headers)

        def answer() -> dict[str, Any]:
            with contextlib.closing(connection):
                response = connection.getresponse()
                return read(httpx.Response(response.status, content=response.read()))

        return answer

    def finish(self) -> dict[str, Any]:
        """From the handshake to the attestation, as far as the notary lets it."""
        self.handshake().send()
        self.seal()
        return self.open()["attestation"]  # type: ignore[no-any-return]

    def _waits_for_finished(self) -> bool:
        return self.client.hold_finished and hasattr(self.client, "client_application")


def read(answer: httpx.Response) -> dict[str, Any]:
    """Returns the JSON of an answer; raises Refusal."""
    document: dict[str, Any] = answer.json() if answer.content else {}
    if answer.status_code >= 300:
        raise Refusal(answer.status_code, document)
    return document


def dial(address: str) -> socket.socket:
    """Connects to ``host:port``."""
    host, _, port = address.rpartition(":")
    tunnel = socket.create_connection((host, int(port)), timeout=SECONDS)
    tunnel.setsockopt(socket.IPPROTO_TCP, socket.TCP_NODELAY, 1)
    return tunnel


def read_tunnel(tunnel: socket.socket) -> None:
    """Reads the answer to a CONNECT up to its end; raises Refusal, ConnectionError."""
    head = b""
    while not head.endswith(b"\r\n\r\n"):
        byte = tunnel.recv(1)
        if not byte:
            raise ConnectionError("the relay closed without an answer")
        head += byte
    status = int(head.split()[1])
    if status == 200:
        return
    body = b""
    while data := tunnel.recv(65536):
        body += data
    raise Refusal(status, json.loads(body))
