"""A notary as a process of its own, on ports it keeps, so that it can be killed and come back."""

from __future__ import annotations

import json
import os
import signal
import subprocess
import sys
from pathlib import Path

from attestation.keys import SigningKey
from attestation.tls13.certificates import RootStore
from attestation.trust import Trust, TrustedKey
from examples.venues.server import ThreadedVenueServer
from notary.signer import write_key
from tests.ports import free_port
from tests.prover.feed.feeding import LOG_KEY
from tests.prover.stage import RunningNotary, notary_toml


class NotaryProcess:
    """Keeps its data, keys and ports through kills."""

    def __init__(self, folder: Path, venues: ThreadedVenueServer, name: str) -> None:
        folder.mkdir(parents=True)
        key = SigningKey(name=name, algorithm="ed25519", seed=os.urandom(32))
        write_key(folder / "notary.key", key)
        write_key(folder / "log.key", LOG_KEY)
        (folder / "roots.pem").write_bytes(venues.ca_pem)
        control, relay = free_port(), free_port()
        text = notary_toml(name, ["notary.key"], venues.port)
        text = text.replace('listen = "127.0.0.1:0"', f'listen = "127.0.0.1:{control}"')
        text = text.replace('relay = "127.0.0.1:0"', f'relay = "127.0.0.1:{relay}"')
        self._config = folder / "notary.toml"
        self._config.write_text(text + "\n[log]\nwitnesses = []\n", encoding="utf-8")
        self._notary("log", "create", "--config", str(self._config))
        self._process: subprocess.Popen[str] | None = None
        self.running = RunningNotary(
            url=f"http://127.0.0.1:{control}",
            relay=f"127.0.0.1:{relay}",
            name=name,
            trust=Trust(
                keys=(
                    TrustedKey(
                        name=name,
                        operator=f"Operator of {name}",
                        key=key.verifying_key,
                        role="attest",
                        valid_from_us=0,
                        valid_until_us=2**52,
                    ),
                )
            ),
            roots_pem=venues.ca_pem,
            roots=RootStore.from_pem(venues.ca_pem),
        )

    def start(self) -> None:
        """Starts it, and returns once it serves."""
        arguments = ("serve", "--config", str(self._config), "--development")
        self._process = subprocess.Popen(
            [sys.executable, "-m", "notary", *arguments],
            stdout=subprocess.PIPE,
            stderr=subprocess.DEVNULL,
            text=True,
        )
        assert self._process.stdout is not None
        assert json.loads(self._process.stdout.readline())["type"] == "ready"

    def kill(self) -> None:
        """Kills it, as a power cut would but for the disk's cache."""
        if self._process is not None:
            self._process.send_signal(signal.SIGKILL)
            self._process.wait(20)
            assert self._process.stdout is not None
            self._process.stdout.close()
            self._process = None

    def _notary(self, *arguments: str) -> None:
        subprocess.run(
            [sys.executable, "-m", "notary", *arguments],
            check=True,
            timeout=60,
            capture_output=True,
        )
