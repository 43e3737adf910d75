"""A TLS 1.3 client on the system's libssl that can open its ephemeral key.

Python's ``ssl`` cannot hand out the client's (EC)DHE private key, from which a
notary derives every key of the session; OpenSSL can, through the documented
``SSL_get_tmp_key``.  This binding calls OpenSSL 3 by ctypes over memory BIOs:
bytes in, bytes out, no socket, and both raw streams kept from byte 0, which is
what a seal hashes.

What is offered is what docs/witness.md W2 admits, whatever the system's
openssl.cnf says: TLS 1.3 only, three suites, X25519, P-256, P-384, signatures
that W5 takes, no resumption, no compressed certificates, ALPN http/1.1.
"""

from __future__ import annotations

import ctypes
from ctypes import c_uint, c_void_p
from pathlib import Path
from typing import NoReturn, cast

from attestation.errors import MalformedError, UnavailableError, UntrustedError, UsageError
from attestation.request import KeyOpening
from prover.ephemeral import EphemeralKey, export_key
from prover.openssl import OPENSSL_3_2, load_library, reason
from prover.tls import OwnConnection

SUITES = b"TLS_AES_128_GCM_SHA256:TLS_AES_256_GCM_SHA384:TLS_CHACHA20_POLY1305_SHA256"
GROUPS = b"X25519:P-256:P-384"
# Those of the server's proof that a notary takes (W5), then those of certificates in its chain:
# offered another, a server may prove itself by what is refused only after the seal.
SCHEMES = (
    b"ecdsa_secp256r1_sha256:ecdsa_secp384r1_sha384:ed25519:"
    b"rsa_pss_rsae_sha256:rsa_pss_rsae_sha384:rsa_pss_rsae_sha512:"
    b"rsa_pkcs1_sha256:rsa_pkcs1_sha384:rsa_pkcs1_sha512"
)
ALPN = b"\x08http/1.1"

_TLS1_3 = 0x0304

# Numbers of OpenSSL's public macros (openssl/ssl.h, bio.h, x509v3.h).
_CTRL_SESS_CACHE_MODE = 44
_CTRL_SET_TLSEXT_HOSTNAME = 55
_CTRL_SET_GROUPS_LIST = 92
_CTRL_SET_SIGALGS_LIST = 98
_CTRL_SET_MIN_PROTO = 123
_CTRL_SET_MAX_PROTO = 124
_CTRL_GET_TMP_KEY = 133
_OP_NO_TICKET = 1 << 14
_OP_NO_TX_CERTIFICATE_COMPRESSION = 1 << 32
_OP_NO_RX_CERTIFICATE_COMPRESSION = 1 << 33
_VERIFY_NONE, _VERIFY_PEER = 0, 1
_CHECK_NO_PARTIAL_WILDCARDS = 4
_ERROR_WANT_READ = 2
_ERROR_ZERO_RETURN = 6
_BIO_PENDING = 10

_CHUNK = 32 * 1024


