"""Questions about documents by themselves: those of logs and operators, and the reader's own."""

from __future__ import annotations

import dataclasses
import json
from collections.abc import Callable, Iterator
from functools import cache
from typing import Any

import orjson

from attestation.expect import Expect
from attestation.keys import SigningKey
from attestation.log.entry import (
    AbortedEntry,
    AttestedEntry,
    ClosedEntry,
    KeyEntry,
    MissedEntry,
    OpenedEntry,
    PolicyEntry,
    SlotEntry,
    TickEntry,
    TradesEntry,
    logged_at,
    read_entry,
    write_entry,
)
from attestation.log.lines import base64_encode
from attestation.log.proof import LogProof
from attestation.rotation import Rotation, RotationStatement
from attestation.settlement.expect import SettlementExpect
from attestation.settlement.ledger import read_ledger
from attestation.settlement.policy import SettlementPolicy
from attestation.trust import Trust
from tests.fuzz.edits import mutate_json
from tests.settlement import cases, world
from tests.settlement.day import a_day
from tests.web import noted
from tests.web.vectors import Answer, Vector, encoded

CHANGES = 60
READ: dict[str, Callable[[bytes], str]] = {
    "entry": lambda data: read_entry(data).kind,
    "ledger": lambda data: str(len(list(read_ledger(data.splitlines(keepends=True))))),
    "policy": lambda data: SettlementPolicy.decode(data).policy_id,
    "proof": lambda data: json.dumps({"index": LogProof.parse(data).index}, separators=(",", ":")),
    "trust": lambda data: str(len(Trust.parse(data).keys)),
    "expect": lambda data: f"{Expect.parse(data).notary_count}",
    "settlement_expect": lambda data: SettlementExpect.parse(data).policy_id,
}


def document_vector(kind: str, name: str, data: bytes) -> Vector:
    """Asks to read a document."""
    return Vector(
        name=f"{kind}/{name}",
        call="judgeDocument",
        question={"kind": kind, "data": encoded(data)},
        answer=Answer.of(lambda: READ[kind](data).encode()),
    )


def _strange(data: bytes, changes: dict[str, Any]) -> Iterator[tuple[str, bytes]]:
    """The canonical document with members set, by dotted name, one at a time; None takes it out."""
    for name, value in changes.items():
        document = orjson.loads(data)
        place = document
        *path, last = name.split("=")[0].split(".")
        for step in path:
            place = place[int(step) if isinstance(place, list) else step]
        if value is None:
            del place[last]
        else:
            place[last] = value
        yield name, orjson.dumps(document, option=orjson.OPT_SORT_KEYS)


def entry_samples() -> dict[str, bytes]:
    """An entry of each kind, and an attested session that came again."""
    policy = world.bound(cases.policy(venues=3))
    key = world.OPERATOR.verifying_key.vkey
    new = SigningKey(name="n0", algorithm="ed25519", seed=bytes(range(1, 33)))
    rotation = Rotation(
        name="n0",
        operator="Operator",
        old=world.attest_key("n0").verifying_key.vkey,
        new=new.verifying_key.vkey,
        issued_us=10,
        from_us=20,
        old_until_us=30,
        until_us=40,
    )
    signed = {"old_signature": "ab" * 64, "new_signature": "cd" * 64}
    found = {
        "feed": world.feed(policy),
        "opened": OpenedEntry(
            session="0f" * 16,
            prover=key,
            purpose="live/btc/binance",
            venue="binance",
            host="stream.example",
            mode="live",
            deadline_us=5,
        ),
        "aborted": AbortedEntry(session="0f" * 16, reason="prover_slow", fault="prover"),
        "closed": ClosedEntry(session="0f" * 16, reason="venue_closed", messages=3),
        "missed": MissedEntry(feed="btc", slot_us=500_000, fault="notary"),
        "policy": PolicyEntry(
            policy_id=policy.policy_id, document=policy.to_json(), effective_us=7
        ),
        "trades": TradesEntry(count=2, root="sha256:" + "0f" * 32),
        "key": KeyEntry(statement=RotationStatement(rotation=rotation, **signed)),
        "attested": AttestedEntry(session="0f" * 16, header="sha256:" + "0f" * 32),
        "slot": SlotEntry(
            feed="btc", slot_us=500_000, header="sha256:" + "0f" * 32, prev="sha256:" + "0e" * 32
        ),
        "reopened": OpenedEntry(
            session="0f" * 16,
            conn="0e" * 16,
            prover=key,
            purpose="adhoc/again",
            host="stream.example",
            mode="sealed",
            deadline_us=5,
            retry_of="0d" * 16,
        ),
        "tick": TickEntry(),
    }
    return {name: write_entry(logged_at(entry, 9)) for name, entry in found.items()}  # type: ignore[arg-type,type-var]


