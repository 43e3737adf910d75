"""The log's pure costs, in process: appending, proving, verifying, auditing."""

from __future__ import annotations

import gc
import statistics
import time

from attestation import merkle
from attestation.errors import UnavailableError
from attestation.keys import SigningKey
from attestation.log.bundle import encode_bundle
from attestation.log.checkpoint import Checkpoint, sign_checkpoint
from attestation.log.entry import AttestedEntry, Entry, OpenedEntry, write_entry
from attestation.log.policy import LogPolicy
from attestation.log.tileproof import TileReader
from attestation.log.tiles import TileBuilder, tiles_of
from benchmarks.figures import Figure
from verifier.audit import Audit
from verifier.auditstore import AuditStore
from verifier.logfiles import audit_log

LARGE = 1_000_000
"""Entries of the tree that proofs are taken from."""
SESSIONS = 20_000
PROOFS = 2_000
_T0 = 1_768_478_400_000_000


def measure() -> list[Figure]:
    """Builds a tree of a million leaves and audits a log of forty thousand entries."""
    gc.collect()
    leaves = [merkle.leaf_hash(b"%d" % number) for number in range(LARGE)]
    builder = TileBuilder()
    started = time.perf_counter()
    builder.append(leaves)
    appended = time.perf_counter() - started
    tiles = builder.take()
    root = builder.root()
    reader = TileReader(tiles.__getitem__, capacity=len(tiles))
    prove, verify = [], []
    for number in range(PROOFS):
        index = number * 7_919 % LARGE
        started = time.perf_counter()
        path = reader.inclusion_proof(index, LARGE)
        proven = time.perf_counter()
        merkle.verify_inclusion(leaf=leaves[index], index=index, size=LARGE, proof=path, root=root)
        prove.append(proven - started)
        verify.append(time.perf_counter() - proven)
    return [
        Figure(name="leaf appended to tiles", value=appended / LARGE * 1e6, unit="us", bar=3.0),
        Figure(
            name="inclusion proof from tiles",
            value=statistics.median(prove) * 1e6,
            unit="us",
            bar=1_000,
            note=f"{LARGE:,} entries",
        ),
        Figure(
            name="inclusion verified",
            value=statistics.median(verify) * 1e6,
            unit="us",
            note=f"{LARGE:,} entries",
        ),
        Figure(
            name="entry audited",
            value=_audit_us(),
            unit="us",
            bar=50,
            note="20,000 entries/s are 50 us; state in a file",
        ),
    ]


def _audit_us() -> float:
    key = SigningKey(name="log.example", algorithm="ed25519", seed=b"\x01" * 32)
    prover = SigningKey(name="prover.example", algorithm="ed25519", seed=b"\x02" * 32)
    entries: list[bytes] = []
    for number in range(SESSIONS):
        session, at = f"{number:032x}", _T0 + 1_000 * number
        both: tuple[Entry, Entry] = (
            OpenedEntry(
                logged_us=at,
                session=session,
                prover=prover.verifying_key.vkey,
                purpose=f"trade/t-{number}/open",
                venue="binance",
                host="data-api.binance.vision",
                mode="sealed",
                deadline_us=at + 10_000_000,
            ),
            AttestedEntry(logged_us=at + 500, session=session, header="sha256:" + session * 2),
        )
        entries += [write_entry(entry) for entry in both]
    builder = TileBuilder()
    builder.append([merkle.leaf_hash(entry) for entry in entries])
    head = Checkpoint(origin=key.name, size=len(entries), root=builder.root())
    files = {"checkpoint": sign_checkpoint(head, key).encode()}
    for tile in tiles_of(len(entries)):
        if tile.level == 0:
            start = 256 * tile.index
            files[tile.entries_path()] = encode_bundle(entries[start : start + tile.width])

    def read(path: str) -> bytes:
        try:
            return files[path]
        except KeyError:
            raise UnavailableError("no such file", found=path) from None

    policy = LogPolicy.threshold([key.verifying_key], [], 0)
    with AuditStore(None) as store:
        started = time.perf_counter()
        report = audit_log(Audit(policy, spent=store.spent), read)
        spent = time.perf_counter() - started
    if report.exit_code:
        raise RuntimeError("the benchmark's own log is not sound")
    return spent / len(entries) * 1e6
