"""A lying notary: whatever it signs differently, the prover names it."""

from __future__ import annotations

import dataclasses
from typing import Any

import pytest

from attestation.document import Attestation, Field
from attestation.errors import (
    ExpectationError,
    InvalidProofError,
    MalformedError,
    QuotaryError,
)
from prover.check import Expected, check_attestation, check_released, check_seal
from tests.prover.scene import Scene, make_scene


@pytest.fixture(scope="module")
def scene() -> Scene:
    return make_scene()


def check(scene: Scene, attestation: Attestation) -> None:
    check_attestation(attestation, Expected.of(scene.request, scene.own), scene.keys)


def test_honest_attestation_is_accepted_with_its_quote(scene: Scene) -> None:
    expected = Expected.of(scene.request, scene.own)
    quote = check_attestation(scene.attestation, expected, scene.keys)
    assert quote is not None
    assert (quote.bid, quote.ask, quote.market) == ("64000.9", "64001.1", "BTC/USD")
    check(scene, scene.forge())


HEX16, HEX32 = "ab" * 16, "ab" * 32


@pytest.mark.parametrize(
    ("field", "members", "rule", "kind"),
    [
        ("session", {"id": HEX16}, "session.id", ExpectationError),
        ("session", {"conn": HEX16}, "session.conn", ExpectationError),
        ("session", {"mode": "open"}, "session.mode", ExpectationError),
        ("session", {"binding": "template"}, "session.binding", ExpectationError),
        ("session", {"prover": "other"}, "session.prover", ExpectationError),
        ("session", {"purpose": "trade/t/open"}, "session.purpose", ExpectationError),
        ("session", {"nonce": HEX16}, "session.nonce", ExpectationError),
        ("connection", {"host": "api.okx.com"}, "connection.host", ExpectationError),
        ("connection", {"port": 444}, "connection.port", ExpectationError),
        ("connection", {"suite": "TLS_X"}, "connection.suite", InvalidProofError),
        ("connection", {"group": "secp256r1"}, "connection.group", InvalidProofError),
        ("connection", {"connected_us": 1}, "connection.connected_us", InvalidProofError),
        ("connection", {"opened_us": 1}, "connection.opened_us", InvalidProofError),
        ("connection", {"response_last_us": 1}, "connection.response_last_us", InvalidProofError),
        ("connection", {"sealed_us": None}, "connection.sealed_us", InvalidProofError),
        ("connection", {"sent_bytes": 1}, "connection.sent_bytes", InvalidProofError),
        ("connection", {"received_bytes": 1}, "connection.received_bytes", InvalidProofError),
        ("server", {"name": "api.okx.com"}, "server.name", InvalidProofError),
        ("server", {"chain": [HEX32]}, "server.chain", InvalidProofError),
        ("server", {"leaf_spki": HEX32}, "server.leaf_spki", InvalidProofError),
        ("server", {"not_after_us": 2**52}, "server.not_after_us", InvalidProofError),
        ("http", {"method": "POST"}, "http.method", InvalidProofError),
        ("http", {"target": "/"}, "http.target", InvalidProofError),
        ("http", {"status": 404}, "http.status", InvalidProofError),
        ("http", {"server_date": None}, "http.server_date", InvalidProofError),
        ("section", {"name": "request.headers"}, "section.name", InvalidProofError),
        ("section", {"start": 1}, "section.request.line.start", InvalidProofError),
        ("section", {"end": 9}, "section.request.line.end", InvalidProofError),
        (
            "section",
            {"digest": f"sha256:{HEX32}"},
            "section.request.line.digest",
            InvalidProofError,
        ),
        ("notary", {"name": "other"}, "notary.name", InvalidProofError),
        ("notary", {"vkey": "other"}, "notary.vkey", InvalidProofError),
        ("extension", {"id": "other/v1"}, "extension.id", InvalidProofError),
        ("extension", {"by": "notary"}, "extension.id", InvalidProofError),
    ],
)
def test_altered_member_is_named(
    scene: Scene, field: str, members: dict[str, Any], rule: str, kind: type[QuotaryError]
) -> None:
    with pytest.raises(kind) as caught:
        check(scene, scene.altered(field, **members))
    assert caught.value.rule == rule


@pytest.mark.parametrize(
    ("member", "value"),
    [
        ("bid", "63000"),
        ("ask", "65000"),
        ("last", "64000"),
        ("market", "ETH/USD"),
        ("instrument", "XETHZUSD"),
        ("venue", "okx"),
        ("venue_file", f"sha256:{HEX32}"),
        ("observed_us", 7),
        ("exchange_us", 7),
        ("section", "response.headers"),
    ],
)
def test_altered_quote_is_named(scene: Scene, member: str, value: Any) -> None:
    claim = next(iter(scene.attestation.extensions().values())).value
    with pytest.raises(InvalidProofError) as caught:
        check(scene, scene.altered("extension", value={**claim, member: value}))
    assert caught.value.rule == f"quote.{member}"


