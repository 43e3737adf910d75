"""Makes a log: once, by ``notary log create`` alone."""

from __future__ import annotations

import sqlite3

from attestation import merkle
from attestation.errors import UsageError
from attestation.keys import SigningKey
from attestation.log.checkpoint import Checkpoint, sign_checkpoint
from attestation.log.note import check_note_key
from notary.log.published import PublishedFile
from notary.log.tables import Head, create_tables, has_log


def create_log(
    database: sqlite3.Connection, key: SigningKey, published: PublishedFile
) -> Checkpoint:
    """Makes an empty log of the key's name; raises UsageError if there is or was one.

    The file of the last checkpoint goes first: a crash in between leaves no log, and
    ``create_log`` goes on from there.
    """
    check_note_key(key.verifying_key)
    checkpoint = Checkpoint(origin=key.name, size=0, root=merkle.root(()))
    if has_log(database):
        raise UsageError("the store has a log already", rule="log")
    earlier = published.read(key.verifying_key)
    if earlier is None:
        published.create(sign_checkpoint(checkpoint, key).encode())
    elif earlier != checkpoint:
        raise UsageError(
            "a log of this name has published checkpoints: its store is missing",
            rule="log.published",
            found=earlier.size,
        )
    create_tables(database, Head(origin=key.name, size=0, root=checkpoint.root, logged_us=0))
    return checkpoint
