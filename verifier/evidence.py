"""A folder of evidence, read by name: bundles, the parts they share, ledger, promises, log.

The folder is what others write: ``prover serve`` its bundles (``trades/``, ``parts/``), the
game one ``<trade>.json`` each, ``verifier mirror`` a log (``checkpoint``, ``tile/``); beside
them ``ledger.jsonl`` and ``promises.jsonl``, as ``prover serve`` answers them.  Whoever wrote
it is not believed: names are checked before they become paths, no symbolic link is
followed, and whatever is read is bounded.
"""

from __future__ import annotations

import contextlib
import errno
import heapq
import os
import re
import stat
from collections.abc import Iterator
from pathlib import Path

import orjson

from attestation.encoding import MAX_INTEGER, decode_object
from attestation.errors import MalformedError, UnavailableError, UsageError
from attestation.hashing import hash_string
from attestation.log.tiles import CHECKPOINT_PATH, WIDTH, parse_path
from attestation.settlement.bundle import BUNDLE_LIMIT
from attestation.settlement.parts import TRADE_PART_LIMIT, TradePart, join_parts
from verifier.logsource import size_limit

MAX_LINES = 1_000
"""Lines of a ledger, or promises, that are answered at a time."""
MAX_LINE = 64 * 1024

_ID = re.compile(r"[0-9a-f]{64}", re.ASCII)
_PART = re.compile(r"sha256:([0-9a-f]{64})", re.ASCII)
_MISSING = (errno.ENOENT, errno.ENOTDIR, errno.ELOOP, errno.EMLINK, errno.ENXIO, errno.ENAMETOOLONG)
"""What opening a path says that is not there, or is there as a symbolic link."""


