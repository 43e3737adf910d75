"""The benchmark of live messages witnesses a real session, all of it."""

from __future__ import annotations

import pytest

from benchmarks import live


def test_every_message_of_the_recorded_session_is_witnessed(
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    # ``measure`` raises if a message is missing.
    monkeypatch.setattr(live, "MESSAGES", 40)
    busy, alone = live.measure()
    assert busy.value > 0
    assert alone.value > 0