class ClientContext:
    """Trusted roots and TLS settings, shared by connections of any thread.

    ``roots_pem`` replaces certifi's bundle.  Loading certifi costs about 60 ms:
    keep one context.  Raises UnavailableError without libssl, UsageError if the
    PEM holds no certificate.
    """

    binding = "full"

    def __init__(self, roots_pem: bytes | None = None) -> None:
        self._lib, self.library = load_library()
        self._ctx: int | None = self._lib.SSL_CTX_new(self._lib.TLS_client_method())
        if not self._ctx:
            raise UnavailableError("OpenSSL gave no context", rule="libssl")
        lib, ctx = self._lib, self._ctx
        lib.ERR_clear_error()
        settings = (
            lib.SSL_CTX_ctrl(ctx, _CTRL_SET_MIN_PROTO, _TLS1_3, None) == 1
            and lib.SSL_CTX_ctrl(ctx, _CTRL_SET_MAX_PROTO, _TLS1_3, None) == 1
            and lib.SSL_CTX_set_ciphersuites(ctx, SUITES) == 1
            and lib.SSL_CTX_ctrl(ctx, _CTRL_SET_GROUPS_LIST, 0, GROUPS) == 1
            and lib.SSL_CTX_ctrl(ctx, _CTRL_SET_SIGALGS_LIST, 0, SCHEMES) == 1
            and lib.SSL_CTX_set_alpn_protos(ctx, ALPN, len(ALPN)) == 0
        )
        if not settings:
            raise UnavailableError(f"OpenSSL refused a setting: {reason(lib)}", rule="libssl")
        lib.SSL_CTX_ctrl(ctx, _CTRL_SESS_CACHE_MODE, 0, None)
        options = _OP_NO_TICKET
        if lib.OpenSSL_version_num() >= OPENSSL_3_2:
            options |= _OP_NO_TX_CERTIFICATE_COMPRESSION | _OP_NO_RX_CERTIFICATE_COMPRESSION
        lib.SSL_CTX_set_options(ctx, options)
        lib.SSL_CTX_set_verify(ctx, _VERIFY_PEER, None)
        if roots_pem is None:
            import certifi

            roots_pem = Path(certifi.where()).read_bytes()
        self._add_roots(roots_pem)

    @property
    def version(self) -> str:
        """What the library calls itself."""
        text: bytes = self._lib.OpenSSL_version(0)
        return text.decode("ascii", "replace")

    def connect(
        self, host: str, *, keep_raw: bool = True, complete_refused: bool = False
    ) -> TlsClient:
        """Starts a connection to ``host``, whose name the certificate must hold.

        Without ``keep_raw`` the raw streams are not kept.  With ``complete_refused`` the
        handshake is completed even so, for a notary to judge; nothing can be said then.
        """
        if self._ctx is None:
            raise UsageError("the TLS context is closed")
        client = TlsClient(self, self._lib, self._ctx, host, keep_raw)
        if complete_refused:
            self._lib.SSL_set_verify(client._ssl, _VERIFY_NONE, None)
        return client

    def close(self) -> None:
        """Frees the context; connections already made keep theirs alive."""
        ctx, self._ctx = self._ctx, None
        if ctx:
            self._lib.SSL_CTX_free(ctx)

    def __del__(self) -> None:
        if getattr(self, "_ctx", None):
            self.close()

    def _add_roots(self, pem: bytes) -> None:
        lib = self._lib
        store = lib.SSL_CTX_get_cert_store(self._ctx)
        source = lib.BIO_new_mem_buf(pem, len(pem))
        count = 0
        try:
            while certificate := lib.PEM_read_bio_X509(source, None, None, None):
                count += lib.X509_STORE_add_cert(store, certificate)
                lib.X509_free(certificate)
        finally:
            lib.BIO_free(source)
            # Reading stops at the end of the PEM with an error in the queue.
            lib.ERR_clear_error()
        if not count:
            raise UsageError("no certificate in the PEM of trusted roots")


