"""Prints any document for people, without checking anything it claims.

Every text in a document may be hostile: nothing reaches a terminal unescaped.
"""

from __future__ import annotations

import dataclasses
from collections.abc import Iterator
from typing import Any

from attestation.document import Attestation, Field, Header
from attestation.encoding import decode_object
from attestation.errors import MalformedError
from attestation.log.entry import ENTRY_TYPE, read_entry
from attestation.log.report import AuditReport, FindingsFile
from attestation.presentation import Presentation
from attestation.request import AttestationRequest, SessionRequest
from attestation.rotation import RotationStatement
from attestation.schema import Document
from attestation.seal import Seal
from attestation.secrets import EVIDENCE_LIMIT, Evidence, Secrets
from attestation.settlement.bundle import SettlementBundle
from attestation.settlement.ledger import LedgerLine
from attestation.settlement.outcome import OutcomeDocument
from attestation.settlement.parts import EntriesPart, RangePart, SlotPart, TradePart
from attestation.settlement.policy import SettlementPolicy
from attestation.settlement.promise import SignedPromise
from attestation.settlement.reconciliation import Reconciliation
from attestation.verdict import read_verdict
from verifier.text import duration, safe, safe_bytes, utc

INSPECT_LIMIT = EVIDENCE_LIMIT
FIRST_MOMENT = 10**14
"""Microseconds since the epoch (1973): less is how long something takes."""
SHOWN = 2_000
"""Characters of one value that are printed."""

_TYPES: dict[str | None, type[Document]] = {
    kind.TYPE: kind
    for kind in (
        Presentation,
        Attestation,
        Header,
        Field,
        SessionRequest,
        AttestationRequest,
        Seal,
        Secrets,
        Evidence,
        RotationStatement,
        AuditReport,
        FindingsFile,
        SettlementPolicy,
        SettlementBundle,
        TradePart,
        RangePart,
        EntriesPart,
        SlotPart,
        OutcomeDocument,
        LedgerLine,
        Reconciliation,
        SignedPromise,
    )
}
_VERDICT = "quotary/verdict/v1"
FORMATS = tuple(sorted({_VERDICT, ENTRY_TYPE, *(kind for kind in _TYPES if kind is not None)}))
"""Type strings, with their versions, of all documents this version reads."""
_PRIVATE = frozenset({"private_key", "salt", "seed"})


def read_document(data: bytes) -> Document:
    """Decodes a document of any type; raises MalformedError."""
    value = decode_object(data, limit=INSPECT_LIMIT)
    kind = value.get("type")
    if kind == _VERDICT:
        return read_verdict(value)
    if kind == ENTRY_TYPE:
        return read_entry(data.removesuffix(b"\n"))
    known = _TYPES.get(kind) if isinstance(kind, str) else None
    if known is None:
        raise MalformedError(
            "no such document type",
            rule="type",
            found=kind,
            wanted=sorted(map(str, (*_TYPES, ENTRY_TYPE, _VERDICT))),
        )
    return known.from_json(value)


def describe(document: Document) -> str:
    """Returns the members as indented lines of harmless text.

    Keys and salts of documents that are kept secret are left out.
    """
    hide = isinstance(document, (Secrets, Evidence, Attestation))
    return "\n".join([str(document.TYPE), *_members(document, "  ", hide)])


def _members(value: Any, indent: str, hide: bool) -> Iterator[str]:
    if isinstance(value, Document):
        items = [(field.name, getattr(value, field.name)) for field in dataclasses.fields(value)]
    else:
        items = list(value.items())
    for name, item in items:
        if item is None:
            continue
        if hide and name in _PRIVATE:
            yield f"{indent}{name}: (hidden)"
        elif isinstance(item, (Document, dict)):
            yield f"{indent}{name}:"
            yield from _members(item, indent + "  ", hide)
        elif isinstance(item, (tuple, list)):
            yield from _items(name, item, indent, hide)
        elif isinstance(item, str) and "\n" in item.rstrip("\n"):
            # A note or a proof: what a line of it says cannot pass for a member.
            yield f"{indent}{name}:"
            shown = item[:SHOWN].removesuffix("\n").split("\n")
            yield from (f"{indent}  | {safe(line)}" for line in shown)
            if len(item) > SHOWN:
                yield f"{indent}  ... ({len(item) - SHOWN} more)"
        else:
            yield f"{indent}{name}: {_scalar(name, item, hide)}"


def _items(name: str, items: Any, indent: str, hide: bool) -> Iterator[str]:
    if not any(isinstance(item, (Document, dict, list, bytes)) for item in items):
        yield f"{indent}{name}: [{', '.join(_scalar(name, item, hide) for item in items)}]"
        return
    yield f"{indent}{name}: {len(items)}"
    for item in items:
        if isinstance(item, (Document, dict)):
            lines = list(_members(item, indent + "    ", hide))
        elif isinstance(item, (tuple, list)):
            lines = list(_items("", item, indent + "    ", hide))
        else:
            lines = [_scalar(name, item, hide)]
        if lines:
            yield f"{indent}  - {lines[0].lstrip()}"
            yield from lines[1:]


def _scalar(name: str, value: Any, hide: bool) -> str:
    if isinstance(value, bytes):
        return f"({len(value)} bytes)" if hide else f"'{safe_bytes(value, limit=SHOWN)}'"
    if isinstance(value, bool):
        return "true" if value else "false"
    if isinstance(value, int):
        if not name.endswith("_us"):
            return str(value)
        return f"{value} ({utc(value) if value >= FIRST_MOMENT else duration(value)})"
    return safe(value, limit=SHOWN)
