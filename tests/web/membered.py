"""Every member of every document: left out, and of another kind than it is."""

from __future__ import annotations

import copy
from collections.abc import Callable, Iterator
from functools import cache
from typing import Any

import orjson

from attestation.document import Attestation, Field
from attestation.errors import QuotaryError
from tests.settlement import cases, world
from tests.settlement.day import a_day
from tests.verifier import feeds, forge, test_slots
from tests.verifier.lying import LyingNotary
from tests.web import parsed
from tests.web.expected import toml
from tests.web.parsed import document_vector
from tests.web.vectors import Vector, bundle_vector
from tests.web.voices import presentation_vector, shown_vector
from verifier.selftest import SAMPLES, samples

OTHER: dict[type, Callable[[Any], Any]] = {
    str: lambda said: 1234,
    int: str,
    bool: int,
    list: lambda said: {},
    dict: lambda said: [],
}
"""What a member says instead of what it should, by what that is."""


def swept(document: Any) -> Iterator[tuple[str, Any]]:
    """The document with each member once left out and once of another kind.

    Of an array's members one of each kind is changed.
    """
    seen: set[tuple[Any, ...]] = set()
    for path, shape, value in _members(document, (), ()):
        if shape in seen:
            continue
        seen.add(shape)
        name = ".".join(str(step) for step in path)
        if isinstance(path[-1], str):
            less = copy.deepcopy(document)
            del _place(less, path)[path[-1]]
            yield f"without {name}", less
        other = copy.deepcopy(document)
        _place(other, path)[path[-1]] = OTHER[type(value)](value)
        yield f"another {name}", other


def _members(
    value: Any, path: tuple[Any, ...], shape: tuple[Any, ...]
) -> Iterator[tuple[tuple[Any, ...], tuple[Any, ...], Any]]:
    if isinstance(value, dict):
        for name, inner in value.items():
            yield (*path, name), (*shape, name), inner
            yield from _members(inner, (*path, name), (*shape, name))
    elif isinstance(value, list):
        for at, inner in enumerate(value):
            kind = inner.get("kind", inner.get("name")) if isinstance(inner, dict) else "*"
            yield (*path, at), (*shape, kind), inner
            yield from _members(inner, (*path, at), (*shape, kind))


def _place(document: Any, path: tuple[Any, ...]) -> Any:
    for step in path[:-1]:
        document = document[step]
    return document


def _written(document: Any) -> bytes:
    return orjson.dumps(document, option=orjson.OPT_SORT_KEYS)


def presentations() -> Iterator[Vector]:
    """What of a presentation is not signed."""
    now_us = orjson.loads((SAMPLES / "clock.json").read_bytes())["now_us"]
    by_name = {sample.name: sample for sample in samples()}
    for kind in ("valid_redacted", "valid_whole", "valid_logged", "valid_slot_of_all_venues"):
        sample = by_name[kind]
        trust, expect = sample.trust.read_text(), sample.expect.read_text()
        for name, changed in swept(orjson.loads(sample.files[0].read_bytes())):
            data = [_written(changed)]
            yield presentation_vector(f"member/{kind}/{name}", data, trust, expect, now_us)


def signed_fields() -> Iterator[Vector]:
    """What a notary signs that does not say what its fields must."""
    slot = feeds.slot(venues=["coinbase", "okx"], gaps={"okx": ("venue_silent", "venue")})
    conn = {"session.conn": "0f" * 16}
    for kind, honest, expect in (
        ("session", forge.session().attestation, forge.expect()),
        ("slot", slot.attestation, test_slots.expect("coinbase")),
        ("start", feeds.started("coinbase", lies=conn), forge.expect()),
    ):
        fields = [{"name": field.name, "value": dict(field.value)} for field in honest.fields]
        for name, changed in swept(fields):
            lie = _signed(honest, changed)
            if lie is not None:
                shown = forge.show_fields(lie, range(len(lie.fields)))
                yield shown_vector(f"member/{kind}/{name}", shown, expect)


def _signed(honest: Attestation, fields: list[Any]) -> Attestation | None:
    try:
        return LyingNotary().sign(
            [Field(name=each["name"], value=each["value"]) for each in fields],
            label="again",
            issued_us=honest.header.issued_us,
        )
    except (QuotaryError, TypeError, KeyError, AttributeError):
        return None  # a field itself is none; presentations() has those


def bundles() -> Iterator[Vector]:
    """What of a bundle is a document, with everything in it."""
    made = world.build(*_trade())
    whole = orjson.loads(world.bundle(made).encode())
    for name, changed in swept(whole):
        yield bundle_vector(f"member/bundle/{name}", _written(changed), made.policy)


def _trade() -> Any:
    policy, terms, logged = cases.random_case(3)
    return world.bound(policy), terms, logged


def documents() -> Iterator[Vector]:
    """Documents by themselves."""
    for kind, data in parsed.entry_samples().items():
        for name, changed in swept(orjson.loads(data)):
            yield document_vector("entry", f"member/{kind}/{name}", _written(changed))
    policy = world.bound(cases.policy(venues=3, notaries=3))
    for name, changed in swept({**orjson.loads(policy.encode())}):
        yield document_vector("policy", f"member/{name}", _written(changed))
    line, *_ = a_day().ledger().splitlines()
    for name, changed in swept(orjson.loads(line)):
        yield document_vector("ledger", f"member/{name}", _written(changed) + b"\n")
    for kind, expect in EXPECT.items():
        for name, changed in swept(expect):
            text = "\n".join(f"{member} = {toml(value)}" for member, value in changed.items())
            yield document_vector(kind, f"member/{name}", text.encode())


EXPECT: dict[str, dict[str, Any]] = {
    "expect": {
        "venues": ["coinbase"],
        "market": "BTC/USD",
        "instruments": ["BTC-USD"],
        "not_before_us": 1,
        "not_after_us": 2,
        "max_age_us": 3,
        "purpose": "x",
        "modes": ["sealed"],
        "bindings": ["full"],
        "notaries": {
            "count": 2,
            "operators": ["One"],
            "max_div_bps": 5,
            "max_apart_us": 6,
            "insecure_shared_operators": True,
        },
        "log": {"quorum": 1, "max_delay_us": 2, "insecure_shared_operators": True},
        "max_date_skew_us": 7,
        "roots": "sha256:" + "0f" * 32,
        "insecure_allow_development": True,
    },
    "settlement_expect": {
        "policy_id": "0f" * 32,
        "trade": "0f" * 32,
        "market": "BTC/USD",
        "side": "up",
        "stake": "1",
        "player": "sha256:" + "0f" * 32,
        "digest": "sha256:" + "0f" * 32,
        "logged_by_us": 4,
        "operators": ["One"],
        "insecure_allow_development": True,
    },
}


@cache
def membered() -> list[Vector]:
    """All of them."""
    return [*presentations(), *signed_fields(), *bundles(), *documents()]
