"""That an entry is logged, as attestations carry it and presentations embed it."""

from __future__ import annotations

import dataclasses

from attestation import merkle
from attestation.document import Header
from attestation.encoding import JsonObject, encode
from attestation.errors import InvalidProofError, MalformedError, UsageError, naming
from attestation.hashing import hash_string
from attestation.log.bundle import MAX_ENTRY_SIZE
from attestation.log.checkpoint import Checkpoint
from attestation.log.entry import AttestedEntry, Entry, SlotEntry, load_entry
from attestation.log.note import Note
from attestation.log.policy import LogPolicy, Witnessed
from attestation.log.proof import LogProof
from attestation.schema import Document


@dataclasses.dataclass(frozen=True, slots=True, kw_only=True)
class Folded:
    """An entry, and the checkpoint that its proof leads to, whoever has signed that."""

    entry: Entry
    index: int
    note: Note
    checkpoint: Checkpoint

    def check_header(self, header: Header) -> AttestedEntry | SlotEntry:
        """Returns the entry if it logs this attestation; raises InvalidProofError else."""
        entry = self.entry
        if not isinstance(entry, AttestedEntry | SlotEntry):
            raise _other("kind", entry.kind, ["attested", "slot"])
        wanted = hash_string(header.encode())
        if entry.header != wanted:
            raise _other("header", entry.header, wanted)
        if entry.logged_us < header.issued_us:
            raise InvalidProofError(
                "logged before it was issued",
                rule="log.entry.logged_us",
                found=entry.logged_us,
                wanted=header.issued_us,
            )
        return entry

    def check_session(self, session: str) -> None:
        """Raises InvalidProofError unless the entry is the attested one of a session."""
        entry = self.entry
        if not isinstance(entry, AttestedEntry):
            raise _other("kind", entry.kind, "attested")
        if entry.session != session:
            raise _other("session", entry.session, session)

    def check_slot(self, feed: str, slot_us: int) -> None:
        """Raises InvalidProofError unless the entry is that of a feed's slot."""
        entry = self.entry
        if not isinstance(entry, SlotEntry):
            raise _other("kind", entry.kind, "slot")
        if entry.feed != feed:
            raise _other("feed", entry.feed, feed)
        if entry.slot_us != slot_us:
            raise _other("slot_us", entry.slot_us, slot_us)


@dataclasses.dataclass(frozen=True, slots=True, kw_only=True)
class Inclusion(Document):
    """An entry, and a c2sp.org/tlog-proof@v1 of it as text; nothing verified yet."""

    entry: JsonObject
    proof: str

    def fold(self) -> Folded:
        """Reads entry and proof; checks that they lead to the root of the proof's checkpoint.

        Verifies nobody's signature: the checkpoint may be anyone's.  Raises
        MalformedError and InvalidProofError.
        """
        with naming("log"):
            data, text = self._bytes()
            entry = load_entry(self.entry)
            proof = LogProof.parse(text)
            note = Note.parse(proof.note)
            checkpoint = Checkpoint.parse(note.text)
            merkle.verify_inclusion(
                leaf=merkle.leaf_hash(data),
                index=proof.index,
                size=checkpoint.size,
                proof=proof.path,
                root=checkpoint.root,
            )
        return Folded(entry=entry, index=proof.index, note=note, checkpoint=checkpoint)

    def open(self, policy: LogPolicy) -> tuple[Entry, Witnessed]:
        """Verifies under a log policy; returns the entry and the checkpoint it is under.

        Raises MalformedError, UntrustedError (another log), InvalidProofError, and
        IncompleteError where too few witnesses have cosigned.
        """
        data, text = self._bytes()
        entry = load_entry(self.entry)
        proof = LogProof.parse(text)
        witnessed = policy.open(proof.note)
        proof.check(data, witnessed.signed)
        return entry, witnessed

    def _bytes(self) -> tuple[bytes, bytes]:
        """Returns what is hashed and what is parsed; raises MalformedError if there is no such."""
        try:
            data, text = encode(self.entry), self.proof.encode("utf-8")
        except (UsageError, UnicodeEncodeError) as error:
            # Read with less care than a file: a message may hold numbers that no entry can.
            raise MalformedError(f"no entry or proof: {error}", rule="log") from None
        if len(data) > MAX_ENTRY_SIZE:
            raise MalformedError(f"an entry is larger than {MAX_ENTRY_SIZE} bytes", rule="log")
        return data, text


def _other(member: str, found: object, wanted: object) -> InvalidProofError:
    return InvalidProofError(
        "the log proof is of another entry",
        rule=f"log.entry.{member}",
        found=found,
        wanted=wanted,
    )
