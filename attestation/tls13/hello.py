"""ClientHello, ServerHello and HelloRetryRequest (RFC 8446 sections 4.1 and 4.2); check W2.

The client's hello decides what a session can prove, so its extensions are a
closed list: what is neither harmless nor refused by name is refused by number.
"""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass
from functools import lru_cache
from types import MappingProxyType
from typing import Final

from attestation.errors import MalformedError, UntrustedError, UsageError
from attestation.tls13.registry import (
    ALPN,
    ALPN_HTTP11,
    CLIENT_HELLO,
    CLIENT_KEY_EXCHANGE,
    COMPRESS_CERTIFICATE,
    COOKIE,
    GROUPS,
    HARMLESS_EXTENSIONS,
    HELLO_RETRY_RANDOM,
    KEY_SHARE,
    NAMED_GROUPS,
    PADDING,
    REFUSED_EXTENSIONS,
    SERVER_HELLO,
    SERVER_NAME,
    SHARE_SIZES,
    SIGNATURE_ALGORITHMS,
    SUITES,
    SUPPORTED_GROUPS,
    SUPPORTED_VERSIONS,
    TLS12,
    TLS13,
    X25519,
)
from attestation.tls13.wire import HANDSHAKE, Reader, Record, read_extensions

MAX_HELLO: Final = 2**14
"""Bytes of a hello message accepted here, header included."""

# RFC 8446 4.1.2: what a second ClientHello may change.  (early_data and
# pre_shared_key, the other two, are refused in either.)
_CHANGES_ON_RETRY: Final = frozenset({KEY_SHARE, COOKIE, PADDING})


@dataclass(frozen=True, slots=True, kw_only=True)
class ClientHello:
    """A ClientHello that passed W2; ``message`` is the handshake message, header included."""

    message: bytes
    random: bytes
    session_id: bytes
    suites: tuple[int, ...]
    extensions: Mapping[int, bytes]
    groups: tuple[int, ...]
    shares: Mapping[int, bytes]
    schemes: tuple[int, ...]


@dataclass(frozen=True, slots=True, kw_only=True)
class ServerHello:
    """A ServerHello, or with ``retry`` a HelloRetryRequest, that passed W2.

    ``share`` is the server's key share, empty in a HelloRetryRequest;
    ``group`` is 0 in a HelloRetryRequest that asks for a cookie alone.
    """

    message: bytes
    retry: bool
    suite: int
    group: int
    share: bytes
    cookie: bytes | None


class HelloReader:
    """Collects the client's hello, or two, from its plaintext handshake records.

    ``complete`` is the last whole ClientHello, ``hellos`` holds all of them.
    Raises at the first record after which W2 cannot hold any more; whether a
    HelloRetryRequest asked for the second is TranscriptVerifier's to check.
    """

    __slots__ = ("_buffer", "_host", "hellos")

    def __init__(self, host: str) -> None:
        self._host = host_bytes(host)
        self._buffer = b""
        self.hellos: list[ClientHello] = []

    @property
    def complete(self) -> ClientHello | None:
        """The last whole ClientHello; None before the first."""
        return self.hellos[-1] if self.hellos else None

    @property
    def mid_message(self) -> bool:
        """Whether a ClientHello began and is not complete."""
        return bool(self._buffer)

    def feed(self, record: Record) -> None:
        """Adds one of the client's plaintext handshake records."""
        if record.content_type != HANDSHAKE:
            raise MalformedError(
                "ClientHello is not in handshake records",
                rule="W2",
                found=record.content_type,
            )
        if self.hellos and record.version != TLS12:
            # RFC 8446 5.1: 0x0301 is for an initial ClientHello, "i.e., one not
            # generated after a HelloRetryRequest".
            raise MalformedError("second ClientHello has an illegal version", rule="W1")
        if len(self.hellos) == 2:
            raise MalformedError("a third plaintext handshake message", rule="W2")
        if not record.payload:
            # RFC 8446 5.1: "Implementations MUST NOT send zero-length fragments
            # of Handshake types".
            raise MalformedError("a handshake record is empty", rule="W1")
        data = self._buffer + record.payload
        if data[0] != CLIENT_HELLO:
            tls12 = self.hellos and data[0] == CLIENT_KEY_EXCHANGE
            detail = "the server chose TLS 1.2" if tls12 else "not a ClientHello"
            raise MalformedError(detail, rule="W2", found=data[0])
        if len(data) >= 4:
            size = 4 + int.from_bytes(data[1:4], "big")
            if size > MAX_HELLO:
                raise MalformedError("ClientHello is too large", rule="W2", found=size)
            if len(data) > size:
                # RFC 8446 5.1: "Handshake messages MUST NOT span key changes", so
                # a ClientHello ends its record.
                raise MalformedError("bytes follow the ClientHello in its record", rule="W2")
            if len(data) == size:
                hello = parse_client_hello(data, self._host)
                if self.hellos:
                    check_second_hello(self.hellos[0], hello)
                elif COOKIE in hello.extensions:
                    # 4.2.2: "Clients MUST NOT use cookies in their initial ClientHello".
                    raise _refusal("first ClientHello has a cookie")
                self.hellos.append(hello)
                data = b""
        self._buffer = data


