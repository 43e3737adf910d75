"""Finds OpenSSL 3 and declares the functions called in it.

Preferred is the very library Python's ``_ssl`` is linked to.  A Python with a
static OpenSSL (uv's, python.org's) has none: then the system's, or Homebrew's,
is loaded beside it.
"""

from __future__ import annotations

import ctypes
import os
import sys
from collections.abc import Iterator
from ctypes import c_char_p, c_int, c_long, c_size_t, c_uint, c_uint64, c_ulong, c_void_p
from functools import cache
from pathlib import Path

from attestation.errors import UnavailableError

OPENSSL_3 = 0x30000000
OPENSSL_3_2 = 0x30200000

PROTOTYPES: dict[str, tuple[object, tuple[object, ...]]] = {
    "OpenSSL_version_num": (c_ulong, ()),
    "OpenSSL_version": (c_char_p, (c_int,)),
    "ERR_clear_error": (None, ()),
    "ERR_get_error": (c_ulong, ()),
    "ERR_error_string_n": (None, (c_ulong, c_char_p, c_size_t)),
    "TLS_client_method": (c_void_p, ()),
    "SSL_CTX_new": (c_void_p, (c_void_p,)),
    "SSL_CTX_free": (None, (c_void_p,)),
    "SSL_CTX_ctrl": (c_long, (c_void_p, c_int, c_long, c_void_p)),
    "SSL_CTX_set_options": (c_uint64, (c_void_p, c_uint64)),
    "SSL_CTX_set_ciphersuites": (c_int, (c_void_p, c_char_p)),
    "SSL_CTX_set_verify": (None, (c_void_p, c_int, c_void_p)),
    "SSL_CTX_set_alpn_protos": (c_int, (c_void_p, c_char_p, c_uint)),
    "SSL_CTX_get_cert_store": (c_void_p, (c_void_p,)),
    "X509_STORE_add_cert": (c_int, (c_void_p, c_void_p)),
    "X509_free": (None, (c_void_p,)),
    "X509_verify_cert_error_string": (c_char_p, (c_long,)),
    "PEM_read_bio_X509": (c_void_p, (c_void_p, c_void_p, c_void_p, c_void_p)),
    "BIO_new_mem_buf": (c_void_p, (c_char_p, c_int)),
    "BIO_new": (c_void_p, (c_void_p,)),
    "BIO_s_mem": (c_void_p, ()),
    "BIO_free": (c_int, (c_void_p,)),
    "BIO_read": (c_int, (c_void_p, c_void_p, c_int)),
    "BIO_write": (c_int, (c_void_p, c_char_p, c_int)),
    "BIO_ctrl": (c_long, (c_void_p, c_int, c_long, c_void_p)),
    "SSL_new": (c_void_p, (c_void_p,)),
    "SSL_free": (None, (c_void_p,)),
    "SSL_set_bio": (None, (c_void_p, c_void_p, c_void_p)),
    "SSL_set_connect_state": (None, (c_void_p,)),
    "SSL_set_verify": (None, (c_void_p, c_int, c_void_p)),
    "SSL_set1_host": (c_int, (c_void_p, c_char_p)),
    "SSL_set_hostflags": (None, (c_void_p, c_uint)),
    "SSL_ctrl": (c_long, (c_void_p, c_int, c_long, c_void_p)),
    "SSL_do_handshake": (c_int, (c_void_p,)),
    "SSL_read": (c_int, (c_void_p, c_void_p, c_int)),
    "SSL_write": (c_int, (c_void_p, c_char_p, c_int)),
    "SSL_shutdown": (c_int, (c_void_p,)),
    "SSL_get_error": (c_int, (c_void_p, c_int)),
    "SSL_get_verify_result": (c_long, (c_void_p,)),
    "SSL_get_current_cipher": (c_void_p, (c_void_p,)),
    "SSL_CIPHER_get_name": (c_char_p, (c_void_p,)),
    "SSL_get_peer_cert_chain": (c_void_p, (c_void_p,)),
    "OPENSSL_sk_num": (c_int, (c_void_p,)),
    "OPENSSL_sk_value": (c_void_p, (c_void_p, c_int)),
    "i2d_X509": (c_int, (c_void_p, c_void_p)),
    "CRYPTO_free": (None, (c_void_p, c_char_p, c_int)),
    "SSL_get0_alpn_selected": (None, (c_void_p, c_void_p, c_void_p)),
    "EVP_PKEY_free": (None, (c_void_p,)),
    "EVP_PKEY_is_a": (c_int, (c_void_p, c_char_p)),
    "EVP_PKEY_get_raw_private_key": (c_int, (c_void_p, c_void_p, c_void_p)),
    "EVP_PKEY_get_group_name": (c_int, (c_void_p, c_char_p, c_size_t, c_void_p)),
    "EVP_PKEY_get_bn_param": (c_int, (c_void_p, c_char_p, c_void_p)),
    "BN_bn2binpad": (c_int, (c_void_p, c_void_p, c_int)),
    "BN_clear_free": (None, (c_void_p,)),
}


