"""``notary serve --check``: everything a start depends on, looked at and left as it is.

A finding that fails would keep the notary from starting, or from doing anything
useful; a warning is the operator's to judge.  Nothing is written: the store's
head is read as bytes (SQLite would make files beside it), ports are bound and
not listened on, and the store's lock, if free, is held for an instant alone.
"""

from __future__ import annotations

import contextlib
import dataclasses
import errno
import fcntl
import importlib
import importlib.metadata
import os
import resource
import shutil
import socket
import sqlite3
import stat
import sys
import threading
import time
from collections.abc import Callable, Sequence
from pathlib import Path
from typing import Literal, TypeAlias

from attestation.errors import QuotaryError, RefusedError, UnavailableError, UsageError
from attestation.keys import SEED_SIZE, SigningKey
from attestation.rotation import Rotation
from notary.config import Config, split_address
from notary.kernel_clock import read_kernel_clock
from notary.listening import descriptors_needed
from notary.log.published import PUBLISHED_FILE, PublishedFile
from notary.resolve import RESOLVE_SECONDS, check_public
from notary.rotation import prepared_rotation
from notary.rows import SCHEMA_VERSION
from notary.server import allowed_venues, load_log_key, load_roots, load_signer, software
from notary.store import STORE_FILE

LEAST_FREE = 1024**3
"""Bytes of disk below which the store's folder earns a warning."""
LEAST_YEAR_US = 1_735_689_600_000_000
"""2025-01-01: a clock before it was never set."""
_ANY = {"0.0.0.0", "::"}
_PACKAGES = ("cryptography", "pynacl", "orjson", "pymerkle", "fastapi", "uvicorn", "httptools")
_MODULES = {"pynacl": "nacl.bindings"}

Status: TypeAlias = Literal["ok", "warn", "fail"]
Lookup: TypeAlias = Callable[[str, int], Sequence[str]]
"""(host, port) -> textual addresses; raises OSError."""


@dataclasses.dataclass(frozen=True, slots=True, kw_only=True)
class Finding:
    """What one check found; ``detail`` joins sentences by ``"; "``."""

    check: str
    status: Status
    detail: str
    exit_code: int = 0


def failed(check: str, error: QuotaryError) -> Finding:
    """Returns the finding for what a check raised."""
    found = f" (found: {error.found})" if error.found is not None else ""
    return Finding(check=check, status="fail", detail=f"{error}{found}", exit_code=error.exit_code)


def system_addresses(host: str, port: int) -> Sequence[str]:
    """Resolves by the system's resolver; blocks."""
    found = socket.getaddrinfo(host, port, type=socket.SOCK_STREAM, proto=socket.IPPROTO_TCP)
    return [str(item[4][0]) for item in found]


def examine(config: Config, file: Path, *, lookup: Lookup = system_addresses) -> list[Finding]:
    """Runs every check, in the order in which an operator would mend them."""
    held = _held(config)
    checks: list[tuple[str, Callable[[], tuple[Status, str]]]] = [
        ("configuration", lambda: _configuration(config, file)),
        ("libraries", _libraries),
        ("keys", lambda: _keys(config)),
        ("data", lambda: _data(config)),
        ("store", lambda: _store(config, held)),
        ("log", lambda: _log(config)),
        ("ports", lambda: _ports(config, held)),
        ("descriptors", lambda: _descriptors(config)),
        ("clock", _clock),
        ("roots", lambda: _roots(config)),
        ("allow", lambda: _allow(config)),
        ("resolver", lambda: _resolver(config, lookup)),
    ]
    return [_finding(name, check) for name, check in checks]


def _finding(name: str, check: Callable[[], tuple[Status, str]]) -> Finding:
    try:
        status, detail = check()
    except QuotaryError as error:
        return failed(name, error)
    except OSError as error:
        return failed(name, UnavailableError(f"{error.strerror}: {error.filename}"))
    return Finding(check=name, status=status, detail=detail)


def _warn_if(warnings: list[str], *said: str) -> tuple[Status, str]:
    return ("warn" if warnings else "ok"), "; ".join([*said, *warnings])


def _configuration(config: Config, file: Path) -> tuple[Status, str]:
    warnings = []
    if config.development is not None:
        warnings.append("[development]: venues may be simulated; never for real prices")
    return _warn_if(warnings, f"{config.name}, run by {config.operator}, from {file}")


def _libraries() -> tuple[Status, str]:
    for package in _PACKAGES:
        importlib.import_module(_MODULES.get(package, package))
    key = SigningKey(name="check", algorithm="ed25519", seed=bytes(SEED_SIZE))
    key.verifying_key.verify(key.sign(b"check"), b"check")
    versions = [f"{package} {importlib.metadata.version(package)}" for package in _PACKAGES]
    python = ".".join(map(str, sys.version_info[:3]))
    return "ok", (
        f"{software()}, Python {python}, SQLite {sqlite3.sqlite_version}; {', '.join(versions)}"
    )


