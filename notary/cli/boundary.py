"""Where what a command raises becomes one line on standard error and an exit code."""

from __future__ import annotations

import contextlib
import sys
from collections.abc import Iterator
from typing import NoReturn

import typer

from attestation.errors import QuotaryError, UnavailableError, UsageError

_CALLERS = (FileNotFoundError, FileExistsError, IsADirectoryError, NotADirectoryError)


def fail(error: QuotaryError) -> NoReturn:
    """Says what went wrong and ends the command with the error's exit code."""
    told = {"found": error.found, "wanted": error.wanted}
    parts = "; ".join(f"{name}: {value}" for name, value in told.items() if value is not None)
    print(f"notary: {error}{f' ({parts})' if parts else ''}", file=sys.stderr)
    raise typer.Exit(error.exit_code)


@contextlib.contextmanager
def boundary() -> Iterator[None]:
    """Ends the command for any error that is not a bug.

    What the caller named and cannot be used is a usage error, a failing disk is not.
    """
    try:
        yield
    except QuotaryError as error:
        fail(error)
    except (*_CALLERS, PermissionError) as error:
        fail(UsageError(f"{error.strerror}: {error.filename}"))
    except OSError as error:
        fail(UnavailableError(str(error)))
