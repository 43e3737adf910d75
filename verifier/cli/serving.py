"""``verifier serve``: the verify API."""

from __future__ import annotations

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

DEFAULT_PORT = 7049


def serve_command(
    trust: TrustOption,
    host: Annotated[str, typer.Option(help="Address to listen on.")] = "127.0.0.1",
    port: Annotated[int, typer.Option(help="0: the system's choice.")] = DEFAULT_PORT,
    log_policy: LogPolicyOption = None,
    policy: Annotated[
        list[str] | None,
        typer.Option(metavar="FILE", help="Settlement policy to show by its id. Repeatable."),
    ] = None,
    venue_file: VenueOption = None,
) -> None:
    """Serve the verify API. Run it yourself: somebody else's verdict proves nothing.

    Settlements are recomputed under the log policy of --log-policy, or of the trust file.
    """
    with boundary():
        believed = read_trust(trust)
        try:
            from verifier.service import serve as run_service
        except ModuleNotFoundError as error:
            raise UsageError(
                f"{error.name} is not installed: pip install 'quotary[service]'"
            ) from error
        from attestation.settlement.policy import SettlementPolicy
        from verifier.settlement import SettlementMeans

        logs = None
        if log_policy is not None or believed.log_policy_file is not None:
            logs = read_log_policy(log_policy, trust, believed)
        means = SettlementMeans(
            log_policy=logs,
            policies=tuple(SettlementPolicy.decode(read(name)) for name in policy or ()),
            venue_files=read_venue_files(venue_file or ()),
        )
        run_service(trust=believed, host=host, port=port, settlement=means)
