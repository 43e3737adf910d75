"""What a notary adds to each message of a live session: relayed and verified against direct.

A bare relay, in turn with both, shows what any hop costs on the machine of the day.

Venue, notary and client are separate processes on loopback.  The venue says in each message
when it was sent; the client tells how old each is once it is decrypted.
"""

from __future__ import annotations

import base64
import os
import re
import socket
import statistics
import threading
import time
from pathlib import Path
from tempfile import TemporaryDirectory
from typing import Any

import httpx

from attestation.encoding import encode
from attestation.feed_request import EntryRequest
from attestation.keys import SEED_SIZE, SigningKey
from attestation.log.entry import FeedEntry, FeedVenue
from attestation.request import SessionRequest
from attestation.subscription import upgrade_request, upgrade_target
from attestation.venues import load_venue
from benchmarks.figures import Figure
from benchmarks.pusher import HOST, INSTRUMENT, PORT
from examples.demo.configure import NOTARIES, make_notary
from examples.demo.stage import Stage
from prover.libssl import ClientContext, TlsClient

RATE = 10_000
MESSAGES = 20_000
RUNS = 3
_FEED = "bench"
_STAMP = re.compile(rb'"A":"([0-9]+)"')


def measure() -> list[Figure]:
    """Reads the same channel directly and through a notary, in turn."""
    with TemporaryDirectory() as name, Stage(Path(name)) as stage:
        venue = stage.start("pusher", "benchmarks.pusher", "--dir", name, "--rate", str(RATE))
        roots = (Path(name) / "venues-ca.pem").read_bytes()
        key = SigningKey(name="bench.example", algorithm="ed25519", seed=bytes(SEED_SIZE))
        notary = _Notary(stage, venue["port"], key)
        context = ClientContext(roots)
        bare = stage.start("bare", "benchmarks.bare", "--to", str(venue["port"]))
        ages: dict[str, list[float]] = {"direct": [], "bare": [], "notary": []}
        for _ in range(RUNS):
            for name, port in (("direct", venue["port"]), ("bare", bare["port"])):
                tunnel = socket.create_connection(("127.0.0.1", port))
                ages[name] += _ages(tunnel, context.connect(HOST, keep_raw=False))
            ages["notary"] += notary.ages(context)
        return _figures(ages, notary.cpu_seconds() / (RUNS * MESSAGES), notary.relayed_us())


def _figures(ages: dict[str, list[float]], cpu: float, relayed_us: float) -> list[Figure]:
    cuts = {name: [one * 1e6 for one in statistics.quantiles(ages[name], n=100)] for name in ages}
    shown = ", ".join(
        f"{name} {cut[49]:.0f} / {cut[94]:.0f} / {cut[98]:.0f}" for name, cut in cuts.items()
    )
    direct, bare, relayed = (cuts[name][49] for name in ("direct", "bare", "notary"))
    return [
        Figure(
            name=f"live message through the notary, added at {RATE:,}/s, p50",
            value=relayed - direct,
            unit="us",
            bar=50,
            note=f"p50 / p95 / p99 in us: {shown}; in the notary, from read to written,"
            f" half took at most {relayed_us:.0f}",
        ),
        Figure(
            name="the same through a relay that looks at nothing", value=bare - direct, unit="us"
        ),
        Figure(name="notary CPU per live message", value=cpu * 1e6, unit="us"),
    ]


