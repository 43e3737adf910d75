"""``verifier trust``: the file that says whose keys are believed."""

from __future__ import annotations

import hashlib
import os
import re
import tempfile
from pathlib import Path
from typing import Annotated

import typer

from attestation.encoding import Json, JsonObject, encode
from attestation.errors import MalformedError, UntrustedError, UsageError
from attestation.trust import Trust, TrustedKey, parse_time, read_vkey
from verifier.cli.boundary import CONFIGURATION_LIMIT, answer, boundary, now, read, read_trust, say
from verifier.cli.documents import JsonOption, NowOption
from verifier.text import safe, utc

app = typer.Typer(no_args_is_help=True, help="Show, check and extend a trust file.")

_DATE = re.compile(r"[0-9]{4}-[0-9]{2}-[0-9]{2}", re.ASCII)

_ENTRY = re.compile(rb"^(?=\s*\[\[\s*notary\s*\]\])", re.MULTILINE)
_UNTIL = re.compile(
    rb"^(\s*valid_until\s*=\s*)(?:\"[^\"\n]*\"|'[^'\n]*'|[0-9TZ:. -]*[0-9Z])", re.MULTILINE
)

TrustFile = Annotated[
    str, typer.Option("--trust", metavar="FILE", help="Trust file (TOML), - for stdin.")
]


@app.command(short_help="Add a key to a trust file, made if missing.")
def add(
    vkey: Annotated[str, typer.Argument(help="The key as `notary keygen` prints it.")],
    operator: Annotated[str, typer.Option(help="Who runs the notary; you say so, not the key.")],
    valid_until: Annotated[str, typer.Option(help="RFC 3339 time in UTC, or a date.")],
    trust: Annotated[Path, typer.Option(metavar="FILE", help="Trust file, made if missing.")],
    role: Annotated[str, typer.Option(help="attest, log or witness.")] = "attest",
    valid_from: Annotated[
        str | None, typer.Option(help="RFC 3339 time in UTC, or a date. Default: now.")
    ] = None,
    as_json: JsonOption = False,
) -> None:
    """Add a key to a trust file, after checking what stands there already."""
    with boundary(as_json=as_json):
        if not trust.parent.is_dir():
            raise UsageError(f"no such folder: {trust.parent}", rule="trust")
        old = read(str(trust), limit=CONFIGURATION_LIMIT) if trust.exists() else b""
        entry = _entry(vkey, operator, role, valid_from, valid_until)
        wanted = Trust.parse(old).adding(entry)
        _replace(trust, _extended(old, entry, wanted))
        if as_json:
            answer(_document((entry,), now()))
        say(f"added {entry.key.short}, run by {safe(operator)}, to {safe(str(trust))}")


@app.command()
def rotate(
    statement: Annotated[str, typer.Argument(help="The notary's rotation statement, - for stdin.")],
    trust: Annotated[Path, typer.Option(metavar="FILE", help="Trust file.")],
    as_json: JsonOption = False,
    now_us: NowOption = None,
) -> None:
    """Follow a notary to its new key, if a key you trust now names it."""
    with boundary(as_json=as_json):
        from attestation.rotation import STATEMENT_LIMIT, RotationStatement, rotated

        old = read(str(trust), limit=CONFIGURATION_LIMIT)
        believed = Trust.parse(old)
        document = RotationStatement.decode(
            read(statement, limit=STATEMENT_LIMIT), limit=STATEMENT_LIMIT
        )
        moment = now() if now_us is None else now_us
        wanted = rotated(believed, document, now_us=moment)
        *_, added = wanted.keys
        closed = wanted.find(document.rotation.old_key.short, "attest", added.valid_from_us - 1)
        _replace(trust, _edited(old, closed, added, wanted))
        if as_json:
            answer(_document((closed, added), moment))
        say(f"{safe(closed.key.short)} is believed until {utc(closed.valid_until_us)}")
        say(
            f"added {safe(added.key.short)}, run by {safe(added.operator)}, believed from "
            f"{utc(added.valid_from_us)} to {utc(added.valid_until_us)}"
        )


@app.command(short_help="List the keys of a trust file and whether they are valid.")
def show(trust: TrustFile, as_json: JsonOption = False, now_us: NowOption = None) -> None:
    """List the keys of a trust file, their operators and whether they are valid now."""
    with boundary(as_json=as_json):
        _show(trust, as_json, now() if now_us is None else now_us)


@app.command()
def check(trust: TrustFile, as_json: JsonOption = False, now_us: NowOption = None) -> None:
    """Like show, and fails unless a key may attest now."""
    with boundary(as_json=as_json):
        moment = now() if now_us is None else now_us
        keys = _show(trust, as_json, moment)
        if not any(key.role == "attest" and _status(key, moment) == "valid" for key in keys):
            raise UntrustedError("no key in the trust file may attest now", rule="trust")


