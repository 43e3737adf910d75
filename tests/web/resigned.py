"""Bundles of a notary that lies in what it signs: everything around the lie holds."""

from __future__ import annotations

import dataclasses
import random
from collections.abc import Callable, Iterator
from typing import Any

import orjson

from attestation import merkle
from attestation.document import Attestation, Field, body_leaves
from attestation.encoding import JsonObject, decode_object, encode_decoded
from attestation.errors import MalformedError
from attestation.hashing import format_hash, hash_string
from attestation.keys import SigningKey
from attestation.log.entry import AttestedEntry, write_entry
from attestation.settlement.bundle import BundleLog, SettlementBundle
from tests.fuzz.edits import mutate_json
from tests.settlement import cases, test_bundle, test_sessions, world
from tests.web.vectors import Vector, bundle_vector

NAMES = ("slot", "observation", "gap", "notary", "session", "section", "x")


def resigned_bundles(count: int) -> Iterator[Vector]:
    """One field of a slot that counts says something else, signed and logged all the same."""
    made = test_bundle.honest(policy=cases.policy(venues=3))
    bundle = world.bundle(made)
    for seed in range(count):
        draw = random.Random(seed)
        number = draw.randrange(len(bundle.slots))
        lie = _lie(bundle.slots[number], draw, seed)
        if lie is None:
            continue
        slots = (*bundle.slots[:number], lie, *bundle.slots[number + 1 :])
        changed = _logged(made, bundle, bundle.slots[number], lie)
        data = dataclasses.replace(changed, slots=slots).encode()
        yield bundle_vector(f"resigned/{seed}", data, made.policy)


def _lie(honest: Attestation, draw: random.Random, seed: int) -> Attestation | None:
    """The attestation with one field changed, signed by the same notary."""
    fields = list(honest.fields)
    at = draw.randrange(len(fields))
    plain = orjson.dumps(fields[at].value, option=orjson.OPT_SORT_KEYS)
    value = orjson.loads(mutate_json(plain, 100_000, seed))
    try:
        decode_object(orjson.dumps(value, option=orjson.OPT_SORT_KEYS))
    except MalformedError:
        return None  # what no document could hold
    name = draw.choice(NAMES) if draw.random() < 0.1 else fields[at].name
    fields[at] = Field(name=name, value=value)
    if draw.random() < 0.1:
        fields.insert(at, honest.fields[at])
    leaves = body_leaves(fields, seed=honest.seed, algorithm="sha256")
    issued_us = honest.header.issued_us + draw.choice((0, 0, 0, -(10**6), 10**6))
    header = dataclasses.replace(
        honest.header, root=format_hash(merkle.root(leaves)), size=len(fields), issued_us=issued_us
    )
    signature = world.attest_key("n0").sign(header.encode()).hex()
    return Attestation(header=header, signature=signature, fields=tuple(fields), seed=honest.seed)


def _logged(
    made: world.World, bundle: SettlementBundle, honest: Attestation, lie: Attestation
) -> SettlementBundle:
    """The bundle of a log that names the lie, with every proof and checkpoint made anew."""
    (log,) = bundle.logs
    old = hash_string(honest.header.encode())
    new = hash_string(lie.header.encode())
    entries: list[JsonObject] = [
        {**entry, "header": new} if entry.get("header") == old else entry for entry in log.entries
    ]
    first = int(log.start.split("\n")[1])
    every = [write_entry(entry) for entry in made.logs["n0"][:first]]
    every += [encode_decoded(entry) for entry in entries]
    sessions = tuple(
        dataclasses.replace(each, entry=world.included(every, each.entry.index))
        for each in log.sessions
    )
    at_us = made.logs["n0"][len(every) - 1].logged_us
    changed: BundleLog = dataclasses.replace(
        log,
        entries=tuple(entries),
        checkpoint=world.checkpoint("n0/log", every, at_us),
        feed=world.included(every, log.feed.index),
        sessions=sessions,
    )
    policy = world.included(every, bundle.policy.index)
    return dataclasses.replace(bundle, logs=(changed,), policy=policy)