def entries() -> Iterator[Vector]:
    """Every kind of entry, with members that no honest log has."""
    made = entry_samples()
    operator = world.OPERATOR.verifying_key.vkey
    other = world.attest_key("n1").verifying_key.vkey
    rotation = "statement.rotation"
    strange: dict[str, dict[str, Any]] = {
        "feed": {
            "venues": [],
            "provers": [],
            "provers=twice": [operator, operator],
            "provers=none": ["nobody"],
            "provers=other type": ["a+00000000+BA=="],
            "from_us": 2**53 - 1,
            "grid_us": 0,
            "venues.0.venue": "zz",
            "venues.1.venue_file": "sha256:0f",
        },
        "opened": {
            "prover": "anonymous",
            "prover=none": "nobody",
            "purpose": "slot/btc",
            "host": "UPPER.example",
            "mode": "other",
            "retry_of": "0f",
            "venue": None,
        },
        "aborted": {"fault": "venue", "reason": "unheard_of", "session": "0F" * 16},
        "closed": {"messages": -1, "reason": "restart"},
        "missed": {"fault": "nobody", "slot_us": -1},
        "policy": {"policy_id": "0f" * 32, "effective_us": True, "document.q": 2},
        "trades": {"count": 0, "root": "sha1:0f", "root=none": ""},
        "key": {
            f"{rotation}.name": "n9",
            f"{rotation}.new": other,
            f"{rotation}.new=old": world.attest_key("n0").verifying_key.vkey,
            f"{rotation}.old": "n0",
            f"{rotation}.from_us": 9,
            f"{rotation}.old_until_us": 19,
            f"{rotation}.old_until_us=late": 2**53 - 1,
            f"{rotation}.until_us": 20,
            f"{rotation}.until_us=late": 2**53 - 1,
            "statement.old_signature": "zz",
        },
        "tick": {"kind": "tock", "kind=none": 1, "logged_us": None, "more": 1},
    }
    for kind, data in made.items():
        yield document_vector("entry", kind, data)
        yield document_vector("entry", f"{kind} and newline", data + b"\n")
        for name, changed in _strange(data, strange.get(kind, {})):
            yield document_vector("entry", f"{kind}/{name}", changed)
        for seed in range(CHANGES // 4):
            yield document_vector("entry", f"{kind}/{seed}", mutate_json(data, 4_000, seed))
    yield document_vector("entry", "long", b'{"kind":"' + b"x" * 65_536 + b'"}')


def policies() -> Iterator[Vector]:
    """Settlement policies that cannot be meant, each in one way, and changed ones."""
    made = world.bound(cases.policy(venues=3, notaries=3))
    data = made.encode()
    yield document_vector("policy", "valid", data)
    grid = made.grid_us
    strange: dict[str, Any] = {
        "windows.w_us": made.windows.w_us + 1,
        "windows.w_us=long": 10_000 * grid,
        "windows.min_slots": made.windows.w_us // grid + 1,
        "windows.min_slots=half": made.windows.w_us // grid // 2,
        "slide_us": 1,
        "slide_us=long": 10_000 * grid,
        "venues": [],
        "notaries": [],
        "durations_us": [],
        "durations_us=twice": [30 * grid, 30 * grid],
        "durations_us=short": [grid],
        "durations_us=off": [30 * grid + 1],
        "sources": [],
        "sources=twice": ["live", "live"],
        "modes": ["live", "live"],
        "bindings": ["full", "full"],
        "bindings=other": ["half"],
        "k": 4,
        "k=few": 1,
        "q": 4,
        "q=none": 0,
        "venues.0.venue": "zz",
        "venues.1.venue": made.venues[0].venue,
        "notaries.1.notary": "n0",
        "notaries.1.log": made.notaries[0].log,
        "roots": "sha256:0f",
        "fee": "",
        "log_policy": "none",
        "more": 1,
        "market": None,
    }
    for name, changed in _strange(data, strange):
        yield document_vector("policy", name, changed)
    for seed in range(CHANGES):
        yield document_vector("policy", str(seed), mutate_json(data, 4_000, seed))


def ledgers() -> Iterator[Vector]:
    """Ledgers with a line that is none, or is there twice."""
    data = a_day().ledger()
    first, *rest = data.splitlines(keepends=True)
    bare = first[:-1]
    yield document_vector("ledger", "valid", data)
    yield document_vector("ledger", "empty", b"")
    yield document_vector("ledger", "without the last newline", data[:-1])
    yield document_vector("ledger", "one leaf twice", data + first)
    yield document_vector("ledger", "an empty line", first + b"\n" + rest[0])
    strange: dict[str, Any] = {
        "trade": "0f" * 32,
        "payout": "-1",
        "payout=point": "1.0",
        "outcome": "sideways",
        "leaf.nonce": "0f" * 16,
        "leaf.stake": "0",
        "leaf.side": "left",
        "entry": -1,
        "settlement": "0f",
        "salt": "0f",
    }
    for name, changed in _strange(bare, strange):
        yield document_vector("ledger", name, rest[0] + changed + b"\n")
    for seed in range(CHANGES // 2):
        yield document_vector("ledger", str(seed), mutate_json(bare, 4_000, seed))


def proofs() -> Iterator[Vector]:
    """Proofs of inclusion as text, and texts that are nearly that."""
    made = LogProof(index=7, path=(bytes(32), bytes(range(32))), note=b"note\n\n\xe2\x80\x94 x y\n")
    data = made.encode()
    line = base64_encode(bytes(32)).encode()
    for name, changed in {
        "valid": data,
        "extra": dataclasses.replace(made, extra=b"more").encode(),
        "extra that is none": data.replace(b"index", b"extra !\nindex"),
        "two extras": data.replace(b"index", b"extra AA==\nextra AA==\nindex"),
        "no index": data.replace(b"index 7\n", b""),
        "index of nothing": data.replace(b"index 7", b"index "),
        "index with a zero": data.replace(b"index 7", b"index 07"),
        "index with a sign": data.replace(b"index 7", b"index +7"),
        "index too large": data.replace(b"index 7", b"index 9007199254740992"),
        "another version": data.replace(b"@v1", b"@v2"),
        "carriage returns": data.replace(b"\n", b"\r\n"),
        "hash too short": data.replace(line, line[:-4]),
        "stray bits": data.replace(line, line[:-2] + b"B="),
        "not UTF-8": data.replace(b"index", b"ind\xff"),
        "no blank line": data.replace(b"\n\n", b"\n"),
        "64 hashes": data.replace(line, b"\n".join([line] * 63)),
        "63 hashes": data.replace(line, b"\n".join([line] * 62)),
        "too large": data + b"x" * (272 * 1024),
        "empty": b"",
    }.items():
        yield document_vector("proof", name, changed)


@cache
def documents() -> list[Vector]:
    """All questions about documents by themselves."""
    return [
        *entries(),
        *policies(),
        *ledgers(),
        *proofs(),
        *noted.checkpoints(),
    ]
