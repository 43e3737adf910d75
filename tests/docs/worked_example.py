"""Makes the examples of docs/formats.md: ``python -m tests.docs.worked_example`` writes them anew.

A fenced block of the page is named by its info string, ``json header`` say.  The
blocks of ``blocks()`` are made here, from ``worked_session``; the others are
written by hand and read by the tests.
"""

from __future__ import annotations

import dataclasses
import re
import tomllib
from pathlib import Path

from attestation import merkle
from attestation.commitment import section_parts
from attestation.document import Attestation, Field, field_salt
from attestation.encoding import encode, hex_decode
from attestation.expect import Expect
from attestation.presentation import present
from attestation.quote import quote_pointers
from attestation.request import KeylogOpened, KeyOpening
from attestation.schema import Document
from attestation.secrets import Secrets
from attestation.section import section_bytes
from attestation.strictjson import scalars
from attestation.venues import load_venue
from tests.docs import worked_session as worked
from tests.docs.worked_session import BODY, CURVE, INSTRUMENT, NOTARY, NOW, PROVER
from verifier.decide import judge

ROOT = Path(__file__).resolve().parents[2]
PAGE = ROOT / "docs" / "formats.md"
FENCE = re.compile(r"^```([^\n]*)\n(.*?)^```$", re.MULTILINE | re.DOTALL)

SIGNED = b"quotary"
"""The message under the signatures of the section on keys."""
ENTRIES = (b"a", b"b", b"c", b"d", b"e")
"""Entries of the small tree."""
EXPECT = """\
venues = ["binance"]
market = "BTC/USD"
purpose = "trade/t-1/open"
max_age_us = 10_000_000
"""
SLOT_EXPECT = f"""\
venues = ["binance"]
market = "BTC/USD"
roots = "sha256:{worked.fixed("roots")}"
"""


def blocks() -> dict[str, str]:
    """Returns the content of every generated block of the page by its info string."""
    session, secrets, seal = worked.session()
    logged = KeylogOpened(
        kind="keylog",
        **{name: worked.fixed(name.replace("_", " ")) for name in KeylogOpened.__slots__[1:]},
    )
    who = session.session()
    commitment = logged.commitment(session=who.id, nonce=who.nonce)
    result = {
        "toml trust": worked.trust().dump().decode(),
        "toml expect": EXPECT,
        "text now": str(NOW),
        "text sent": worked.REQUEST.decode().replace("\r\n", "\n"),
        "text received": worked.RESPONSE.decode().replace("\r\n", "\n"),
        "text session_signature": PROVER.sign(worked.session_request().encode()).hex(),
        "json session_request": _text(worked.session_request()),
        "json feed_request": _text(worked.feed_request()),
        "text feed_token": worked.feed_request().bearer,
        "json opening": _text(KeyOpening(kind="ephemeral", private_key=worked.fixed("ephemeral"))),
        "json keylog_opening": _text(logged),
        "json keylog_commitment": _text(commitment),
        "text commitment": commitment.digest,
        "json seal": _text(seal),
        "json request": _text(secrets.request),
        "json secrets": _text(secrets),
    }
    for made in (_body(session), _sections(session, secrets), _shown(session, secrets)):
        result |= made
    for made in (_venue(), _keys(), _tree()):
        result |= made
    return {info: content.rstrip("\n") + "\n" for info, content in result.items()}


def rewrite(page: str) -> str:
    """Returns the page with every generated block's content made anew."""
    made = blocks()
    return FENCE.sub(lambda match: f"```{match[1]}\n{made.get(match[1], match[2])}```", page)


def _text(document: Document) -> str:
    return document.encode().decode("utf-8")


def _body(session: Attestation) -> dict[str, str]:
    """The header, one field of each name but section, and what they hash to."""
    seed = hex_decode(session.seed)
    salts = [field_salt(seed, index).hex() for index in range(len(session.fields))]
    fields = {
        f"json {field.name}_field": _text(dataclasses.replace(field, salt=salt))
        for field, salt in zip(session.fields, salts, strict=True)
        if field.name != "section"
    }
    return fields | {
        "json attestation": _text(session),
        "json header": _text(session.header),
        "hex header": session.header.encode().hex(),
        "text field_salts": "\n".join(salts),
        "text field_leaves": "\n".join(leaf.hex() for leaf in session.leaves()),
    }