Fields = list[Field]


def _gap(reason: str, fault: str) -> Callable[[Fields], None]:
    def change(fields: Fields) -> None:
        venue = fields[1].value["venue"]
        fields[1] = Field(name="gap", value={"venue": venue, "reason": reason, "fault": fault})

    return change


def _member(at: int, **members: Any) -> Callable[[Fields], None]:
    def change(fields: Fields) -> None:
        fields[at] = Field(name=fields[at].name, value={**fields[at].value, **members})

    return change


def _swapped(fields: Fields) -> None:
    fields[1], fields[2] = fields[2], fields[1]


def _out_of_order(fields: Fields) -> None:
    """Fields in the order of the venues' names, which is not that of bytes."""
    venues = list(fields[0].value["venues"])
    venues[0], venues[1] = venues[1], venues[0]
    _member(0, venues=venues)(fields)
    _swapped(fields)


def _twice(fields: Fields) -> None:
    fields[2] = fields[1]


def _repeated(fields: Fields) -> None:
    venues = list(fields[0].value["venues"])
    _member(0, venues=[venues[0], *venues])(fields)
    fields.insert(1, fields[1])


def _short(fields: Fields) -> None:
    del fields[1]


LIES: dict[str, Callable[[Fields], None]] = {
    "a gap that is blamed on another": _gap("venue_silent", "prover"),
    "a gap for no known reason": _gap("bad_weather", "venue"),
    "a gap where there was a quote": _gap("venue_silent", "venue"),
    "a gap of nobody's": _gap("venue_silent", "nobody"),
    "fields in another order": _swapped,
    "venues in another order": _out_of_order,
    "one venue twice": _twice,
    "one venue twice, and named twice": _repeated,
    "a field twice": lambda fields: fields.insert(1, fields[1]),
    "a venue without a field": _short,
    "a venue that is not named": lambda fields: _member(1, venue="zz")(fields),
    "another slot": _member(0, slot_us=cases.START),
    "another feed": _member(0, feed="eth"),
    "a later message": _member(1, received_us=cases.START + 60_000_000),
    "no message": _member(1, messages=[]),
    "another session": _member(1, session="0f" * 16),
    "another bid": _member(1, bid="1"),
    "another ask": _member(1, ask="99999999"),
    "another time of the exchange": _member(1, exchange_us=1),
    "a quote of a request": _member(1, source="rest"),
    "another listing": _member(1, instrument="ETHUSD"),
    "another name of the notary": _member(-1, name="n9"),
    "another key of the notary": _member(-1, vkey=world.attest_key("n1").verifying_key.vkey),
    "a venue more than fields": lambda fields: _member(
        0,
        venues=[*fields[0].value["venues"], "zz"],  # type: ignore[misc]
    )(fields),
    "no field": lambda fields: fields.clear(),
    "no notary": lambda fields: fields.pop(),  # type: ignore[func-returns-value]
    "two notaries": lambda fields: fields.append(fields[-1]),
}


def signed_lies() -> Iterator[Vector]:
    """Each lie in one slot that counts, signed and logged; and a slot signed in another way."""
    made = test_bundle.honest(policy=cases.policy(venues=3))
    bundle = world.bundle(made)
    number = len(bundle.slots) - 1
    honest = bundle.slots[number]
    for name, change in LIES.items():
        fields = list(honest.fields)
        change(fields)
        lie = _signed(honest, fields, world.attest_key("n0"))
        data = dataclasses.replace(
            _logged(made, bundle, honest, lie), slots=(*bundle.slots[:number], lie)
        ).encode()
        yield bundle_vector(f"signed/{name}", data, made.policy)
    known = world.trust(made.policy)
    for algorithm in ("ed25519", "ecdsa-secp256k1"):
        key = SigningKey(name="n0", algorithm=algorithm, seed=world.seeded("another"))
        fields = list(honest.fields)
        _member(-1, vkey=key.verifying_key.vkey)(fields)
        lie = _signed(honest, fields, key)
        data = dataclasses.replace(
            _logged(made, bundle, honest, lie), slots=(*bundle.slots[:number], lie)
        ).encode()
        trust = dataclasses.replace(known, keys=(*known.keys, world.trusted(key, "attest")))
        yield bundle_vector(f"signed/by {algorithm}", data, made.policy, trust=trust)
        yield bundle_vector(f"signed/by {algorithm}, not trusted", data, made.policy)


