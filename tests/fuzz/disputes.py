"""Target: evidence whose every signature holds, whatever the notary signed.

What `verifier recheck` calls the same must follow from the raw records: that is
compared with what the session, taken apart by the tests' own peers, said.
"""

from __future__ import annotations

import dataclasses
from collections.abc import Iterable
from typing import Any

from attestation import merkle
from attestation.document import body_leaves
from attestation.errors import MalformedError, QuotaryError
from attestation.hashing import format_hash
from attestation.seal import SignedSeal
from attestation.secrets import EVIDENCE_LIMIT, Evidence
from tests.fuzz.edits import mutate_json
from tests.fuzz.oracle import Target, demand, parse
from tests.verifier import forge
from tests.verifier.evidence import evidence, roots, venue
from verifier.recheck import recheck

TRUST = forge.trust()
_FACTS = ("host", "port", "suite", "group", "handshake_hash")


def lying_evidence(data: bytes) -> None:
    """A notary that signs any facts of a true session: refused, or the facts are true."""
    found = parse(lambda: _sign(Evidence.decode(data, limit=EVIDENCE_LIMIT)))
    if found is None:
        return
    report = parse(
        lambda: recheck(found, roots=roots(), trust=TRUST, venue_files={"binance": venue()}),
        QuotaryError,
    )
    if report is None:
        return
    signed, true = found.attestation, evidence().attestation
    demand(signed.server() == true.server(), "another server")
    for member in _FACTS:
        told, wanted = getattr(signed.connection(), member), getattr(true.connection(), member)
        demand(told == wanted or found.sent != evidence().sent, f"another {member}")
    http, wanted_http = signed.http(), true.http()
    demand(http == wanted_http, "another exchange")
    quotes: list[Any] = [field.value["value"] for field in _extensions(signed)]
    wanted_quote = next(iter(_extensions(true))).value["value"]
    for quote in quotes:
        demand({**quote, "observed_us": 0} == {**wanted_quote, "observed_us": 0}, "another quote")
        demand(quote["observed_us"] == signed.connection().response_last_us, "seen at another time")
    honest = {field.name: field for field in true.sections().values()}
    for section in signed.sections().values():
        same = honest.get(section.name)
        if same is not None and section.split == same.split and section.scheme == same.scheme:
            place = (section.direction, section.start, section.end, section.parts)
            demand(place == (same.direction, same.start, same.end, same.parts), "another place")
    demand(report.sealed == (found.seal is not None), "a seal that nobody looked at")


def _extensions(attestation: Any) -> list[Any]:
    return [field for field in attestation.fields if field.name == "extension"]


def _sign(found: Evidence) -> Evidence:
    """Makes every signature hold again; raises MalformedError where there is nothing to sign."""
    notary, attestation = forge.LyingNotary(), found.attestation
    if any(field.salt is not None for field in attestation.fields):
        raise MalformedError("salts beside a seed")
    leaves = body_leaves(attestation.fields, seed=attestation.seed, algorithm=notary.hash)
    header = dataclasses.replace(
        attestation.header,
        key=notary.key.verifying_key.short,
        root=format_hash(merkle.root(leaves, notary.hash), notary.hash),
        size=len(leaves),
    )
    seal = found.seal
    if seal is not None:
        content = dataclasses.replace(seal.seal, key=notary.key.verifying_key.short)
        seal = SignedSeal(seal=content, signature=notary.key.sign(content.encode()).hex())
    signature = notary.key.sign(header.encode()).hex()
    attestation = dataclasses.replace(attestation, header=header, signature=signature)
    return dataclasses.replace(found, attestation=attestation, seal=seal)


def dispute_seeds() -> Iterable[bytes]:
    yield evidence().encode()
    yield evidence(mode="open").encode()
    yield evidence(quote=False).encode()
    lies = {"http.status": 201, "server.name": "other.example", "quote.bid": "1"}
    for member, lie in lies.items():
        yield evidence(lies={member: lie}).encode()


TARGETS = (
    Target(
        name="lying_evidence",
        run=lying_evidence,
        seeds=dispute_seeds,
        mutate=mutate_json,
        max_size=32_768,
    ),
)
