"""``prover doctor``: does this machine have what fetching needs?"""

from __future__ import annotations

import platform
import stat
import sys
import time
from collections.abc import Callable, Iterator
from pathlib import Path
from typing import Annotated

import typer

from attestation.encoding import Json
from attestation.errors import QuotaryError, UnavailableError, UntrustedError, UsageError
from prover.cli.boundary import (
    DEFAULT_KEY,
    JsonOption,
    KeyOption,
    answer,
    boundary,
    explain,
    read_key,
    read_trust,
    safe,
    say,
)

Check = tuple[str, Callable[[], str]]


def doctor(
    key: KeyOption = DEFAULT_KEY,
    trust: Annotated[
        str | None, typer.Option(metavar="FILE", help="Also check this trust file.")
    ] = None,
    notary: Annotated[
        list[str] | None, typer.Option(metavar="URL", help="Also ask this notary.")
    ] = None,
    as_json: JsonOption = False,
) -> None:
    """Check libssl, the key and, if given, trust file and notaries; say the cure of what fails."""
    with boundary(as_json=as_json):
        rows: list[Json] = []
        failure: QuotaryError | None = None
        for name, check in _checks(key, trust, notary or []):
            try:
                rows.append({"check": name, "passed": True, "detail": check()})
                mark = "ok  "
            except QuotaryError as error:
                failure = failure or error
                rows.append({"check": name, "passed": False, "detail": explain(error)})
                mark = "FAIL"
            say(f"{mark} {name}: {_detail(rows[-1])}")
        if as_json:
            answer({"type": "quotary/doctor/v1", "passed": failure is None, "checks": rows})
        if failure is not None:
            raise typer.Exit(failure.exit_code)


def _detail(row: Json) -> str:
    assert isinstance(row, dict)
    return str(row["detail"])


def _checks(key: str, trust: str | None, notaries: list[str]) -> Iterator[Check]:
    yield "python", lambda: f"{platform.python_version()} ({sys.executable})"
    yield "libssl", _libssl
    yield "key", lambda: _key(key)
    if trust is not None:
        yield "trust", lambda: f"{len(read_trust(trust).keys)} keys"
    for url in notaries:
        yield f"notary {url}", lambda url=url: _notary(url, trust)  # type: ignore[misc]


def _libssl() -> str:
    from prover.libssl import ClientContext

    context = ClientContext()
    client = context.connect("venue.example")
    client.handshake()
    if not client.outgoing():
        raise UnavailableError("OpenSSL made no ClientHello", rule="libssl")
    client.close()
    return f"{context.version} ({context.library})"


def _key(name: str) -> str:
    key = read_key(name)
    if name != "-" and stat.S_IMODE(Path(name).stat().st_mode) & 0o077:
        raise UsageError(f"others can read {name}: chmod 600 {name}", rule="key")
    return key.verifying_key.short


def _notary(url: str, trust: str | None) -> str:
    from attestation.keys import VerifyingKey
    from prover.notary_client import read_info

    info = read_info(url)
    vkeys = info.document.get("vkeys")
    shown = [safe(vkey) for vkey in vkeys] if isinstance(vkeys, list) else []
    if trust is not None:
        believed = read_trust(trust)
        now_us = time.time_ns() // 1000
        trusted = []
        for vkey in vkeys if isinstance(vkeys, list) else []:
            key = VerifyingKey.parse(str(vkey))
            try:
                if believed.find(key.short, "attest", now_us).key == key:
                    trusted.append(key.short)
            except UntrustedError:
                continue
        if not trusted:
            raise UntrustedError(
                "no key of this notary is trusted: verifier trust add VKEY", found=shown
            )
    return f"{safe(info.name)}, keys {', '.join(shown)}"
