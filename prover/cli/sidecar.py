"""``prover sidecar``: other programs' TLS clients, attested through a loopback proxy."""

from __future__ import annotations

import contextlib
import dataclasses
import ipaddress
import json
import os
import re
import signal
import socket
import time
from pathlib import Path
from typing import TYPE_CHECKING, Annotated

import typer

from attestation.errors import QuotaryError, UnavailableError, UsageError
from attestation.venues import load_venue
from prover.cli.boundary import (
    DEFAULT_KEY,
    JsonOption,
    KeyOption,
    answer,
    boundary,
    explain,
    problem_document,
    read,
    read_key,
    read_trust,
    say,
)
from prover.sections import DEFAULT_SECTIONS, Section
from prover.session import Purpose

if TYPE_CHECKING:
    from attestation.tls13.certificates import RootStore
    from prover.clients import Place
    from prover.fetch import AttestedFetch, FetchPlan
    from prover.keylog_file import KeyLogFile
    from prover.notary_client import Notary

_LISTEN = re.compile(r"(?:\[([0-9a-fA-F:]+)\]|([0-9.]+)):([0-9]{1,5})")


def sidecar(
    notary: Annotated[str, typer.Option(metavar="URL", help="A notary's control API.")],
    trust: Annotated[str, typer.Option(metavar="FILE", help="Trust file: whose word counts.")],
    keylog: Annotated[
        Path, typer.Option(metavar="FILE", help="The key log that the client writes.")
    ],
    venue: Annotated[str, typer.Option(help="See `prover venues list`.")],
    form: Annotated[str, typer.Option(help="Whose request it is: curl, httpx or quotary.")],
    out: Annotated[
        Path, typer.Option(metavar="DIR", help="Each attestation goes into a folder of its id.")
    ],
    market: Annotated[str | None, typer.Option(help="Such as BTC/USD.")] = None,
    instrument: Annotated[str | None, typer.Option(help="Instead of --market.")] = None,
    mode: Annotated[str, typer.Option(help="sealed or open.")] = "sealed",
    purpose: Annotated[str | None, typer.Option(help="Text of an ad hoc purpose.")] = None,
    trade: Annotated[str | None, typer.Option(help="The trade the quote is for.")] = None,
    leg: Annotated[str | None, typer.Option(help="open or close, of the trade.")] = None,
    section: Annotated[
        list[str] | None,
        typer.Option(
            metavar="NAME[=SCHEME]",
            help="Sections to commit, instead of the default; SCHEME: hash, tree/json or "
            "tree/fixed:BYTES.",
        ),
    ] = None,
    listen: Annotated[
        str, typer.Option(metavar="ADDRESS:PORT", help="On loopback; port 0: the system's choice.")
    ] = "127.0.0.1:0",
    key: KeyOption = DEFAULT_KEY,
    roots: Annotated[
        str | None,
        typer.Option(metavar="FILE", help="Root certificates (PEM) instead of certifi's."),
    ] = None,
    as_json: JsonOption = False,
) -> None:
    """Attest the requests of curl, httpx or another TLS client that writes a key log.

    Prints one READY line of JSON, then one line for each attestation; with
    --json also one for each failure. Ends by SIGTERM or Ctrl-C.
    """
    with boundary(as_json=as_json):
        import asyncio

        from prover.cli.fetched import Against
        from prover.clients import Place
        from prover.keylog_file import KeyLogFile
        from prover.notary_client import Notary
        from prover.sidecar import plan_template

        plan = plan_template(
            venue=venue,
            instrument=_instrument(venue, market, instrument),
            form=form,
            mode=mode,
            purpose=Purpose(
                adhoc=purpose if purpose is not None or trade is not None else "fetch",
                trade=trade,
                leg=leg,
            ),
            sections=[Section.parse(text) for text in section or ()] or DEFAULT_SECTIONS,
        )
        signing, trusted = read_key(key), read_trust(trust)
        roots_pem = None if roots is None else read(roots)
        with contextlib.ExitStack() as stack:
            listener = stack.enter_context(_listener(listen))
            log = stack.enter_context(KeyLogFile(keylog))
            client = stack.enter_context(
                Notary(
                    notary,
                    prover_key=signing,
                    trust=trusted,
                    roots_pem=roots_pem,
                    on_refused=Against(notary, out).keep,
                    # The clients do TLS themselves.
                    allow_template=True,
                    on_fallback=lambda text: None,
                )
            )
            port = listener.getsockname()[1]
            host = listener.getsockname()[0]
            place = Place(
                proxy=f"http://{f'[{host}]' if ':' in host else host}:{port}",
                keylog=str(keylog),
                roots=roots,
            )
            run = _Run(plan=plan, place=place, notary=client, out=out, as_json=as_json)
            asyncio.run(run.serve(listener, log, roots_pem))


