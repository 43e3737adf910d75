"""``prover feed`` and ``prover serve``: live attested quotes, kept, shown and served."""

from __future__ import annotations

import asyncio
from collections.abc import Coroutine
from pathlib import Path
from typing import Annotated, Any

import typer

from attestation.errors import UsageError
from prover.cli.boundary import JsonOption, boundary

EXTRA = "feed"
ConfigOption = Annotated[
    Path | None, typer.Option("--config", metavar="FILE", help="The configuration, feed.toml.")
]
DevelopmentOption = Annotated[
    bool,
    typer.Option("--development", help="Accept a [development] section, for simulated venues."),
]
ListenOption = Annotated[
    str | None,
    typer.Option(
        "--listen", metavar="HOST:PORT", help="Instead of the configuration's; port 0: any."
    ),
]


def feed(
    context: typer.Context,
    config: ConfigOption = None,
    venues: Annotated[
        str | None, typer.Option(metavar="A,B", help="Default: all that list the market.")
    ] = None,
    market: Annotated[str | None, typer.Option(help="Such as BTC/USD.")] = None,
    notary: Annotated[
        list[str] | None,
        typer.Option(metavar="URL", help="A notary's control API; may be repeated."),
    ] = None,
    name: Annotated[
        str | None, typer.Option(help="The feed's name in the logs. Default: the market's.")
    ] = None,
    trust: Annotated[
        Path | None, typer.Option(metavar="FILE", help="Trust file: whose word counts.")
    ] = None,
    key: Annotated[
        Path | None,
        typer.Option(metavar="FILE", envvar="QUOTARY_PROVER_KEY", help="From `prover keygen`."),
    ] = None,
    data: Annotated[Path | None, typer.Option(metavar="DIR", help="Store and spool.")] = None,
    roots: Annotated[
        Path | None,
        typer.Option(metavar="FILE", help="Root certificates (PEM) of simulated venues."),
    ] = None,
    development: DevelopmentOption = False,
    as_json: Annotated[
        bool, typer.Option("--json", help="Print the status as a line of JSON every second.")
    ] = False,
) -> None:
    """Run a feed: one witnessed connection per venue and notary, and every slot kept.

    On a terminal it shows how the feed is; elsewhere a line every ten seconds. Ends by
    SIGTERM or Ctrl-C, with 0. The commands are about what a feed has kept.
    """
    if context.invoked_subcommand is not None:
        return
    with boundary(as_json=as_json, extra=EXTRA):
        from prover.cli.showing import Showing
        from prover.serve.assembly import run_configured
        from prover.serve.config import load_config

        given = _given(config, venues, market, notary, name, trust, key, data)
        if roots is not None:
            given["development"] = {"roots": [roots]}
        settings = load_config(config, given, development=development or roots is not None)
        showing = Showing(as_json=as_json)
        _run(run_configured(settings, listen=None, announce=lambda _: None, show=showing.shown))


def serve(
    config: Annotated[Path, typer.Option(metavar="FILE", help="The configuration, feed.toml.")],
    listen: ListenOption = None,
    store_only: Annotated[
        bool, typer.Option("--store-only", help="Serve what is stored, and run no feed.")
    ] = False,
    development: DevelopmentOption = False,
    as_json: JsonOption = False,
) -> None:
    """Run a feed and serve its slots over HTTP; prints one READY line of JSON.

    What goes wrong is said on stderr; with --json a line for the status every second
    follows on stdout instead. Ends by SIGTERM or Ctrl-C.
    """
    with boundary(as_json=as_json, extra=EXTRA):
        from prover.cli.showing import Showing
        from prover.serve.assembly import run_configured, serve_stored
        from prover.serve.config import load_config

        given = {} if listen is None else {"listen": listen}
        settings = load_config(config, given, development=development)
        if store_only:
            _run(serve_stored(settings, announce=_announce))
            return
        showing = Showing(as_json=as_json)
        show = showing.shown if as_json else showing.watched
        _run(run_configured(settings, listen=settings.listen, announce=_announce, show=show))


def _given(
    config: Path | None,
    venues: str | None,
    market: str | None,
    notary: list[str] | None,
    name: str | None,
    trust: Path | None,
    key: Path | None,
    data: Path | None,
) -> dict[str, Any]:
    """Returns what the command line says of the configuration's members."""
    given: dict[str, Any] = {
        "venues": None if venues is None else venues.split(","),
        "market": market,
        "notaries": notary or None,
        "name": name,
        "trust": trust,
        "key": key,
        "data": data,
    }
    if config is None:
        if market is None or not notary or trust is None:
            raise UsageError("name --market, --notary and --trust, or --config", rule="config")
        if name is None:
            given["name"] = market.lower().replace("/", "-")
    return {member: value for member, value in given.items() if value is not None}


def _run(coroutine: Coroutine[Any, Any, None]) -> None:
    """Runs on uvloop where there is one."""
    try:
        import uvloop
    except ImportError:
        asyncio.run(coroutine)
        return
    with asyncio.Runner(loop_factory=uvloop.new_event_loop) as runner:
        runner.run(coroutine)


def _announce(line: str) -> None:
    print(line, flush=True)