def _sections(session: Attestation, secrets: Secrets) -> dict[str, str]:
    """A section of each scheme, taken apart."""
    exchange = worked.exchange()
    wanted = {section.name: section for section in secrets.request.sections}
    parts = section_parts(wanted["x.symbol"], section_bytes(wanted["x.symbol"], exchange))
    line = wanted["request.line"]
    values: list[Field] = [field for field in session.fields if field.name == "section"]
    return {
        "json section_values": "\n".join(encode(field.value).decode() for field in values),
        "hex hash_input": (hex_decode(line.salt) + section_bytes(line, exchange)).hex(),
        "json parts": "\n".join(_text(part) for part in parts),
        "text part_leaves": "\n".join(merkle.leaf_hash(part.encode()).hex() for part in parts),
        "text body_parts": "\n".join(
            f"{index}  {pointer}  {scalar.raw.decode()}"
            for index, (pointer, scalar) in enumerate(scalars(BODY).items())
        ),
    }


def _shown(session: Attestation, secrets: Secrets) -> dict[str, str]:
    """A presentation of the session, one of a slot, and verdicts on the first."""
    pointers = quote_pointers(load_venue("binance"), INSTRUMENT)
    shown = present(
        session,
        secrets,
        worked.exchange(),
        sections={"response.status": "whole", "response.body": pointers},
    )
    expect = Expect.parse(EXPECT.encode())
    other = dataclasses.replace(expect, purpose="trade/t-1/close")
    accepted, rejected = (
        judge([shown], trust=worked.trust(), expect=wanted, now_us=NOW)
        for wanted in (expect, other)
    )
    # That page is made with this module's names.
    from tests.docs import logged_example

    return {
        **logged_example.blocks(shown, EXPECT, NOW),
        "json presentation": _text(shown),
        "json slot_presentation": _text(worked.slot()),
        "text slot_message": worked.MESSAGE.decode(),
        "toml slot_expect": SLOT_EXPECT,
        "json slot_accepted": _text(
            judge(
                [worked.slot()],
                trust=worked.trust(),
                expect=Expect.parse(SLOT_EXPECT.encode()),
                now_us=NOW,
            )
        ),
        "json accepted": _text(accepted),
        "json rejected": _text(rejected),
    }


def _venue() -> dict[str, str]:
    toml = (ROOT / "attestation" / "venues" / "binance.toml").read_text(encoding="utf-8")
    return {
        "toml venue_file": toml,
        "json venue_file": encode(tomllib.loads(toml)).decode(),
        "text venue_hash": load_venue("binance").hash,
    }


def _keys() -> dict[str, str]:
    keys = (NOTARY, CURVE, PROVER)
    return {
        "text seeds": "\n".join(f"{key.name}  {key.algorithm}  {key.seed.hex()}" for key in keys),
        "text vkeys": "\n".join(key.verifying_key.vkey for key in keys),
        "text key_files": "\n".join(key.encode() for key in keys),
        "text signatures": "\n".join(key.sign(SIGNED).hex() for key in keys),
        "json rotation": _text(worked.rotation()),
    }


def _tree() -> dict[str, str]:
    leaves = [merkle.leaf_hash(entry) for entry in ENTRIES]
    ab, cd = (merkle.node_hash(leaves[at], leaves[at + 1]) for at in (0, 2))
    abcd = merkle.node_hash(ab, cd)
    nodes = dict(zip("abcde", leaves, strict=True)) | {"ab": ab, "cd": cd, "abcd": abcd}
    nodes["abcde"] = merkle.node_hash(abcd, leaves[4])
    proofs = {
        "text tree_inclusion": merkle.inclusion_proof(leaves, 2),
        "text tree_multiproof": merkle.multiproof(leaves, [1, 4]),
        "text tree_consistency": merkle.consistency_proof(leaves, 3),
    }
    return {"text tree": "\n".join(f"{node.hex()}  {name}" for name, node in nodes.items())} | {
        info: "\n".join(node.hex() for node in proof) for info, proof in proofs.items()
    }


def main() -> None:
    """Writes the page's blocks anew."""
    PAGE.write_text(rewrite(PAGE.read_text(encoding="utf-8")), encoding="utf-8")


if __name__ == "__main__":
    main()
