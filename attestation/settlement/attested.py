"""Attestations as settlement takes them: signed by a trusted notary, every field shown."""

from __future__ import annotations

import dataclasses
from collections.abc import Mapping

from attestation.document import (
    Attestation,
    ConnectionField,
    GapField,
    Header,
    HttpField,
    NotaryField,
    ObservationField,
    ServerField,
    SessionField,
    SlotField,
    check_binding,
    check_shape,
    check_times,
)
from attestation.encoding import hex_decode
from attestation.errors import InvalidProofError, MalformedError, UntrustedError
from attestation.hashing import DEFAULT_HASH, hash_string
from attestation.keys import DEFAULT_SIGNATURE, VerifyingKey
from attestation.log.cosignature import WitnessKey
from attestation.observation import read_venue_field
from attestation.recent import Same
from attestation.trust import Trust

KEPT = 2_048
"""Attestations that a verifier keeps of each kind."""


@dataclasses.dataclass(frozen=True, slots=True, kw_only=True)
class AttestedSlot:
    """A slot as a notary signed it; ``fields`` by venue.  Made by ``verify_slot`` alone."""

    notary: str
    header: Header
    header_hash: str
    slot: SlotField
    fields: Mapping[str, ObservationField | GapField]


@dataclasses.dataclass(frozen=True, slots=True, kw_only=True)
class AttestedSession:
    """A session as a notary signed it.  Made by ``verify_session`` alone."""

    notary: str
    header: Header
    header_hash: str
    session: SessionField
    connection: ConnectionField
    server: ServerField
    http: HttpField


class AttestationVerifier:
    """Verifies attestations under one trust; the same one, met again, for its key alone.

    As ``verify_slot`` and ``verify_session``; what was refused is refused again.
    """

    def __init__(self, trust: Trust) -> None:
        self._trust = trust
        self._slots = Same[AttestedSlot](KEPT)
        self._sessions = Same[AttestedSession](KEPT)

    def slot(self, attestation: Attestation, *, witnessed_us: int | None = None) -> AttestedSlot:
        """Verifies a slot attestation."""
        found = self._slots.get(attestation)
        if found is None:
            found = verify_slot(attestation, trust=self._trust, witnessed_us=witnessed_us)
            return self._slots.keep(attestation, value=found)
        self._find(attestation, witnessed_us)
        return found

    def session(
        self, attestation: Attestation, *, witnessed_us: int | None = None
    ) -> AttestedSession:
        """Verifies a session attestation."""
        found = self._sessions.get(attestation)
        if found is None:
            found = verify_session(attestation, trust=self._trust, witnessed_us=witnessed_us)
            return self._sessions.keep(attestation, value=found)
        self._find(attestation, witnessed_us)
        return found

    def _find(self, attestation: Attestation, witnessed_us: int | None) -> None:
        # Whether a revoked key is taken depends on when its signature had been seen.
        _find(self._trust, attestation, witnessed_us)


def verify_slot(
    attestation: Attestation, *, trust: Trust, witnessed_us: int | None = None
) -> AttestedSlot:
    """Verifies a slot attestation: key, signature, root, shape and times.

    ``witnessed_us``: when a log's witnesses had seen it, for a key since revoked.
    Raises UntrustedError (settlement takes Ed25519 and SHA-256 alone),
    InvalidProofError and MalformedError.
    """
    notary, header_hash = _authenticate(
        attestation, SlotField.FIELD, "slots", trust=trust, witnessed_us=witnessed_us
    )
    return _read_slot(attestation, notary, header_hash)


def verify_session(
    attestation: Attestation, *, trust: Trust, witnessed_us: int | None = None
) -> AttestedSession:
    """Verifies a session attestation: key, signature, root, shape, times and binding.

    As ``verify_slot``.
    """
    notary, header_hash = _authenticate(
        attestation, SessionField.FIELD, "sessions", trust=trust, witnessed_us=witnessed_us
    )
    session, connection, http = attestation.session(), attestation.connection(), attestation.http()
    check_times(connection, session, attestation.header.issued_us)
    check_binding(session, http)
    return AttestedSession(
        notary=notary,
        header=attestation.header,
        header_hash=header_hash,
        session=session,
        connection=connection,
        server=attestation.server(),
        http=http,
    )


def _find(
    trust: Trust, attestation: Attestation, witnessed_us: int | None
) -> VerifyingKey | WitnessKey:
    header = attestation.header
    return trust.find(
        header.key, role="attest", at_us=header.issued_us, witnessed_us=witnessed_us
    ).key


def _authenticate(
    attestation: Attestation, kind: str, rule: str, *, trust: Trust, witnessed_us: int | None
) -> tuple[str, str]:
    """Checks who signed which kind of fields; returns the notary's name and the header's hash."""
    header = attestation.header
    key = _find(trust, attestation, witnessed_us)
    if not header.root.startswith(f"{DEFAULT_HASH}:") or key.algorithm != DEFAULT_SIGNATURE:
        raise UntrustedError(
            f"settlement takes {DEFAULT_SIGNATURE} and {DEFAULT_HASH} alone",
            rule=f"{rule}.algorithm",
            found=[key.algorithm, header.root.partition(":")[0]],
        )
    signed = header.encode()
    key.verify(hex_decode(attestation.signature), signed)
    if any(field.salt is not None for field in attestation.fields):
        raise MalformedError("the seed stands for all salts", rule=f"{rule}.salt")
    attestation.check_root()
    names = {index: field.name for index, field in enumerate(attestation.fields)}
    if not names or check_shape(names, header.size) != kind or len(names) < 2:
        raise MalformedError(f"not the attestation of a {kind}", rule=f"{rule}.kind")
    notary = attestation.notary()
    if (notary.name, notary.vkey) != (key.name, key.vkey):
        raise InvalidProofError(
            "the notary field names another key than the one that signed", rule="notary.vkey"
        )
    return key.name, hash_string(signed)


def _read_slot(attestation: Attestation, notary: str, header_hash: str) -> AttestedSlot:
    first, *rest, last = attestation.fields
    if last.name != NotaryField.FIELD:
        raise MalformedError("the last field is the notary's", rule="slots.kind")
    slot = SlotField.from_json(first.value)
    fields: dict[str, ObservationField | GapField] = {}
    for field in rest:
        read = read_venue_field(field.name, field.value)
        fields[read.venue] = read
    if list(fields) != list(slot.venues) or len(fields) != len(rest):
        raise MalformedError("a slot has one field for each of its venues", rule="slot.venues")
    if list(slot.venues) != sorted(set(slot.venues)):
        raise MalformedError("a slot's venues are in byte order", rule="slot.venues")
    if attestation.header.issued_us < slot.slot_us:
        raise InvalidProofError("signed before its slot", rule="slot.slot_us")
    return AttestedSlot(
        notary=notary,
        header=attestation.header,
        header_hash=header_hash,
        slot=slot,
        fields=fields,
    )
