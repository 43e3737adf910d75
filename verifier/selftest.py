"""Runs the shipped samples: valid, lying and broken presentations of known outcome.

``samples/NAME.CODE.json`` is expected to end with exit code CODE under
``trust.toml`` and ``expect.toml``, or under ``NAME.CODE.trust.toml`` and
``NAME.CODE.expect.toml`` where they exist; ``NAME.CODE.1.json``, ``.2.json`` ...
are several notaries of one quote.  ``clock.json`` holds the time to assume.

``samples/settlements/NAME.CODE.json`` are bundles, recomputed in the same way, under
``log_policy.txt``; ``samples/evidence/NAME.CODE.json`` are evidence of TLS sessions, rechecked
under ``roots.pem``.
"""

from __future__ import annotations

import dataclasses
from collections.abc import Callable, Iterator
from pathlib import Path

from attestation.encoding import decode_object
from attestation.errors import QuotaryError, UsageError
from attestation.expect import Expect
from attestation.secrets import EVIDENCE_LIMIT, Evidence
from attestation.settlement.bundle import BUNDLE_LIMIT, SettlementBundle
from attestation.settlement.expect import SettlementExpect
from attestation.settlement.recompute import recompute
from attestation.tls13.certificates import RootStore
from attestation.trust import Trust
from attestation.venues import shipped_venues
from verifier.decide import decide
from verifier.recheck import recheck

SAMPLES = Path(__file__).parent / "samples"
SETTLEMENTS = "settlements"
EVIDENCE = "evidence"


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
    """Decides every sample of a folder, recomputes ``settlements`` and rechecks ``evidence``."""
    clock = decode_object((folder / "clock.json").read_bytes())["now_us"]
    if not isinstance(clock, int):
        raise UsageError("clock.json holds no time")
    for sample in samples(folder):
        yield _outcome(sample, lambda sample: _decide(sample, clock))
    for part, check in ((SETTLEMENTS, _recompute), (EVIDENCE, _recheck)):
        if (folder / part).is_dir():
            for sample in samples(folder / part):
                yield _outcome(dataclasses.replace(sample, name=f"{part}/{sample.name}"), check)


def _outcome(sample: Sample, check: Callable[[Sample], None]) -> Outcome:
    code, failure = 0, None
    try:
        check(sample)
    except QuotaryError as error:
        code, failure = error.exit_code, error
    return Outcome(sample=sample, code=code, error=failure)


def _decide(sample: Sample, clock: int) -> None:
    decide(
        [path.read_bytes() for path in sample.files],
        trust=Trust.parse(sample.trust.read_bytes()),
        expect=Expect.parse(sample.expect.read_bytes()),
        now_us=clock,
    )


def _recheck(sample: Sample) -> None:
    (file,) = sample.files
    recheck(
        Evidence.decode(file.read_bytes(), limit=EVIDENCE_LIMIT),
        roots=RootStore.from_pem((file.parent / "roots.pem").read_bytes()),
        trust=Trust.parse(sample.trust.read_bytes()),
    )


def _recompute(sample: Sample) -> None:
    (file,) = sample.files
    recompute(
        SettlementBundle.decode(file.read_bytes(), limit=BUNDLE_LIMIT),
        trust=Trust.parse(sample.trust.read_bytes()),
        log_policy=(file.parent / "log_policy.txt").read_bytes(),
        expect=SettlementExpect.parse(sample.expect.read_bytes()),
        venue_files=shipped_venues(),
    )


def _own(folder: Path, name: str, default: str) -> Path:
    own = folder / name
    return own if own.exists() else folder / default
