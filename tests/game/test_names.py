"""Names are text, and nothing that hides or reorders text."""

from __future__ import annotations

import pytest

from attestation.errors import UsageError
from examples.game.names import player_name


@pytest.mark.parametrize(
    "name", ["Mara", "<img src=x onerror=alert(1)>"[:24], "Zoë", "李雷", "O'Neil"]
)
def test_text_stays_text(name: str) -> None:
    assert player_name(f"  {name} ") == name


@pytest.mark.parametrize(
    "name",
    ["", " ", "x" * 25, "a\u202eb", "a\u0000b", "a\u200bb", "\ue000", "a\ud800", "\u0301a",
     "Z\u0335\u0336\u0337\u0338", None, 7, ["a"]],
)  # fmt: skip
def test_what_hides_or_reorders_is_refused(name: object) -> None:
    with pytest.raises(UsageError) as caught:
        player_name(name)
    assert caught.value.rule == "name"