@dataclasses.dataclass(frozen=True, slots=True, kw_only=True)
class _Run:
    """What is printed and kept."""

    plan: FetchPlan
    place: Place
    notary: Notary
    out: Path
    as_json: bool

    async def serve(self, listener: socket.socket, log: KeyLogFile, roots: bytes | None) -> None:
        import asyncio

        from prover.relayed import Job
        from prover.sidecar import Sidecar, other_templates

        name = (await self.notary.info_async()).name
        stop = asyncio.Event()
        server = Sidecar(
            Job(
                notary=self.notary,
                plan=self.plan,
                others=other_templates(self.plan),
                roots=_root_store(roots),
                keylog=log,
                keep=self._keep,
                clock_us=lambda: time.time_ns() // 1000,
            ),
            attested=lambda fetch: self._attested(name, fetch),
            failed=self._failed,
        )
        loop = asyncio.get_running_loop()
        for number in (signal.SIGTERM, signal.SIGINT):
            # Only the main thread's loop can take signals; elsewhere the task is cancelled.
            with contextlib.suppress(RuntimeError, ValueError):
                loop.add_signal_handler(number, stop.set)
        self._announce()
        await server.serve(listener, stop)

    def _announce(self) -> None:
        from prover.clients import client_text, url

        spec, text = self.plan.spec, client_text(self.plan, self.place)
        say(f"attests {spec.venue} {spec.instrument} in {spec.mode} mode, form {spec.form}:\n")
        say(text + "\n")
        ready = {
            "type": "ready",
            "proxy": self.place.proxy,
            "keylog": self.place.keylog,
            "url": url(self.plan),
            "client": text,
        }
        typer.echo(json.dumps(ready))

    def _keep(self, fetch: AttestedFetch) -> None:
        from prover.vault import save

        save(self.out / fetch.attestation.header.id, fetch)

    def _attested(self, name: str, fetch: AttestedFetch) -> None:
        from prover.cli.fetched import fetch_line, fetch_row

        folder = self.out / fetch.attestation.header.id
        answer({"type": "quotary/fetch/v1", "fetches": [fetch_row(name, folder, fetch)]})
        say(fetch_line(name, folder, fetch))

    def _failed(self, error: QuotaryError) -> None:
        if self.as_json:
            answer(problem_document(error))
        say(explain(error))


def _instrument(venue: str, market: str | None, instrument: str | None) -> str:
    if (market is None) == (instrument is None):
        raise UsageError("name --market or --instrument", rule="market")
    return load_venue(venue).instrument(market) if market is not None else instrument or ""


def _root_store(pem: bytes | None) -> RootStore:
    from attestation.tls13.certificates import RootStore

    if pem is None:
        import certifi

        pem = Path(certifi.where()).read_bytes()
    return RootStore.from_pem(pem)


def _listener(address: str) -> socket.socket:
    """Listens on loopback alone: whoever reaches the port fetches in the prover's name."""
    match = _LISTEN.fullmatch(address)
    try:
        host = ipaddress.ip_address((match[1] or match[2]) if match else "")
        port = int(match[3]) if match else 0
    except ValueError:
        raise UsageError("not ADDRESS:PORT", rule="listen", found=address) from None
    if not host.is_loopback or port > 65_535:
        raise UsageError(
            "the sidecar listens on loopback alone: whoever reaches it fetches in your name",
            rule="listen",
            found=address,
        )
    family = socket.AF_INET if host.version == 4 else socket.AF_INET6
    try:
        return socket.create_server((str(host), port), family=family)
    except OSError as error:
        why = os.strerror(error.errno or 0)
        raise UnavailableError(f"cannot listen on {address}: {why}", rule="listen") from None