def host_bytes(host: str) -> bytes:
    """Returns the SNI bytes of a lower-case DNS name; raises UsageError for any other."""
    labels = host.split(".")
    if (
        not 1 <= len(host) <= 253
        or not host.isascii()
        or host != host.lower()
        or not all(
            0 < len(label) < 64
            and label.replace("-", "a").isalnum()
            and label[0] != "-"
            and label[-1] != "-"
            for label in labels
        )
        or labels[-1].isdigit()
    ):
        raise UsageError("host is not a lower-case DNS name", found=host[:80])
    return host.encode("ascii")


# The gate reads a hello when it passes, the verifier again when the session is opened.
@lru_cache(maxsize=128)
def parse_client_hello(message: bytes, host: bytes) -> ClientHello:
    """Parses a ClientHello message and applies W2 for the name ``host``."""
    reader = _open(message, CLIENT_HELLO, "ClientHello")
    # RFC 8446 4.1.2: "the legacy_version field MUST be set to 0x0303".
    if reader.integer(2) != TLS12:
        raise _refusal("ClientHello has an illegal legacy_version")
    random = reader.take(32)
    session_id = reader.vector(1, most=32)
    suites = reader.integers(2, 2)
    # RFC 8446 4.1.2: "this vector MUST contain exactly one byte, set to zero".
    if reader.vector(1, least=1) != b"\0":
        raise _refusal("ClientHello offers compression")
    extensions = read_extensions(reader, "ClientHello", "W2")
    reader.finish()
    for kind in extensions:
        if kind not in HARMLESS_EXTENSIONS and not _is_grease(kind):
            name = REFUSED_EXTENSIONS.get(kind, f"extension {kind:#06x}")
            raise _refusal(f"ClientHello offers {name}", found=kind)
    if TLS13 not in _field(extensions, SUPPORTED_VERSIONS, "supported_versions").integers(1, 2):
        raise _refusal("ClientHello does not offer TLS 1.3")
    _check_server_name(extensions, host)
    _check_offers(extensions)
    groups = _field(extensions, SUPPORTED_GROUPS, "supported_groups").integers(2, 2)
    schemes = _field(extensions, SIGNATURE_ALGORITHMS, "signature_algorithms").integers(2, 2)
    return ClientHello(
        message=message,
        random=random,
        session_id=session_id,
        suites=suites,
        extensions=MappingProxyType(extensions),
        groups=groups,
        shares=MappingProxyType(_client_shares(extensions, groups)),
        schemes=schemes,
    )


