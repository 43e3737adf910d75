"""One question for each check that no other question tells from its absence."""

from __future__ import annotations

import contextlib
import copy
import dataclasses
import hashlib
import json
from collections.abc import Iterator
from functools import cache
from typing import Any

import orjson

from attestation.errors import QuotaryError
from attestation.feed import derive_observation
from attestation.keys import SigningKey
from attestation.log.cosignature import WitnessKey
from attestation.log.lines import base64_encode
from attestation.strictjson import scalars
from attestation.venues import Listing, VenueFile, parse_venue, shipped_venues
from tests.adversaries import operator
from tests.recorded.test_websocket import messages, sent
from tests.recorded.test_websocket import text as said_by
from tests.settlement import cases, world
from tests.verifier import feeds
from tests.web.inflated import impossible
from tests.web.noted import checkpoint_vector
from tests.web.parsed import document_vector, entry_samples
from tests.web.showing import shown_lies
from tests.web.signatures import signature_vector, vkey_of
from tests.web.vectors import Answer, Vector, bundle_vector
from tests.web.voices import json_vector, messages_vector

STRANGE: list[Any] = [
    *("0", 0, "-1", -1, "", "x", None, [], {}, True, "1e5", "1" * 31, "0." + "1" * 33),
    *("9" * 15 + "1", 9_999_999_999_999_999, "99999999999999999999", 99999999999999.5),
    *("2026-02-30T00:00:00Z", "0001-01-01T00:00:00Z", "9999-12-31T23:59:59Z", "2026-01-01"),
]
"""What a venue may say instead of a price, a time, a name."""


def venue_messages() -> Iterator[Vector]:
    """The messages of a quote, one scalar of them changed at a time."""
    for name, venue in shipped_venues().items():
        listing, group = _quoted(venue)
        for at, payload in enumerate(group):
            for number, changed in enumerate(_scalars_changed(said_by(name, payload))):
                asked = [*group[:at], sent(name, changed), *group[at + 1 :]]
                yield messages_vector(f"{name}/one/{at}/{number}", venue, listing, asked)
            for path in venue.channel.quote.absent or ():
                with contextlib.suppress(KeyError):  # a message of another shape
                    changed = _added(said_by(name, payload), path)
                    asked = [*group[:at], sent(name, changed), *group[at + 1 :]]
                    yield messages_vector(f"{name}/more/{at}/{path}", venue, listing, asked)
            for number, changed in enumerate(_scalars_left_out(said_by(name, payload))):
                asked = [sent(name, changed), *group]
                yield messages_vector(f"{name}/less/{at}/{number}", venue, listing, asked)
        # A quote, and messages that it does not rest on.
        lines = messages(name)
        for number, line in enumerate(lines):
            asked = [line, *group]
            yield messages_vector(f"{name}/and/{number}", venue, listing, asked)
            yield messages_vector(f"{name}/then/{number}", venue, listing, [*group, line])


def _quoted(venue: VenueFile) -> tuple[Listing, list[bytes]]:
    """A listing, and recorded messages that its quote rests on."""
    for listing in venue.markets:
        for line in messages(venue.name):
            with contextlib.suppress(QuotaryError):
                derive_observation(venue, listing.instrument, [line])
                return listing, [line]
    instrument, _, rests_on = feeds.read(venue.name)
    listing = next(one for one in venue.markets if one.instrument == instrument)
    return listing, [payload for _, payload in rests_on]


def _scalars_changed(says: bytes) -> Iterator[bytes]:
    document = orjson.loads(says)
    for pointer, value in scalars(says).items():
        path = [token.replace("~1", "/").replace("~0", "~") for token in pointer.split("/")[1:]]
        raw = value.raw.decode()
        others = [raw.strip('"') if raw.startswith('"') else json.dumps(raw)]
        others += [json.dumps(other) for other in STRANGE]
        for other in others:
            changed = _replaced(document, path, other)
            if changed is not None:
                yield changed


def _replaced(document: Any, path: list[str], raw: str) -> bytes | None:
    """The document with other text where a value stands."""
    if not path:
        return None
    mark = "\u0001here\u0001"
    made = orjson.loads(orjson.dumps(document))
    place = _at(made, path[:-1])
    place[int(path[-1]) if isinstance(place, list) else path[-1]] = mark
    return json.dumps(made, separators=(",", ":")).replace(json.dumps(mark), raw).encode()


def _at(document: Any, path: list[str]) -> Any:
    """What stands there; arrays grow until it does."""
    for step in path:
        if isinstance(document, list):
            document += [{} for _ in range(int(step) + 1 - len(document))]
        document = document[int(step) if isinstance(document, list) else step]
    return document


def _added(says: bytes, pointer: str) -> bytes:
    """The document with a value where there must be none."""
    made = orjson.loads(says)
    *path, last = pointer.split("/")[1:]
    place = _at(made, path)
    if isinstance(place, list):
        place += [1] * (int(last) + 1 - len(place))
    else:
        place[last] = 1
    return orjson.dumps(made)


