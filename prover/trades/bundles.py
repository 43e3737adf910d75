"""Bundles on disk: a small part for each trade, and parts that trades share, by hash."""

from __future__ import annotations

import contextlib
import os
from collections.abc import Mapping
from pathlib import Path

from attestation.errors import UnavailableError
from attestation.recent import Recent
from attestation.settlement.bundle import SettlementBundle
from attestation.settlement.parts import TRADE_PART_LIMIT, TradePart, join_parts

KNOWN_PARTS = 4_096
"""Parts that need not be looked for, as they were written or found before."""
OPEN_FILES = 128
"""Files that are written at a time."""


class BundleFolder:
    """Bundles under ``folder``: ``trades/<trade>.json`` and ``parts/<hex of SHA-256>.json``.

    Blocking.  Raises UnavailableError where the disk fails.
    """

    def __init__(self, folder: Path) -> None:
        self._trades = folder / "trades"
        self._parts = folder / "parts"
        self._known = Recent[str, bool](KNOWN_PARTS)
        for made in (self._trades, self._parts):
            made.mkdir(parents=True, exist_ok=True, mode=0o700)

    def keep(self, trades: Mapping[str, TradePart], parts: Mapping[str, bytes]) -> None:
        """Makes bundles durable that share parts; what is there stays as it is."""
        try:
            fresh = {name: data for name, data in parts.items() if not self._known.get(name)}
            self._write(self._parts, {_file(name): data for name, data in fresh.items()})
            # A trade's own part names only what is durable.
            self._write(self._trades, {_file(name): part.encode() for name, part in trades.items()})
        except OSError as error:
            raise UnavailableError(
                f"a bundle cannot be kept: {error.strerror}", rule="bundles"
            ) from error
        for name in fresh:
            self._known.keep(name, True)

    def trade(self, trade: str) -> bytes | None:
        """Returns a trade's own part; None if there is none."""
        return self._read(self._trade(trade))

    def shared(self, name: str) -> bytes | None:
        """Returns a shared part by its hash string; None if there is none."""
        return self._read(self._part(name))

    def part(self, name: str) -> bytes:
        """Returns a shared part by its hash string; raises UnavailableError if it is gone."""
        data = self.shared(name)
        if data is None:
            raise UnavailableError("a part of the bundle is gone", rule="bundles", found=name)
        return data

    def bundle(self, trade: str) -> SettlementBundle | None:
        """Returns a trade's bundle in one; None if there is none."""
        data = self.trade(trade)
        if data is None:
            return None
        return join_parts(TradePart.decode(data, limit=TRADE_PART_LIMIT), self.part)

    def _trade(self, trade: str) -> Path:
        return self._trades / _file(trade)

    def _part(self, name: str) -> Path:
        return self._parts / _file(name)

    def _read(self, path: Path) -> bytes | None:
        try:
            return path.read_bytes()
        except FileNotFoundError:
            return None
        except OSError as error:
            raise UnavailableError(
                f"a bundle cannot be read: {error.strerror}", rule="bundles"
            ) from error

    def _write(self, folder: Path, files: Mapping[str, bytes]) -> None:
        """Writes new files, so many at a time: all before the first is waited for."""
        fresh = [name for name in files if not (folder / name).exists()]
        for at in range(0, len(fresh), OPEN_FILES):
            _write_files({folder / name: files[name] for name in fresh[at : at + OPEN_FILES]})
        if fresh:
            _sync_folder(folder)


def _write_files(files: Mapping[Path, bytes]) -> None:
    with contextlib.ExitStack() as stack:
        made = []
        for path, data in files.items():
            temporary = path.with_suffix(f".{os.getpid()}.tmp")
            descriptor = os.open(temporary, os.O_WRONLY | os.O_CREAT | os.O_TRUNC, 0o600)
            stack.callback(os.close, descriptor)
            _write_all(descriptor, data)
            made.append((descriptor, temporary, path))
        for descriptor, temporary, path in made:
            os.fsync(descriptor)
            temporary.replace(path)


def _file(name: str) -> str:
    """Returns the file of a trade's id or a part's hash string."""
    return f"{bytes.fromhex(name.removeprefix('sha256:')).hex()}.json"


def _write_all(descriptor: int, data: bytes) -> None:
    rest = memoryview(data)
    while rest:
        rest = rest[os.write(descriptor, rest) :]


def _sync_folder(folder: Path) -> None:
    """Makes the names in a folder durable."""
    descriptor = os.open(folder, os.O_RDONLY | os.O_DIRECTORY)
    try:
        os.fsync(descriptor)
    finally:
        os.close(descriptor)
