"""``verifier recompute`` and ``reconcile``: a trade's outcome, and a whole ledger's."""

from __future__ import annotations

import contextlib
import platform
import shlex
import sys
import time
from collections.abc import Callable, Iterator, Mapping
from pathlib import Path
from typing import TYPE_CHECKING, Annotated

import typer

from attestation.errors import AuditFinding, UsageError
from attestation.trust import Trust
from verifier.cli.boundary import CONFIGURATION_LIMIT, answer, boundary, read, read_trust, say
from verifier.cli.documents import JsonOption, TrustOption

if TYPE_CHECKING:
    from attestation.settlement.bundle import SettlementBundle
    from attestation.venues import VenueFile
    from verifier.reconcile import Promised

MAX_PROMISES = 256 * 1024 * 1024
"""Bytes of a file of promises."""
TOLD_SECONDS = 10.0
"""How often progress is told where it is not shown."""

LogPolicyOption = Annotated[
    str | None,
    typer.Option(
        "--log-policy",
        metavar="FILE",
        help="Log policy: the one the trust file names by default.",
    ),
]
VenueOption = Annotated[
    list[str] | None,
    typer.Option(
        "--venue-file", metavar="FILE", help="A venue file besides, or instead of, those shipped."
    ),
]
OperatorOption = Annotated[
    str | None, typer.Option(metavar="VKEY", help="The key that signs the operator's promises.")
]


def recompute_command(
    file: Annotated[str, typer.Argument(metavar="BUNDLE", help="A bundle, - for stdin.")],
    trust: TrustOption,
    expect: Annotated[
        str,
        typer.Option(
            "--expect", metavar="FILE", help="Which policy was agreed on, and what of the trade."
        ),
    ],
    promise: Annotated[
        str | None,
        typer.Option(
            metavar="FILE", help="The operator's promise for this trade: its leaf, in time."
        ),
    ] = None,
    operator: OperatorOption = None,
    log_policy: LogPolicyOption = None,
    venue_file: VenueOption = None,
    explain: Annotated[
        bool, typer.Option("--explain", help="Show every step by which the outcome follows.")
    ] = False,
    as_json: JsonOption = False,
) -> None:
    """Recompute how a trade ended, and compare with the operator's claim; needs no network."""
    with boundary(as_json=as_json):
        from attestation.settlement.bundle import BUNDLE_LIMIT, SettlementBundle
        from attestation.settlement.expect import SettlementExpect
        from attestation.settlement.recompute import verify_settlement
        from verifier.explain import explain as steps
        from verifier.explain import headline

        if sum(name == "-" for name in (file, trust, expect)) > 1:
            raise UsageError("stdin can be one file only")
        believed = read_trust(trust)
        wanted = SettlementExpect.parse(read(expect, limit=CONFIGURATION_LIMIT))
        promised = read_promises(promise, operator)
        if promised is not None:
            if len(promised.promises) != 1:
                raise UsageError("one promise for one trade", rule="promise")
            wanted = wanted.promised(promised.promises[0].check(promised.operator))
        found = verify_settlement(
            SettlementBundle.decode(read(file, limit=BUNDLE_LIMIT), limit=BUNDLE_LIMIT),
            trust=believed,
            log_policy=read_log_policy(log_policy, trust, believed),
            expect=wanted,
            venue_files=read_venue_files(venue_file or ()),
        )
        if as_json:
            answer(found.outcome.encode())
        for line in headline(found, believed):
            say(line)
        if explain:
            for line in steps(found, believed):
                say(line)


def read_log_policy(name: str | None, trust_name: str, trust: Trust) -> bytes:
    """Reads a log policy's text, whose hash a settlement policy names; UsageError for none."""
    from attestation.log.policy import MAX_POLICY_SIZE

    if name is None:
        if trust.log_policy_file is None:
            raise UsageError(
                "which logs and witnesses? --log-policy FILE, or [log_policy] in the trust file",
                rule="log_policy",
            )
        beside = Path() if trust_name == "-" else Path(trust_name).parent
        name = str(beside / trust.log_policy_file)
    return read(name, limit=MAX_POLICY_SIZE)


def read_venue_files(names: list[str] | tuple[str, ...]) -> Mapping[str, VenueFile]:
    """Returns the shipped venue files, those named instead of the shipped of their venue."""
    from attestation.venues import parse_venue, shipped_venues

    files = dict(shipped_venues())
    for name in names:
        file = parse_venue(read(name, limit=CONFIGURATION_LIMIT))
        files[file.name] = file
    return files


