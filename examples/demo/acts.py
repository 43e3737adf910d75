"""What happens in the demo, act by act; every line printed was read from a result."""

from __future__ import annotations

import json
import time
from pathlib import Path
from typing import Any

import httpx

from attestation.errors import AuditFinding, OutcomeMismatchError
from examples.demo.configure import (
    MARKET,
    NOTARIES,
    PROVER,
    QUOTED,
    make_notary,
    write_expectation,
    write_trust,
)
from examples.demo.forge import another_key, change_digit
from examples.demo.live import policy_text
from examples.demo.logs import BENT, TRIES, Logs
from examples.demo.stage import Stage
from examples.demo.trading import Trading

WHOLE = QUOTED[0]
VERIFIER_PORT = 7049
"""Of the verify API where the demo stays up."""
HOUR_US = 3_600_000_000


class Demo:
    """The demo under way; the acts are to be called in the order in which they stand.

    With ``stay`` the servers listen on known ports, for who uses them afterwards.
    """

    def __init__(self, stage: Stage, *, stay: bool = False) -> None:
        self._stage = stage
        self._stay = stay
        self._folder = stage.folder
        self._summary: dict[str, Any] = {"market": MARKET, "quotes": [], "refused": []}
        self._notaries: list[str] = []
        self._verifier = ""
        self._logs = Logs(stage)
        self._venues = {"port": 0, "admin": 0}
        self._bent = ""

    def start(self) -> None:
        """Starts every process and writes the files the parties need."""
        stage, folder = self._stage, self._folder
        venues = stage.start("venues", "examples.venues", "--dir", str(folder), "--admin-port", "0")
        prover = stage.run("prover", "keygen", "--name", PROVER, "--out", self._file("prover.key"))
        known = [prover[prover.index("[[provers]]") :]]
        blocks, configs, keys = [], [], []
        for party in (*NOTARIES, BENT):
            config, block = make_notary(
                stage, party, venues["port"], own_ports=self._stay, provers=known
            )
            key = self._logs.make_key(f"{party.name}/log", party.operator, "log", config.parent)
            blocks += [block, key.block]
            configs.append(config)
            keys.append(key)
        witness, url = self._logs.start_witness(keys)
        blocks.append(witness.block)
        for party, config, key in zip((*NOTARIES, BENT), configs, keys, strict=True):
            self._logs.create(config, key, witness, url)
            program = "examples.demo.bent" if party is BENT else "notary"
            ready = stage.start(
                party.folder, *(program, "serve", "--config", str(config), "--development")
            )
            if party is BENT:
                self._bent = ready["control"]
            else:
                self._notaries.append(ready["control"])
        write_trust(folder, blocks)
        now_us = time.time_ns() // 1_000
        window = (now_us - 1_000_000, now_us + HOUR_US)
        write_expectation(folder / "expect.toml", *window)
        write_expectation(folder / "expect-quorum.toml", *window, notaries=len(NOTARIES))
        ready = stage.start(
            *("verifier", "verifier", "serve", "--trust", self._file("trust.toml")),
            *("--port", str(VERIFIER_PORT if self._stay else 0)),
        )
        self._verifier = ready["url"]
        policies = [self._logs.policy_of(party.folder) for party in NOTARIES]
        Path(self._file("log-policy.txt")).write_text(policy_text(policies), encoding="utf-8")
        self._venues = {name: venues[name] for name in self._venues}

    @property
    def servers(self) -> dict[str, str]:
        """URLs of the notaries and of the verify API, by name."""
        names = [party.name for party in NOTARIES]
        return {**dict(zip(names, self._notaries, strict=True)), "verify API": self._verifier}

    def fetch(self) -> None:
        """Fetches each venue's quote through both notaries, sealed, into ``prover/``."""
        notaries = [part for url in self._notaries for part in ("--notary", url)]
        for venue in QUOTED:
            document = json.loads(
                self._stage.run(
                    *("prover", "fetch", "--venue", venue, "--market", MARKET, *notaries),
                    *("--trust", self._file("trust.toml"), "--key", self._file("prover.key")),
                    *("--roots", self._file("venues-ca.pem")),
                    *("--out", self._file(f"prover/{venue}"), "--json"),
                )
            )
            self._summary["quotes"] += document["fetches"]
            quote = document["fetches"][0]["quote"]
            print(f"   {venue:<10} {quote['instrument']:<9} {quote['bid']} / {quote['ask']}")

    def present(self) -> None:
        """Writes one whole and all redacted presentations, and one by both notaries."""
        (self._folder / "presentations").mkdir()
        name = NOTARIES[0].name
        for venue in QUOTED:
            self._stage.run(
                *("prover", "present", self._file(f"prover/{venue}/{name}")),
                *("--show", "response.body", "--quote"),
                *("--out", self._presentation(venue, "redacted")),
            )
        self._stage.run(
            *("prover", "present", self._file(f"prover/{WHOLE}/{name}"), "--whole"),
            *("--out", self._presentation(WHOLE, "whole")),
        )
        self._stage.run(
            *("prover", "present", self._file(f"prover/{WHOLE}")),
            *("--show", "response.body", "--quote"),
            *("--out", self._file(f"presentations/{WHOLE}.quorum")),
        )
        for kind in ("whole", "redacted"):
            size = Path(self._presentation(WHOLE, kind)).stat().st_size
            print(f"   {WHOLE}.{kind}.json: {size:,} bytes")

    def verify(self) -> None:
        """Verifies by command line and by HTTP; both must agree."""
        files = [self._presentation(WHOLE, "whole")]
        files += [self._presentation(venue, "redacted") for venue in QUOTED]
        for file in files:
            self._verify_file(f"{Path(file).name} is what it claims to be", [file], 0)
        pair = [self._quorum_file(party.name) for party in NOTARIES]
        expect = self._file("expect-quorum.toml")
        quorum = json.loads(
            self._verify_file("two notaries of two operators agree", pair, 0, expect)
        )
        verdict = self._ask(files[-1])
        if verdict["verdict"] != "accepted":
            raise OutcomeMismatchError("the verify API rejects what the CLI accepts")
        quote = verdict["quotes"][0]
        print(
            f"   {len(files)} presentations accepted, and {WHOLE} by a quorum of"
            f" {len(quorum['notaries'])} notaries: mid {quorum['mid']}"
        )
        print(
            f"   the API agrees: {quote['venue']} mid {quote['mid']},"
            f" proven within {quote['not_after_us'] - quote['not_before_us']} us"
        )

    def settle(self) -> None:
        """Runs ``examples/settle_trade.py`` and checks that its record is complete."""
        self._stage.run(
            *("examples.settle_trade", "--notary", self._notaries[0]),
            *("--verifier", self._verifier, "--trust", self._file("trust.toml")),
            *("--key", self._file("prover.key"), "--roots", self._file("venues-ca.pem")),
            *("--out", self._file("trade.json")),
        )
        trade = json.loads((self._folder / "trade.json").read_bytes())
        attestations = [row["attestation"] for leg in ("open", "close") for row in trade[leg]]
        if len(set(attestations)) != 2 * len(QUOTED):
            raise OutcomeMismatchError("the trade does not refer to ten attestations")
        self._summary["trade"] = trade
        print(f"   trade {trade['trade']}: {trade['outcome']}, on {len(attestations)} attestations")

    def tamper(self) -> None:
        """Makes forgeries; each must be refused, for its own reason."""
        (self._folder / "tampered").mkdir()
        original = Path(self._presentation(WHOLE, "redacted")).read_bytes()
        price = self._file("tampered/price.json")
        Path(price).write_bytes(change_digit(original))
        key = self._file("tampered/unknown_key.json")
        Path(key).write_bytes(another_key(original))
        self._refused("one digit of the price was changed", price, 11)
        self._refused("signed by a key that nobody trusts", key, 12)
        purpose = self._file("expect-trade.toml")
        text = (self._folder / "expect.toml").read_text(encoding="utf-8")
        Path(purpose).write_text(f'purpose = "trade/1/close"\n{text}', encoding="utf-8")
        genuine = self._presentation(WHOLE, "redacted")
        self._refused("a genuine quote, shown for a trade it is not of", genuine, 17, purpose)
        quorum = self._file("expect-quorum.toml")
        self._refused("one notary, where two must agree", genuine, 15, quorum)

    def demand_log(self) -> None:
        """Demands of a quote that it was logged, and that a witness saw it there."""
        text = (self._folder / "expect.toml").read_text(encoding="utf-8")
        expect = self._file("expect-log.toml")
        demand = "[log]\nquorum = 1\nmax_delay_us = 600_000_000\n"
        Path(expect).write_text(f"{text}\n{demand}", encoding="utf-8")
        early = self._presentation(WHOLE, "redacted")
        self._refused("a quote whose log entry no witness had seen yet", early, 15, expect)
        logged = self._presentation(WHOLE, "logged")
        self._stage.run(
            *("prover", "present", self._file(f"prover/{WHOLE}/{NOTARIES[0].name}")),
            *("--show", "response.body", "--quote", "--out", logged),
            *("--log", self._notaries[0], "--trust", self._file("trust.toml")),
        )
        comment = "the same quote, once a witness of the log had seen it"
        (log,) = json.loads(self._verify_file(comment, [logged], 0, expect))["logs"]
        size = Path(logged).stat().st_size
        print(
            f"   {WHOLE}.logged.json, {size:,} bytes: entry {log['index']} of {log['origin']},"
            f" seen by {', '.join(log['witnesses'])}: accepted"
        )

    def audit(self) -> None:
        """Reads the honest log, then that of the operator who picked the best of three."""
        alpha = NOTARIES[0].folder
        report = self._logs.audit(
            self._notaries[0], alpha, "log", "an honest log: every session is accounted for", 0
        )
        print(f"   {NOTARIES[0].name}: {report['size']} entries, nothing found")
        shown, price = self._logs.pick_the_best(
            *(self._bent, self._file("trust.toml"), self._file("prover.key")),
            self._file("venues-ca.pem"),
        )
        self._verify_file("the best of three: its signature is genuine", [str(shown)], 0)
        print(f"   {BENT.operator} fetched one leg {TRIES} times and shows {price}: accepted")
        report = self._logs.audit(
            *(self._bent, BENT.folder, "cheats/log"),
            *("the log of who picked the best of three", AuditFinding.exit_code),
        )
        for finding in report["findings"]:
            print(
                f"   found in its log ({AuditFinding.exit_code}, {finding['kind']}):"
                f" {finding['detail']}"
            )
        self._summary["audit"] = report

    @property
    def trading(self) -> Trading:
        """The acts of the live feed and its trade."""
        parties = [
            (party.name, f"{party.name}/log", url)
            for party, url in zip(NOTARIES, self._notaries, strict=True)
        ]
        return Trading(self._stage, self._summary, parties, **self._venues)

    def finish(self) -> None:
        """Writes ``commands.sh`` and ``summary.json``, and runs the former."""
        self._stage.note("the shipped samples come out as they must", "verifier", "selftest")
        script = self._stage.write_script()
        self._stage.shell(script)
        (self._folder / "summary.json").write_text(
            json.dumps(self._summary, indent=2) + "\n", encoding="utf-8"
        )

    def _verify_file(self, comment: str, files: list[str], code: int, expect: str = "") -> str:
        command = (
            *("verifier", "verify", *files, "--trust", self._file("trust.toml")),
            *("--expect", expect or self._file("expect.toml")),
        )
        self._stage.note(comment, *command, exit_code=code)
        return self._stage.run(*command, "--json", exit_code=code)

    def _refused(self, comment: str, file: str, code: int, expect: str = "") -> None:
        verdict = json.loads(self._verify_file(comment, [file], code, expect))
        self._summary["refused"].append({"file": Path(file).name, "exit_code": code, **verdict})
        print(f"   refused ({code}, {verdict['error']}): {comment}: {verdict['detail']}")

    def _ask(self, file: str) -> dict[str, Any]:
        expect = {
            "venues": list(QUOTED),
            "market": MARKET,
            "insecure_allow_development": True,
        }
        presentation = json.loads(Path(file).read_bytes())
        answer = httpx.post(
            f"{self._verifier}/v1/verify", json={"presentation": presentation, "expect": expect}
        )
        answer.raise_for_status()
        verdict: dict[str, Any] = answer.json()
        return verdict

    def _file(self, name: str) -> str:
        return str(self._folder / name)

    def _quorum_file(self, notary: str) -> str:
        return self._file(f"presentations/{WHOLE}.quorum/{notary}.json")

    def _presentation(self, venue: str, kind: str) -> str:
        return self._file(f"presentations/{venue}.{kind}.json")
