"""The benchmark of storing stores what it counts."""

from __future__ import annotations

import pytest

from benchmarks import storing


def test_every_record_of_the_benchmark_is_stored(monkeypatch: pytest.MonkeyPatch) -> None:
    # ``measure`` raises if a record is missing.
    monkeypatch.setattr(storing, "RATE", 110)
    monkeypatch.setattr(storing, "BURST", 220)
    monkeypatch.setattr(storing, "SECONDS", 1)
    figures = storing.measure()
    assert len(figures) == 4
    assert all(figure.value > 0 for figure in figures)