def test_signature_of_another_key_is_refused(scene: Scene) -> None:
    with pytest.raises(InvalidProofError, match="signature"):
        check(scene, dataclasses.replace(scene.attestation, signature="00" * 64))


def test_root_that_the_fields_do_not_fold_to_is_refused(scene: Scene) -> None:
    with pytest.raises(InvalidProofError) as caught:
        check(scene, scene.forge(root=f"sha256:{HEX32}"))
    assert caught.value.rule == "header.root"


def test_size_other_than_the_fields_is_refused(scene: Scene) -> None:
    with pytest.raises(InvalidProofError) as caught:
        check(scene, scene.forge(size=len(scene.attestation.fields) + 1))
    assert caught.value.rule == "header.size"


def test_hash_that_was_not_asked_for_is_refused(scene: Scene) -> None:
    with pytest.raises(ExpectationError) as caught:
        check(scene, scene.forge(root=f"sha3-256:{HEX32}"))
    assert caught.value.rule == "header.root"


def test_issued_before_it_was_opened_is_refused(scene: Scene) -> None:
    with pytest.raises(InvalidProofError) as caught:
        check(scene, scene.forge(issued_us=1))
    assert caught.value.rule == "connection.issued_us"


def test_other_seed_does_not_fold_to_the_root(scene: Scene) -> None:
    with pytest.raises(InvalidProofError) as caught:
        check(scene, dataclasses.replace(scene.attestation, seed="00" * 32))
    assert caught.value.rule == "header.root"


@pytest.mark.parametrize("name", ["session", "connection", "server", "http", "notary"])
def test_missing_mandatory_field_is_refused(scene: Scene, name: str) -> None:
    with pytest.raises(MalformedError):
        check(scene, scene.forge(lambda fields: [f for f in fields if f.name != name]))


@pytest.mark.parametrize("name", ["section", "extension"])
def test_missing_section_or_extension_is_refused(scene: Scene, name: str) -> None:
    def drop(fields: list[Field]) -> list[Field]:
        del fields[[field.name for field in fields].index(name)]
        return fields

    with pytest.raises(InvalidProofError) as caught:
        check(scene, scene.forge(drop))
    assert caught.value.rule == f"{name}.{'name' if name == 'section' else 'id'}"


def test_seal_is_accepted_and_binds_the_received_bytes(scene: Scene) -> None:
    check_seal(
        scene.seal,
        session=scene.own.session.id,
        sent=scene.raw_sent,
        commitment=None,
        keys=scene.keys,
    )
    check_released(scene.seal.seal, scene.raw_received)


@pytest.mark.parametrize(
    ("member", "value"),
    [
        ("session", HEX16),
        ("sent", f"sha256:{HEX32}"),
        ("sent_size", 5),
        ("commitment", f"sha256:{HEX32}"),
    ],
)
def test_altered_seal_is_refused_before_the_key_is_opened(
    scene: Scene, member: str, value: Any
) -> None:
    signed = scene.resealed(**{member: value})
    with pytest.raises((InvalidProofError, ExpectationError)) as caught:
        check_seal(
            signed,
            session=scene.own.session.id,
            sent=scene.raw_sent,
            commitment=None,
            keys=scene.keys,
        )
    assert caught.value.rule == f"seal.{member}"


def test_seal_with_times_out_of_order_is_refused(scene: Scene) -> None:
    times = dataclasses.replace(scene.seal.seal.times, sealed_us=1)
    with pytest.raises(InvalidProofError) as caught:
        check_seal(
            scene.resealed(times=times),
            session=scene.own.session.id,
            sent=scene.raw_sent,
            commitment=None,
            keys=scene.keys,
        )
    assert caught.value.rule == "seal.times"


def test_unsigned_seal_is_refused(scene: Scene) -> None:
    signed = dataclasses.replace(scene.seal, signature="00" * 64)
    with pytest.raises(InvalidProofError, match="signature"):
        check_seal(
            signed,
            session=scene.own.session.id,
            sent=scene.raw_sent,
            commitment=None,
            keys=scene.keys,
        )


@pytest.mark.parametrize("data", [b"", b"short"])
def test_released_bytes_other_than_the_sealed_are_refused(scene: Scene, data: bytes) -> None:
    with pytest.raises(InvalidProofError) as caught:
        check_released(scene.seal.seal, data)
    assert caught.value.rule == "seal.received_size"
    changed = scene.raw_received[:-1] + bytes([scene.raw_received[-1] ^ 1])
    with pytest.raises(InvalidProofError) as caught:
        check_released(scene.seal.seal, changed)
    assert caught.value.rule == "seal.received"
