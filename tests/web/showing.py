"""Presentations that a lying notary, log or prover makes, each for one check of their reader."""

from __future__ import annotations

import base64
import dataclasses
from collections.abc import Iterator, Mapping, Sequence
from typing import Any

import orjson

from attestation import merkle
from attestation.document import Attestation, Field
from attestation.encoding import encode
from attestation.expect import Expect, NotaryQuorum
from attestation.hashing import format_hash
from attestation.keys import SigningKey
from attestation.log.checkpoint import Checkpoint, sign_checkpoint
from attestation.log.entry import write_entry
from attestation.log.inclusion import Inclusion
from attestation.log.proof import LogProof
from attestation.presentation import Presentation
from attestation.trust import Trust
from tests.verifier import feeds, forge, logged, test_slots
from tests.verifier.lying import LyingNotary, hash_of
from tests.web.expected import expect_text
from tests.web.parsed import entry_samples
from tests.web.vectors import Vector
from tests.web.voices import presentation_vector

TWO = LyingNotary(name="notary.two", operator="Two Ltd")
Parts = Sequence[tuple[str, bytes]]


def shown_lies() -> Iterator[Vector]:
    """All of them."""
    yield from sessions()
    yield from trees()
    yield from slots()
    yield from logs()
    yield from kinds()


def _asked(
    name: str,
    shown: Presentation | bytes | Sequence[bytes],
    expect: Expect,
    trust: Trust | None = None,
) -> Vector:
    if isinstance(shown, Presentation):
        shown = shown.encode()
    return presentation_vector(
        f"telling/{name}",
        [shown] if isinstance(shown, bytes) else list(shown),
        (trust or forge.trust(LyingNotary(), TWO)).dump().decode(),
        expect_text(expect),
        forge.NOW,
    )


def _all_fields(attestation: Attestation) -> Presentation:
    return forge.show_fields(attestation, range(len(attestation.fields)))


def _changed(shown: Presentation, **members: Any) -> bytes:
    """The presentation with other members, as JSON has them."""
    document = {**orjson.loads(shown.encode()), **members}
    return orjson.dumps(document, option=orjson.OPT_SORT_KEYS)


def sessions() -> Iterator[Vector]:
    """Sessions, and what is said to have been fetched in them."""
    for name, lies in {
        "section ends before it starts": {"request.line.start": 50, "request.line.end": 3},
        "Date before the epoch": {"http.server_date": "Wed, 31 Dec 1969 23:59:59 GMT"},
        "unknown extension": {"quote/v1.id": "other/v1"},
        "101 of a request": {"http.status": 101},
    }.items():
        made = forge.session(lies=lies).attestation
        yield _asked(name, _all_fields(made), forge.expect())
    another = forge.session(lies={"http.status": 404})
    yield _asked("another status line", another.whole(), forge.expect())
    nowhere = forge.session(lies={"quote.venue": "nowhere"})
    yield _asked("no venue file", nowhere.whole(), forge.expect("nowhere"))
    market = forge.session(lies={"quote.market": "ETH/USD"})
    yield _asked("another market", market.whole(), forge.expect(market="ETH/USD"))
    for venue, old, new in (
        ("kraken", '"error":[]', '"error":["x"]'),
        ("kraken", '"error":[]', '"error":{{}}'),
        ("kraken", '"error":[]', '"error":""'),
        ("binance", "BTCUSDT", "ETHUSDT"),
        ("binance", '"{bid}"', '"99999"'),
        ("coinbase", '"{bid}"', '"0"'),
        ("coinbase", '"{bid}"', '"-1"'),
        ("coinbase", "2026-01-15", "2026-02-30"),
        ("coinbase", "2026-01-15", "0001-01-01"),
    ):
        body = forge.BODIES[venue].replace(old, new)
        body = body.format(bid=forge.BID, ask=forge.ASK, last=forge.LAST)
        made_of = forge.session(venue, body=body)
        yield _asked(f"body {venue} {new}", made_of.whole(), forge.expect(venue))
    for member in ("venue", "venue_file", "market", "instrument", "bid", "ask", "last", "section"):
        for said in ("", "x", "NEW-USD", "nowhere", "1", "request.line", "sha256:" + "0f" * 32):
            claimed = forge.session(lies={f"quote.{member}": said}).whole()
            yield _asked(f"claims {member} {said[:8]}", claimed, forge.expect())
    whole = orjson.loads(forge.session().whole().encode())
    body_at = next(each for each in whole["openings"] if "parts" in each)
    line_at = next(each for each in whole["openings"] if "data" in each)
    for name, opening in {
        "tree opened as a hash": {"index": body_at["index"], "salt": "0f" * 16, "data": ""},
        "hash opened as a tree": {"index": line_at["index"], "parts": [], "proof": []},
        "opened in no way": {"index": body_at["index"]},
        "opened in both": {**body_at, "salt": "0f" * 16, "data": ""},
    }.items():
        others = [opening if each["index"] == opening["index"] else each for each in
                  whole["openings"]]  # fmt: skip
        yield _asked(name, _changed(forge.session().whole(), openings=others), forge.expect())
    seeded = feeds.slot(venues=["coinbase"]).bare()
    fields = orjson.loads(seeded.encode())["fields"]
    fields[-1]["index"] += 1
    shown = _changed(seeded, fields=fields)
    yield _asked("seed, and other places", shown, test_slots.expect("coinbase"))
    root = whole["header"]["root"].partition(":")[2]
    nothing = _changed(forge.session().present(), fields=[], openings=[], proof=[root])
    yield _asked("no field", nothing, forge.expect())


