"""Where errors become exit codes, files become bytes and values become output.

Human text goes to stderr, documents and ``--json`` to stdout (docs/formats.md,
"Errors").  Progress is shown only where stderr is a terminal.
"""

from __future__ import annotations

import contextlib
import sys
import traceback
from collections.abc import Callable, Iterator
from pathlib import Path
from typing import Annotated

import typer

from attestation.encoding import Json, JsonObject, encode
from attestation.errors import MalformedError, QuotaryError, UnavailableError, UsageError
from attestation.keys import SigningKey
from attestation.trust import Trust
from prover.key_file import read_key_file
from prover.vault import write_private

BUG = 1
FILE_LIMIT = 1024 * 1024
"""Bytes of a key, trust or root certificates file."""

JsonOption = Annotated[bool, typer.Option("--json", help="Print a JSON document on stdout.")]
KeyOption = Annotated[
    str,
    typer.Option(
        "--key", metavar="FILE", envvar="QUOTARY_PROVER_KEY", help="From `prover keygen`."
    ),
]
DEFAULT_KEY = "prover.key"


class Options:
    """Options that stand before the command."""

    debug = False


def say(text: str) -> None:
    """Prints a line for people; the caller has escaped what came from elsewhere."""
    typer.echo(text, err=True)


def answer(document: Json) -> None:
    """Prints a canonical document for programs."""
    sys.stdout.buffer.write(encode(document) + b"\n")
    sys.stdout.buffer.flush()


def safe(text: object, limit: int = 200) -> str:
    """Returns text of venues and notaries as one harmless line: ASCII, controls escaped."""
    return ascii(str(text)[:limit])[1:-1]


@contextlib.contextmanager
def naming_files() -> Iterator[None]:
    """Turns the system's errors about files into UsageError, others into UnavailableError."""
    try:
        yield
    except (FileNotFoundError, IsADirectoryError, NotADirectoryError, PermissionError) as error:
        raise UsageError(f"{error.strerror}: {error.filename}") from error
    except OSError as error:
        raise UnavailableError(str(error)) from error


@contextlib.contextmanager
def naming_what_is_missing(extra: str = "prover") -> Iterator[None]:
    """Turns the lack of a package of the extra into UsageError with the cure."""
    try:
        yield
    except ModuleNotFoundError as error:
        package = (error.name or "").partition(".")[0]
        if package in ("attestation", "prover"):
            raise
        raise UsageError(
            f"{package} is not installed: in a checkout of Quotary, pip install '.[{extra}]'",
            rule="install",
        ) from error


@contextlib.contextmanager
def boundary(*, as_json: bool = False, extra: str = "prover") -> Iterator[None]:
    """Turns what a command raises into its message and exit code; 1 is left to bugs."""
    try:
        with naming_files(), naming_what_is_missing(extra):
            yield
    except QuotaryError as error:
        if Options.debug:
            traceback.print_exc()
        if as_json:
            answer(problem_document(error))
        say(explain(error))
        raise typer.Exit(error.exit_code) from error
    except (typer.Exit, typer.Abort):
        raise
    except Exception as error:
        if Options.debug:
            traceback.print_exc()
        else:
            say(f"bug in quotary: {type(error).__name__}: {safe(error, 400)}")
            say("run again with: prover --debug ...")
        raise typer.Exit(BUG) from error


@contextlib.contextmanager
def progress(text: str) -> Iterator[Callable[[str], None]]:
    """Shows what is being done, while it is done, on a terminal; gives what changes the text."""
    if not sys.stderr.isatty():
        yield lambda text: None
        return
    from rich.console import Console

    with Console(stderr=True).status(text) as status:
        yield status.update


def explain(error: QuotaryError) -> str:
    """Returns an error as one harmless line."""
    parts = [f"{error.slug}"]
    if error.rule is not None:
        parts.append(f" [{safe(error.rule)}]")
    parts.append(f": {safe(error.detail, 600)}")
    if error.found is not None:
        parts.append(f"; found {_shown(error.found)}")
    if error.wanted is not None:
        parts.append(f"; wanted {_shown(error.wanted)}")
    parts += [f"; {safe(note)}" for note in getattr(error, "__notes__", ())]
    return "".join(parts)


def problem_document(error: QuotaryError) -> JsonObject:
    """Returns an error for programs."""
    document: JsonObject = {
        "type": "quotary/problem/v1",
        "error": error.slug,
        "detail": safe(error.detail, 600),
    }
    for member in ("rule", "found", "wanted"):
        value = getattr(error, member)
        if value is not None:
            document[member] = _shown(value)
    return document


def _shown(value: object) -> str:
    """Lists as a person writes them."""
    many = isinstance(value, (list, tuple))
    return safe(", ".join(map(str, value)) if many else value, 400)  # type: ignore[call-overload]


def read(name: str, *, limit: int = FILE_LIMIT) -> bytes:
    """Reads a file, or stdin for ``-``; raises MalformedError beyond ``limit`` bytes."""
    if name == "-":
        data = sys.stdin.buffer.read(limit + 1)
    else:
        with Path(name).open("rb") as file:
            data = file.read(limit + 1)
    if len(data) > limit:
        raise MalformedError(f"{name} is larger than {limit} bytes")
    return data


def write(name: str, data: bytes) -> None:
    """Writes a file of its owner's alone, or stdout for ``-``."""
    if name == "-":
        sys.stdout.buffer.write(data)
        sys.stdout.buffer.flush()
    else:
        write_private(Path(name), data)


def read_key(name: str) -> SigningKey:
    """Reads a prover's key; raises UsageError with the cure if there is none."""
    if name != "-":
        return read_key_file(Path(name))
    try:
        return SigningKey.parse(read(name).decode("ascii").strip())
    except (UnicodeDecodeError, MalformedError):
        raise UsageError(f"{name} is no key of `prover keygen`", rule="key") from None


def read_trust(name: str) -> Trust:
    """Reads a trust file."""
    return Trust.parse(read(name))