def _loaded_images() -> Iterator[str]:
    """Yields the paths of the libssl images this process has loaded."""
    if sys.platform == "darwin":
        images = ctypes.CDLL(None)
        images._dyld_get_image_name.restype = c_char_p
        for index in range(images._dyld_image_count()):
            name = images._dyld_get_image_name(index)
            if name and b"/libssl" in name:
                yield os.fsdecode(name)
    else:
        maps = Path("/proc/self/maps")
        if maps.exists():
            paths = (line.split(maxsplit=5)[-1] for line in maps.read_text().splitlines())
            yield from dict.fromkeys(path for path in paths if "/libssl" in path)


def _candidates() -> Iterator[str]:
    import _ssl  # noqa: F401 (loads the library that it is linked to)

    yield from _loaded_images()
    if sys.platform == "darwin":
        # Never a bare or versionless name: macOS aborts the process for it.
        yield "/opt/homebrew/opt/openssl@3/lib/libssl.3.dylib"
        yield "/usr/local/opt/openssl@3/lib/libssl.3.dylib"
        yield "/opt/local/libexec/openssl3/lib/libssl.3.dylib"
    else:
        yield "libssl.so.3"


@cache
def load_library() -> tuple[ctypes.CDLL, str]:
    """Loads OpenSSL 3 and returns it with the name it was found under.

    Raises UnavailableError naming every place looked at.
    """
    tried = []
    # A Python with a static OpenSSL may export its symbols: the library must
    # bind to its own libcrypto, not to those.
    mode = getattr(os, "RTLD_DEEPBIND", 0) | getattr(os, "RTLD_NOW", 0)
    for path in _candidates():
        try:
            library = ctypes.CDLL(path, mode=mode)
            for name, (result, arguments) in PROTOTYPES.items():
                function = getattr(library, name)
                function.restype = result
                function.argtypes = arguments
        except (OSError, AttributeError):
            tried.append(path)
            continue
        if library.OpenSSL_version_num() >= OPENSSL_3:
            return library, path
        tried.append(f"{path} (older than 3.0)")
    raise UnavailableError(
        "no OpenSSL 3 library to open an ephemeral key with; looked for "
        + ", ".join(tried)
        + "; install it (Debian, Ubuntu: apt install libssl3; macOS: brew install openssl@3)",
        rule="libssl",
    )


def reason(lib: ctypes.CDLL) -> str:
    """Returns the oldest queued error as text; an empty queue is a cut stream."""
    code = lib.ERR_get_error()
    if not code:
        return "the stream ended or broke the protocol"
    text = ctypes.create_string_buffer(256)
    lib.ERR_error_string_n(code, text, len(text))
    lib.ERR_clear_error()
    return text.value.decode("ascii", "replace").rsplit(":", 1)[-1]
