"""Bundles of a notary that lies in what it signs: everything around the lie holds."""

from __future__ import annotations

import dataclasses
import random
from collections.abc import Iterator

import orjson

from attestation import merkle
from attestation.document import Attestation, Field, body_leaves
from attestation.encoding import JsonObject, decode_object, encode_decoded
from attestation.errors import MalformedError
from attestation.hashing import format_hash, hash_string
from attestation.log.entry import write_entry
from attestation.settlement.bundle import BundleLog, SettlementBundle
from tests.fuzz.edits import mutate_json
from tests.settlement import cases, test_bundle, world
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
