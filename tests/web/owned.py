"""Questions about the reader's own files: whom he believes, and what he expects."""

from __future__ import annotations

import dataclasses
from collections.abc import Iterator
from functools import cache

from attestation.keys import SigningKey
from attestation.log.cosignature import WitnessKey
from tests.settlement import cases, world
from tests.web.parsed import document_vector
from tests.web.vectors import Answer, Vector

NARROW = {
    "one member twice": "toml",
    "a time in another zone": "toml",
    "a time without a zone": "toml",
    "no such day": "valid_from",
    "a string without an end": "toml",
    "two values": "toml",
    "no value": "toml",
    "no equals sign": "toml",
}
"""Files that the page refuses by a rule of its own, as it reads less of TOML."""


def trust_files() -> Iterator[Vector]:
    """Trust files whose members cannot be meant, and TOML that is none."""
    plain = world.trust(world.bound(cases.policy(venues=3, notaries=3))).dump()
    text = plain.decode()
    first = "[[notary]]" + text.split("[[notary]]")[1]
    vkey = world.attest_key("n0").verifying_key.vkey
    secp = SigningKey(name="n0", algorithm="ecdsa-secp256k1", seed=bytes(range(32)))
    witness = WitnessKey.of(world.WITNESSES[0].verifying_key)
    one = first.replace(vkey, witness.vkey).replace('"n0"', f'"{witness.name}"')
    from_, until = "valid_from = 2026-01-14T12:00:00Z", "valid_until = 2026-01-16T12:00:00Z"
    assert from_ in first
    assert until in first
    for name, changed in {
        "valid": text,
        "empty": "",
        "comments": "# mine\n" + text.replace("\n", " # why\n", 3),
        "one entry twice": text + first,
        "one key under two names": text + first.replace('"n0"', '"x"').replace("n0+", "x+"),
        "one name with two operators": text + first.replace("Operator of n0", "Somebody")
        .replace(vkey, SigningKey(name="n0", algorithm="ed25519", seed=bytes(range(1, 33)))
                 .verifying_key.vkey),
        "another name than the vkey's": text.replace('name = "n0"', 'name = "n9"'),
        "vkey of nothing": text.replace(vkey, "n0"),
        "vkey spoiled": text.replace(vkey, vkey[:-2] + "AA"),
        "vkey of another id": text.replace(vkey, "n0+00000000" + vkey[11:]),
        "vkey of another type": text.replace(vkey, "n0+00000000+qq=="),
        "vkey of secp256k1": text.replace(vkey, secp.verifying_key.vkey),
        "log of secp256k1": text.replace(first, first.replace(
            vkey, secp.verifying_key.vkey).replace('"attest"', '"log"')),
        "no operator": text.replace('"Operator of n0"', '""'),
        "operator of two lines": text.replace("Operator of n0", "a\\nb"),
        "operator that reorders": text.replace("Operator of n0", "a\\u2028b"),
        "long operator": text.replace("Operator of n0", "x" * 257),
        "operator of 256": text.replace("Operator of n0", "x" * 256),
        "unknown role": text.replace('"attest"', '"judge"', 1),
        "a witness": text + one.replace('"attest"', '"witness"'),
        "a witness who attests": text + one,
        "a witness twice": text + one.replace('"attest"', '"witness"') * 2,
        "a role that is no string": text.replace('"attest"', "1", 1),
        "no vkey": text.replace(f'vkey = "{vkey}"\n', ""),
        "an unknown member": text.replace("[[notary]]\n", "[[notary]]\nmore = 1\n", 1),
        "an unknown table": text + "[more]\na = 1\n",
        "one member twice": text.replace("[[notary]]\n", '[[notary]]\nname = "n0"\n', 1),
        "not an array of tables": first.replace("[[notary]]", "[notary]"),
        "notary of no tables": "notary = [1]\n",
        "ends before it begins": text.replace(until, "valid_until = 2026-01-14T11:00:00Z", 1),
        "ends when it begins": text.replace(until, "valid_until = 2026-01-14T12:00:00Z", 1),
        "a time that is a string": text.replace(from_, from_.replace("= ", '= "') + '"', 1),
        "a time of nothing": text.replace(from_, 'valid_from = "soon"', 1),
        "a time in another zone": text.replace(from_, from_.replace("Z", "+02:00"), 1),
        "a time without a zone": text.replace(from_, from_.replace("Z", ""), 1),
        "no such day": text.replace(from_, "valid_from = 2026-02-30T12:00:00Z", 1),
        "before the epoch": text.replace(from_, "valid_from = 1969-01-14T12:00:00Z", 1),
        "a fraction": text.replace(from_, "valid_from = 2026-01-14T12:00:00.25Z", 1),
        "revoked": text.replace(until, f"{until}\nrevoked_at = 2026-01-15T00:00:00Z", 1),
        "revoked in words": text.replace(until, f'{until}\nrevoked_at = "never"', 1),
        "a log policy": text + '[log_policy]\nfile = "log_policy.txt"\n',
        "a log policy that is none": "log_policy = 1\n" + text,
        "a log policy with more": text + '[log_policy]\nfile = "a"\nmore = 1\n',
        "a log policy of no file": text + "[log_policy]\n",
        "a string without an end": text.replace('"attest"', '"attest', 1),
        "two values": text.replace('"attest"', '"attest" 1', 1),
        "no value": text.replace('"attest"', "", 1),
        "no equals sign": text.replace('role = "attest"', 'role "attest"', 1),
    }.items():  # fmt: skip
        vector = document_vector("trust", name, changed.encode())
        if name in NARROW:
            # Both refuse it; the page's reader of TOML says so by its own name.
            assert vector.answer.error == "UsageError"
            vector = dataclasses.replace(
                vector, answer=Answer(error="UsageError", rule=NARROW[name])
            )
        yield vector