def check_second_hello(
    first: ClientHello, second: ClientHello, retry: ServerHello | None = None
) -> None:
    """Checks a second ClientHello against the first and, where known, the retry request.

    RFC 8446 4.1.2: "the client MUST send the same ClientHello without
    modification, except" for the key share asked for, the cookie and padding.
    """
    if (first.random, first.session_id, first.suites) != (
        second.random,
        second.session_id,
        second.suites,
    ) or _unchanging(first) != _unchanging(second):
        raise _refusal("second ClientHello differs from the first")
    if retry is None:
        return
    if retry.group and tuple(second.shares) != (retry.group,):
        # 4.1.2: "a list containing a single KeyShareEntry from the indicated group".
        raise _refusal("second ClientHello lacks the key share asked for")
    if not retry.group and first.extensions[KEY_SHARE] != second.extensions[KEY_SHARE]:
        raise _refusal("second ClientHello changes its key share unasked")
    if second.extensions.get(COOKIE) != retry.cookie:
        # 4.2.2: "the client MUST copy the contents of the extension received".
        raise _refusal("second ClientHello does not return the cookie")


def parse_server_hello(
    message: bytes, client: ClientHello, groups: Mapping[int, str] = GROUPS
) -> ServerHello:
    """Parses the answer to ``client``: a ServerHello or a HelloRetryRequest; W2.

    ``groups`` are the key exchange groups that may be chosen, by number.
    """
    reader = _open(message, SERVER_HELLO, "ServerHello")
    if reader.integer(2) != TLS12:
        raise _refusal("ServerHello has an illegal legacy_version")
    random = reader.take(32)
    # RFC 8446 4.1.3: a client "MUST abort" if legacy_session_id_echo differs.
    if reader.vector(1, most=32) != client.session_id:
        raise _refusal("ServerHello does not echo the session id")
    suite = reader.integer(2)
    if reader.integer(1) != 0:
        raise _refusal("ServerHello chooses compression")
    # A TLS 1.2 ServerHello may end here.
    extensions = {} if reader.empty else read_extensions(reader, "ServerHello", "W2")
    reader.finish()
    versions = extensions.pop(SUPPORTED_VERSIONS, None)
    if versions != TLS13.to_bytes(2, "big"):
        raise _refusal("ServerHello does not choose TLS 1.3")
    if suite not in SUITES:
        raise UntrustedError("unsupported cipher suite", rule="W2", found=suite)
    if suite not in client.suites:
        # 4.1.3: a suite that was not offered MUST be refused.
        raise _refusal("ServerHello chooses a cipher suite that was not offered")
    retry = random == HELLO_RETRY_RANDOM
    share = extensions.pop(KEY_SHARE, None)
    cookie = extensions.pop(COOKIE, None) if retry else None
    if extensions:
        # 4.1.3: "The ServerHello MUST only include extensions which are required".
        raise _refusal("ServerHello has unexpected extensions", found=sorted(extensions))
    if retry:
        return _retry(message, suite, share, cookie, client, groups)
    if share is None:
        raise _refusal("ServerHello lacks key_share")
    entry = Reader(share, what="ServerHello key_share", rule="W2")
    group = _supported_group(entry.integer(2), groups)
    key = entry.vector(2, least=1)
    entry.finish()
    # 4.2.8: "This value MUST be in the same group as the KeyShareEntry value offered
    # by the client".
    if group not in client.shares:
        raise _refusal("ServerHello answers a key share that was not offered")
    if group in GROUPS:
        _check_share(group, key, "ServerHello")
    return ServerHello(
        message=message, retry=False, suite=suite, group=group, share=key, cookie=None
    )


def _retry(
    message: bytes,
    suite: int,
    share: bytes | None,
    cookie: bytes | None,
    client: ClientHello,
    groups: Mapping[int, str],
) -> ServerHello:
    group = 0
    if share is not None:
        entry = Reader(share, what="HelloRetryRequest key_share", rule="W2")
        group = _supported_group(entry.integer(2), groups)
        entry.finish()
        # 4.2.8: the group MUST have been offered, and without a share.
        if group not in client.groups or group in client.shares:
            raise _refusal("HelloRetryRequest asks for a group not offered or already there")
    if cookie is not None:
        content = Reader(cookie, what="HelloRetryRequest cookie", rule="W2")
        content.vector(2, least=1)
        content.finish()
    if not group and cookie is None:
        # 4.1.4: a request that "would not result in any change" MUST be refused.
        raise _refusal("HelloRetryRequest asks for no change")
    return ServerHello(
        message=message, retry=True, suite=suite, group=group, share=b"", cookie=cookie
    )


