"""A lying notary: what an honest one says, altered on its way and signed with its true key.

Behind the lying control API stands a genuine notary process, so that every lie
is told in an otherwise perfect session.  The relay can lie as well.
"""

from __future__ import annotations

import dataclasses
import http.client
import json
import socket
import threading
from collections.abc import Callable
from email.message import Message
from http.server import BaseHTTPRequestHandler, ThreadingHTTPServer
from typing import Any, Self, TypeAlias
from urllib.parse import urlsplit

from attestation import merkle
from attestation.document import Attestation, Field, body_leaves
from attestation.hashing import format_hash
from attestation.keys import SigningKey
from attestation.seal import Seal, SignedSeal
from tests.adversaries.prover import dial
from tests.adversaries.stage import NotaryProcess

Lie: TypeAlias = Callable[[dict[str, Any]], dict[str, Any]]
KINDS = ("info", "session", "seal", "attestation")


class LyingNotary:
    """Listens on loopback; a context manager.

    ``lie`` sets what is done to the answers of one kind (``KINDS``) from now on,
    ``rewrite`` what is done to the relay's bytes to the prover.  ``heard`` keeps
    the kind of each request, in order.
    """

    def __init__(self, honest: NotaryProcess) -> None:
        self.honest = honest
        self.key = honest.key
        self.heard: list[str] = []
        self.rewrite: Callable[[bytes], bytes] | None = None
        self._lies: dict[str, Lie] = {}
        self._server = ThreadingHTTPServer(("127.0.0.1", 0), self._handler())
        self._server.daemon_threads = True
        self._relay = socket.create_server(("127.0.0.1", 0))
        self.url = f"http://127.0.0.1:{self._server.server_address[1]}"

    def honestly(self) -> None:
        """Tells no lie from now on, and forgets what was heard."""
        self._lies, self.rewrite, self.heard = {}, None, []

    def lie(self, kind: str, change: Lie) -> None:
        """Alters the answers of a kind."""
        assert kind in KINDS
        self._lies[kind] = change

    def __enter__(self) -> Self:
        for target in (self._server.serve_forever, self._accept):
            threading.Thread(target=target, daemon=True).start()
        return self

    def __exit__(self, *_: object) -> None:
        self._server.shutdown()
        self._server.server_close()
        self._relay.shutdown(socket.SHUT_RDWR)
        self._relay.close()

    # Lies that keep up appearances: everything signed again.

    def forged(
        self,
        change: Callable[[list[Field]], list[Field]] = lambda fields: fields,
        *,
        signer: SigningKey | None = None,
        **header: Any,
    ) -> Lie:
        """A lie in the attestation's fields or header, folded and signed anew."""

        def lie(answer: dict[str, Any]) -> dict[str, Any]:
            honest = Attestation.from_json(answer["attestation"])
            fields = tuple(change(list(honest.fields)))
            algorithm = honest.header.root.partition(":")[0]
            leaves = body_leaves(fields, seed=honest.seed, algorithm=algorithm)
            root = format_hash(merkle.root(leaves, algorithm), algorithm)
            members = {"root": root, "size": len(fields), **header}
            signed = dataclasses.replace(honest.header, **members)
            signature = (signer or self.key).sign(signed.encode()).hex()
            forged = dataclasses.replace(honest, header=signed, fields=fields, signature=signature)
            return {"attestation": forged.to_json()}

        return lie

    def altered(self, name: str, /, **members: Any) -> Lie:
        """Other members in a field, named by itself or by its section or extension."""

        def change(fields: list[Field]) -> list[Field]:
            names = [_name(field) for field in fields]
            index = names.index(name)
            value: dict[str, Any] = dict(fields[index].value)
            inner = value["value"] if fields[index].name == "extension" else value
            inner = {key: item for key, item in {**inner, **members}.items() if item is not None}
            value = {**value, "value": inner} if fields[index].name == "extension" else inner
            fields[index] = dataclasses.replace(fields[index], value=value)
            return fields

        return self.forged(change)

    def without(self, name: str) -> Lie:
        """Leaves a field out."""
        return self.forged(lambda fields: [field for field in fields if _name(field) != name])

    def resealed(self, *, signer: SigningKey | None = None, **members: Any) -> Lie:
        """A lie in the seal, signed anew; members of its times by name as well."""

        def lie(answer: dict[str, Any]) -> dict[str, Any]:
            document = answer["seal"]
            times = {name: members.get(name, value) for name, value in document["times"].items()}
            changes = {name: value for name, value in members.items() if name not in times}
            seal = Seal.from_json({**document, **changes, "times": times})
            signature = (signer or self.key).sign(seal.encode()).hex()
            return SignedSeal(seal=seal, signature=signature).to_json()

        return lie

    # The control API.

    def _handler(self) -> type[BaseHTTPRequestHandler]:
        lying = self

        class Handler(BaseHTTPRequestHandler):
            protocol_version = "HTTP/1.1"
            disable_nagle_algorithm = True

            def do_GET(self) -> None:
                self._forward()

            def do_POST(self) -> None:
                self._forward()

            def _forward(self) -> None:
                body = self.rfile.read(int(self.headers.get("content-length", 0)))
                status, answer = lying._answer(self.command, self.path, body, self.headers)
                self.send_response(status)
                self.send_header("content-type", "application/json")
                self.send_header("content-length", str(len(answer)))
                self.end_headers()
                self.wfile.write(answer)

            def log_message(self, format: str, *args: Any) -> None:
                pass

        return Handler

    def _answer(self, method: str, path: str, body: bytes, headers: Message) -> tuple[int, bytes]:
        kind = _kind(path)
        self.heard.append(kind)
        connection = http.client.HTTPConnection(urlsplit(self.honest.url).netloc, timeout=60)
        try:
            token = headers.get("authorization")
            own = {} if token is None else {"Authorization": token}
            connection.request(method, path, body, own)
            response = connection.getresponse()
            status, document = response.status, json.loads(response.read())
        finally:
            connection.close()
        if status < 300:
            if kind == "session":
                document["proxy"] = f"127.0.0.1:{self._relay.getsockname()[1]}"
            document = self._lies.get(kind, lambda same: same)(document)
        return status, json.dumps(document).encode()

    # The relay.

    def _accept(self) -> None:
        try:
            while True:
                client, _ = self._relay.accept()
                venue = dial(self.honest.relay)
                for pair in ((client, venue, None), (venue, client, self.rewrite)):
                    threading.Thread(target=_pump, args=pair, daemon=True).start()
        except OSError:
            pass  # closed at the end


def _pump(
    source: socket.socket, sink: socket.socket, rewrite: Callable[[bytes], bytes] | None
) -> None:
    try:
        while data := source.recv(65536):
            sink.sendall(data if rewrite is None else rewrite(data))
        sink.shutdown(socket.SHUT_WR)
    except OSError:
        pass  # the other side is gone
    finally:
        source.close()


def _kind(path: str) -> str:
    last = path.rstrip("/").rsplit("/", 1)[-1]
    if last in ("info", "commitment", "seal"):
        return last
    return "session" if last == "sessions" else "attestation"


def _name(field: Field) -> str:
    own = {"section": "name", "extension": "id"}.get(field.name)
    return field.name if own is None else str(field.value[own])