def _scalars_left_out(says: bytes) -> Iterator[bytes]:
    for pointer in scalars(says):
        made = orjson.loads(says)
        *path, last = [each.replace("~1", "/") for each in pointer.split("/")[1:]]
        place = _at(made, path)
        if isinstance(place, dict):
            del place[last]
            yield orjson.dumps(made)


def pings() -> Iterator[Vector]:
    """Messages that say more than is said back, and no message."""
    for venue in shipped_venues().values():
        listing = venue.markets[0]
        yield messages_vector(f"{venue.name}/none", venue, listing, [])
        for size in (100, 5_000):
            for said in (
                b'{"ping":' + b"1" * size + b"}",
                b'{"id":' + b"1" * size + b',"method":"public/heartbeat","code":0}',
            ):
                asked = [sent(venue.name, said)]
                yield messages_vector(f"{venue.name}/ping/{size}", venue, listing, asked)


def inflated() -> Iterator[Vector]:
    """Gzip members that hold what no member can."""
    (venue,) = [each for each in shipped_venues().values() if _is_packed(each)]
    listing, (line,) = _quoted(venue)
    says = said_by(venue.name, line)
    for name, data in impossible(says):
        yield messages_vector(f"inflated/{name}", venue, listing, [data])


def _is_packed(venue: VenueFile) -> bool:
    return venue.channel is not None and venue.channel.encoding is not None


def bodies() -> Iterator[Vector]:
    """JSON of which a part must not be passed over."""
    for number, body in enumerate(
        (b'{"a":[1],"a":2}', b'{"a"x1}', b" " * (4 * 1024 * 1024) + b"1", b'{"a":[1],"a":[2]}')
    ):
        yield json_vector(f"telling/{number}", body)


def keys() -> Iterator[Vector]:
    """Names and points of keys whose ids are right."""
    key = SigningKey(name="key.example", algorithm="ed25519", seed=bytes(range(32)))
    good, public = key.sign(b"message"), key.verifying_key.public
    for name in ("", "a b", "a\u00a0b", "x" * 255, "x" * 256, "\u00e9" * 128, "a\u200bb"):
        vkey = vkey_of(public, name=name)
        yield signature_vector(f"name/{name[:8]!r}", vkey, good, b"message")
    secp = b"\xff" + b"ecdsa-secp256k1"
    for number, point in enumerate((bytes(33), b"\x04" + bytes(32), b"\x02" + b"\xff" * 32)):
        vkey = vkey_of(point, tag=secp)
        yield signature_vector(f"no point/{number}", vkey, good, b"message")


def trust_files() -> Iterator[Vector]:
    """Trust files that are wrong in one thing alone."""
    key = SigningKey(name="n0", algorithm="ed25519", seed=bytes(range(32))).verifying_key
    witness = WitnessKey.of(key)
    lines = {
        "name": '"n0"',
        "operator": '"Somebody"',
        "vkey": json.dumps(key.vkey),
        "role": '"attest"',
        "valid_from": "2026-01-14T12:00:00Z",
        "valid_until": "2026-01-16T12:00:00Z",
    }

    def entry(**changes: str | None) -> str:
        members = {**lines, **changes}
        told = [f"{name} = {value}" for name, value in members.items() if value is not None]
        return "\n".join(["[[notary]]", *told, ""])

    other = json.dumps(vkey_of(key.public, name="n1"))
    cosigner = {"role": '"witness"', "vkey": json.dumps(witness.vkey)}
    spoiled = json.dumps(vkey_of(key.public[:31], name="n0", tag=b"\x04"))
    for name, text in {
        "valid": entry(),
        "for centuries": entry(valid_until="2300-01-01T00:00:00Z"),
        "from the far future": entry(
            valid_from="2299-01-01T00:00:00Z", valid_until="2300-01-01T00:00:00Z"
        ),
        "one key has two names": entry() + entry(name='"n1"', vkey=other),
        "a witness's key in both types": entry(role='"witness"') + entry(**cosigner),
        "a witness spoiled": entry(role='"witness"', vkey=spoiled),
        "lacks two members": entry(name=None, vkey=None),
        "operator is a number": entry(operator="5"),
        "time is a number": entry(valid_from="5"),
        "time before the epoch": entry(valid_from="1969-12-31T23:59:59Z"),
    }.items():
        yield document_vector("trust", f"telling/{name}", text.encode())
    # The page's reader of TOML says so by its own name.
    for name, text in {
        "another sign than equals": entry().replace("role =", "role :"),
        "no key": entry() + '= "n0"\n',
        "a table twice": '[log_policy]\nfile = "a"\n[log_policy]\nfile = "b"\n',
        "a table, and then an array of it": "[notary]\nname = 1\n" + entry(),
    }.items():
        vector = document_vector("trust", f"telling/{name}", text.encode())
        assert vector.answer.error == "UsageError"
        yield dataclasses.replace(vector, answer=Answer(error="UsageError", rule="toml"))


