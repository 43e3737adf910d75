"""Where what a command raises becomes one line on standard error and an exit code."""

from __future__ import annotations

import contextlib
import sys
import traceback
from collections.abc import Iterator
from typing import NoReturn

import typer

from attestation.errors import QuotaryError, UnavailableError, UsageError

BUG = 1

_CALLERS = (FileNotFoundError, FileExistsError, IsADirectoryError, NotADirectoryError)


class Options:
    """Options that stand before the command."""

    debug = False


def fail(error: QuotaryError) -> NoReturn:
    """Says what went wrong and ends the command with the error's exit code."""
    if Options.debug:
        traceback.print_exc()
    told = {"found": error.found, "wanted": error.wanted}
    parts = "; ".join(f"{name}: {value}" for name, value in told.items() if value is not None)
    print(f"notary: {error}{f' ({parts})' if parts else ''}", file=sys.stderr)
    raise typer.Exit(error.exit_code)


@contextlib.contextmanager
def boundary() -> Iterator[None]:
    """Ends the command for any error.

    What the caller named and cannot be used is a usage error, a failing disk is not.
    Exit code 1 is left to bugs, with a traceback only under ``--debug``.
    """
    try:
        yield
    except QuotaryError as error:
        fail(error)
    except (*_CALLERS, PermissionError) as error:
        fail(UsageError(f"{error.strerror}: {error.filename}"))
    except OSError as error:
        fail(UnavailableError(str(error)))
    except (typer.Exit, typer.Abort, ModuleNotFoundError):
        raise
    except Exception as error:
        if Options.debug:
            traceback.print_exc()
        else:
            said = ascii(str(error)[:400])[1:-1]
            print(f"bug in quotary: {type(error).__name__}: {said}", file=sys.stderr)
            print("run again with: notary --debug ...", file=sys.stderr)
        raise typer.Exit(BUG) from error
