"""The demo's live feed, and the trade that is settled on it."""

from __future__ import annotations

import dataclasses
import json
import secrets
import time
from pathlib import Path
from typing import Any

import httpx

from attestation.errors import OutcomeMismatchError, UnavailableError
from attestation.hashing import hash_string
from examples.demo.configure import MARKET
from examples.demo.stage import Stage

FEED = "btc-usd"
FEED_SECONDS = 15.0
SILENT, GARBAGE = "kraken", "gate"
"""Venues that fail on command."""
START_MID, END_MID = "64000", "64096"
"""15 basis points: more than any venue's noise."""
WINDOW_SECONDS, DURATION_SECONDS = 1.5, 4.0
EFFECTIVE_SECONDS = 15.0
"""Until then the policy has to be in the log: on a busy machine, too."""
STAKE = "25"
SETTLED_SECONDS = 60.0
HOPS = ("verified", "stored", "signed", "logged", "published")


class BrokenPromiseError(OutcomeMismatchError):
    """This machine was too busy to log a trade within half a second of its order."""


@dataclasses.dataclass(slots=True)
class LiveFeed:
    """``prover serve`` over both notaries, for a while."""

    stage: Stage
    url: str = ""
    admin: str = ""
    policy_id: str = ""
    trade: str = ""

    def write(self, notaries: list[tuple[str, str, str]], venues_port: int) -> None:
        """Writes feed.toml and the policy; ``notaries`` are name, log and URL."""
        folder = self.stage.folder
        urls = [url for _, _, url in notaries]
        lines = [
            f'name = "{FEED}"',
            f'market = "{MARKET}"',
            f"notaries = {json.dumps(urls)}",
            'data = "feed"',
            'listen = "127.0.0.1:0"',
            "[trades]",
            'policy = "policy.json"',
            'log_policy = "log-policy.txt"',
            "[development]",
            'roots = ["venues-ca.pem"]',
            f'connect_to = "127.0.0.1:{venues_port}"',
        ]
        (folder / "feed.toml").write_text("\n".join(lines) + "\n", encoding="utf-8")
        named = [part for name, log, _ in notaries for part in ("--notary", f"{name}={log}")]
        made = self.stage.run(
            *("prover", "policy", "--config", str(folder / "feed.toml"), "--development"),
            *("--log-policy", str(folder / "log-policy.txt"), *named),
            *("--out", str(folder / "policy.json"), "--window", f"{WINDOW_SECONDS}"),
            *("--duration", f"{DURATION_SECONDS}", "--effective-in", f"{EFFECTIVE_SECONDS}"),
            "--json",
        )
        self.policy_id = json.loads(made)["policy_id"]
        expect = [
            "# What the reader of the demo's settlement demands.",
            f'policy_id = "{self.policy_id}"',
            "# The venues are simulated on this machine: never set this for real prices.",
            "insecure_allow_development = true",
        ]
        (folder / "expect-settlement.toml").write_text("\n".join(expect) + "\n", encoding="utf-8")

    def start(self, admin: int) -> None:
        """Starts the feed; ``admin`` is the venues' admin port."""
        self.admin = f"http://127.0.0.1:{admin}"
        ready = self.stage.start(
            *("prover", "prover", "serve", "--development"),
            *("--config", str(self.stage.folder / "feed.toml")),
        )
        self.url = ready["url"]

    def wait_until_live(self) -> int:
        """Waits until every venue's connections stand; returns their number."""
        deadline = time.monotonic() + SETTLED_SECONDS
        while time.monotonic() < deadline:
            lanes = self._status()["lanes"]
            if lanes and all(lane["state"] == "live" for lane in lanes):
                return len(lanes)
            time.sleep(0.1)
        raise UnavailableError("the feed did not come up", rule="feed")

    def order(self) -> dict[str, Any]:
        """Places an order as a game would; returns its receipt once the log has the trade."""
        nonce = secrets.token_hex(16)
        order = {
            "player": hash_string(b"demo player"),
            "side": "up",
            "stake": STAKE,
            "duration_us": round(DURATION_SECONDS * 1e6),
            "policy_id": self.policy_id,
            "nonce": nonce,
        }
        headers = {"Idempotency-Key": nonce}
        deadline = time.monotonic() + SETTLED_SECONDS
        while True:
            answer = httpx.post(f"{self.url}/v1/trades", json=order, headers=headers)
            if answer.status_code == 202:
                break
            # Not before the policy is in the log, and in effect.
            if answer.json().get("rule") not in ("closed", "policy_id"):
                answer.raise_for_status()
            if time.monotonic() > deadline:
                raise UnavailableError("no order is taken", rule="trades")
            time.sleep(0.1)
        self.trade = answer.json()["trade"]
        while "receipt" not in (shown := self._trade()):
            time.sleep(0.02)
        receipt: dict[str, Any] = shown["receipt"]
        return receipt

    def break_venues(self) -> None:
        """One venue falls silent, one sends garbage."""
        for venue, fault in ((SILENT, "silence"), (GARBAGE, "malformed")):
            self._admin("faults", {"venue": venue, "fault": fault})

    def mend_venues(self) -> None:
        """Every venue is as it was: whoever goes on beside the demo meets no fault of its."""
        for venue in (SILENT, GARBAGE):
            self._admin("faults", {"venue": venue, "fault": None})
        self.set_mid(None)

    def set_mid(self, mid: str | None) -> None:
        """Has every venue quote around ``mid``, or as it likes."""
        self._admin("mids", {"market": MARKET, "mid": mid})

    def settled(self) -> dict[str, Any]:
        """Waits for the trade's end; returns it, its bundle and the policy written.

        Raises BrokenPromiseError where the trade was logged later than promised.
        """
        deadline = time.monotonic() + SETTLED_SECONDS
        while (shown := self._trade())["state"] == "pending":
            if time.monotonic() > deadline:
                raise UnavailableError("the trade was not settled", rule="trades")
            time.sleep(0.05)
        if shown.get("reason") == "promise_broken":
            raise BrokenPromiseError("the trade was not logged in time, and is void")
        if "bundle" not in shown:
            raise OutcomeMismatchError(f"the trade is void: {shown.get('reason')}")
        bundle = httpx.get(f"{self.url}{shown['bundle']}")
        bundle.raise_for_status()
        (self.stage.folder / "bundle.json").write_bytes(bundle.content)
        return shown

    def summary(self) -> dict[str, Any]:
        """Returns slots by notary, gaps by reason and venue, and latencies by hop."""
        status = self._status()
        gaps: dict[str, int] = {}
        for series in _series(httpx.get(f"{self.url}/metrics").text, "quotary_gaps_total"):
            key = f"{series['venue']} {series['reason']} ({series['fault']}'s)"
            gaps[key] = gaps.get(key, 0) + int(float(series["value"]))
        return {
            "slots": {one["notary"]: one["total"] for one in status["notaries"]},
            "missed": sum(one["missed"] for one in status["notaries"]),
            "gaps": gaps,
            "hops": status["hops"],
        }

    def _trade(self) -> dict[str, Any]:
        return self._get(f"/v1/trades/{self.trade}")

    def _status(self) -> dict[str, Any]:
        return self._get("/v1/status")

    def _get(self, path: str) -> dict[str, Any]:
        answer = httpx.get(f"{self.url}{path}")
        answer.raise_for_status()
        found: dict[str, Any] = answer.json()
        return found

    def _admin(self, what: str, body: dict[str, Any]) -> None:
        httpx.put(f"{self.admin}/{what}", json=body).raise_for_status()


def _series(text: str, name: str) -> list[dict[str, str]]:
    """Reads one metric's series from the text exposition format."""
    found = []
    for line in text.splitlines():
        if line.startswith(f"{name}{{"):
            labels, _, value = line[len(name) + 1 :].rpartition("} ")
            pairs = (part.partition("=") for part in labels.split(","))
            found.append({key: text.strip('"') for key, _, text in pairs} | {"value": value})
    return found


def policy_text(policies: list[Path]) -> str:
    """Joins log policies that ask for the same witness into one."""
    texts = [file.read_text(encoding="utf-8").splitlines() for file in policies]
    lines = dict.fromkeys(line for text in texts for line in text if line)
    kinds = ("log", "witness", "group", "quorum")
    return "\n".join(sorted(lines, key=lambda line: kinds.index(line.split()[0]))) + "\n"