def reconcile_command(
    ledger: Annotated[str, typer.Option("--ledger", metavar="FILE", help="One line a leaf.")],
    log: Annotated[
        str, typer.Option("--log", metavar="SOURCE", help="The log: its URL, or a mirror's folder.")
    ],
    bundles: Annotated[
        Path,
        typer.Option(
            metavar="FOLDER",
            help="[trades/]<trade>.json: a bundle, or a trade part with its parts in FOLDER/parts.",
        ),
    ],
    trust: TrustOption,
    expect: Annotated[
        str, typer.Option("--expect", metavar="FILE", help="Which policy was agreed on.")
    ],
    report: Annotated[
        Path | None, typer.Option(metavar="FILE", help="Write the report here, as Markdown.")
    ] = None,
    promises: Annotated[
        str | None,
        typer.Option(metavar="FILE", help="Promises that players kept, one a line; --operator."),
    ] = None,
    operator: OperatorOption = None,
    since: Annotated[
        str | None, typer.Option(metavar="TIME", help="Batches logged from then on, RFC 3339.")
    ] = None,
    until: Annotated[
        str | None, typer.Option(metavar="TIME", help="Batches logged before then.")
    ] = None,
    log_policy: LogPolicyOption = None,
    venue_file: VenueOption = None,
    as_json: JsonOption = False,
) -> None:
    """Compare a ledger with the log and every trade's bundle: 0 equal, 16 findings."""
    with boundary(as_json=as_json):
        from attestation.log.tiles import CHECKPOINT_PATH
        from attestation.settlement.expect import SettlementExpect
        from attestation.settlement.ledger import read_ledger
        from attestation.trust import parse_time
        from verifier.logsource import open_source
        from verifier.reconcile import reconcile
        from verifier.reconcile_report import render, summary
        from verifier.reconcile_trades import Reading

        believed = read_trust(trust)
        reading = Reading(
            trust=believed,
            log_policy=read_log_policy(log_policy, trust, believed),
            expect=SettlementExpect.parse(read(expect, limit=CONFIGURATION_LIMIT)),
            venue_files=read_venue_files(venue_file or ()),
        )
        with (
            open_source(log) as source,
            Path(ledger).open("rb") as file,
            counting("reconciled") as step,
        ):
            found = reconcile(
                read_ledger(file),
                note=source.read(CHECKPOINT_PATH),
                read=source.read,
                bundle=read_bundles(bundles),
                reading=reading,
                promised=read_promises(promises, operator),
                from_us=0 if since is None else parse_time(since),
                until_us=None if until is None else parse_time(until),
                step=step,
            )
        if report is not None:
            text = render(
                found, commands=[shlex.join(["verifier", *sys.argv[1:]])], versions=versions()
            )
            report.write_text(text, "utf-8")
        if as_json:
            answer(found.encode())
        for line in summary(found):
            say(line)
        if found.findings:
            raise typer.Exit(AuditFinding.exit_code)


def read_bundles(folder: Path) -> Callable[[str], SettlementBundle | None]:
    """Returns what reads a trade's bundle, or joins it of its part; None without either."""
    from attestation.encoding import decode_object
    from attestation.settlement.bundle import BUNDLE_LIMIT, SettlementBundle
    from attestation.settlement.parts import PartReader, TradePart
    from verifier.cli.bundle import read_parts

    parts = PartReader(read_parts(folder / "parts"))

    def read_bundle(trade: str) -> SettlementBundle | None:
        # As an operator keeps them, or as they were packed.
        places = [folder / "trades" / f"{trade}.json", folder / f"{trade}.json"]
        path = next((place for place in places if place.is_file()), None)
        if path is None:
            return None
        value = decode_object(read(str(path), limit=BUNDLE_LIMIT), limit=BUNDLE_LIMIT)
        if value.get("type") == TradePart.TYPE:
            return parts.join(TradePart.from_json(value))
        return SettlementBundle.from_json(value)

    return read_bundle


def read_promises(name: str | None, operator: str | None) -> Promised | None:
    """Reads promises, one a line, and the operator's key; UsageError for one without the other."""
    from attestation.keys import VerifyingKey
    from attestation.settlement.promise import SignedPromise
    from verifier.reconcile import Promised

    if name is None and operator is None:
        return None
    if name is None or operator is None:
        raise UsageError("--promises and --operator need each other", rule="promises")
    lines = read(name, limit=MAX_PROMISES).splitlines()
    return Promised(
        promises=tuple([SignedPromise.decode(line) for line in lines]),
        operator=VerifyingKey.parse(operator),
    )


def versions() -> list[str]:
    """Returns the package's version and Python's, for who repeats a check."""
    from importlib.metadata import PackageNotFoundError, version

    try:
        package = version("quotary")
    except PackageNotFoundError:
        package = "(not installed)"
    return [f"quotary {package}", f"Python {platform.python_version()}"]


@contextlib.contextmanager
def counting(done: str) -> Iterator[Callable[[str, int, int], None]]:
    """A line that counts, where somebody looks; else a line every ``TOLD_SECONDS``."""
    if not sys.stderr.isatty():
        yield _telling(done)
        return

    def step(what: str, position: int, size: int) -> None:
        sys.stderr.write(f"\r\x1b[K{position} of {size} {what} {done}")
        sys.stderr.flush()

    try:
        yield step
    finally:
        sys.stderr.write("\r\x1b[K")


def _telling(done: str) -> Callable[[str, int, int], None]:
    told = time.monotonic()

    def step(what: str, position: int, size: int) -> None:
        nonlocal told
        if time.monotonic() - told >= TOLD_SECONDS:
            told = time.monotonic()
            say(f"{position} of {size} {what} {done}")

    return step