def _tree(
    parts: Parts, *, shown: Sequence[int], lies: Mapping[str, Any] | None = None
) -> Presentation:
    """A session whose body was committed as these parts, of which some are opened."""
    salts = [hash_of(f"part/{at}", 16).hex() for at in range(len(parts))]
    leaves = [
        merkle.leaf_hash(
            encode(
                {
                    "type": "quotary/part/v1",
                    "salt": salt,
                    "at": place,
                    "data": base64.urlsafe_b64encode(data).decode().rstrip("="),
                }
            )
        )
        for salt, (place, data) in zip(salts, parts, strict=True)
    ]
    made = forge.session(
        lies={
            "response.body.digest": format_hash(merkle.root(leaves)),
            "response.body.parts": len(parts),
            **(lies or {}),
        }
    ).attestation
    index = next(at for at, section in made.sections().items() if section.name == "response.body")
    opened = {
        "index": index,
        "parts": [
            {
                "part": at,
                "salt": salts[at],
                "at": parts[at][0],
                "data": base64.urlsafe_b64encode(parts[at][1]).decode().rstrip("="),
            }
            for at in shown
        ],
        "proof": [node.hex() for node in merkle.multiproof(leaves, shown)],
    }
    data = _changed(_all_fields(made), openings=[opened])
    return Presentation.decode(data)


def trees() -> Iterator[Vector]:
    """Bodies committed by value, as no honest prover commits them."""
    honest: list[tuple[str, bytes]] = [
        ("/ask", b'"96500.98"'),
        ("/bid", b'"96500.12"'),
        ("/price", b'"96500.5"'),
        ("/time", b'"2026-01-15T12:00:00.104537Z"'),
    ]
    every = range(len(honest))
    yield _asked("tree", _tree(honest, shown=every), forge.expect())
    split = {"response.body.split": "fixed:16"}
    yield _asked("tree of sizes", _tree(honest, shown=every, lies=split), forge.expect())
    twice = [*honest, ("/bid", b'"96500.12"')]
    yield _asked("one place twice", _tree(twice, shown=range(5)), forge.expect())
    for said in (b"\xff", b'"96500.12" ', b"[1]", b'["96500.12"]', b"96500.12", b""):
        parts = [honest[0], ("/bid", said), *honest[2:]]
        yield _asked(f"part {said!r}", _tree(parts, shown=every), forge.expect())


def slots() -> Iterator[Vector]:
    """Slots and the sessions beside them."""
    both, okx = test_slots.expect("coinbase", "okx"), test_slots.expect("okx")
    disordered = feeds.slot(venues=["okx", "coinbase"]).attestation
    yield _asked("venues out of order", _all_fields(disordered), both)
    slot = feeds.slot(venues=["okx"])
    bare = slot.bare()
    hosts = Expect(hosts=("api.exchange.coinbase.com",))
    yield _asked("slot where hosts are expected", bare, hosts)
    start = orjson.loads(feeds.start("okx").encode())
    yield _asked("no session", _changed(bare, sessions=[]), okx)
    for count in (64, 65):
        yield _asked(f"{count} sessions", _many(count), okx)
    inner = orjson.loads(slot.present(sessions=()).encode())
    yield _asked("slot beside a slot, with messages", _changed(bare, sessions=[inner]), okx)
    nested = {**orjson.loads(bare.encode()), "sessions": [start]}
    yield _asked("session with a session", _changed(bare, sessions=[nested]), okx)
    for name, beside in {
        "slot beside a slot": bare,
        "another notary's session": feeds.start("okx", notary=TWO),
        "session attested after": feeds.start("okx", at_us=feeds.SLOT_US),
        "first answer after the quote": feeds.start("okx", at_us=feeds.SLOT_US - 100_000),
        "frame opened in part": _framed(),
    }.items():
        yield _asked(name, dataclasses.replace(bare, sessions=(beside,)), okx)
    # The other notary's session under the name that the slot gives.
    theirs = feeds.started("okx", notary=TWO)
    ids = {"session.id": feeds.session_id("okx", LyingNotary())}
    fields = [forge.lie(field, ids) for field in theirs.fields]
    again = TWO.sign(fields, label="again", issued_us=theirs.header.issued_us)
    stolen = dataclasses.replace(bare, sessions=(_all_fields(again),))
    yield _asked("another notary's session of that id", stolen, okx)


