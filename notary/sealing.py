"""The seal of a gate's record: the notary's word before it can read anything."""

from __future__ import annotations

from attestation.errors import RefusedError
from attestation.hashing import hash_string
from attestation.keys import SigningKey
from attestation.seal import Seal, SealTimes, SignedSeal
from notary.gate import Gate
from notary.sessions import Session


def sign_seal(session: Session, gate: Gate, key: SigningKey) -> SignedSeal:
    """Hashes all raw bytes of both directions and signs them with the gate's times."""
    times = gate.times
    if (
        times.connected_us is None
        or times.hello_us is None
        or times.released_us is None
        or times.sealed_us is None
    ):
        raise RefusedError("nothing to seal yet", rule="gate", found=gate.state, http_status=409)
    seal = Seal(
        session=session.id,
        sent=hash_string(gate.sent.raw()),
        received=hash_string(gate.received.raw()),
        sent_size=gate.sent.size,
        received_size=gate.received.size,
        times=SealTimes(
            connected_us=times.connected_us,
            hello_us=times.hello_us,
            released_us=times.released_us,
            sealed_us=times.sealed_us,
        ),
        commitment=session.commitment,
        key=key.verifying_key.short,
    )
    return SignedSeal(seal=seal, signature=key.sign(seal.encode()).hex())