class TlsClient:
    """One client connection as a state machine; not for two threads at a time.

    ``feed`` takes bytes from the network, ``outgoing`` returns bytes for it.
    ``sent`` and ``received`` are the raw streams so far.  ``close_notify``
    turns true with the peer's; a cut stream is left to the caller to see.
    ``refused`` is why the server's certificate does not verify: then nothing can be
    written or read.
    """

    def __init__(
        self, context: ClientContext, lib: ctypes.CDLL, ctx: int, host: str, keep_raw: bool
    ) -> None:
        self._context = context
        self._keep_raw = keep_raw
        self._lib = lib
        self._ssl: int | None = None
        self._buffer = ctypes.create_string_buffer(_CHUNK)
        self._view = memoryview(self._buffer).cast("B")
        self.host = host
        self.sent = bytearray()
        self.received = bytearray()
        self.close_notify = False
        self.established = False
        self.refused: UntrustedError | None = None
        try:
            name = host.encode("ascii")
        except UnicodeEncodeError:
            raise UsageError("host name is not ASCII", found=host[:80]) from None
        ssl = lib.SSL_new(ctx)
        if not ssl:
            raise UnavailableError("OpenSSL gave no connection", rule="libssl")
        self._ssl = ssl
        self._in = lib.BIO_new(lib.BIO_s_mem())
        self._out = lib.BIO_new(lib.BIO_s_mem())
        lib.SSL_set_bio(ssl, self._in, self._out)
        lib.SSL_set_hostflags(ssl, _CHECK_NO_PARTIAL_WILDCARDS)
        if (
            lib.SSL_set1_host(ssl, name) != 1
            or lib.SSL_ctrl(ssl, _CTRL_SET_TLSEXT_HOSTNAME, 0, name) != 1
        ):
            self.close()
            raise UsageError("not a host name", found=host[:80])
        lib.SSL_set_connect_state(ssl)

    def feed(self, data: bytes) -> None:
        """Takes raw bytes that arrived from the server."""
        if self._keep_raw:
            self.received += data
        if data and self._lib.BIO_write(self._in, data, len(data)) != len(data):
            raise UnavailableError("OpenSSL took no bytes", rule="libssl")

    def forget_raw(self) -> None:
        """Drops the raw streams and keeps no more of them: for connections that last."""
        self._keep_raw = False
        self.sent, self.received = bytearray(), bytearray()

    def outgoing(self) -> bytes:
        """Returns the raw bytes to send now, and counts them as sent."""
        pending = self._lib.BIO_ctrl(self._out, _BIO_PENDING, 0, None)
        if not pending:
            return b""
        if pending <= _CHUNK:
            count = self._lib.BIO_read(self._out, self._buffer, _CHUNK)
            data = ctypes.string_at(self._buffer, count)
        else:
            large = ctypes.create_string_buffer(pending)
            data = ctypes.string_at(large, self._lib.BIO_read(self._out, large, pending))
        if self._keep_raw:
            self.sent += data
        return data

    def own(self) -> OwnConnection:
        """Opens the connection by its ephemeral key; see ``prover.tls.TlsClient``."""
        key = self.ephemeral_key()
        return OwnConnection(
            suite=self.suite,
            group=key.group,
            chain_der=self.chain_der(),
            sent=self.sent,
            received=self.received,
            opening=KeyOpening(kind="ephemeral", private_key=key.private_key.hex()),
        )

    def handshake(self) -> bool:
        """Advances the handshake; true once complete, false while bytes are needed.

        Raises UntrustedError (rule W4) for a certificate that does not verify,
        UnavailableError for any other failure of the handshake.
        """
        lib = self._lib
        lib.ERR_clear_error()
        result = lib.SSL_do_handshake(self._ssl)
        if result != 1 and lib.SSL_get_error(self._ssl, result) == _ERROR_WANT_READ:
            return False
        if verdict := lib.SSL_get_verify_result(self._ssl):
            text = lib.X509_verify_cert_error_string(verdict).decode("ascii", "replace")
            self.refused = UntrustedError(
                f"certificate of {self.host} does not verify: {text}", rule="W4", found=text
            )
        if result == 1:
            self.established = True
            return True
        if self.refused is not None:
            raise self.refused
        cause = reason(lib)
        raise UnavailableError(f"TLS handshake with {self.host} failed: {cause}", rule="tls")

    def write(self, data: bytes) -> None:
        """Encrypts application data; an empty write is none (OpenSSL calls it an error)."""
        if not data:
            return
        if self.refused is not None:
            raise self.refused
        lib = self._lib
        lib.ERR_clear_error()
        result = lib.SSL_write(self._ssl, data, len(data))
        if result != len(data):
            raise UnavailableError(f"TLS write failed: {reason(lib)}", rule="tls")

    def finish(self) -> None:
        """Says that nothing more will be sent: close_notify (RFC 8446 section 6.1)."""
        self._lib.ERR_clear_error()
        self._lib.SSL_shutdown(self._ssl)

    def read(self) -> bytes:
        """Returns all application data decrypted so far, possibly none.

        Raises MalformedError for a record that does not open and for a fatal
        alert of the peer.
        """
        if self.refused is not None:
            raise self.refused
        lib, ssl, buffer = self._lib, self._ssl, self._buffer
        lib.ERR_clear_error()
        count = lib.SSL_read(ssl, buffer, _CHUNK)
        if count <= 0:
            self._read_end(count)
            return b""
        data = bytearray()
        while count > 0:
            data += self._view[:count]
            count = lib.SSL_read(ssl, buffer, _CHUNK)
        self._read_end(count)
        return bytes(data)

    def _read_end(self, result: int) -> None:
        error = self._lib.SSL_get_error(self._ssl, result)
        if error == _ERROR_ZERO_RETURN:
            self.close_notify = True
        elif error != _ERROR_WANT_READ:
            raise MalformedError(f"TLS read failed: {reason(self._lib)}", rule="W6")

    def ephemeral_key(self) -> EphemeralKey:
        """Opens the private key of the share in the last ClientHello.

        To be asked once the handshake is complete: after a HelloRetryRequest
        the first share's key is replaced.  OpenSSL keeps it until the
        connection is freed.
        """
        lib = self._lib
        if not self.established:
            raise UsageError("the handshake is not complete")
        handle = c_void_p()
        if lib.SSL_ctrl(self._ssl, _CTRL_GET_TMP_KEY, 0, ctypes.byref(handle)) != 1:
            raise UnavailableError("OpenSSL holds no ephemeral key", rule="libssl")
        try:
            return export_key(lib, handle)
        finally:
            lib.EVP_PKEY_free(handle)

    @property
    def suite(self) -> str:
        """The cipher suite's IANA name."""
        cipher = self._lib.SSL_get_current_cipher(self._ssl)
        name: bytes = self._lib.SSL_CIPHER_get_name(cipher)
        return name.decode("ascii")

    def chain_der(self) -> tuple[bytes, ...]:
        """The server's certificates as sent, leaf first, in DER."""
        lib = self._lib
        stack = lib.SSL_get_peer_cert_chain(self._ssl)
        certificates = []
        for index in range(max(0, lib.OPENSSL_sk_num(stack))):
            encoded = c_void_p()
            size = lib.i2d_X509(lib.OPENSSL_sk_value(stack, index), ctypes.byref(encoded))
            if size <= 0 or encoded.value is None:
                raise UnavailableError("OpenSSL did not export a certificate", rule="libssl")
            certificates.append(ctypes.string_at(encoded, size))
            lib.CRYPTO_free(encoded, None, 0)
        return tuple(certificates)

    @property
    def alpn(self) -> bytes:
        """The protocol the server chose, empty if none."""
        data, size = c_void_p(), c_uint()
        self._lib.SSL_get0_alpn_selected(self._ssl, ctypes.byref(data), ctypes.byref(size))
        return ctypes.string_at(data, size.value) if data.value else b""

    def close(self) -> None:
        """Frees the connection with its keys; more than once is harmless."""
        ssl, self._ssl = self._ssl, None
        if ssl:
            # What was freed must never be called with: that would end the process.
            lib, self._lib = self._lib, cast(ctypes.CDLL, _Closed())
            ctypes.memset(self._buffer, 0, _CHUNK)
            lib.SSL_free(ssl)

    def __del__(self) -> None:
        if getattr(self, "_ssl", None):
            self.close()


class _Closed:
    """Stands for the library of a closed connection: every call raises UsageError."""

    def __getattr__(self, name: str) -> NoReturn:
        raise UsageError("the TLS connection is closed")