def _many(count: int) -> bytes:
    """A slot that names this many sessions, all of them beside it."""
    honest = feeds.slot(venues=["okx"]).attestation
    head, seen, notary = honest.fields
    names = [f"z{at:02}" for at in range(count - 1)]
    ids = {name: hash_of(f"many/{name}", 16).hex() for name in names}
    others = [
        Field(name=seen.name, value={**seen.value, "venue": name, "session": ids[name]})
        for name in names
    ]
    fields = [Field(name=head.name, value={**head.value, "venues": ["okx", *names]})]
    fields += [seen, *others, notary]
    made = LyingNotary().sign(fields, label="many", issued_us=honest.header.issued_us)
    starts = [feeds.started("okx")]
    starts += [feeds.started("okx", lies={"session.id": each}) for each in ids.values()]
    beside = [orjson.loads(_all_fields(each).encode()) for each in starts]
    return _changed(_all_fields(made), sessions=beside)


def _framed() -> Presentation:
    """The start of a session with a frame of its subscription, committed in parts."""
    honest = feeds.started("okx")
    part = {"type": "quotary/part/v1", "salt": "0f" * 16, "at": "0", "data": "AAAA"}
    value: dict[str, Any] = {
        "name": "message.0",
        "direction": "sent",
        "start": 300,
        "end": 303,
        "framing": "plain",
        "scheme": "tree",
        "digest": format_hash(merkle.root([merkle.leaf_hash(encode(part))])),
        "parts": 1,
        "split": "fixed:16",
    }
    fields = [*honest.fields[:-1], Field(name="section", value=value), honest.fields[-1]]
    made = LyingNotary().sign(fields, label="framed", issued_us=honest.header.issued_us)
    opened = {"part": 0, "salt": part["salt"], "at": part["at"], "data": part["data"]}
    opening = {"index": len(fields) - 2, "parts": [opened], "proof": []}
    return Presentation.decode(_changed(_all_fields(made), openings=[opening]))


def logs() -> Iterator[Vector]:
    """Proofs of inclusion in trees that a log made up for them."""
    forged = forge.session()
    entry = logged.entry_of(forged.attestation)
    leaf, other = merkle.leaf_hash(write_entry(entry)), bytes(range(32))
    for name, index, size, path, root in (
        ("one leaf", 0, 1, (), leaf),
        ("outside of the tree", 1, 1, (), leaf),
        ("path too long", 0, 1, (other,), merkle.node_hash(other, leaf)),
        ("path too long, to the right", 0, 1, (other,), merkle.node_hash(leaf, other)),
        ("path too short", 0, 2, (), leaf),
    ):
        head = Checkpoint(origin=logged.LOG.name, size=size, root=root)
        note = sign_checkpoint(head, logged.LOG.key).encode()
        proof = LogProof(index=index, path=path, note=note)
        log = Inclusion(
            entry=orjson.loads(write_entry(entry)), proof=proof.encode().decode("utf-8")
        )
        shown = dataclasses.replace(forged.present(), log=log)
        yield _asked(f"log, {name}", shown, forge.expect(), logged.trust())
    feed = orjson.loads(entry_samples()["feed"])
    feed["provers"] = sorted(
        SigningKey(name=f"p{at}", algorithm="ed25519", seed=hash_of(f"p{at}")).verifying_key.vkey
        for at in range(900)
    )
    log_json = {"entry": feed, "proof": logged.prove(entry).proof}
    shown_too = _changed(forged.present(), log=log_json)
    yield _asked("log, 900 provers", shown_too, forge.expect(), logged.trust())
    large = {**orjson.loads(write_entry(entry)), "session": "x" * 70_000}
    log_json = {"entry": large, "proof": logged.prove(entry).proof}
    shown_too = _changed(forged.present(), log=log_json)
    yield _asked("log, a large entry", shown_too, forge.expect(), logged.trust())


def kinds() -> Iterator[Vector]:
    """Too many fields, and several of what cannot be several."""
    made = forge.session().attestation
    section = next(field for field in made.fields if field.name == "section")
    fields = [*made.fields[:-1], *[section] * 1_100, made.fields[-1]]
    many = LyingNotary().sign(fields, label="many", issued_us=made.header.issued_us)
    shown = forge.show_fields(many, [0, 1, 2, 3, len(fields) - 1])
    yield _asked("1,100 fields", shown, forge.expect())
    hosts = Expect(hosts=("api.exchange.coinbase.com",), notaries=NotaryQuorum(count=2))
    voices = [forge.session(notary=notary).whole().encode() for notary in (LyingNotary(), TWO)]
    yield _asked("transcripts of two", voices, hosts)