class _Notary:
    """A notary with one feed, and its sessions."""

    def __init__(self, stage: Stage, port: int, key: SigningKey) -> None:
        self._key = key
        config, _ = make_notary(stage, NOTARIES[0], port, unlimited=True)
        text = config.read_text(encoding="utf-8").replace(
            "connect_to = [",
            f'connect_to = [\n    {{ host = "{HOST}", port = {PORT}, to = "127.0.0.1:{port}" }},',
        )
        vkey = key.verifying_key.vkey
        stage.run(
            *("notary", "keygen", "--role", "log", "--name", "log.bench.example"),
            *("--operator", "Bench", "--dir", str(config.parent)),
        )
        text = text.replace(
            "[development]",
            f'[[provers]]\nname = "bench"\nvkey = "{vkey}"\n[log]\n[development]',
            1,
        )
        config.write_text(text, encoding="utf-8")
        stage.run("notary", "log", "create", "--config", str(config))
        ready = stage.start("notary", "notary", "serve", "--config", str(config), "--development")
        host, _, relay = ready["relay"].rpartition(":")
        self._relay = (host, int(relay))
        self._http = httpx.Client(base_url=ready["control"], timeout=30)
        self._name = self._http.get("/v1/info").json()["name"]
        venue = load_venue("binance")
        entry = FeedEntry(
            feed=_FEED,
            venues=(FeedVenue(venue=venue.name, instrument=INSTRUMENT, venue_file=venue.hash),),
            market="BTC/USD",
            grid_us=500_000,
            late_us=1_000_000,
            provers=(vkey,),
            from_us=_now_us() + 1_000_000,
        )
        self._post("/v1/entries", EntryRequest, entry=entry.to_json())
        self._cpu = 0.0

    def ages(self, context: ClientContext) -> list[float]:
        """Reads one live session."""
        members = {"mode": "live", "binding": "full", "venue": "binance", "feed": _FEED}
        session = self._post("/v1/sessions", SessionRequest, instrument=INSTRUMENT, **members)
        tunnel = socket.create_connection(self._relay)
        secret = base64.b64encode(f"{session['id']}:{session['token']}".encode()).decode()
        lines = (f"CONNECT {HOST}:{PORT} HTTP/1.1", f"Proxy-Authorization: Basic {secret}", "", "")
        tunnel.sendall("\r\n".join(lines).encode())
        answer = tunnel.recv(4_096)
        if not answer.startswith(b"HTTP/1.1 200 "):
            raise AssertionError(answer)
        tls = context.connect(HOST, keep_raw=False)
        _handshake(tunnel, tls)
        body = {
            "opening": {
                "kind": "ephemeral",
                "private_key": tls.ephemeral_key().private_key.hex(),
            },
            "request": {
                "type": "quotary/request/v1",
                "session": session["id"],
                "hash": "sha256",
                "signature": "ed25519",
                "sections": [],
                "extensions": [],
            },
        }
        opening = threading.Thread(
            target=lambda: self._http.post(
                f"/v1/sessions/{session['id']}/attestations",
                json=body,
                headers={"Authorization": f"Bearer {session['token']}"},
            ).raise_for_status()
        )
        opening.start()
        before = self._cpu_total()
        ages = _ages(tunnel, tls)
        self._cpu += self._cpu_total() - before
        opening.join()
        return ages

    def cpu_seconds(self) -> float:
        """What the notary used while sessions were read."""
        return self._cpu

    def relayed_us(self) -> float:
        """The bucket with the median of what it took to pass a read on."""
        rows = [
            (float(line.split('le="')[1].split('"')[0]), float(line.split()[-1]))
            for line in self._http.get("/metrics").text.splitlines()
            if line.startswith('quotary_hop_seconds_bucket{hop="relayed"')
        ]
        return next(bound for bound, count in rows if 2 * count >= rows[-1][1]) * 1e6

    def _post(self, path: str, kind: Any, **members: Any) -> dict[str, Any]:
        request = kind(
            notary=self._name,
            at_us=_now_us(),
            nonce=os.urandom(16).hex(),
            prover=self._key.verifying_key.vkey,
            **members,
        )
        signature = self._key.sign(request.encode()).hex()
        body = encode({"request": request.to_json(), "signature": signature})
        answer = self._http.post(path, content=body)
        answer.raise_for_status()
        granted: dict[str, Any] = answer.json()
        return granted

    def _cpu_total(self) -> float:
        for line in self._http.get("/metrics").text.splitlines():
            if line.startswith("process_cpu_seconds_total "):
                return float(line.split()[1])
        return float("nan")


def _now_us() -> int:
    return time.time_ns() // 1_000


def _handshake(tunnel: socket.socket, tls: TlsClient) -> None:
    tunnel.setsockopt(socket.IPPROTO_TCP, socket.TCP_NODELAY, 1)
    while not tls.handshake():
        tunnel.sendall(tls.outgoing())
        tls.feed(tunnel.recv(65_536))
    tunnel.sendall(tls.outgoing())


def _ages(tunnel: socket.socket, tls: TlsClient) -> list[float]:
    """Subscribes and returns the seconds that each message took, the first tenth left out."""
    with tunnel:
        if not tls.established:
            _handshake(tunnel, tls)
        target = upgrade_target(load_venue("binance"), INSTRUMENT, host=HOST)
        tls.write(upgrade_request(HOST, PORT, target, os.urandom(16)))
        tunnel.sendall(tls.outgoing())
        ages: list[float] = []
        while len(ages) < MESSAGES:
            data = tunnel.recv(65_536)
            if not data:
                raise AssertionError("the channel ended")
            tls.feed(data)
            plaintext, now = tls.read(), time.monotonic_ns()
            ages += [(now - int(stamp)) / 1e9 for stamp in _STAMP.findall(plaintext)]
        tls.close()
    return ages[MESSAGES // 10 :]