def _keys(config: Config) -> tuple[Status, str]:
    signer = load_signer(config)
    warnings = []
    for path in config.key_files:
        if (statement := prepared_rotation(path)) is not None:
            warnings.append(_due(path, statement.rotation))
        folder = path.parent.stat()
        if stat.S_IMODE(folder.st_mode) & 0o022:
            warnings.append(f"others may write to {path.parent}: chmod go-w")
    return _warn_if(warnings, *signer.vkeys)


def _due(path: Path, rotation: Rotation) -> str:
    begin, end = (
        time.strftime("%Y-%m-%dT%H:%M:%SZ", time.gmtime(at_us // 1_000_000))
        for at_us in (rotation.from_us, rotation.old_until_us)
    )
    if time.time_ns() // 1_000 < rotation.from_us:
        return f"{path}: publish its rotation statement; switch between {begin} and {end}"
    return f"{path}: run `notary rotate --switch` and restart before {end}"


def _data(config: Config) -> tuple[Status, str]:
    data = config.data
    existing = next(folder for folder in (data, *data.parents) if folder.exists())
    if not existing.is_dir():
        raise UsageError("data is not a folder", rule="data", found=str(existing))
    # Tells of a read-only mount too, for which even root is not an exception.
    if not os.access(existing, os.W_OK | os.X_OK):
        raise UsageError("cannot write to the data folder", rule="data", found=str(existing))
    free = shutil.disk_usage(existing).free
    said = f"{data}, {free // 1024**2:,} MiB free"
    warnings = []
    if existing != data:
        warnings.append("does not exist yet: `notary serve` will make it")
    elif stat.S_IMODE(data.stat().st_mode) & 0o077:
        warnings.append("others may look into it: chmod 700")
    if free < LEAST_FREE:
        warnings.append("the disk is nearly full, and nothing is ever deleted from the store")
    return _warn_if(warnings, said)


def _store(config: Config, held: bool) -> tuple[Status, str]:
    path = config.data / STORE_FILE
    serving = "; a notary is serving from it" if held else ""
    if not path.exists():
        return "ok", f"{path} will be made"
    if not os.access(path, os.R_OK | os.W_OK):
        raise UsageError("cannot read and write the store", rule="store", found=str(path))
    with path.open("rb") as file:
        # SQLite's file format: a magic string, the user's version at offset 60.
        head = file.read(100)
    if not head:
        return "ok", f"{path} is empty{serving}"
    if len(head) < 100 or not head.startswith(b"SQLite format 3\0"):
        raise UsageError("the store is not an SQLite database", rule="store", found=str(path))
    version = int.from_bytes(head[60:64], "big")
    # 0 before the first checkpoint: the version then stands in the write-ahead log.
    if version not in (0, SCHEMA_VERSION):
        raise UsageError(
            "the store was written by another version",
            rule="store",
            found=version,
            wanted=SCHEMA_VERSION,
        )
    return "ok", f"{path}, {path.stat().st_size // 1024:,} KiB{serving}"


def _log(config: Config) -> tuple[Status, str]:
    path = config.data / PUBLISHED_FILE
    key = load_log_key(config)
    if config.log is None or key is None:
        if path.exists():
            raise UsageError("the store has a log: configure [log]", rule="log", found=str(path))
        return "ok", "none: what was run and not shown stays unseen"
    published = PublishedFile(path).read(key.verifying_key)
    if published is None:
        raise UsageError("no log was made: notary log create", rule="log", found=str(path))
    if config.log.files is not None and not os.access(config.log.files, os.W_OK | os.X_OK):
        raise UsageError(
            "cannot write the log's plain files", rule="log.files", found=str(config.log.files)
        )
    warnings = []
    if not config.log.witnesses:
        warnings.append("no witness cosigns it: a second history could be shown to some")
    return _warn_if(warnings, f"{published.origin}, {published.size:,} entries published")


def _held(config: Config) -> bool:
    """Whether a notary holds the store."""
    path = config.data / f"{STORE_FILE}.lock"
    try:
        descriptor = os.open(path, os.O_RDONLY)
    except OSError:
        return False
    try:
        fcntl.flock(descriptor, fcntl.LOCK_SH | fcntl.LOCK_NB)
    except OSError as error:
        return error.errno in (errno.EAGAIN, errno.EACCES)
    finally:
        os.close(descriptor)
    return False


def _ports(config: Config, held: bool) -> tuple[Status, str]:
    said, warnings = [], []
    with contextlib.ExitStack() as stack:
        for member in ("listen", "relay"):
            address: str = getattr(config, member)
            said.append(f"{member} {address}")
            if said_in_use := _bind(address, stack):
                if not held:
                    raise UnavailableError(said_in_use, rule=member)
                warnings.append(f"{said_in_use}: by the notary that serves from this store?")
    host, port = split_address(config.relay)
    other, same = split_address(config.listen)
    # Two sockets that do not listen yet may share a port.
    if port and port == same and (host == other or {host, other} & _ANY):
        raise UsageError("listen and relay are one address", rule="relay", found=config.relay)
    if config.proxy is None and host in _ANY:
        warnings.append(f"provers are told to connect to {config.relay}: set `proxy`")
    return _warn_if(warnings, ", ".join(said))


def _bind(address: str, stack: contextlib.ExitStack) -> str | None:
    """Returns why an address cannot be bound, None if it can."""
    host, port = split_address(address)
    family = socket.AF_INET6 if ":" in host else socket.AF_INET
    try:
        listener = stack.enter_context(socket.socket(family))
        # As the server does; a port where another listens is refused all the same.
        listener.setsockopt(socket.SOL_SOCKET, socket.SO_REUSEADDR, 1)
        listener.bind((host, port))
    except OSError as error:
        return f"cannot listen on {address}: {error.strerror or error}"
    return None


def _descriptors(config: Config) -> tuple[Status, str]:
    # A start raises the soft limit as far as it may.
    _, limit = resource.getrlimit(resource.RLIMIT_NOFILE)
    needed = descriptors_needed(config.limits)
    warnings = []
    if limit != resource.RLIM_INFINITY and limit < needed:
        warnings.append(
            f"limits.connections = {config.limits.connections} may take {needed}:"
            " raise LimitNOFILE (ulimit -n)"
        )
    said = "unlimited" if limit == resource.RLIM_INFINITY else f"{limit:,} may be open"
    return _warn_if(warnings, said)


def _clock() -> tuple[Status, str]:
    now_us = time.time_ns() // 1_000
    told = time.strftime("%Y-%m-%dT%H:%M:%SZ", time.gmtime(now_us // 1_000_000))
    if now_us < LEAST_YEAR_US:
        raise UsageError("the clock was never set", rule="clock", found=told)
    kernel = read_kernel_clock()
    if kernel is None:
        return "ok", f"{told}; this system does not tell whether it is synchronised"
    if not kernel.synchronised:
        return "warn", f"{told}; not synchronised, says the kernel: run chrony or the like"
    return "ok", f"{told}; synchronised, off by at most {kernel.max_error_us / 1_000:,.0f} ms"


def _roots(config: Config) -> tuple[Status, str]:
    roots = load_roots(config)
    return "ok", f"{roots.count} certificates, {roots.hash}"


def _allow(config: Config) -> tuple[Status, str]:
    venues, allow = allowed_venues(config), config.allow
    if not venues and not allow.hosts:
        raise UsageError("neither venues nor hosts are allowed", rule="allow")
    warnings = []
    if not allow.unknown_provers and not allow.anonymous and not config.provers:
        warnings.append("no prover may use this notary: none is listed, unknown ones are refused")
    who = [f"{len(config.provers)} provers listed"]
    who += ["unknown provers"] if allow.unknown_provers else []
    who += ["anonymous ones"] if allow.anonymous else []
    places = ", ".join([*venues, *allow.hosts])
    return _warn_if(warnings, f"{', '.join(who)}", f"may reach {places}")


def _resolver(config: Config, lookup: Lookup) -> tuple[Status, str]:
    """Warns only: a resolver may come up after the notary, and venues come and go."""
    fixed = set()
    if config.development is not None:
        fixed = {(rule.host, rule.port) for rule in config.development.connect_to}
    places = {
        (host, venue.port) for venue in allowed_venues(config).values() for host in venue.hosts
    }
    places |= {split_address(host) for host in config.allow.hosts}
    asked = sorted(places - fixed)
    if not asked:
        return "ok", "nothing to resolve"
    answers = _resolve(asked, lookup)
    warnings = [f"{host}: {why}" for (host, _), why in zip(asked, answers, strict=True) if why]
    return _warn_if(warnings, f"{answers.count(None)} of {len(asked)} hosts resolve")


def _resolve(places: list[tuple[str, int]], lookup: Lookup) -> list[str | None]:
    """Returns what is wrong with each place, all asked at once, None for nothing."""
    answers: list[str | None] = ["no answer in time"] * len(places)

    def ask(number: int, host: str, port: int) -> None:
        try:
            addresses = lookup(host, port)
            for address in addresses:
                check_public(address)
            answers[number] = None if addresses else "has no address"
        except RefusedError as error:
            answers[number] = f"{error.found} is not public"
        except (OSError, UnicodeError) as error:
            answers[number] = str(getattr(error, "strerror", None) or error)

    threads = [
        threading.Thread(target=ask, args=(number, *place), daemon=True)
        for number, place in enumerate(places)
    ]
    for thread in threads:
        thread.start()
    deadline = time.monotonic() + RESOLVE_SECONDS
    for thread in threads:
        thread.join(max(0.0, deadline - time.monotonic()))
    return list(answers)
