"""The private half of a TLS connection's ephemeral key share, read from libssl."""

from __future__ import annotations

import ctypes
import dataclasses
from ctypes import c_size_t, c_void_p

from attestation.errors import UnavailableError

_EC_GROUPS = {b"prime256v1": ("secp256r1", 32), b"secp384r1": ("secp384r1", 48)}


@dataclasses.dataclass(frozen=True, slots=True, kw_only=True)
class EphemeralKey:
    """The private half of the key share in the last ClientHello.

    ``private_key``: 32 bytes for x25519; for secp256r1 and secp384r1 the
    scalar, big-endian, of the field's size.
    """

    group: str
    private_key: bytes = dataclasses.field(repr=False)


def export_key(lib: ctypes.CDLL, handle: c_void_p) -> EphemeralKey:
    """Exports an EVP_PKEY; raises UnavailableError for one of another group."""
    secret = ctypes.create_string_buffer(48)
    try:
        if lib.EVP_PKEY_is_a(handle, b"X25519") == 1:
            size = c_size_t(32)
            if lib.EVP_PKEY_get_raw_private_key(handle, secret, ctypes.byref(size)) == 1:
                return EphemeralKey(
                    group="x25519", private_key=ctypes.string_at(secret, size.value)
                )
        elif lib.EVP_PKEY_is_a(handle, b"EC") == 1:
            name = ctypes.create_string_buffer(32)
            number = c_void_p()
            if (
                lib.EVP_PKEY_get_group_name(handle, name, 32, None) == 1
                and name.value in _EC_GROUPS
                and lib.EVP_PKEY_get_bn_param(handle, b"priv", ctypes.byref(number)) == 1
            ):
                group, width = _EC_GROUPS[name.value]
                try:
                    if lib.BN_bn2binpad(number, secret, width) == width:
                        key = ctypes.string_at(secret, width)
                        return EphemeralKey(group=group, private_key=key)
                finally:
                    lib.BN_clear_free(number)
    finally:
        ctypes.memset(secret, 0, len(secret))
    raise UnavailableError("OpenSSL did not export the ephemeral key", rule="libssl")
