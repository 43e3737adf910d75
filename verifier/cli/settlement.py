"""``verifier recompute``: a trade's outcome, from its bundle alone."""

from __future__ import annotations

from collections.abc import Mapping
from pathlib import Path
from typing import TYPE_CHECKING, Annotated

import typer

from attestation.errors import UsageError
from attestation.trust import Trust
from verifier.cli.boundary import CONFIGURATION_LIMIT, answer, boundary, read, read_trust, say
from verifier.cli.documents import JsonOption, TrustOption

if TYPE_CHECKING:
    from attestation.venues import VenueFile

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


def recompute_command(
    file: Annotated[str, typer.Argument(metavar="BUNDLE", help="A bundle, - for stdin.")],
    trust: TrustOption,
    expect: Annotated[
        str,
        typer.Option(
            "--expect", metavar="FILE", help="Which policy was agreed on, and what of the trade."
        ),
    ],
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
        found = verify_settlement(
            SettlementBundle.decode(read(file, limit=BUNDLE_LIMIT), limit=BUNDLE_LIMIT),
            trust=believed,
            log_policy=read_log_policy(log_policy, trust, believed),
            expect=SettlementExpect.parse(read(expect, limit=CONFIGURATION_LIMIT)),
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
