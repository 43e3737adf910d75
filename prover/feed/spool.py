"""Where records wait on disk while the database is away: append-only segments of frames.

    frame    "QSP1" | length u32 | CRC-32 of length and payload u32 | payload

Numbers are big-endian.  A frame that was cut off at the end of a segment, as a crash or a
full disk leaves it, is a torn tail: it was never acknowledged, and is passed over.  Any
other damage costs the frames it hit and no more: reading goes on at the next whole frame.

One thread uses a spool.  It knows nothing of what its payloads say.
"""

from __future__ import annotations

import contextlib
import errno
import os
import re
import struct
import zlib
from collections import deque
from collections.abc import Iterator
from pathlib import Path
from typing import NamedTuple

from attestation.errors import UnavailableError

SEGMENT_BYTES = 16 * 2**20
"""A segment is closed at this size; what was replayed is deleted by segments."""
MAX_PAYLOAD = 32 * 2**20
"""No frame is longer: a length beyond it is damage."""

MARK = "store_id"
"""A file of the spool's folder, by which it is told from the bare place it was mounted at."""

_MAGIC = b"QSP1"
_HEAD = struct.Struct(">4sII")
_NAME = re.compile(r"[0-9]{10}\.spool")


class Frame(NamedTuple):
    """A payload, and whether an earlier process has spooled it."""

    payload: bytes
    earlier: bool


class Scan(NamedTuple):
    """What is in a segment: whole payloads, damaged places, bytes of a torn tail."""

    payloads: list[bytes]
    damaged: int
    torn: int


class Spool:
    """The spool in ``folder``, which holds the ``MARK``; at most about ``limit`` bytes.

    The last eighth of the limit is left to what is appended as ``vital``.
    """

    def __init__(self, folder: Path, *, limit: int) -> None:
        self._folder = folder
        self._limit = limit
        self._sizes: dict[int, int] = {}
        for path in folder.iterdir():
            if _NAME.fullmatch(path.name):
                self._sizes[int(path.name[:10])] = path.stat().st_size
        self._earlier = max(self._sizes, default=0)
        self._descriptor: int | None = None
        self._unsynced = False
        self._reading: tuple[int, deque[bytes]] | None = None
        self._number = self._earlier
        self.damaged = 0
        """Places where frames were lost to damage, as far as replay has come."""

    @property
    def size(self) -> int:
        """Bytes on disk."""
        return sum(self._sizes.values())

    @property
    def empty(self) -> bool:
        """Whether everything was replayed."""
        return not self._sizes

    def append(self, payload: bytes, *, vital: bool) -> bool:
        """Appends a frame; False where the limit does not leave room for it.

        Raises UnavailableError if the disk fails; the frame is not in the spool then.
        """
        frame = make_frame(payload)
        most = self._limit if vital else self._limit - self._limit // 8
        if self.size + len(frame) > most:
            return False
        try:
            self._write(frame)
        except OSError as error:
            self._abandon()
            raise UnavailableError(f"cannot spool: {error.strerror}", rule="spool") from error
        return True

    def sync(self) -> None:
        """Has the disk keep what was appended; raises UnavailableError."""
        if self._descriptor is None or not self._unsynced:
            return
        self._unsynced = False
        try:
            os.fsync(self._descriptor)
        except OSError as error:
            self._abandon()
            raise UnavailableError(f"cannot spool: {error.strerror}", rule="spool") from error

    def peek(self, most: int) -> list[Frame]:
        """Returns up to ``most`` of the oldest frames, which stay until ``drop``.

        Raises UnavailableError if the disk fails.
        """
        while self._sizes:
            first = min(self._sizes)
            if self._reading is None or self._reading[0] != first:
                self._reading = (first, deque(self._open(first)))
            number, waiting = self._reading
            if waiting:
                earlier = number <= self._earlier
                return [Frame(payload, earlier) for payload in list(waiting)[:most]]
            self._delete(number)
        return []

    def drop(self, count: int) -> None:
        """Forgets the oldest frames, as ``peek`` returned them; they are stored elsewhere.

        Should the process end now, a part of them is replayed again.
        """
        assert self._reading is not None
        number, waiting = self._reading
        for _ in range(count):
            waiting.popleft()
        if not waiting:
            with contextlib.suppress(UnavailableError):
                self._delete(number)

    def close(self) -> None:
        """Closes the segment under way."""
        with contextlib.suppress(UnavailableError):
            self.sync()
        self._close()

    def _write(self, frame: bytes) -> None:
        if self._descriptor is None:
            self._check_mounted()
            self._number = max(self._number, *self._sizes, 0) + 1
            flags = os.O_WRONLY | os.O_CREAT | os.O_EXCL | os.O_APPEND
            self._descriptor = os.open(self._path(self._number), flags, 0o600)
            self._sizes[self._number] = 0
            folder = os.open(self._folder, os.O_RDONLY)
            try:
                os.fsync(folder)
            finally:
                os.close(folder)
        rest = memoryview(frame)
        while rest:
            rest = rest[os.write(self._descriptor, rest) :]
        self._unsynced = True
        self._sizes[self._number] += len(frame)
        if self._sizes[self._number] >= SEGMENT_BYTES:
            self.sync()
            self._close()

    def _abandon(self) -> None:
        """Cuts off what was written of a frame that failed, and begins another segment."""
        if self._descriptor is not None:
            with contextlib.suppress(OSError):
                os.ftruncate(self._descriptor, self._sizes[self._number])
        self._close()

    def _check_mounted(self) -> None:
        if not (self._folder / MARK).exists():
            raise OSError(errno.ENODEV, "the spool's folder is not there")

    def _close(self) -> None:
        if self._descriptor is not None:
            with contextlib.suppress(OSError):
                os.close(self._descriptor)
        self._descriptor, self._unsynced = None, False

    def _open(self, number: int) -> list[bytes]:
        """Reads a segment to replay it; nothing is appended to it from now on."""
        if number == self._number:
            self._close()
        try:
            self._check_mounted()
            scan = scan_segment(self._path(number).read_bytes())
        except FileNotFoundError:
            scan = Scan([], 1, 0)
        except OSError as error:
            raise UnavailableError(f"cannot replay: {error.strerror}", rule="spool") from error
        self.damaged += scan.damaged
        return scan.payloads

    def _delete(self, number: int) -> None:
        try:
            self._path(number).unlink(missing_ok=True)
        except OSError as error:
            raise UnavailableError(f"cannot replay: {error.strerror}", rule="spool") from error
        del self._sizes[number]
        self._reading = None

    def _path(self, number: int) -> Path:
        return self._folder / f"{number:010d}.spool"


