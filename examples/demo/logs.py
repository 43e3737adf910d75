"""The logs of the demo: who keeps and cosigns them, and what an auditor reads in them."""

from __future__ import annotations

import json
from dataclasses import dataclass
from fractions import Fraction
from pathlib import Path
from typing import Any

from attestation.errors import OutcomeMismatchError
from examples.demo.configure import MARKET, NotaryParty
from examples.demo.stage import Stage

WITNESS = "gamma.witness.example"
BENT = NotaryParty("delta.notary.example", "Delta Games", 7067)
TRADE = "t-bent"
TRIES = 3


@dataclass(frozen=True, slots=True)
class LogKey:
    """A log's vkey, its line in a log policy, and its block in a trust file."""

    vkey: str
    policy: str
    block: str


@dataclass(slots=True)
class Logs:
    """Makes logs for the demo's notaries, has one witness cosign them, and audits them."""

    stage: Stage

    def make_key(self, name: str, operator: str, role: str, folder: Path) -> LogKey:
        """Makes a key that signs checkpoints (``log``) or cosigns them (``witness``)."""
        block = self.stage.run(
            *("notary", "keygen", "--role", role, "--name", name, "--operator", operator),
            *("--dir", str(folder)),
        )
        lines = block.splitlines()
        vkey = next(line.split()[2] for line in lines if line.startswith("# vkey"))
        policy = next(line for line in lines if line.startswith("# log policy"))
        return LogKey(vkey, policy.removeprefix("# log policy").strip(), block)

    def start_witness(self, logs: list[LogKey]) -> tuple[LogKey, str]:
        """Starts the witness of all logs; returns its key and URL."""
        folder = self.stage.folder / "witness"
        key = self.make_key(WITNESS, "Gamma Archive", "witness", folder)
        followed = [part for log in logs for part in ("--log", log.vkey)]
        ready = self.stage.start(
            "witness",
            *("notary", "witness", "serve", "--key", str(folder / "witness.key")),
            *("--data", str(folder), "--listen", "127.0.0.1:0", *followed),
        )
        return key, ready["witness"]

    def create(self, config: Path, log: LogKey, witness: LogKey, url: str) -> None:
        """Turns a notary's log on, and writes the policy by which readers believe it."""
        cosigner = {"vkey": witness.policy.split()[2], "url": url}
        members = ", ".join(f"{name} = {json.dumps(value)}" for name, value in cosigner.items())
        text = config.read_text(encoding="utf-8")
        config.write_text(f"{text}\n[log]\nwitnesses = [{{ {members} }}]\n", encoding="utf-8")
        self.stage.run("notary", "log", "create", "--config", str(config))
        policy = f"{log.policy}\n{witness.policy}\nquorum {WITNESS}\n"
        self.policy_of(config.parent.name).write_text(policy, encoding="utf-8")

    def policy_of(self, folder: str) -> Path:
        """Where a log's policy stands."""
        return self.stage.folder / f"log-policy-{folder}.txt"

    def audit(self, url: str, folder: str, mirror: str, comment: str, code: int) -> dict[str, Any]:
        """Copies a log and audits the copy offline; returns the auditor's report."""
        policy = ("--log-policy", str(self.policy_of(folder)))
        copy = str(self.stage.folder / mirror)
        self.stage.run("verifier", "mirror", url, copy, *policy)
        command = ("verifier", "audit", copy, *policy)
        self.stage.note(comment, *command, exit_code=code)
        report: dict[str, Any] = json.loads(self.stage.run(*command, "--json", exit_code=code))
        return report

    def pick_the_best(self, notary: str, trust: str, key: str, roots: str) -> tuple[Path, str]:
        """Fetches one leg of a trade three times and shows the highest price.

        Returns the presentation and the price.
        """
        cheats = self.stage.folder / "cheats"
        best: tuple[Fraction, str, Path] | None = None
        for number in range(1, TRIES + 1):
            out = cheats / f"try-{number}"
            document = json.loads(
                self.stage.run(
                    *("prover", "fetch", "--venue", "binance", "--market", MARKET),
                    *("--trade", TRADE, "--leg", "close", "--notary", notary),
                    *("--trust", trust, "--key", key, "--roots", roots),
                    *("--out", str(out), "--json"),
                )
            )
            quote = document["fetches"][0]["quote"]
            mid = (Fraction(quote["bid"]) + Fraction(quote["ask"])) / 2
            if best is None or mid > best[0]:
                best = (mid, f"{quote['bid']} / {quote['ask']}", out)
        if best is None:
            raise OutcomeMismatchError("nothing was fetched")
        presentation = cheats / "best.json"
        self.stage.run(
            *("prover", "present", str(best[2]), "--show", "response.body", "--quote"),
            *("--out", str(presentation)),
        )
        return presentation, best[1]
