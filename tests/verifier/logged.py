"""Logs and witnesses that sign whatever they are told, for presentations with a log proof.

Deterministic, as ``forge``: keys follow from names.
"""

from __future__ import annotations

import dataclasses
from collections.abc import Sequence
from typing import Any

from attestation import merkle
from attestation.document import Attestation, SlotField
from attestation.encoding import decode_object
from attestation.hashing import hash_string
from attestation.keys import SigningKey
from attestation.log.checkpoint import Checkpoint, sign_checkpoint
from attestation.log.cosignature import cosign
from attestation.log.entry import AttestedEntry, Entry, SlotEntry, TickEntry, write_entry
from attestation.log.inclusion import Inclusion
from attestation.log.proof import LogProof
from attestation.trust import Trust, TrustedKey
from tests.verifier.lying import T0, YEAR, LyingNotary, hash_of

LOGGED_US = T0 + 200_000
"""When the forged sessions are logged, which are issued at ``T0`` + 100 ms."""
COSIGNED_S = T0 // 1_000_000 + 1
"""When the forged witnesses cosign, in seconds."""


@dataclasses.dataclass(frozen=True)
class Signer:
    """A log, or a witness, with a key."""

    name: str = "log.one/2026"
    operator: str = "One Ltd"
    role: str = "log"
    seed: str = ""

    @property
    def key(self) -> SigningKey:
        seed = hash_of(self.seed or f"{self.role}/{self.name}")
        return SigningKey(name=self.name, algorithm="ed25519", seed=seed)

    def trusted(self, **changes: Any) -> TrustedKey:
        """The signer as an entry of a trust file."""
        entry = TrustedKey(
            name=self.name,
            operator=self.operator,
            key=self.key.verifying_key,
            role=self.role,
            valid_from_us=T0 - YEAR // 2,
            valid_until_us=T0 + 9 * YEAR,
        )
        return dataclasses.replace(entry, **changes)


LOG = Signer()
WITNESSES = tuple(
    Signer(name=f"witness.{name}", operator=f"{name.title()} Society", role="witness")
    for name in ("ash", "birch", "cedar", "dogwood")
)


def trust(*signers: Signer | TrustedKey, notary: TrustedKey | None = None, **changes: Any) -> Trust:
    """A trust file with a notary, and by default the log and all its witnesses."""
    keys = [
        signer.trusted() if isinstance(signer, Signer) else signer
        for signer in signers or (LOG, *WITNESSES)
    ]
    return Trust(keys=(notary or LyingNotary().trusted(), *keys), **changes)


def entry_of(attestation: Attestation) -> AttestedEntry:
    """The entry that logs a session's attestation."""
    return AttestedEntry(
        logged_us=LOGGED_US,
        session=attestation.session().id,
        header=hash_string(attestation.header.encode()),
    )


def slot_entry_of(attestation: Attestation) -> SlotEntry:
    """The entry that logs a slot's attestation."""
    slot = SlotField.from_json(attestation.fields[0].value)
    return SlotEntry(
        logged_us=LOGGED_US + 1_000_000,
        feed=slot.feed,
        slot_us=slot.slot_us,
        header=hash_string(attestation.header.encode()),
    )


def prove(
    entry: Entry,
    *,
    log: Signer = LOG,
    witnesses: Sequence[Signer] = WITNESSES,
    times: Sequence[int] = (),
    size: int = 1_000,
    index: int = 700,
    label: str = "",
) -> Inclusion:
    """Logs the entry among others and proves it; witness i cosigns at ``times[i]``."""
    other = write_entry(TickEntry(logged_us=LOGGED_US))
    leaves = [merkle.leaf_hash(b"%s %d %s" % (other, at, label.encode())) for at in range(size)]
    leaves[index] = merkle.leaf_hash(write_entry(entry))
    head = Checkpoint(origin=log.name, size=size, root=merkle.root(leaves))
    note = sign_checkpoint(head, log.key)
    moments = times or [COSIGNED_S] * len(witnesses)
    note = note.add(
        *(
            cosign(note.text, witness.key, moment)
            for witness, moment in zip(witnesses, moments, strict=True)
        )
    )
    proof = LogProof(
        index=index, path=tuple(merkle.inclusion_proof(leaves, index)), note=note.encode()
    )
    return Inclusion(entry=decode_object(write_entry(entry)), proof=proof.encode().decode("utf-8"))