def make_frame(payload: bytes) -> bytes:
    """Returns a payload's frame."""
    length = len(payload)
    checksum = zlib.crc32(payload, zlib.crc32(length.to_bytes(4, "big")))
    return _HEAD.pack(_MAGIC, length, checksum) + payload


def scan_segment(data: bytes) -> Scan:
    """Finds the whole frames of a segment, whatever happened to its bytes."""
    payloads: list[bytes] = []
    damaged = torn = at = 0
    for start, payload in _frames(data):
        damaged += start > at
        payloads.append(payload)
        at = start + _HEAD.size + len(payload)
    if at < len(data):
        torn = len(data) - at
        # A tail that its own head explains, or that has not even a head, was cut off.
        head = data[at : at + _HEAD.size]
        cut = _MAGIC.startswith(head[:4]) and (
            len(head) < _HEAD.size or _HEAD.unpack(head)[1] > torn - _HEAD.size
        )
        damaged += not cut
    return Scan(payloads, damaged, torn)


def _frames(data: bytes) -> Iterator[tuple[int, bytes]]:
    """Yields (offset, payload) of each frame whose checksum holds."""
    at = 0
    while (at := data.find(_MAGIC, at)) >= 0:
        if at + _HEAD.size > len(data):
            return
        _, length, checksum = _HEAD.unpack_from(data, at)
        payload = data[at + _HEAD.size : at + _HEAD.size + length]
        whole = length <= MAX_PAYLOAD and len(payload) == length
        if whole and make_frame(payload)[8:12] == checksum.to_bytes(4, "big"):
            yield at, payload
            at += _HEAD.size + length
        else:
            at += 1
