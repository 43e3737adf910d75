"""``verifier serve``: the verify API."""

from __future__ import annotations

from pathlib import Path
from typing import Annotated

import typer

from attestation.errors import UsageError
from verifier.cli.boundary import boundary, read, read_trust
from verifier.cli.documents import TrustOption
from verifier.cli.settlement import (
    LogPolicyOption,
    VenueOption,
    read_log_policy,
    read_venue_files,
)

DEFAULT_HOST = "127.0.0.1"
DEFAULT_PORT = 7049


def serve_command(
    trust: TrustOption,
    listen: Annotated[
        str | None,
        typer.Option(
            metavar="HOST:PORT",
            help=f"Port 0: the system's choice. Default: {DEFAULT_HOST}:{DEFAULT_PORT}.",
        ),
    ] = None,
    host: Annotated[str, typer.Option(hidden=True, help="See --listen.")] = DEFAULT_HOST,
    port: Annotated[int, typer.Option(hidden=True, help="See --listen.")] = DEFAULT_PORT,
    log_policy: LogPolicyOption = None,
    policy: Annotated[
        list[str] | None,
        typer.Option(metavar="FILE", help="Settlement policy to show by its id. Repeatable."),
    ] = None,
    venue_file: VenueOption = None,
    evidence: Annotated[
        Path | None,
        typer.Option(
            metavar="FOLDER",
            help=(
                "Bundles to serve beside the page: /#trade=ID opens one. "
                "A folder as prover serve, the game or verifier mirror write it."
            ),
        ),
    ] = None,
) -> None:
    """Serve the verify API. Run it yourself: somebody else's verdict proves nothing.

    Settlements are recomputed under the log policy of --log-policy, or of the trust file.
    The fairness page is at /.
    """
    with boundary():
        if listen is not None:
            host, port = _address(listen)
        believed = read_trust(trust)
        try:
            from verifier.service import serve as run_service
        except ModuleNotFoundError as error:
            raise UsageError(
                f"{error.name} is not installed: in a checkout of Quotary, pip install '.[service]'"
            ) from error
        from attestation.settlement.policy import SettlementPolicy
        from verifier.evidence import EvidenceFolder
        from verifier.settlement import SettlementMeans

        logs = None
        if log_policy is not None or believed.log_policy_file is not None:
            logs = read_log_policy(log_policy, trust, believed)
        means = SettlementMeans(
            log_policy=logs,
            policies=tuple(SettlementPolicy.decode(read(name)) for name in policy or ()),
            venue_files=read_venue_files(venue_file or ()),
        )
        run_service(
            trust=believed,
            host=host,
            port=port,
            settlement=means,
            evidence=None if evidence is None else EvidenceFolder(evidence),
        )


def _address(text: str) -> tuple[str, int]:
    host, colon, port = text.rpartition(":")
    if not colon or not host or not (port.isascii() and port.isdigit()) or int(port) > 65_535:
        raise UsageError("not HOST:PORT", rule="listen", found=text)
    return host.removeprefix("[").removesuffix("]"), int(port)
