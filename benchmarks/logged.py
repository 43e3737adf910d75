"""A log proof of the size it has in a log of a million entries, for any presentation."""

from __future__ import annotations

import dataclasses
import hashlib

from attestation import merkle
from attestation.document import SessionField
from attestation.encoding import decode_object
from attestation.expect import Expect, LogExpectation
from attestation.hashing import hash_string
from attestation.keys import SigningKey
from attestation.log.checkpoint import Checkpoint, sign_checkpoint
from attestation.log.cosignature import cosign
from attestation.log.entry import AttestedEntry, write_entry
from attestation.log.inclusion import Inclusion
from attestation.log.proof import LogProof
from attestation.presentation import Presentation
from attestation.trust import Trust, TrustedKey

LEVELS = 20
INDEX = 700_000
DELAY_US = 1_000_000


@dataclasses.dataclass(frozen=True, slots=True, kw_only=True)
class Logged:
    """A presentation with a log proof, and who believes and demands it."""

    data: bytes
    trust: Trust
    expect: Expect


def logged(presentation: Presentation, trust: Trust, expect: Expect, witnesses: int) -> Logged:
    """Logs a presentation's attestation in the notary's log, cosigned by so many witnesses."""
    header = presentation.header
    session = SessionField.from_json(presentation.fields[0].value).id
    entry = AttestedEntry(
        logged_us=header.issued_us, session=session, header=hash_string(header.encode())
    )
    data = write_entry(entry)
    path = [hashlib.sha256(b"%d" % level).digest() for level in range(LEVELS)]
    node = merkle.leaf_hash(data)
    for level, sibling in enumerate(path):
        pair = (sibling, node) if INDEX >> level & 1 else (node, sibling)
        node = merkle.node_hash(*pair)
    log = _key("log.bench.example/2026")
    note = sign_checkpoint(Checkpoint(origin=log.name, size=2**LEVELS, root=node), log)
    cosigners = [_key(f"witness.bench.example/{number}") for number in range(witnesses)]
    seconds = (header.issued_us + DELAY_US) // 1_000_000
    note = note.add(*[cosign(note.text, key, seconds) for key in cosigners])
    proof = LogProof(index=INDEX, path=tuple(path), note=note.encode())
    operator = trust.operator_of(header.key.rpartition("+")[0])
    believed = trust.adding(_trusted(log, "log", operator))
    for key in cosigners:
        believed = believed.adding(_trusted(key, "witness", f"Operator of {key.name}"))
    inclusion = Inclusion(entry=decode_object(data), proof=proof.encode().decode("utf-8"))
    return Logged(
        data=dataclasses.replace(presentation, log=inclusion).encode(),
        trust=believed,
        expect=dataclasses.replace(
            expect, log=LogExpectation(quorum=witnesses, max_delay_us=2 * DELAY_US)
        ),
    )


def _key(name: str) -> SigningKey:
    seed = hashlib.sha256(name.encode()).digest()
    return SigningKey(name=name, algorithm="ed25519", seed=seed)


def _trusted(key: SigningKey, role: str, operator: str) -> TrustedKey:
    return TrustedKey(
        name=key.name,
        operator=operator,
        key=key.verifying_key,
        role=role,
        valid_from_us=0,
        valid_until_us=2**52,
    )
