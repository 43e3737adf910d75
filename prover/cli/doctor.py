"""``prover doctor``: does this machine have what fetching needs?"""

from __future__ import annotations

import dataclasses
import platform
import socket
import sys
import time
from collections.abc import Callable, Iterator
from functools import partial
from importlib.metadata import version
from typing import TYPE_CHECKING, Annotated

import typer

from attestation.encoding import Json, JsonObject
from attestation.errors import (
    IncompleteError,
    QuotaryError,
    StaleError,
    UnavailableError,
    UntrustedError,
    UsageError,
)
from prover.cli.boundary import (
    DEFAULT_KEY,
    JsonOption,
    KeyOption,
    answer,
    boundary,
    explain,
    naming_files,
    naming_what_is_missing,
    read_key,
    read_trust,
    safe,
    say,
)

if TYPE_CHECKING:
    from attestation.keys import VerifyingKey
    from attestation.trust import Trust
    from prover.notary_client import NotaryInfo

Check = tuple[str, Callable[[], str]]

CLOCK_TOLERANCE_US = 2_000_000
"""Beyond it a verifier on this machine takes what a notary signs for signed in the future."""
_TIMEOUT = 10.0


def doctor(
    key: KeyOption = DEFAULT_KEY,
    trust: Annotated[
        str | None, typer.Option(metavar="FILE", help="Also check this trust file.")
    ] = None,
    notary: Annotated[
        list[str] | None,
        typer.Option(metavar="URL", help="Also check this notary, its clock and its relay."),
    ] = None,
    verifier: Annotated[
        list[str] | None, typer.Option(metavar="URL", help="Also ask this verify API.")
    ] = None,
    as_json: JsonOption = False,
) -> None:
    """Check libssl, the key and, if given, trust file, notaries and verify APIs.

    Of what fails the cure is said. The exit code is that of the first failure.
    """
    with boundary(as_json=as_json):
        rows: list[Json] = []
        failure: QuotaryError | None = None
        for name, check in _checks(key, trust, notary or [], verifier or []):
            try:
                with naming_files():
                    row: JsonObject = {"check": name, "passed": True, "detail": check()}
            except QuotaryError as error:
                failure = failure or error
                row = {"check": name, "passed": False, "detail": explain(error)}
            rows.append(row)
            say(f"{'ok  ' if row['passed'] else 'FAIL'} {name}: {row['detail']}")
        if as_json:
            answer({"type": "quotary/doctor/v1", "passed": failure is None, "checks": rows})
        if failure is not None:
            raise typer.Exit(failure.exit_code)


def _checks(
    key: str, trust: str | None, notaries: list[str], verifiers: list[str]
) -> Iterator[Check]:
    yield "python", lambda: f"{platform.python_version()} ({sys.executable})"
    yield "packages", _packages
    yield "libssl", _libssl
    yield "key", lambda: _key(key)
    if trust is not None:
        yield "trust", lambda: f"{len(read_trust(trust).keys)} keys"
    for url in notaries:
        seen = _Seen(url)
        yield f"notary {url}", partial(_notary, seen, trust)
        # Of a notary that does not answer, once is enough.
        if seen.info is not None:
            yield f"clock of {url}", partial(_clock, seen)
            yield f"relay of {url}", partial(_relay, seen.info)
    for url in verifiers:
        yield f"verifier {url}", partial(_verifier, url)


@dataclasses.dataclass(slots=True)
class _Seen:
    """A notary's answer, and this machine's clock before and after it, in microseconds."""

    url: str
    info: NotaryInfo | None = None
    before_us: int = 0
    after_us: int = 0


def _packages() -> str:
    """Imports what the extra ``[prover]`` installs."""
    with naming_what_is_missing():
        import certifi
        import httpx
        import rich

        names = [module.__name__ for module in (httpx, certifi, rich)]
    return ", ".join(f"{name} {version(name)}" for name in names)


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
    return read_key(name).verifying_key.short


def _notary(seen: _Seen, trust: str | None) -> str:
    from attestation.keys import VerifyingKey
    from prover.notary_client import read_info

    read_info(seen.url)  # warms what the first call loads, so that the second tells the clock
    seen.before_us = _now_us()
    seen.info = read_info(seen.url)
    seen.after_us = _now_us()
    vkeys = seen.info.document.get("vkeys")
    texts = [str(vkey) for vkey in vkeys] if isinstance(vkeys, list) else []
    keys = [VerifyingKey.parse(text) for text in texts]
    if trust is not None:
        believed = read_trust(trust)
        if not any(_trusted(believed, key, seen.after_us) for key in keys):
            raise UntrustedError(
                "no key of this notary is trusted: verifier trust add VKEY",
                found=[safe(text) for text in texts],
            )
    return f"{safe(seen.info.name)}, keys {', '.join(safe(key.short) for key in keys)}"


def _trusted(trust: Trust, key: VerifyingKey, at_us: int) -> bool:
    try:
        return trust.find(key.short, "attest", at_us).key == key
    except UntrustedError:
        return False


def _clock(seen: _Seen) -> str:
    """The notary read its clock between our two readings, if the clocks agree."""
    assert seen.info is not None
    theirs = seen.info.document.get("now_us")
    if type(theirs) is not int:
        raise IncompleteError("this notary does not tell its time", rule="clock")
    behind = max(0, theirs - seen.after_us)
    ahead = max(0, seen.before_us - theirs)
    if max(behind, ahead) > CLOCK_TOLERANCE_US:
        raise StaleError(
            f"this machine's clock is {max(behind, ahead) / 1e6:.1f} s "
            f"{'behind' if behind else 'ahead of'} the notary's: set it by NTP",
            rule="clock",
        )
    return f"within {max(seen.after_us - theirs, theirs - seen.before_us) / 1000:.0f} ms of ours"


def _relay(info: NotaryInfo) -> str:
    from prover.session import read_member, split_proxy

    proxy = read_member(info.document, "proxy", str, "info")
    host, port = split_proxy(proxy)
    try:
        with socket.create_connection((host, port), timeout=_TIMEOUT):
            return f"{safe(proxy)} takes connections"
    except OSError as error:
        raise UnavailableError(
            f"{safe(proxy)} cannot be reached: {error.strerror or error}", rule="relay"
        ) from None


def _verifier(url: str) -> str:
    import httpx

    try:
        health = httpx.get(f"{url.rstrip('/')}/healthz", timeout=_TIMEOUT)
    except httpx.InvalidURL as error:
        raise UsageError(f"not a URL: {error}", rule="verifier") from None
    except httpx.UnsupportedProtocol:
        raise UsageError("not a URL of a verify API", rule="verifier", found=url) from None
    except httpx.HTTPError as error:
        raise UnavailableError(f"verify API: {error}", rule="verifier") from None
    if health.status_code != 200:
        raise UnavailableError(
            "no verify API answers there", rule="verifier", found=f"status {health.status_code}"
        )
    return "answers"


def _now_us() -> int:
    return time.time_ns() // 1000