def _open(message: bytes, kind: int, what: str) -> Reader:
    reader = Reader(message, what=what, rule="W2")
    if reader.integer(1) != kind:
        raise _refusal(f"not a {what}", found=message[0])
    body = reader.nested(3)
    reader.finish()
    return body


def _field(extensions: Mapping[int, bytes], kind: int, name: str) -> Reader:
    """Returns a reader of an extension that must be there, with one whole vector in it."""
    data = extensions.get(kind)
    if data is None:
        raise _refusal(f"ClientHello lacks {name}")
    # Every caller reads the one vector; its length must span the extension.
    prefix = 1 if kind == SUPPORTED_VERSIONS else 2
    if len(data) < prefix or int.from_bytes(data[:prefix], "big") != len(data) - prefix:
        raise _refusal(f"ClientHello has a malformed {name}")
    return Reader(data, what=f"ClientHello {name}", rule="W2")


def _check_server_name(extensions: Mapping[int, bytes], host: bytes) -> None:
    # RFC 6066 section 3: a list of one entry of type host_name (0).
    names = _field(extensions, SERVER_NAME, "server_name").nested(2)
    kind, name = names.integer(1), names.vector(2)
    if kind != 0 or not names.empty:
        raise _refusal("ClientHello names more than one host")
    if name != host:
        raise _refusal(
            "ClientHello names another host",
            found=name[:80].decode("ascii", "replace"),
            wanted=host.decode("ascii"),
        )


def _check_offers(extensions: Mapping[int, bytes]) -> None:
    if ALPN in extensions and extensions[ALPN] != b"\0\x09\x08" + ALPN_HTTP11:
        raise _refusal("ClientHello offers ALPN other than http/1.1")
    if COMPRESS_CERTIFICATE in extensions and extensions[COMPRESS_CERTIFICATE] != b"\x02\0\x01":
        raise _refusal("ClientHello offers certificate compression other than zlib")


def _client_shares(extensions: Mapping[int, bytes], groups: tuple[int, ...]) -> dict[int, bytes]:
    entries = _field(extensions, KEY_SHARE, "key_share").nested(2)
    shares: dict[int, bytes] = {}
    while not entries.empty:
        group = entries.integer(2)
        share = entries.vector(2, least=1)
        # RFC 8446 4.2.8: clients "MUST NOT offer multiple KeyShareEntry values
        # for the same group" nor "for groups not listed".
        if group in shares or group not in groups:
            raise _refusal("ClientHello has a key share it may not offer", found=group)
        if group in GROUPS:
            _check_share(group, share, "ClientHello")
        shares[group] = share
    return shares


def _check_share(group: int, share: bytes, what: str) -> None:
    # RFC 8446 4.2.8.2: legacy_form is 4, "uncompressed"; that the point is on
    # the curve is checked where it is used.
    if len(share) != SHARE_SIZES[group] or (group != X25519 and share[0] != 4):
        raise _refusal(f"{what} has a malformed {GROUPS[group]} key share")


def _supported_group(group: int, groups: Mapping[int, str]) -> int:
    if group not in groups:
        raise UntrustedError(
            "unsupported key exchange group",
            rule="W2",
            found=NAMED_GROUPS.get(group, group),
            wanted=list(groups.values()),
        )
    return group


def _unchanging(hello: ClientHello) -> list[tuple[int, bytes]]:
    return [item for item in hello.extensions.items() if item[0] not in _CHANGES_ON_RETRY]


def _is_grease(kind: int) -> bool:
    # RFC 8701 section 2: 0x0a0a, 0x1a1a ... 0xfafa.
    return kind & 0x0F0F == 0x0A0A and kind >> 8 == kind & 0xFF


def _refusal(detail: str, *, found: object = None, wanted: object = None) -> MalformedError:
    return MalformedError(detail, rule="W2", found=found, wanted=wanted)
