"""The numbers of TLS 1.3 this verifier knows (RFC 8446 section 4 and appendix B; IANA).

What is not here is refused.
"""

from __future__ import annotations

from collections.abc import Mapping
from types import MappingProxyType
from typing import Final

CLIENT_HELLO: Final = 1
SERVER_HELLO: Final = 2
NEW_SESSION_TICKET: Final = 4
ENCRYPTED_EXTENSIONS: Final = 8
CERTIFICATE: Final = 11
CERTIFICATE_REQUEST: Final = 13
CERTIFICATE_VERIFY: Final = 15
CLIENT_KEY_EXCHANGE: Final = 16  # TLS 1.2's (RFC 5246)
FINISHED: Final = 20
KEY_UPDATE: Final = 24
COMPRESSED_CERTIFICATE: Final = 25  # RFC 8879
MESSAGE_HASH: Final = 254

TLS12: Final = 0x0303
TLS13: Final = 0x0304
ALPN_HTTP11: Final = b"http/1.1"

SUITES: Final[Mapping[int, str]] = MappingProxyType(
    {
        0x1301: "TLS_AES_128_GCM_SHA256",
        0x1302: "TLS_AES_256_GCM_SHA384",
        0x1303: "TLS_CHACHA20_POLY1305_SHA256",
    }
)
X25519: Final = 0x001D
SECP256R1: Final = 0x0017
SECP384R1: Final = 0x0018
GROUPS: Final[Mapping[int, str]] = MappingProxyType(
    {X25519: "x25519", SECP256R1: "secp256r1", SECP384R1: "secp384r1"}
)
"""The groups whose shared secret is derived here."""
NAMED_GROUPS: Final[Mapping[int, str]] = MappingProxyType(
    {
        **GROUPS,
        0x0019: "secp521r1",
        0x001E: "x448",
        0x001F: "brainpoolP256r1tls13",
        0x0020: "brainpoolP384r1tls13",
        0x0021: "brainpoolP512r1tls13",
        0x0100: "ffdhe2048",
        0x0101: "ffdhe3072",
        0x0102: "ffdhe4096",
        0x0103: "ffdhe6144",
        0x0104: "ffdhe8192",
        0x0200: "MLKEM512",
        0x0201: "MLKEM768",
        0x0202: "MLKEM1024",
        0x11EB: "SecP256r1MLKEM768",
        0x11EC: "X25519MLKEM768",
        0x11ED: "SecP384r1MLKEM1024",
    }
)
"""Groups of the IANA registry "TLS Supported Groups" that TLS 1.3 clients offer."""
SHARE_SIZES: Final[Mapping[int, int]] = MappingProxyType({X25519: 32, SECP256R1: 65, SECP384R1: 97})
"""Bytes of a key share; points are uncompressed (RFC 8446 section 4.2.8.2)."""

HELLO_RETRY_RANDOM: Final = bytes.fromhex(
    "cf21ad74e59a6111be1d8c021e65b891c2a211167abb8c5e079e09e2c8a8339c"
)
"""SHA-256 of "HelloRetryRequest" (RFC 8446 section 4.1.3)."""

SERVER_NAME: Final = 0
STATUS_REQUEST: Final = 5
SUPPORTED_GROUPS: Final = 10
SIGNATURE_ALGORITHMS: Final = 13
ALPN: Final = 16
SIGNED_CERTIFICATE_TIMESTAMP: Final = 18
PADDING: Final = 21
COMPRESS_CERTIFICATE: Final = 27
RECORD_SIZE_LIMIT: Final = 28
SUPPORTED_VERSIONS: Final = 43
COOKIE: Final = 44
KEY_SHARE: Final = 51

HARMLESS_EXTENSIONS: Final = frozenset(
    {
        SERVER_NAME,
        STATUS_REQUEST,
        SUPPORTED_GROUPS,
        11,  # ec_point_formats: means nothing in TLS 1.3
        SIGNATURE_ALGORITHMS,
        ALPN,
        SIGNED_CERTIFICATE_TIMESTAMP,
        PADDING,
        22,  # encrypt_then_mac: means nothing in TLS 1.3
        23,  # extended_master_secret: means nothing in TLS 1.3
        COMPRESS_CERTIFICATE,
        RECORD_SIZE_LIMIT,
        35,  # session_ticket: means nothing in TLS 1.3
        SUPPORTED_VERSIONS,
        COOKIE,
        45,  # psk_key_exchange_modes: without pre_shared_key it offers nothing
        49,  # post_handshake_auth: a later CertificateRequest is refused (W7)
        50,  # signature_algorithms_cert
        KEY_SHARE,
        0xFF01,  # renegotiation_info: means nothing in TLS 1.3
    }
)
REFUSED_EXTENSIONS: Final[Mapping[int, str]] = MappingProxyType(
    {
        19: "client_certificate_type",
        20: "server_certificate_type",
        34: "delegated_credential",
        41: "pre_shared_key",
        42: "early_data",
        0xFE0D: "encrypted_client_hello",
        0xFFCE: "encrypted_server_name",
    }
)

ALERTS: Final[Mapping[int, str]] = MappingProxyType(
    {
        0: "close_notify",
        10: "unexpected_message",
        20: "bad_record_mac",
        22: "record_overflow",
        40: "handshake_failure",
        42: "bad_certificate",
        43: "unsupported_certificate",
        44: "certificate_revoked",
        45: "certificate_expired",
        46: "certificate_unknown",
        47: "illegal_parameter",
        48: "unknown_ca",
        49: "access_denied",
        50: "decode_error",
        51: "decrypt_error",
        70: "protocol_version",
        71: "insufficient_security",
        80: "internal_error",
        86: "inappropriate_fallback",
        90: "user_canceled",
        109: "missing_extension",
        110: "unsupported_extension",
        112: "unrecognized_name",
        113: "bad_certificate_status_response",
        115: "unknown_psk_identity",
        116: "certificate_required",
        120: "no_application_protocol",
    }
)
"""Alerts by number (RFC 8446 section 6)."""
