"""What must hold of any bytes: a value or the parser's own error, soon, and both printable.

A target is a function of bytes that raises only if a promise is broken.  The same
targets are driven by atheris (``make fuzz``) and, over the kept corpus and without
it, by an ordinary test.
"""

from __future__ import annotations

import contextlib
import dataclasses
import json
import time
from collections.abc import Callable, Iterable, Iterator
from typing import Any, TypeVar

from attestation.errors import MalformedError, QuotaryError
from attestation.verdict import rejected
from notary import problems

T = TypeVar("T")
_LARGEST_REFUSAL = 16 * 1024


class Broken(AssertionError):
    """A promise of the parser's does not hold."""


@dataclasses.dataclass(frozen=True, kw_only=True)
class Target:
    """One parser and what must be true of it.

    ``run`` takes any bytes.  ``seeds`` are inputs to start from; ``mutate`` makes
    an input from another, a largest size and a seed, where flipping bytes would
    not get far.  ``base_ms`` and ``per_byte_us`` bound the processor time of one
    input, generously: they are to catch costs that grow faster than the input.
    """

    name: str
    run: Callable[[bytes], None]
    seeds: Callable[[], Iterable[bytes]]
    mutate: Callable[[bytes, int, int], bytes] | None = None
    max_size: int = 4_096
    base_ms: float = 1_000.0
    per_byte_us: float = 100.0

    @property
    def about(self) -> str:
        """What must hold, in one line."""
        return (self.run.__doc__ or "").partition("\n")[0]

    def check(self, data: bytes) -> None:
        """Runs one input within its bound of time; raises Broken."""
        started = time.thread_time()
        self.run(data)
        spent_ms = (time.thread_time() - started) * 1_000
        most = self.base_ms + self.per_byte_us * len(data) / 1_000
        if spent_ms > most:
            raise Broken(f"{self.name}: {len(data)} bytes took {spent_ms:.0f} ms of {most:.0f}")


def demand(holds: object, what: str) -> None:
    """Raises Broken unless ``holds``; unlike ``assert``, also under ``-O``."""
    if not holds:
        raise Broken(what)


@contextlib.contextmanager
def certain(what: str) -> Iterator[None]:
    """What cannot fail any more: an error in it is a bug."""
    try:
        yield
    except QuotaryError as error:
        raise Broken(f"{what}: {error!r}") from error


def parse(read: Callable[[], T], *errors: type[QuotaryError]) -> T | None:
    """Returns what ``read`` returns, or None if it raises one of ``errors`` (MalformedError).

    Any other exception is the bug that is looked for.  The error itself must be
    fit to be shown, in a verdict and in a problem document.
    """
    allowed = errors or (MalformedError,)
    try:
        return read()
    except allowed as error:
        check_shown(error)
        return None


def check_shown(error: QuotaryError) -> None:
    """Demands that an error has a detail and that both of its documents encode, small."""
    demand(isinstance(error.detail, str) and error.detail, "an error without a detail")
    with certain("the verdict of an error"):
        verdict = rejected(error).encode()
    document: dict[str, Any] = json.loads(problems.encode(error))
    demand(document["detail"] == error.detail, "the problem tells another detail")
    demand(len(verdict) <= _LARGEST_REFUSAL, f"a refusal of {len(verdict)} bytes")
