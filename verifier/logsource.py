"""Where a log is read from: a folder, or a URL over plain HTTP(S).

Nothing that arrives is trusted, least of all its size and pace: every answer is
bounded in bytes and in time, and whatever goes wrong is UnavailableError.  Standard
library alone: an auditor needs the base install.
"""

from __future__ import annotations

import contextlib
import http.client
import socket
import threading
import urllib.parse
import zlib
from pathlib import Path
from typing import Protocol, Self

from attestation.errors import UnavailableError, UsageError
from attestation.hashing import HASH_SIZE
from attestation.log.bundle import MAX_BUNDLE_SIZE
from attestation.log.note import MAX_NOTE_SIZE
from attestation.log.tiles import CHECKPOINT_PATH, WIDTH

TIMEOUT_S = 10.0
"""How long to wait for a connection or for the next bytes."""
ANSWER_S = 60.0
"""How long a whole answer may take."""

_CHUNK = 65_536


class Source(Protocol):
    """A log's files by path."""

    def read(self, path: str) -> bytes:
        """Returns a file's bytes; raises UnavailableError."""

    def close(self) -> None:
        """Lets go of what reading holds."""

    def __enter__(self) -> Self: ...

    def __exit__(self, *error: object) -> None: ...


def open_source(name: str) -> Source:
    """Returns the source that a folder's path or a URL names; raises UsageError."""
    if name.startswith(("http://", "https://")):
        return HttpSource(name)
    folder = Path(name)
    if not folder.is_dir():
        raise UsageError("neither a URL nor a folder", rule="source", found=name)
    return FolderSource(folder)


class FolderSource:
    """A mirrored log."""

    def __init__(self, folder: Path) -> None:
        self._folder = folder

    def read(self, path: str) -> bytes:
        limit = size_limit(path)
        try:
            with (self._folder / path).open("rb") as file:
                data = file.read(limit + 1)
        except OSError as error:
            raise UnavailableError(f"{path}: {error.strerror}", rule="log.file") from error
        if len(data) > limit:
            raise UnavailableError(f"{path}: larger than {limit} bytes", rule="log.file")
        return data

    def close(self) -> None:
        pass

    def __enter__(self) -> Self:
        return self

    def __exit__(self, *error: object) -> None:
        pass


class HttpSource:
    """A log at a URL, its *prefix*: one connection, kept alive, no redirects."""

    def __init__(
        self, url: str, *, timeout_s: float = TIMEOUT_S, answer_s: float = ANSWER_S
    ) -> None:
        try:
            parts = urllib.parse.urlsplit(url)
            host, port = parts.hostname, parts.port
        except ValueError as error:
            raise UsageError(f"not a URL: {error}", rule="source", found=url) from error
        if not host or parts.query or parts.fragment or parts.username:
            raise UsageError("a log's URL is scheme, host and path", rule="source", found=url)
        self._prefix = parts.path.rstrip("/")
        self._whole = False
        self._answer_s = answer_s
        self._connection: http.client.HTTPConnection
        if parts.scheme == "https":
            self._connection = http.client.HTTPSConnection(host, port, timeout=timeout_s)
        else:
            self._connection = http.client.HTTPConnection(host, port, timeout=timeout_s)

    def read(self, path: str) -> bytes:
        fresh = self._connection.sock is None
        try:
            return self._request(path)
        except (http.client.RemoteDisconnected, BrokenPipeError, ConnectionResetError) as error:
            # A kept-alive connection may end between two requests: once more, on a new one.
            if fresh:
                raise _unavailable(path, error) from error
        except (OSError, http.client.HTTPException, ValueError) as error:
            raise _unavailable(path, error) from error
        finally:
            self._drop_if_dead()
        try:
            return self._request(path)
        except (OSError, http.client.HTTPException, ValueError) as error:
            raise _unavailable(path, error) from error
        finally:
            self._drop_if_dead()

    def close(self) -> None:
        self._connection.close()

    def __enter__(self) -> Self:
        return self

    def __exit__(self, *error: object) -> None:
        self.close()

    def _request(self, path: str) -> bytes:
        self._whole = False
        connection, limit = self._connection, size_limit(path)
        if connection.sock is None:
            connection.connect()
        # The socket's timeout is for silence; bytes that trickle are stopped here.
        late = threading.Event()
        alarm = threading.Timer(self._answer_s, _shut, (connection.sock, late))
        alarm.daemon = True
        alarm.start()
        try:
            connection.request(
                "GET",
                f"{self._prefix}/{path}",
                headers={"Accept-Encoding": "gzip, identity", "User-Agent": "quotary"},
            )
            response = connection.getresponse()
            if response.status != 200:
                response.close()
                raise UnavailableError(
                    f"{path}: HTTP status {response.status}", rule="log.http", found=response.status
                )
            data = _body(response, limit, path)
            if late.is_set():
                raise UnavailableError(f"{path}: the answer takes too long", rule="log.http")
            self._whole = response.isclosed() and not response.will_close
            return data
        finally:
            alarm.cancel()

    def _drop_if_dead(self) -> None:
        if not self._whole:
            self._connection.close()


def size_limit(path: str) -> int:
    """Returns how many bytes the file at a path can have at most."""
    if path == CHECKPOINT_PATH:
        return MAX_NOTE_SIZE
    return MAX_BUNDLE_SIZE if path.startswith("tile/entries/") else WIDTH * HASH_SIZE


def _body(response: http.client.HTTPResponse, limit: int, path: str) -> bytes:
    encoding = response.getheader("Content-Encoding", "identity").strip().lower()
    if encoding not in ("identity", "gzip"):
        raise UnavailableError(f"{path}: an encoding that was not asked for", rule="log.http")
    unpack = zlib.decompressobj(wbits=31) if encoding == "gzip" else None
    if unpack is None and response.length is None and not response.chunked:
        # Its end could be anywhere, and a cut-off file must not count against the log.
        raise UnavailableError(f"{path}: an answer without a length", rule="log.http")
    parts: list[bytes] = []
    size = raw = 0
    while chunk := response.read1(_CHUNK):
        raw += len(chunk)
        if unpack is not None:
            try:
                chunk = unpack.decompress(chunk, limit + 1 - size)
            except zlib.error as error:
                raise UnavailableError(f"{path}: not gzip", rule="log.http") from error
        parts.append(chunk)
        size += len(chunk)
        if size > limit or raw > limit + _CHUNK:
            raise UnavailableError(f"{path}: larger than {limit} bytes", rule="log.http")
    if response.length:
        raise UnavailableError(f"{path}: the answer ends early", rule="log.http")
    # Lets the connection go on: all of the answer was read.
    response.read()
    if unpack is not None and (not unpack.eof or unpack.unused_data):
        raise UnavailableError(f"{path}: gzip that does not end where it should", rule="log.http")
    return b"".join(parts)


def _shut(sock: socket.socket, late: threading.Event) -> None:
    late.set()
    with contextlib.suppress(OSError):
        sock.shutdown(socket.SHUT_RDWR)


def _unavailable(path: str, error: Exception) -> UnavailableError:
    return UnavailableError(f"{path}: {type(error).__name__}: {error}"[:300], rule="log.http")
