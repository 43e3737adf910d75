"""The demo's acts of the live feed: a trade on it, every lie about it, and the page."""

from __future__ import annotations

import json
import time
from pathlib import Path
from typing import Any

from attestation.errors import OutcomeMismatchError
from attestation.keys import SigningKey
from examples.demo.browser import chromium, find_browser
from examples.demo.cheats import CHEATS, Cheat, read_bundle, rewrite_log
from examples.demo.live import (
    END_MID,
    FEED_SECONDS,
    HOPS,
    STAKE,
    START_MID,
    WINDOW_SECONDS,
    BrokenPromiseError,
    LiveFeed,
)
from examples.demo.page import serve, show
from examples.demo.stage import Stage

FALSE_CLAIM = "other_outcome"
ORDERS = 3
"""Orders before the demo gives up on a machine that logs none in time."""


class Trading:
    """The acts; to be called in the order in which they stand.

    ``parties`` are name, log and URL of each notary, ``port`` and ``admin`` the simulated
    venues' ports.
    """

    def __init__(
        self,
        stage: Stage,
        summary: dict[str, Any],
        parties: list[tuple[str, str, str]],
        *,
        port: int,
        admin: int,
    ) -> None:
        self._stage = stage
        self._folder = stage.folder
        self._summary = summary
        self._parties = parties
        self._port = port
        self._admin = admin
        self._live = LiveFeed(stage)
        self._begun = 0.0

    def begin(self) -> None:
        """Starts the feed, which goes on beside the other acts."""
        self._live.write(self._parties, self._port)
        self._live.start(self._admin)
        self._begun = time.monotonic()

    def feed(self) -> None:
        """Feeds every venue through both notaries; one falls silent, one sends garbage."""
        live = self._live
        lanes = live.wait_until_live()
        print(f"   {lanes} connections are live, for {time.monotonic() - self._begun:.0f} s now")
        trade = self._trade()
        time.sleep(max(0.0, FEED_SECONDS - (time.monotonic() - self._begun)))
        found = live.summary()
        for notary, slots in found["slots"].items():
            print(f"   {notary}: {slots} slots attested, {found['missed']} missed")
        for gap, count in sorted(found["gaps"].items()):
            print(f"   gaps signed: {gap}: {count}")
        for hop in HOPS:
            if (took := found["hops"].get(hop)) is not None:
                p50, p99 = took["p50_us"] / 1e3, took["p99_us"] / 1e3
                print(f"   {hop:<10} p50 {p50:6.1f} ms   p99 {p99:6.1f} ms")
        self._summary["feed"] = found
        self._summary["settlement"] = trade
        live.mend_venues()
        self._stage.stop("prover")

    def _trade(self) -> dict[str, Any]:
        """Places an order and waits for its end; again, if its promise was not kept."""
        for left in reversed(range(ORDERS)):
            try:
                return self._one_trade()
            except BrokenPromiseError as error:
                if not left:
                    raise
                print(f"   {error.detail}, with a fee: this machine is busy; another order")
        raise AssertionError

    def _one_trade(self) -> dict[str, Any]:
        live = self._live
        live.set_mid(START_MID)
        receipt = live.order()
        print(f"   trade {live.trade[:12]}: {STAKE} on up, promised, entry {receipt['entry']}")
        live.break_venues()
        opened = (receipt["open_us"] / 1e6) + WINDOW_SECONDS
        time.sleep(max(0.0, opened - time.time()))
        live.set_mid(END_MID)
        return live.settled()

    def recompute(self) -> None:
        """Recomputes the trade from its bundle; every change of it must be refused."""
        trade = self._summary["settlement"]
        late = (trade["ended_us"] - trade["receipt"]["close_us"]) / 1e6
        code, comment = 0, "the trade's outcome follows from what was logged"
        told = json.loads(self._recompute(comment, self._file("bundle.json"), code))
        if told != trade["settlement"]:
            raise OutcomeMismatchError("the CLI recomputes another document")
        outcome = trade["settlement"]["outcome"]
        print(f"   {outcome}, pays {trade['payout']}; final {late:.1f} s after its close")
        bundle = read_bundle(Path(self._file("bundle.json")).read_bytes())
        folder = self._folder / "cheats"
        folder.mkdir(exist_ok=True)
        keeper = SigningKey.parse((self._folder / "alpha/log.key").read_text("ascii").strip())
        forks = Cheat(
            "rewritten_log",
            "the slot is logged too late, in a log that its keeper signed anew",
            15,
            lambda bundle: rewrite_log(bundle, keeper),
        )
        for cheat in (*CHEATS, forks):
            file = folder / f"{cheat.name}.{cheat.exit_code}.json"
            file.write_bytes(cheat.make(bundle).encode())
            error = json.loads(self._recompute(cheat.what, str(file), cheat.exit_code))
            print(f"   refused ({cheat.exit_code}, {error['error']}): {cheat.what}")
            self._summary["refused"].append({"file": file.name, **error})
        other = self._file("expect-other-policy.toml")
        text = Path(self._file("expect-settlement.toml")).read_text(encoding="utf-8")
        Path(other).write_text(text.replace(self._live.policy_id, "0" * 64), encoding="utf-8")
        comment = "settled under another policy than was agreed on"
        error = json.loads(self._recompute(comment, self._file("bundle.json"), 17, other))
        print(f"   refused (17, {error['error']}): {comment}")

    def _recompute(self, comment: str, file: str, code: int, expect: str = "") -> str:
        command = (
            *("verifier", "recompute", file, "--trust", self._file("trust.toml")),
            *("--expect", expect or self._file("expect-settlement.toml")),
            *("--log-policy", self._file("log-policy.txt")),
        )
        self._stage.note(comment, *command, exit_code=code)
        return self._stage.run(*command, "--json", exit_code=code)

    def open_page(self) -> None:
        """Has a browser verify the trade in the fairness page, and refuse a false claim."""
        self._stage.run("verifier", "page", "--out", self._file("fairness.html"))
        browser = find_browser()
        if browser is None:
            print(f"   no Chromium here: open {self._file('fairness.html')} yourself,")
            print("   and bundle.json, trust.toml, log-policy.txt in it")
            return
        false = next(self._folder.glob(f"cheats/{FALSE_CLAIM}.*.json")).name
        known = "trust=/trust.toml&log_policy=/log-policy.txt&development=1"
        known += f"&policy_id={self._live.policy_id}"
        with serve(self._folder) as url, chromium(browser) as tab:
            accepted, refused = (
                show(tab, f"{url}/fairness.html#bundle=/{name}&{known}")
                for name in ("bundle.json", f"cheats/{false}")
            )
        if accepted.rule is not None or refused.rule != "outcome.outcome":
            raise OutcomeMismatchError(f"the page shows {accepted} and {refused}")
        self._summary["page"] = [accepted.headline, f"refused: {refused.rule}"]
        print(f"   the page says: {accepted.headline}")
        print(f"   refused ({refused.rule}): {refused.headline}")

    def _file(self, name: str) -> str:
        return str(self._folder / name)