def notes() -> Iterator[Vector]:
    """Notes and log policies that are wrong in one thing alone."""
    policy = world.log_policy(1)
    made = world.checkpoint("n0/log", [b"{}"], cases.START)
    note = made.encode()
    witness = WitnessKey.of(world.WITNESSES[0].verifying_key)
    place = bytes.fromhex(witness.vkey.split("+")[1])

    late = (2**63).to_bytes(8, "big")
    promised = b"cosignature/v1\ntime %d\n" % 2**63 + note.partition(b"\n\n")[0] + b"\n"

    def cosigned(signature: bytes) -> bytes:
        line = f"\u2014 {witness.name} {base64_encode(place + signature)}\n"
        return note + line.encode()

    for name, changed in {
        "cosignature of 71 bytes": cosigned(bytes(71)),
        "cosignature of 73 bytes": cosigned(bytes(73)),
        "cosignature at the end of time": cosigned(b"\xff" * 8 + bytes(64)),
        "cosignature beyond all time": cosigned(late + world.WITNESSES[0].sign(promised)),
        "line of a name alone": note + b"\xe2\x80\x94 abcdefgh\n",
        "line of no name": note + b"\xe2\x80\x94  abcdefgh\n",
        "one long line": note + b"\xe2\x80\x94 x " + b"AAAA" * 70_000 + b"\n",
        "no text": b"X\xe2\x80\x94 x AAAAAAAA\n",
        "text alone": b"n0/log\n\n",
    }.items():
        yield checkpoint_vector(f"telling/{name}", policy, changed)
    log, one, two, three, group, quorum = policy.splitlines(keepends=True)
    for name, changed in {
        "witness named none": policy.replace(two, two.replace(b" b ", b" none ")).replace(
            b"a b c", b"a c"
        ),
        "witness named as another": policy.replace(two, two.replace(b" b ", b" a ")).replace(
            b"2 a b c", b"1 a c"
        ),
        "group of the name of a witness": b"".join(
            (log, one, two, three, b"group a any b\n", b"quorum b\n")
        ),
        "group of one name twice": b"".join(
            (log, one, two, three, b"group g any b\n", b"group g any a\n", quorum[:7] + b"a\n")
        ),
        "witness whose vkey is no base64": policy.replace(three, b"witness c c+00000000+!!\n"),
        "witness whose vkey has one part": policy.replace(three, b"witness c c\n"),
    }.items():
        yield checkpoint_vector(f"telling/policy/{name}", changed, note)
    assert group


def bundles() -> Iterator[Vector]:
    """Bundles of three notaries' logs in another order, and of what is not whole."""
    made = operator.honest(policy=cases.policy(venues=3, notaries=3), notaries=3)
    whole = orjson.loads(world.bundle(made).encode())
    first, second, third = whole["logs"]
    small = {**first, "frontier": first["frontier"][1:]}
    large = {**first, "frontier": [*first["frontier"], "0f" * 32]}
    renamed, hashed = copy.deepcopy(first), copy.deepcopy(whole["slots"])
    fields = renamed["sessions"][0]["attestation"]["fields"]
    fields[1], fields[2] = fields[2], fields[1]
    hashed[0]["header"]["root"] = "sha3-256:" + "0f" * 32
    for name, changes in {
        "two logs": {"logs": [first, second]},
        "four logs": {"logs": [first, second, third, third]},
        "one log twice": {"logs": [first, first, third]},
        "another order": {"logs": [second, first, third]},
        "small frontier": {"logs": [small, second, third]},
        "large frontier": {"logs": [large, second, third]},
        "fields of another order": {"logs": [renamed, second, third]},
        "slot of another hash": {"slots": hashed},
    }.items():
        data = orjson.dumps({**whole, **changes}, option=orjson.OPT_SORT_KEYS)
        yield bundle_vector(f"telling/{name}", data, made.policy)
    files = dict(world.venue_files(made.policy))
    name = made.policy.venues[0].venue
    other = parse_venue(cases.venue_toml(name).replace(b"443", b"8443"))
    assert other.hash != files[name].hash
    data = world.bundle(made).encode()
    files[name] = other
    yield bundle_vector("telling/another venue file", data, made.policy, files=files)


def documents() -> Iterator[Vector]:
    """Entries, and documents that are no objects."""
    for kind in ("entry", "policy", "ledger"):
        yield document_vector(kind, "telling/array", b"[]\n" if kind == "ledger" else b"[]")
    statement = orjson.loads(entry_samples()["key"])
    secp = SigningKey(name="n0", algorithm="ecdsa-secp256k1", seed=bytes(range(32)))
    statement["statement"]["rotation"]["new"] = secp.verifying_key.vkey
    data = orjson.dumps(statement, option=orjson.OPT_SORT_KEYS)
    yield document_vector("entry", "telling/another algorithm", data)
    proof = b"c2sp.org/tlog-proof@v1\nindex 0\n\n" + b"x" * (270 * 1024)
    yield document_vector("proof", f"telling/{hashlib.sha256(proof).hexdigest()[:8]}", proof)


@cache
def telling() -> list[Vector]:
    """All of them."""
    return [
        *venue_messages(),
        *pings(),
        *bundles(),
        *inflated(),
        *bodies(),
        *keys(),
        *trust_files(),
        *notes(),
        *documents(),
        *shown_lies(),
    ]