class EvidenceFolder:
    """Evidence under ``root``, or under its ``bundles`` and ``log``.

    Blocking.  Everything is None where it is not there.  Raises UnavailableError where the
    disk fails or a file is not what its name says.
    """

    def __init__(self, root: Path) -> None:
        if not root.is_dir():
            raise UsageError("not a folder", rule="evidence", found=str(root))
        self._root = root.resolve()

    def bundle(self, trade: str) -> bytes | None:
        """Returns a trade's bundle, joined where it is kept in parts."""
        data = self._trade(trade, BUNDLE_LIMIT)
        if data is None:
            return None
        own = _own_part(data)
        if own is None:
            return data
        left = BUNDLE_LIMIT

        def read_part(name: str) -> bytes:
            nonlocal left
            found = self.part(name)
            if found is None:
                raise UnavailableError("a part of the bundle is gone", rule="evidence", found=name)
            left -= len(found)
            if left < 0:
                raise UnavailableError("the parts are more than a bundle", rule="evidence")
            return found

        return join_parts(own, read_part).encode()

    def own_part(self, trade: str) -> bytes | None:
        """Returns a trade's own part of its bundle."""
        data = self._trade(trade, BUNDLE_LIMIT)
        return None if data is None or _own_part(data) is None else data

    def part(self, name: str) -> bytes | None:
        """Returns a shared part by its hash string, which its bytes are sure to have."""
        found = _PART.fullmatch(name)
        if found is None:
            return None
        for folder in ("parts", "bundles/parts"):
            data = self._read(f"{folder}/{found[1]}.json", BUNDLE_LIMIT)
            if data is not None:
                bare = data.removesuffix(b"\n")
                if hash_string(bare) != name:
                    raise UnavailableError("a part is damaged", rule="evidence", found=name)
                return bare
        return None

    def log(self, path: str) -> bytes | None:
        """Returns a file of the mirrored log."""
        if path != CHECKPOINT_PATH:
            try:
                parse_path(path)
            except MalformedError:
                return None
        for folder in ("log/", ""):
            data = self._read(f"{folder}{path}", size_limit(path))
            if data is not None:
                return data
        return None

    def ledger(self, after: tuple[int, str]) -> bytes | None:
        """Returns the ledger's next lines after one of this entry and trade."""
        return self._lines("ledger.jsonl", "entry", after)

    def promises(self, after: tuple[int, str]) -> bytes | None:
        """Returns the next promises after one of this ``log_by_us`` and trade."""
        return self._lines("promises.jsonl", "log_by_us", after)

    def _trade(self, trade: str, limit: int) -> bytes | None:
        if not _ID.fullmatch(trade):
            return None
        for folder in ("trades/", "", "bundles/trades/", "bundles/"):
            data = self._read(f"{folder}{trade}.json", limit)
            if data is not None:
                return data.removesuffix(b"\n")
        return None

    def _lines(self, name: str, member: str, after: tuple[int, str]) -> bytes | None:
        """Returns the first lines after a place, in the order of their places."""
        with self._open(name) as descriptor:
            if descriptor is None:
                return None
            with os.fdopen(descriptor, "rb", closefd=False) as file:
                lines = iter(lambda: file.readline(MAX_LINE + 1), b"")
                placed = ((_place(line, member), line) for line in lines)
                found = heapq.nsmallest(MAX_LINES, (each for each in placed if each[0] > after))
        return b"".join(line.rstrip(b"\n") + b"\n" for _, line in found)

    def _read(self, path: str, limit: int) -> bytes | None:
        with self._open(path) as descriptor:
            if descriptor is None:
                return None
            parts, size = list[bytes](), 0
            while chunk := os.read(descriptor, min(limit + 1 - size, 1 << 20)):
                parts.append(chunk)
                size += len(chunk)
                if size > limit:
                    raise UnavailableError(
                        "a file is larger than what it is", rule="evidence", wanted=limit
                    )
        return b"".join(parts)

    @contextlib.contextmanager
    def _open(self, path: str) -> Iterator[int | None]:
        """Yields a regular file's descriptor; None where there is none on the way of folders."""
        with contextlib.ExitStack() as opened:
            try:
                file = self._walk(path, opened)
            except OSError as error:
                if error.errno not in _MISSING:
                    raise _unreadable(error) from error
                file = None
            try:
                yield file
            except OSError as error:
                raise _unreadable(error) from error

    def _walk(self, path: str, opened: contextlib.ExitStack) -> int | None:
        """Opens folder after folder, and a file that is a regular one."""
        *folders, name = path.split("/")
        here = os.open(self._root, os.O_RDONLY | os.O_DIRECTORY | os.O_CLOEXEC)
        opened.callback(os.close, here)
        flags = os.O_RDONLY | os.O_NOFOLLOW | os.O_CLOEXEC
        for folder in folders:
            here = os.open(folder, flags | os.O_DIRECTORY, dir_fd=here)
            opened.callback(os.close, here)
        # A pipe of that name is not waited for.
        file = os.open(name, flags | os.O_NONBLOCK, dir_fd=here)
        opened.callback(os.close, file)
        return file if stat.S_ISREG(os.fstat(file).st_mode) else None


def is_immutable(path: str) -> bool:
    """Whether a log never changes what is at a path of it: a whole tile, or its entries."""
    return path != CHECKPOINT_PATH and parse_path(path)[0].width == WIDTH


def _own_part(data: bytes) -> TradePart | None:
    """Returns a trade's own part, None for bytes that are something else, a bundle say."""
    if len(data) > TRADE_PART_LIMIT:
        return None
    try:
        value = decode_object(data)
        return TradePart.from_json(value) if value.get("type") == TradePart.TYPE else None
    except MalformedError:
        return None


def _place(line: bytes, member: str) -> tuple[int, str]:
    """Returns where a line stands: a number of its own, or of the promise in it, and its trade."""
    try:
        value = orjson.loads(line)
        value = value.get("promise", value)
        number, trade = value[member], value["trade"]
    except (ValueError, KeyError, TypeError, AttributeError) as error:
        raise UnavailableError("a line is none", rule="evidence", found=member) from error
    if not isinstance(trade, str) or type(number) is not int or not 0 <= number <= MAX_INTEGER:
        raise UnavailableError("a line is none", rule="evidence", found=member)
    return number, trade


def _unreadable(error: OSError) -> UnavailableError:
    return UnavailableError(f"the evidence cannot be read: {error.strerror}", rule="evidence")
