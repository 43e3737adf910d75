"""Logging must never be what ends a session."""

from __future__ import annotations

import io
import sys

import pytest
import structlog

from notary.logs import configure_logging


def test_log_line_goes_to_standard_error_as_it_is_now(
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    configure_logging("info")
    log = structlog.get_logger("notary")
    first, second = io.StringIO(), io.StringIO()
    for stream in (first, second):
        monkeypatch.setattr(sys, "stderr", stream)
        log.info("event", number=1)
    assert '"event": "event"' in first.getvalue()
    assert first.getvalue().count("\n") == second.getvalue().count("\n") == 1


def test_log_that_cannot_be_written_raises_nothing(monkeypatch: pytest.MonkeyPatch) -> None:
    configure_logging("info")
    log = structlog.get_logger("notary")
    closed = io.StringIO()
    closed.close()
    monkeypatch.setattr(sys, "stderr", closed)
    log.info("event")