def expect_files() -> Iterator[Vector]:
    """Expect files of both kinds, with members that are not theirs."""
    quote = 'venues = ["binance"]\nmarket = "BTC/USD"\n'
    policy = f'policy_id = "{"0f" * 32}"\n'
    for name, text in {
        "valid": quote,
        "empty": "",
        "no market": 'venues = ["binance"]\n',
        "no venues": 'market = "BTC/USD"\n',
        "venues of none": 'venues = []\nmarket = "BTC/USD"\n',
        "hosts": 'hosts = ["api.example", "other.example:8443"]\n',
        "hosts and venues": quote + 'hosts = ["api.example"]\n',
        "hosts and instruments": 'hosts = ["api.example"]\ninstruments = ["BTCUSDT"]\n',
        "host in capitals": 'hosts = ["API.example"]\n',
        "host with the port that is meant": 'hosts = ["api.example:443"]\n',
        "instruments": quote + 'instruments = ["BTCUSDT"]\n',
        "modes": quote + 'modes = ["open"]\n',
        "unknown mode": quote + 'modes = ["loud"]\n',
        "unknown binding": quote + 'bindings = ["half"]\n',
        "no notary": quote + "[notaries]\ncount = 0\n",
        "two notaries": quote + '[notaries]\ncount = 2\noperators = ["A", "B"]\n',
        "notaries of no count": quote + '[notaries]\noperators = ["A"]\n',
        "a log": quote + "[log]\nquorum = 1\n",
        "a log of no quorum": quote + "[log]\nquorum = 0\n",
        "a negative age": quote + "max_age_us = -1\n",
        "a number that is none": quote + 'max_age_us = "1"\n',
        "a boolean for a number": quote + "max_age_us = true\n",
        "roots of another spelling": quote + 'roots = "sha256:0F"\n',
        "an unknown member": quote + "more = 1\n",
        "of a settlement": policy,
    }.items():
        yield document_vector("expect", name, text.encode())
    for name, text in {
        "valid": policy,
        "empty": "",
        "with a trade": policy + f'trade = "{"0f" * 32}"\nside = "up"\nstake = "25"\n',
        "trade in capitals": policy + f'trade = "{"0F" * 32}"\n',
        "trade too short": policy + 'trade = "0f"\n',
        "unknown side": policy + 'side = "left"\n',
        "stake of another form": policy + 'stake = "25.0"\n',
        "stake as a number": policy + "stake = 25\n",
        "operators": policy + 'operators = ["A", "B"]\n',
        "operators that are one": policy + 'operators = "A"\n',
        "promised": policy + f'digest = "sha256:{"0f" * 32}"\nlogged_by_us = 7\n',
        "promised before time": policy + "logged_by_us = -1\n",
        "development": policy + "insecure_allow_development = true\n",
        "development in words": policy + 'insecure_allow_development = "yes"\n',
        "an unknown member": policy + "more = 1\n",
        "of a quote": quote,
    }.items():
        yield document_vector("settlement_expect", name, text.encode())


@cache
def files() -> list[Vector]:
    """All of them."""
    return [*trust_files(), *expect_files()]
