"""Bundles on disk: a small part for each trade, and parts that trades share, by hash."""

from __future__ import annotations

import contextlib
import os
from collections.abc import Mapping
from pathlib import Path

from attestation.errors import UnavailableError
from attestation.settlement.bundle import SettlementBundle
from attestation.settlement.parts import TRADE_PART_LIMIT, TradePart, join_parts


class BundleFolder:
    """Bundles under ``folder``: ``trades/<trade>.json`` and ``parts/<hex of SHA-256>.json``.

    Blocking.  Raises UnavailableError where the disk fails.
    """

    def __init__(self, folder: Path) -> None:
        self._trades = folder / "trades"
        self._parts = folder / "parts"
        for made in (self._trades, self._parts):
            made.mkdir(parents=True, exist_ok=True, mode=0o700)

    def keep(self, trades: Mapping[str, TradePart], parts: Mapping[str, bytes]) -> None:
        """Makes bundles durable that share parts; what is there stays as it is."""
        try:
            self._write({self._part(name): data for name, data in parts.items()})
            self._write({self._trade(name): part.encode() for name, part in trades.items()})
        except OSError as error:
            raise UnavailableError(
                f"a bundle cannot be kept: {error.strerror}", rule="bundles"
            ) from error

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
        return self._trades / f"{bytes.fromhex(trade).hex()}.json"

    def _part(self, name: str) -> Path:
        return self._parts / f"{bytes.fromhex(name.removeprefix('sha256:')).hex()}.json"

    def _read(self, path: Path) -> bytes | None:
        try:
            return path.read_bytes()
        except FileNotFoundError:
            return None
        except OSError as error:
            raise UnavailableError(
                f"a bundle cannot be read: {error.strerror}", rule="bundles"
            ) from error

    def _write(self, files: Mapping[Path, bytes]) -> None:
        """Writes new files; all are written before the first is waited for."""
        with contextlib.ExitStack() as stack:
            made = []
            for path, data in files.items():
                if path.exists():
                    continue
                temporary = path.with_suffix(f".{os.getpid()}.tmp")
                descriptor = os.open(temporary, os.O_WRONLY | os.O_CREAT | os.O_TRUNC, 0o600)
                file = stack.enter_context(os.fdopen(descriptor, "wb"))
                file.write(data)
                file.flush()
                made.append((file, temporary, path))
            for file, temporary, path in made:
                os.fsync(file.fileno())
                temporary.replace(path)