def _show(name: str, as_json: bool, now_us: int) -> tuple[TrustedKey, ...]:
    trust = read_trust(name)
    if as_json:
        answer(_document(trust.keys, now_us, trust.log_policy_file))
    for key in trust.keys:
        status = _status(key, now_us)
        say(f"{safe(key.key.short)}  {key.role}  {status}  run by {safe(key.operator)}")
        period = f"{_moment(key.valid_from_us)} to {_moment(key.valid_until_us)}"
        say(f"    {key.key.algorithm}, {period}")
        say(f"    {_fingerprint(key)}")
    policy = trust.log_policy
    if policy is not None:
        say(
            f"log policy {safe(trust.log_policy_file or '')}: {len(policy.logs)} logs, "
            f"{len(policy.witnesses)} witnesses, quorum {safe(policy.quorum or 'none')}"
        )
    return trust.keys


def _document(keys: tuple[TrustedKey, ...], now_us: int, log_policy: str | None = None) -> bytes:
    rows: list[Json] = [
        {
            "key": key.key.short,
            "algorithm": key.key.algorithm,
            "fingerprint": _fingerprint(key),
            "operator": key.operator,
            "role": key.role,
            "valid_from_us": key.valid_from_us,
            "valid_until_us": key.valid_until_us,
            "status": _status(key, now_us),
        }
        for key in keys
    ]
    document: JsonObject = {"type": "quotary/trust/v1", "keys": rows}
    if log_policy is not None:
        document["log_policy"] = log_policy
    return encode(document)


def _fingerprint(key: TrustedKey) -> str:
    """The key as `notary keygen` tells it, and the fairness page."""
    return f"sha256:{hashlib.sha256(key.key.public).hexdigest()}"


def _moment(time_us: int) -> str:
    return utc(time_us).removesuffix("T00:00:00.000000Z")


def _status(key: TrustedKey, now_us: int) -> str:
    if key.revoked_at_us is not None:
        return "revoked"
    if now_us < key.valid_from_us:
        return "not yet valid"
    return "valid" if now_us < key.valid_until_us else "expired"


def _entry(
    vkey: str, operator: str, role: str, valid_from: str | None, valid_until: str
) -> TrustedKey:
    try:
        key = read_vkey(vkey)
        return TrustedKey(
            name=key.name,
            operator=operator,
            key=key,
            role=role,
            valid_from_us=now() if valid_from is None else _time(valid_from),
            valid_until_us=_time(valid_until),
        )
    except (MalformedError, UntrustedError) as error:
        raise UsageError(
            error.detail, rule=error.rule, found=error.found, wanted=error.wanted
        ) from error


def _time(text: str) -> int:
    return parse_time(f"{text}T00:00:00Z" if _DATE.fullmatch(text) else text)


def _extended(old: bytes, entry: TrustedKey, wanted: Trust) -> bytes:
    """Appends an entry, so that comments stay; reads back, so that it is what was meant."""
    gap = b"" if not old else b"\n" if old.endswith(b"\n") else b"\n\n"
    new = old + gap + Trust(keys=(entry,)).dump()
    if Trust.parse(new) != wanted:
        raise UsageError("the file ends in something that a new entry cannot follow")
    return new


def _edited(old: bytes, closed: TrustedKey, added: TrustedKey, wanted: Trust) -> bytes:
    """Sets ``valid_until`` where the closed key stands, and appends the added one."""
    vkey = re.escape(closed.key.vkey.encode("utf-8"))
    found = _ENTRY.split(old)
    for number, part in enumerate(found):
        if re.search(rb"^\s*vkey\s*=\s*[\"']" + vkey + rb"[\"']", part, re.MULTILINE):
            until = utc(closed.valid_until_us).encode("ascii")
            found[number] = _UNTIL.sub(rb"\g<1>" + until, part, count=1)
    try:
        return _extended(b"".join(found), added, wanted)
    except UsageError:
        raise UsageError(
            f"cannot edit this layout: set valid_until of {closed.key.short} to "
            f"{utc(closed.valid_until_us)} and add {added.key.vkey} by hand",
            rule="trust",
        ) from None


def _replace(path: Path, data: bytes) -> None:
    """Replaces the file whole: a crash leaves the old one or the new one."""
    with tempfile.NamedTemporaryFile(dir=path.parent, prefix=path.name, delete=False) as file:
        try:
            file.write(data)
            file.flush()
            os.fsync(file.fileno())
            if path.exists():
                os.fchmod(file.fileno(), path.stat().st_mode & 0o777)
            else:
                os.fchmod(file.fileno(), 0o644)
            os.replace(file.name, path)
        except BaseException:
            os.unlink(file.name)
            raise
