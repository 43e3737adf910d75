"""Record protection (RFC 8446 sections 5.2 to 5.5); check W6."""

from __future__ import annotations

from typing import Final

from cryptography.exceptions import InvalidTag
from cryptography.hazmat.primitives.ciphers.aead import AESGCM, ChaCha20Poly1305

from attestation.errors import InvalidProofError, MalformedError
from attestation.tls13.schedule import Suite, next_secret, traffic_key
from attestation.tls13.wire import MAX_PLAINTEXT, RECORD_HEADER, Record

_AEADS: Final[dict[str, type[AESGCM] | type[ChaCha20Poly1305]]] = {
    "aes-gcm": AESGCM,
    "chacha20-poly1305": ChaCha20Poly1305,
}


class Protection:
    """Opens one direction's protected records in order, from sequence number 0."""

    __slots__ = ("_aead", "_iv", "_secret", "_sequence", "_suite")

    def __init__(self, suite: Suite, secret: bytes) -> None:
        self._suite = suite
        self._install(secret)

    def _install(self, secret: bytes) -> None:
        key, iv = traffic_key(self._suite, secret)
        self._secret = secret
        self._aead = _AEADS[self._suite.aead](key)
        self._iv = int.from_bytes(iv, "big")
        # RFC 8446 5.3: "Each sequence number is set to zero at the beginning of
        # a connection and whenever the key is changed".
        self._sequence = 0

    def update(self) -> None:
        """Moves to the next generation of keys (a KeyUpdate was read)."""
        self._install(next_secret(self._suite, self._secret))

    def open(self, record: Record) -> tuple[int, bytes]:
        """Returns the inner content type and the content, without padding."""
        # RFC 8446 5.3: the padded sequence number is XORed with the iv.
        nonce = (self._iv ^ self._sequence).to_bytes(12, "big")
        self._sequence += 1
        raw = record.raw
        try:
            # 5.2: the additional data is the record's header.
            inner = self._aead.decrypt(nonce, record.payload, raw[:RECORD_HEADER])
        except InvalidTag:
            raise InvalidProofError(
                "a record does not open under the derived key", rule="W6"
            ) from None
        if len(inner) > MAX_PLAINTEXT + 1:
            # 5.4: "The full encoded TLSInnerPlaintext MUST NOT exceed 2^14 + 1 octets".
            raise MalformedError("a record's plaintext is too long", rule="W6", found=len(inner))
        if inner[-1] == 0:
            inner = inner.rstrip(b"\0")
            if not inner:
                # 5.4: without a non-zero octet the endpoint MUST terminate the connection.
                raise MalformedError("a record holds nothing but padding", rule="W6")
        return inner[-1], inner[:-1]
