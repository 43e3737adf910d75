"""Fixtures of the verifier's tests."""

from __future__ import annotations

from pathlib import Path

import pytest

from tests.verifier import forge
from tests.verifier.shell import Shell


@pytest.fixture
def shell(tmp_path: Path) -> Shell:
    result = Shell(tmp_path)
    result.write(
        "trust.toml",
        forge.trust(
            forge.LyingNotary(), forge.LyingNotary(name="notary.two", operator="Two Ltd")
        ).dump(),
    )
    result.write("expect.toml", b'venues = ["coinbase"]\nmarket = "BTC/USD"\n')
    result.write("good.json", forge.session().present().encode())
    return result
