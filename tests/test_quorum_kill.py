"""A house over three notaries whose policy asks for two: killed in the middle of trades.

With two left the trade is final all the same, but not before the third's log tells what it
missed: a bundle holds the range of every log.  With one left there is no quorum, and the
trade is void with the fee.
"""

from __future__ import annotations

import contextlib
import dataclasses
import json
import secrets
import time
from pathlib import Path
from typing import Any

import httpx
import pytest

from attestation.encoding import decode_object
from attestation.hashing import hash_string
from attestation.settlement.policy import SettlementPolicy
from examples.demo.configure import MARKET, NOTARIES, NotaryParty, make_notary
from examples.demo.stage import Stage

PARTIES = (*NOTARIES, NotaryParty("gamma.notary.example", "Gamma Records", 7067))
FIRST, SECOND, THIRD = (party.folder for party in PARTIES)
VENUES = ("binance", "gate", "kraken")
LIMIT = 60.0
WINDOW, DURATION = 1.5, 3.0
LEAD_SECONDS = (8.0, 20.0, 50.0)
"""How long before it takes effect a policy is drafted: again, where that was too short."""
MINUTE_US = 60_000_000
STAKE, FEE = "25", "1.25"


class House:
    """Venues, three notaries with logs, and ``prover serve`` over them."""

    def __init__(self, stage: Stage) -> None:
        self.stage = stage
        self.folder = stage.folder
        venues = stage.start("venues", "examples.venues", "--dir", str(self.folder), "--rate", "20")
        key = self.folder / "prover.key"
        made = stage.run("prover", "keygen", "--name", "prover.example", "--out", str(key))
        known = [made[made.index("[[provers]]") :]]
        self.commands: dict[str, tuple[str, ...]] = {}
        trusted, logs, urls = [], [], []
        for party in PARTIES:
            config, block = make_notary(stage, party, venues["port"], unlimited=True, provers=known)
            log = stage.run(
                *("notary", "keygen", "--role", "log", "--name", f"log.{party.name}"),
                *("--operator", party.operator, "--dir", str(config.parent)),
            )
            with config.open("a", encoding="utf-8") as file:
                file.write("\n[log]\n")
            stage.run("notary", "log", "create", "--config", str(config))
            trusted += [block, log]
            logs += [line[12:].strip() for line in log.splitlines() if "# log policy" in line]
            urls.append(self._start(party.folder, config))
        (self.folder / "trust.toml").write_text("\n".join(trusted), encoding="utf-8")
        text = "\n".join([*logs, "quorum none"]) + "\n"
        (self.folder / "log-policy.txt").write_text(text, encoding="utf-8")
        self._configure(urls, venues["port"])
        self.url = ""
        self.policy = self._open()

    def _start(self, name: str, config: Path) -> str:
        """Starts a notary; it comes back to the same place."""
        command = ("notary", "serve", "--config", str(config), "--development")
        ready = self.stage.start(name, *command)
        text = config.read_text(encoding="utf-8")
        for member, place in (("listen", ready["control"][7:]), ("relay", ready["relay"])):
            text = text.replace(f'{member} = "127.0.0.1:0"', f'{member} = "{place}"')
        config.write_text(text, encoding="utf-8")
        self.commands[name] = command
        url: str = ready["control"]
        return url

    def _configure(self, urls: list[str], venues_port: int) -> None:
        lines = [
            'name = "btc-usd"',
            f'market = "{MARKET}"',
            f"venues = {json.dumps(VENUES)}",
            f"notaries = {json.dumps(urls)}",
            'listen = "127.0.0.1:0"',
            "[trades]",
            'policy = "policy.json"',
            'log_policy = "log-policy.txt"',
            "[development]",
            'roots = ["venues-ca.pem"]',
            f'connect_to = "127.0.0.1:{venues_port}"',
        ]
        (self.folder / "feed.toml").write_text("\n".join(lines) + "\n", encoding="utf-8")

    def _open(self) -> SettlementPolicy:
        """Drafts a policy and starts the prover, which ends if it was logged too late."""
        for lead in LEAD_SECONDS:
            policy = self._draft(lead)
            command = ("prover", "serve", "--config", str(self.folder / "feed.toml"))
            self.url = self.stage.start("prover", *command, "--development")["url"]
            if self._settled_in():
                return policy
            self.stage.kill("prover")
        raise AssertionError("no policy is logged in time")

    def _draft(self, lead: float) -> SettlementPolicy:
        file = self.folder / "policy.json"
        file.unlink(missing_ok=True)
        named = [("--notary", f"{party.name}=log.{party.name}") for party in PARTIES]
        self.stage.run(
            *("prover", "policy", "--config", str(self.folder / "feed.toml"), "--development"),
            *("--log-policy", str(self.folder / "log-policy.txt"), "--out", str(file)),
            *[word for pair in named for word in pair],
            *("--window", str(WINDOW), "--duration", str(DURATION), "--effective-in", str(lead)),
        )
        drafted = SettlementPolicy.from_json(decode_object(file.read_bytes()))
        policy = dataclasses.replace(
            drafted, log_by_us=MINUTE_US, slide_us=2 * drafted.grid_us, fee=FEE
        )
        file.write_bytes(policy.encode() + b"\n")
        (self.folder / "expect.toml").write_text(
            f'policy_id = "{policy.policy_id}"\ninsecure_allow_development = true\n', "utf-8"
        )
        return policy

    def _settled_in(self) -> bool:
        """Waits until every notary attests every venue's quotes; False if the prover ended."""
        prover = next(one.process for one in self.stage.servers if one.name == "prover")
        deadline = time.monotonic() + LIMIT
        while True:
            assert time.monotonic() < deadline, "the feed does not come up"
            if prover.poll() is not None:
                return False
            with contextlib.suppress(httpx.TransportError):  # it may be about to end
                status = httpx.get(f"{self.url}/v1/status", timeout=LIMIT).json()
                began = all(one["slots"] >= 6 for one in status["notaries"])
                effective = (self.folder / "policy.json").read_bytes()
                late = time.time() * 1e6 > decode_object(effective)["effective_us"]  # type: ignore[operator]
                # Open: then even an order under another policy is refused for that alone.
                if (
                    self._whole(status)
                    and began
                    and late
                    and not self._closed(self._order("0" * 64))
                ):
                    return True
            time.sleep(0.1)

    def _closed(self, answer: httpx.Response) -> bool:
        """Whether the house takes no order now, be it good or not."""
        return answer.is_error and answer.json()["rule"] in ("closed", "overload")

    def _order(self, policy_id: str, nonce: str = "00" * 16) -> httpx.Response:
        order = {
            "player": hash_string(b"player"),
            "side": "up",
            "stake": STAKE,
            "duration_us": round(DURATION * 1e6),
            "policy_id": policy_id,
            "nonce": nonce,
        }
        key = {"Idempotency-Key": nonce}
        return httpx.post(f"{self.url}/v1/trades", json=order, headers=key, timeout=LIMIT)

    def _whole(self, status: dict[str, Any]) -> bool:
        live = [lane for lane in status["lanes"] if lane["state"] == "live"]
        return len(live) == len(PARTIES) * len(VENUES)

    def place(self) -> dict[str, Any]:
        """Places an order; returns the trade once its batch is in the log."""
        nonce, deadline = secrets.token_hex(16), time.monotonic() + LIMIT
        while self._closed(placed := self._order(self.policy.policy_id, nonce)):
            assert time.monotonic() < deadline, placed.text
            time.sleep(0.1)
        assert placed.status_code == 202, placed.text
        return self.wait(placed.json()["trade"], lambda trade: "receipt" in trade)

    def trade(self, trade: str) -> dict[str, Any]:
        found: dict[str, Any] = httpx.get(f"{self.url}/v1/trades/{trade}", timeout=LIMIT).json()
        return found

    def wait(self, trade: str, done: Any) -> dict[str, Any]:
        """Waits until a trade is as wanted."""
        deadline = time.monotonic() + LIMIT
        while not done(found := self.trade(trade)):
            assert time.monotonic() < deadline, found
            time.sleep(0.05)
        return found

    def place_and_kill(self, *names: str) -> dict[str, Any]:
        """Kills notaries before the trade opens: another trade, where this process was late."""
        deadline = time.monotonic() + LIMIT
        while True:
            placed = self.place()
            for name in names:
                self.stage.kill(name)
            if time.time_ns() // 1_000 < placed["receipt"]["open_us"]:
                return placed
            self.restart(*names)
            while not self._whole(httpx.get(f"{self.url}/v1/status", timeout=LIMIT).json()):
                assert time.monotonic() < deadline, "the notaries do not come back in time"
                time.sleep(0.1)

    def restart(self, *names: str) -> None:
        for name in names:
            self.stage.start(name, *self.commands[name])

    def pending_past_its_end(self, placed: dict[str, Any]) -> None:
        """Waits until the trade would be final with every log; it waits for one."""
        final_us = placed["receipt"]["close_us"] + self.policy.slide_us + self.policy.late_us
        while time.time_ns() // 1_000 < final_us + 1_000_000:
            assert self.trade(placed["trade"])["state"] == "pending"
            time.sleep(0.1)

    def recompute(self, trade: str) -> dict[str, Any]:
        """Has a trade's bundle judged by who believes none of it."""
        bundle = self.folder / f"{trade}.json"
        url = f"{self.url}/v1/trades/{trade}/bundle"
        bundle.write_bytes(httpx.get(url, timeout=LIMIT).content)
        said = self.stage.run(
            *("verifier", "recompute", str(bundle), "--json"),
            *("--trust", str(self.folder / "trust.toml")),
            *("--expect", str(self.folder / "expect.toml")),
            *("--log-policy", str(self.folder / "log-policy.txt")),
        )
        found: dict[str, Any] = json.loads(said)
        return found


# Three notaries and a house as processes, and two trades that end in their own time.
@pytest.mark.timeout(300)
def test_two_of_three_notaries_settle_a_trade_and_one_alone_does_not(tmp_path: Path) -> None:
    with Stage(tmp_path) as stage:
        house = House(stage)
        assert (len(house.policy.notaries), house.policy.q) == (3, 2)

        placed = house.place_and_kill(THIRD)
        house.pending_past_its_end(placed)
        house.restart(THIRD)
        ended = house.wait(placed["trade"], lambda trade: trade["state"] != "pending")
        assert ended["state"] == "final", ended
        outcome = house.recompute(placed["trade"])
        assert outcome["outcome"] in ("up", "down", "tie")

        placed = house.place_and_kill(SECOND, THIRD)
        house.pending_past_its_end(placed)
        house.restart(SECOND, THIRD)
        ended = house.wait(placed["trade"], lambda trade: trade["state"] != "pending")
        assert (ended["state"], ended["payout"]) == ("void", "26.25"), ended
        outcome = house.recompute(placed["trade"])
        assert (outcome["outcome"], outcome["fee"]) == ("void", True)
