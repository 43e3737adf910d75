"""Clients that know nothing of notaries, each through `prover sidecar` with its key log.

The flags and programs are those that the sidecar itself prints.
"""

from __future__ import annotations

import contextlib
import io
import subprocess

from prover.clients import client_text
from tests.prover.sidecars import WAIT, RunningSidecar

FORMS = {"curl": "curl", "httpx": "httpx", "ssl": "quotary"}
"""The form of the request that each client sends."""


def run(client: str, sidecar: RunningSidecar, options: str = "") -> str:
    """Fetches; returns what the client printed, empty if it failed.

    ``options`` are more of curl's.
    """
    text = client_text(sidecar.plan, sidecar.place)
    return _command(f"{text} {options}") if client == "curl" else _program(text)


def _command(text: str) -> str:
    done = subprocess.run(
        ["sh", "-c", f"{text} --silent"], capture_output=True, text=True, timeout=WAIT, check=False
    )
    return done.stdout


def _program(text: str) -> str:
    printed = io.StringIO()
    with contextlib.redirect_stdout(printed), contextlib.suppress(Exception):
        exec(compile(text, "client", "exec"), {})
    return printed.getvalue()
