"""Runs the shipped samples: valid, lying and broken presentations of known outcome.

``samples/NAME.CODE.json`` is expected to end with exit code CODE under
``trust.toml`` and ``expect.toml``, or under ``NAME.CODE.trust.toml`` and
``NAME.CODE.expect.toml`` where they exist; ``NAME.CODE.1.json``, ``.2.json`` ...
are several notaries of one quote.  ``clock.json`` holds the time to assume.
"""

from __future__ import annotations

import dataclasses
from collections.abc import Iterator
from pathlib import Path

from attestation.encoding import decode_object
from attestation.errors import QuotaryError, UsageError
from attestation.expect import Expect
from attestation.trust import Trust
from verifier.decide import decide

SAMPLES = Path(__file__).parent / "samples"


@dataclasses.dataclass(frozen=True, slots=True, kw_only=True)
class Sample:
    """One question with a known answer."""

    name: str
    code: int
    trust: Path
    expect: Path
    files: tuple[Path, ...]


@dataclasses.dataclass(frozen=True, slots=True, kw_only=True)
class Outcome:
    """What a sample came to; ``error`` is None where it was accepted."""

    sample: Sample
    code: int
    error: QuotaryError | None

    @property
    def as_expected(self) -> bool:
        return self.code == self.sample.code


def samples(folder: Path = SAMPLES) -> list[Sample]:
    """Lists the samples of a folder by name; raises UsageError if there are none."""
    groups: dict[tuple[str, int], list[Path]] = {}
    for path in sorted(folder.glob("*.json")):
        name, *rest = path.name.split(".")
        if rest[0].isdigit():
            groups.setdefault((name, int(rest[0])), []).append(path)
    if not groups:
        raise UsageError("no samples", found=str(folder))
    return [
        Sample(
            name=name,
            code=code,
            trust=_own(folder, f"{name}.{code}.trust.toml", "trust.toml"),
            expect=_own(folder, f"{name}.{code}.expect.toml", "expect.toml"),
            files=tuple(paths),
        )
        for (name, code), paths in sorted(groups.items())
    ]


def run(folder: Path = SAMPLES) -> Iterator[Outcome]:
    """Decides every sample of a folder."""
    clock = decode_object((folder / "clock.json").read_bytes())["now_us"]
    if not isinstance(clock, int):
        raise UsageError("clock.json holds no time")
    for sample in samples(folder):
        code, failure = 0, None
        try:
            decide(
                [path.read_bytes() for path in sample.files],
                trust=Trust.parse(sample.trust.read_bytes()),
                expect=Expect.parse(sample.expect.read_bytes()),
                now_us=clock,
            )
        except QuotaryError as error:
            code, failure = error.exit_code, error
        yield Outcome(sample=sample, code=code, error=failure)


def _own(folder: Path, name: str, default: str) -> Path:
    own = folder / name
    return own if own.exists() else folder / default
