"""Where errors become exit codes, files become bytes and values become output.

Human text goes to stderr, ``--json`` to stdout (docs/formats.md, "Errors").
"""

from __future__ import annotations

import contextlib
import dataclasses
import os
import sys
import time
import traceback
from collections.abc import Iterator
from pathlib import Path

import typer

from attestation.encoding import PRESENTATION_LIMIT
from attestation.errors import (
    MalformedError,
    QuotaryError,
    UnavailableError,
    UntrustedError,
    UsageError,
)
from attestation.trust import Trust
from attestation.verdict import rejected
from verifier.text import safe

BUG = 1
CONFIGURATION_LIMIT = 1024 * 1024
"""Bytes of a trust, expect or root certificates file."""


class Options:
    """Options that stand before the command."""

    debug = False


def say(text: str) -> None:
    """Prints lines for people; the caller has escaped what came from documents."""
    typer.echo(text, err=True)


def answer(document: bytes) -> None:
    """Prints a canonical document for programs.

    Raises UnavailableError where nobody reads it, or it does not fit.
    """
    write(document + b"\n")


def write(data: bytes) -> None:
    """Writes bytes to stdout; raises as ``answer``."""
    try:
        sys.stdout.buffer.write(data)
        sys.stdout.buffer.flush()
    except OSError as error:
        # What is left in the buffer would fail once more when Python ends.
        nowhere = os.open(os.devnull, os.O_WRONLY)
        os.dup2(nowhere, sys.stdout.fileno())
        os.close(nowhere)
        raise UnavailableError(
            f"the answer could not be written: {error.strerror}", rule="output"
        ) from error


@contextlib.contextmanager
def boundary(*, as_json: bool = False) -> Iterator[None]:
    """Turns what a command raises into its message and exit code.

    Exit code 1 is left to bugs, with a traceback only under ``--debug``.
    """
    try:
        try:
            yield
        except (FileNotFoundError, IsADirectoryError, NotADirectoryError, PermissionError) as error:
            raise UsageError(f"{error.strerror}: {error.filename}") from error
        except OSError as error:
            raise UnavailableError(str(error)) from error
    except QuotaryError as error:
        if Options.debug:
            traceback.print_exc()
        if as_json:
            answer(rejected(error).encode())
        say(explain(error))
        raise typer.Exit(error.exit_code) from error
    except (typer.Exit, typer.Abort):
        raise
    except Exception as error:
        if Options.debug:
            traceback.print_exc()
        else:
            say(f"bug in quotary: {type(error).__name__}: {safe(str(error), limit=400)}")
            say("run again with: verifier --debug ...")
        raise typer.Exit(BUG) from error


def explain(error: QuotaryError) -> str:
    """Returns an error as one harmless line.

    Of a caller's mistake or a failing disk nothing follows about the document:
    only what was decided is called rejected.
    """
    verdict = rejected(error)
    decided = not isinstance(error, (UsageError, UnavailableError))
    parts = [f"REJECTED {verdict.error}" if decided else verdict.error]
    if verdict.rule is not None:
        parts.append(f" [{safe(verdict.rule, limit=120)}]")
    parts.append(f": {safe(verdict.detail, limit=400)}")
    if verdict.found is not None:
        parts.append(f"; found {safe(verdict.found)}")
    if verdict.wanted is not None:
        parts.append(f"; wanted {safe(verdict.wanted)}")
    return "".join(parts)


def read(name: str, *, limit: int = PRESENTATION_LIMIT) -> bytes:
    """Reads a file, or stdin for ``-``; raises MalformedError beyond ``limit`` bytes."""
    if name == "-":
        data = sys.stdin.buffer.read(limit + 1)
    else:
        with Path(name).open("rb") as file:
            data = file.read(limit + 1)
    if len(data) > limit:
        raise MalformedError(f"{name} is larger than {limit} bytes")
    return data


def read_trust(name: str) -> Trust:
    """Reads a trust file, and the log policy it names, beside it if that is relative.

    Raises UsageError for anything wrong in either.
    """
    from attestation.log.policy import MAX_POLICY_SIZE, LogPolicy

    trust = Trust.parse(read(name, limit=CONFIGURATION_LIMIT))
    if trust.log_policy_file is None:
        return trust
    beside = Path() if name == "-" else Path(name).parent
    try:
        policy = LogPolicy.parse(read(str(beside / trust.log_policy_file), limit=MAX_POLICY_SIZE))
    except (MalformedError, UntrustedError) as error:
        raise UsageError(
            f"the trust file's log policy: {error.detail}",
            rule="log_policy.file",
            found=error.found,
        ) from None
    return dataclasses.replace(trust, log_policy=policy)


def now() -> int:
    """Returns this machine's clock in microseconds since the epoch."""
    return time.time_ns() // 1_000
