"""Everything a game stands on, on this machine: venues, notaries, logs, a witness, services."""

from __future__ import annotations

import json
import secrets
import time
from dataclasses import dataclass

import httpx

from attestation.errors import UnavailableError
from attestation.keys import SigningKey
from examples.demo.configure import MARKET, NOTARIES, make_notary, write_trust
from examples.demo.live import policy_text
from examples.demo.logs import Logs
from examples.demo.stage import Stage
from examples.game.spare_time import run_in_spare_time

OPERATOR = "game.demo.example"
FEED = "btc-usd"
WIN = "1.9"
LIVE_SECONDS = 60.0
LIVE_SHARE = 0.9
"""Of the connections: what has to be live before the game begins."""


@dataclass(slots=True)
class Parties:
    """Starts everything in ``stage``, the game last.

    Trades last ``duration`` seconds and are settled over windows of ``window`` seconds;
    the policy takes effect ``effective`` seconds after it was drawn up.  With ``own_ports``
    everything listens where it does by default, else where the system chooses.
    """

    stage: Stage
    duration: float = 30.0
    window: float = 3.0
    effective: float = 15.0
    own_ports: bool = False
    prover: str = ""
    verifier: str = ""
    admin: str = ""
    vkey: str = ""
    policy_id: str = ""

    def start(self) -> None:
        """Starts all but the game; returns once orders are taken."""
        stage = self.stage
        venues = stage.start(
            *("venues", "examples.venues", "--dir", str(stage.folder)),
            *("--admin-port", "0", "--seed", str(secrets.randbelow(1 << 30))),
        )
        self.admin = f"http://127.0.0.1:{venues['admin']}"
        notaries = self._notaries(venues["port"])
        self._configure(notaries, venues["port"])
        self._draft(notaries)
        self._start_verifier()
        self.start_prover()
        while not self._live():
            # A policy that is not logged before it takes effect never is, and the prover
            # ends: on a slow machine it is drawn up again, to take effect later.
            for name in ("prover", "verifier"):
                stage.kill(name)
            (stage.folder / "policy.json").unlink()
            self.effective *= 2
            self._draft(notaries)
            self._start_verifier()
            self.start_prover()

    def _start_verifier(self) -> None:
        ready = self.stage.start(
            *("verifier", "verifier", "serve", "--trust", self._file("trust.toml")),
            *("--log-policy", self._file("log-policy.txt")),
            *("--policy", self._file("policy.json")),
            *(() if self.own_ports else ("--port", "0")),
        )
        self.verifier = ready["url"]
        # On this machine it is beside everything else.
        run_in_spare_time(self.stage.servers[-1].process.pid)

    def start_prover(self) -> None:
        """Starts ``prover serve``."""
        ready = self.stage.start(
            *("prover", "prover", "serve", "--development"),
            *("--config", self._file("feed.toml")),
        )
        self.prover = ready["url"]

    def start_game(self, port: int = 0) -> str:
        """Starts the game; returns its address."""
        ready = self.stage.start(
            *("game", "examples.game.serve", "--prover", self.prover),
            *("--verifier", self.verifier, "--policy", self._file("policy.json")),
            *("--operator", self.vkey, "--trust", self._file("trust.toml")),
            *("--log-policy", self._file("log-policy.txt"), "--win", WIN),
            *("--token", self._file("orders.token"), "--data", self._file("game")),
            *("--port", str(port), "--development"),
        )
        url: str = ready["url"]
        return url

    def _notaries(self, venues_port: int) -> list[tuple[str, str, str]]:
        """Starts the notaries and their witness; returns name, log and URL of each."""
        stage, folder, logs = self.stage, self.stage.folder, Logs(self.stage)
        key_file = folder / "prover.key"
        prover = stage.run("prover", "keygen", "--name", OPERATOR, "--out", str(key_file))
        key = SigningKey.parse(key_file.read_text(encoding="utf-8").strip())
        self.vkey = key.verifying_key.vkey
        known = [prover[prover.index("[[provers]]") :]]
        blocks, configs, keys = [], [], []
        for party in NOTARIES:
            config, block = make_notary(
                stage, party, venues_port, own_ports=self.own_ports, provers=known
            )
            log = logs.make_key(f"{party.name}/log", party.operator, "log", config.parent)
            blocks += [block, log.block]
            configs.append(config)
            keys.append(log)
        witness, url = logs.start_witness(keys)
        write_trust(folder, [*blocks, witness.block])
        found = []
        for party, config, log in zip(NOTARIES, configs, keys, strict=True):
            logs.create(config, log, witness, url)
            ready = stage.start(
                *(party.folder, "notary", "serve", "--config", str(config), "--development")
            )
            found.append((party.name, f"{party.name}/log", ready["control"]))
        text = policy_text([logs.policy_of(party.folder) for party in NOTARIES])
        (folder / "log-policy.txt").write_text(text, encoding="utf-8")
        return found

    def _configure(self, notaries: list[tuple[str, str, str]], venues_port: int) -> None:
        token = self.stage.folder / "orders.token"
        token.touch(mode=0o600)
        token.write_text(secrets.token_hex(16) + "\n", encoding="utf-8")
        lines = [
            f'name = "{FEED}"',
            f'market = "{MARKET}"',
            f"notaries = {json.dumps([url for _, _, url in notaries])}",
            'data = "feed"',
            *([] if self.own_ports else ['listen = "127.0.0.1:0"']),
            "[trades]",
            'policy = "policy.json"',
            'log_policy = "log-policy.txt"',
            'token = "orders.token"',
            f'win = "{WIN}"',
            "[development]",
            'roots = ["venues-ca.pem"]',
            f'connect_to = "127.0.0.1:{venues_port}"',
        ]
        (self.stage.folder / "feed.toml").write_text("\n".join(lines) + "\n", encoding="utf-8")

    def _draft(self, notaries: list[tuple[str, str, str]]) -> None:
        """Draws the policy up."""
        named = [part for name, log, _ in notaries for part in ("--notary", f"{name}={log}")]
        made = self.stage.run(
            *("prover", "policy", "--config", self._file("feed.toml"), "--development"),
            *("--log-policy", self._file("log-policy.txt"), *named),
            *("--out", self._file("policy.json"), "--window", str(self.window)),
            *("--duration", str(self.duration), "--effective-in", str(self.effective)),
            "--json",
        )
        self.policy_id = json.loads(made)["policy_id"]

    def _live(self) -> bool:
        """Waits until orders are taken; False if the prover has ended."""
        policy = json.loads((self.stage.folder / "policy.json").read_bytes())
        prover = next(one.process for one in self.stage.servers if one.name == "prover")
        deadline = time.monotonic() + LIVE_SECONDS + self.effective
        while time.monotonic() < deadline:
            if prover.poll() is not None:
                return False
            try:
                found = httpx.get(f"{self.prover}/v1/status", timeout=LIVE_SECONDS)
            except httpx.TransportError:
                # It ends now, or there is something wrong until the deadline.
                time.sleep(0.1)
                continue
            lanes = found.json()["lanes"]
            live = sum(lane["state"] == "live" for lane in lanes)
            effective = time.time() * 1e6 > policy["effective_us"]
            if lanes and live >= LIVE_SHARE * len(lanes) and effective:
                return True
            time.sleep(0.1)
        raise UnavailableError("the feed did not come up", rule="feed")

    def _file(self, name: str) -> str:
        return str(self.stage.folder / name)