def session_lies() -> Iterator[Vector]:
    """Sessions that are not those of the quotes, and a void that begins too late."""
    late = cases.START + 3_000_000
    times: dict[str, object] = {
        f"connection.{name}": late for name in ("response_first_us", "response_last_us")
    }

    def dated(made: Attestation) -> Attestation:
        # Signed after its last time, yet logged as the others are.
        header = dataclasses.replace(made.header, issued_us=late)
        signature = world.attest_key("n0").sign(header.encode()).hex()
        return dataclasses.replace(made, header=header, signature=signature)

    made = test_sessions.with_session(times, edit=dated)
    yield bundle_vector("session/of later", world.bundle(made).encode(), made.policy)

    made = test_bundle.honest(policy=cases.policy(venues=3))
    bundle = world.bundle(made)
    (log,) = bundle.logs
    first, *others = log.sessions
    fields = [*first.attestation.fields[:2], first.attestation.fields[-1]]
    short = _signed(first.attestation, fields, world.attest_key("n0"))
    cut = (dataclasses.replace(first, attestation=short), *others)
    data = dataclasses.replace(bundle, logs=(dataclasses.replace(log, sessions=cut),)).encode()
    yield bundle_vector("session/of three fields", data, made.policy)
    made = test_bundle.honest(notaries=3, policy=cases.policy(venues=3, notaries=3))
    theirs = world.bundle(made).logs[1].sessions[0].attestation
    log = made.logs["n0"]
    at = next(index for index, entry in enumerate(log) if isinstance(entry, AttestedEntry))
    # The first notary's log claims a session that the second attested.
    claimed = AttestedEntry(
        logged_us=theirs.header.issued_us + 5_000,
        session=theirs.session().id,
        header=hash_string(theirs.header.encode()),
    )
    made.logs["n0"] = [*log[:at], claimed, *log[at + 1 :]]
    del made.sessions["n0", "v00"]
    made.sessions["n0", "theirs"] = theirs
    yield bundle_vector("session/of another notary", world.bundle(made).encode(), made.policy)
    for seed in range(80):
        policy, terms, logged = cases.random_case(seed)
        policy = world.bound(policy)
        made = world.build(policy, terms, logged)
        if len(policy.notaries) == 1 and world.settled_outcome(made).outcome == "void":
            bundle = world.bundle(made, start=made.trade_index)
            shown = {entry.get("header") for entry in bundle.logs[0].entries}
            slots = [slot for slot in bundle.slots if hash_string(slot.header.encode()) in shown]
            data = dataclasses.replace(bundle, slots=tuple(slots)).encode()
            yield bundle_vector(f"void/{seed} from the batch on", data, policy)


def _signed(honest: Attestation, fields: Fields, key: SigningKey) -> Attestation:
    """The attestation with other fields, under a key of the notary's name."""
    leaves = body_leaves(fields, seed=honest.seed, algorithm="sha256")
    header = dataclasses.replace(
        honest.header,
        key=key.verifying_key.short,
        root=format_hash(merkle.root(leaves)),
        size=len(fields),
    )
    signature = key.sign(header.encode()).hex()
    return Attestation(header=header, signature=signature, fields=tuple(fields), seed=honest.seed)
