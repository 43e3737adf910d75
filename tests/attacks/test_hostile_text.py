"""Row 45: bytes of venues, and names, that are markup or commands to a terminal."""

from __future__ import annotations

import dataclasses
from pathlib import Path
from typing import Any

import orjson
import pytest

from tests.settlement import cases
from tests.verifier.shell import Shell
from tests.web import market as markets
from tests.web.market import Market, market

TERMINAL = "\x1b]0;owned\x07\x1b[2J\u202eevil\u2066\x9b1m"
MARKUP = '<img src=x onerror="document.title=1"><script>document.title=2</script>'


@pytest.fixture
def hostile(monkeypatch: pytest.MonkeyPatch) -> Market:
    """A settled trade whose venues' messages, and whose policy's fee, are hostile text."""
    plain = cases.message

    def message(seen: Any) -> bytes:
        extra = orjson.dumps({"note": TERMINAL, "more": MARKUP})
        return plain(seen)[:-1] + b"," + extra[1:]

    monkeypatch.setattr(cases, "message", message)
    rule = dataclasses.replace(markets.policy(), fee=TERMINAL + MARKUP)
    monkeypatch.setattr(markets, "policy", lambda notaries: rule)
    return market()


def test_hostile_text_of_a_settled_trade_reaches_no_terminal(
    hostile: Market, tmp_path: Path
) -> None:
    shell = Shell(tmp_path)
    hostile.write(tmp_path)
    trust = (tmp_path / "trust.toml").read_text()
    named = trust.replace("Operator of n0", "Operator \u202e of n0")
    shell.write("trust.toml", named.encode())
    venues = []
    for venue in hostile.policy.venues:
        shell.write(f"{venue.venue}.toml", cases.venue_toml(venue.venue))
        venues += ["--venue-file", f"{venue.venue}.toml"]
    keys = ("--trust", "trust.toml", "--log-policy", "log_policy.txt")
    told = shell.run(
        *("recompute", "bundle.json", *keys, "--expect", "expect.toml", "--explain", *venues)
    )
    assert told.returncode == 0, told.stderr
    shown = shell.run("inspect", "bundle.json")
    for done in (told, shown):
        text = done.stderr.decode() + done.stdout.decode()
        assert not set("\x1b\x07\x9b\u202e\u2066") & set(text)
    assert b"\\u{202e}" in shown.stderr
