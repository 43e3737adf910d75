"""A key-log file on disk, followed as a client appends to it.

It holds the keys of TLS sessions: it is made 0600 where there is none, and one
that others can read is refused.  So is a pipe: one that nobody empties fast
enough stops the client in the middle of its handshake.
"""

from __future__ import annotations

import os
import stat
from pathlib import Path
from typing import Self

from attestation.errors import UnavailableError, UsageError
from attestation.request import KeylogOpened
from prover.keylog import RULE, KeyLog

_CHUNK = 256 * 1024


class KeyLogFile:
    """Reads what is appended to a key log; what it held before is passed over.

    Raises UsageError for anything but a regular file of its owner's alone,
    UnavailableError if it cannot be opened or read.
    """

    def __init__(self, path: Path) -> None:
        self.path = path
        self.log = KeyLog()
        self._descriptor = _open(path)
        self._offset = os.fstat(self._descriptor).st_size

    def read(self) -> None:
        """Takes what was appended since.

        A file that was cut or replaced, as a client that opens it for writing
        does, is read from its beginning.
        """
        try:
            self._follow()
            while data := os.pread(self._descriptor, _CHUNK, self._offset):
                self._offset += len(data)
                self.log.feed(data)
        except OSError as error:
            raise UnavailableError(f"{self.path}: {error.strerror}", rule=RULE) from None

    def secrets(self, client_random: bytes) -> KeylogOpened | None:
        """Reads on and returns a connection's secrets, None while lines are missing."""
        self.read()
        return self.log.secrets(client_random)

    def close(self) -> None:
        """Closes the file; it is left where it is."""
        os.close(self._descriptor)

    def __enter__(self) -> Self:
        return self

    def __exit__(self, *_: object) -> None:
        self.close()

    def _follow(self) -> None:
        here = os.fstat(self._descriptor)
        try:
            there = os.stat(self.path)
        except FileNotFoundError:
            there = here
        if (there.st_dev, there.st_ino) != (here.st_dev, here.st_ino):
            descriptor = _open(self.path)
            os.close(self._descriptor)
            self._descriptor = descriptor
        elif here.st_size >= self._offset:
            return
        self._offset = 0
        self.log.restart()


def _open(path: Path) -> int:
    try:
        # Non-blocking: a pipe without a writer would hold the opening itself up.
        descriptor = os.open(
            path,
            os.O_RDONLY | os.O_CREAT | os.O_NONBLOCK | os.O_CLOEXEC,
            stat.S_IRUSR | stat.S_IWUSR,
        )
    except IsADirectoryError:
        raise UsageError("not a file", rule=RULE, found=str(path)) from None
    except ValueError:
        raise UsageError("not a path", rule=RULE, found=str(path)) from None
    except OSError as error:
        raise UsageError(f"{path}: {error.strerror}", rule=RULE) from None
    mode = os.fstat(descriptor).st_mode
    problem = None
    if stat.S_ISFIFO(mode):
        problem = f"{path} is a pipe, and a full one stops the client: name a regular file"
    elif not stat.S_ISREG(mode):
        problem = f"{path} is not a regular file"
    elif stat.S_IMODE(mode) & 0o077:
        problem = f"others can read {path}, which holds the keys of sessions: chmod 600 {path}"
    if problem is not None:
        os.close(descriptor)
        raise UsageError(problem, rule=RULE)
    return descriptor
