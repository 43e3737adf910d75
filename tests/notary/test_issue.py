"""Accept, then sign: only what was accepted, or restored intact, can be signed."""

from __future__ import annotations

import asyncio
import dataclasses
import subprocess
import sys
from pathlib import Path
from typing import Any

import pytest

from attestation import merkle
from attestation.document import Attestation, Field, SessionField, body_leaves
from attestation.errors import (
    InvalidProofError,
    MalformedError,
    RefusedError,
    UntrustedError,
    UsageError,
)
from attestation.hashing import format_hash
from attestation.keys import SigningKey
from attestation.venues import parse_venue
from notary import issue
from notary.issue import (
    MAX_DATE,
    AcceptedRequest,
    Issued,
    SessionFacts,
    accept,
    default_request,
    restore,
    sign,
)
from notary.sessions import token_hash
from notary.signer import Signer
from tests.notary.rig import NOTARY, VENUE_FILE, http_request, http_response, running
from tests.notary.test_claims import Wire
from tests.tls13.certs import HOST

SECOND = SigningKey(name=NOTARY.name, algorithm="ecdsa-secp256k1", seed=b"\x03" * 32)


def issued(tmp_path: Path) -> tuple[Attestation, bytes]:
    """Returns an issued attestation and what the store keeps of it."""

    async def scene() -> tuple[Attestation, bytes]:
        async with running(tmp_path) as rig:
            session = rig.session()
            client = rig.client(session)
            await client.fetch()
            await rig.seal(session)
            attestation = await rig.attest(session, client)
            stored = await rig.context.store.attestation(
                attestation.header.id, token_hash(session["token"])
            )
            assert stored is not None
            return attestation, stored.body

    return asyncio.run(scene())


def test_accepted_request_cannot_be_built_elsewhere(tmp_path: Path) -> None:
    attestation, body = issued(tmp_path)
    accepted = restore(body)
    with pytest.raises(TypeError):
        AcceptedRequest(
            header=attestation.header,
            fields=attestation.fields,
            seed=attestation.seed,
            _token=object(),
        )
    with pytest.raises(TypeError):
        dataclasses.replace(accepted, seed="00" * 32, _token=None)


def test_store_keeps_the_body_without_its_signature(tmp_path: Path) -> None:
    attestation, body = issued(tmp_path)
    assert attestation.signature.encode() not in body
    assert sign(restore(body), Signer(NOTARY.name, [NOTARY])) == attestation


def test_answer_made_of_what_is_stored_is_the_attestations_own_bytes(tmp_path: Path) -> None:
    attestation, body = issued(tmp_path)
    assert b'"signature":""' in body
    whole = Issued(attestation=attestation)
    assert Issued(attestation=attestation, stored=body).encode() == whole.encode()


def test_damaged_body_is_never_signed(tmp_path: Path) -> None:
    attestation, body = issued(tmp_path)
    index = next(i for i, field in enumerate(attestation.fields) if field.name == "extension")
    claim = attestation.fields[index]
    forged = Field(name="extension", value={**claim.value, "by": "notary"})
    fields = (*attestation.fields[:index], forged, *attestation.fields[index + 1 :])
    changed = dataclasses.replace(attestation, fields=fields, signature="").encode()
    for damaged in (changed, body[:-1], b"", body.replace(b'"size":', b'"size":1')):
        with pytest.raises(InvalidProofError) as refused:
            restore(damaged)
        assert refused.value.rule == "store"


def test_body_of_a_retired_key_is_gone(tmp_path: Path) -> None:
    _, body = issued(tmp_path)
    other = SigningKey(name=NOTARY.name, algorithm="ed25519", seed=b"\x08" * 32)
    with pytest.raises(RefusedError) as refused:
        sign(restore(body), Signer(NOTARY.name, [other]))
    assert (refused.value.rule, refused.value.http_status) == ("keys", 410)


def test_second_signature_algorithm_signs_what_asks_for_it(tmp_path: Path) -> None:
    async def scene() -> None:
        async with running(tmp_path) as rig:
            rig.context.signer = Signer(NOTARY.name, [NOTARY, SECOND])
            session = rig.session()
            client = rig.client(session)
            await client.fetch()
            await rig.seal(session)
            attestation = await rig.attest(session, client, signature="ecdsa-secp256k1")
            assert attestation.header.key == SECOND.verifying_key.short
            assert attestation.notary().vkey == SECOND.verifying_key.vkey
            SECOND.verifying_key.verify(
                bytes.fromhex(attestation.signature), attestation.header.encode()
            )

    asyncio.run(scene())


@pytest.mark.parametrize("changes", [{"signature": "ecdsa-secp256k1"}, {"hash": "md5"}])
def test_algorithm_that_is_not_there_ends_the_session(
    tmp_path: Path, changes: dict[str, str]
) -> None:
    async def scene() -> None:
        async with running(tmp_path) as rig:
            session = rig.session()
            client = rig.client(session)
            await client.fetch()
            await rig.seal(session)
            with pytest.raises(RefusedError):
                await rig.attest(session, client, **changes)
            assert (await rig.row(session["id"]))["reason"] == "invalid"

    asyncio.run(scene())


def test_trees_share_one_bound_of_parts(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    trees = [
        {
            "name": f"x.{number}",
            "direction": "received",
            "scheme": "tree",
            "salt": "ab" * 32,
            "split": "fixed:1",
            "start": 0,
            "end": 20,
        }
        for number in range(3)
    ]

    async def scene() -> None:
        async with running(tmp_path) as rig:
            monkeypatch.setattr(issue, "MAX_PARTS", 40)
            for count in (2, 3):
                session = rig.session()
                client = rig.client(session)
                await client.fetch()
                await rig.seal(session)
                changes = {"sections": trees[:count], "extensions": []}
                if count == 2:
                    attestation = await rig.attest(session, client, **changes)
                    assert [field.parts for field in attestation.sections().values()] == [20, 20]
                else:
                    with pytest.raises(RefusedError) as caught:
                        await rig.attest(session, client, **changes)
                    assert (caught.value.rule, caught.value.found) == ("section.x.2", 60)

    asyncio.run(scene())


def test_signer_takes_one_key_of_each_algorithm_and_its_own_name() -> None:
    stranger = SigningKey(name="other.example", algorithm="ed25519", seed=b"\x08" * 32)
    for keys in ([], [SECOND], [NOTARY, NOTARY], [NOTARY, stranger]):
        with pytest.raises(UsageError):
            Signer(NOTARY.name, keys)
    with pytest.raises(UntrustedError):
        Signer(NOTARY.name, [NOTARY]).key("rsa")


_NO_GARBAGE = """
import gc
from attestation.document import Field
from notary.issue import _root

fields = tuple([Field(name="gap", value={"number": number}) for number in range(13)])
_root(fields, "07" * 32, "sha256")
gc.collect()
gc.disable()
print(_root(fields, "07" * 32, "sha256"), gc.collect())
"""


def test_issuing_leaves_no_garbage_that_only_the_collector_finds() -> None:
    """Two slots a second for a day would be gigabytes until it comes.

    In a process of its own: what other tests' threads leave would count here.
    """
    fields = tuple([Field(name="gap", value={"number": number}) for number in range(13)])
    root = merkle.root(body_leaves(fields, seed="07" * 32, algorithm="sha256"), "sha256")
    run = subprocess.run([sys.executable, "-c", _NO_GARBAGE], capture_output=True, text=True)
    assert run.stdout.split() == [format_hash(root, "sha256"), "0"], run.stderr


def accepted(
    *,
    headers: bytes = b"",
    request_headers: bytes = b"",
    session: str = "0a" * 16,
    issued_us: int = 90,
    **changes: int,
) -> Attestation:
    """Accepts a claim on a connection in memory, all at the times given."""
    wire = Wire()
    wire.ask(30, http_request().replace(b"\r\n\r\n", b"\r\n" + request_headers + b"\r\n"))
    wire.answer(http_response().replace(b"\r\n\r\n", b"\r\n" + headers + b"\r\n", 1), 50)
    times = {"connected_us": 1, "hello_us": 2, "released_us": 20, "sealed_us": 60, "opened_us": 70}
    field = SessionField(
        id="0a" * 16, mode="sealed", binding="full", prover="p", purpose="adhoc/x", nonce="0b" * 16
    )
    facts = SessionFacts(
        session=field,
        host=HOST,
        port=443,
        address="192.0.2.1",
        venue=parse_venue(VENUE_FILE.encode()),
        instrument="BTCUSDT",
        **{**times, **changes},
    )
    signer = Signer(NOTARY.name, [NOTARY])
    body = accept(
        wire.claim("sealed"),
        default_request(session, NOTARY.verifying_key),
        facts,
        signer=signer,
        software="test",
        extensions=(),
        identifier="0c" * 16,
        seed=bytes(32),
        issued_us=issued_us,
    )
    return sign(body, signer)


def test_claim_is_accepted_only_with_its_times_in_order() -> None:
    assert accepted().connection().sealed_us == 60
    disorders: tuple[dict[str, Any], ...] = (
        {"hello_us": 21},
        {"sealed_us": 49},
        {"opened_us": 59},
        {"issued_us": 69},
    )
    for changes in disorders:
        with pytest.raises(InvalidProofError) as refused:
            accepted(**changes)
        assert refused.value.rule is not None
        assert refused.value.rule.startswith("connection.")


def test_request_of_another_session_is_never_accepted() -> None:
    with pytest.raises(RefusedError) as refused:
        accepted(session="0f" * 16)
    assert refused.value.rule == "request.session"


@pytest.mark.parametrize("header", [b"X-Simulated: 1\r\n", b"Cookie: a=b\r\n"])
def test_quote_that_was_asked_for_with_a_header_of_ones_own_is_never_accepted(
    header: bytes,
) -> None:
    with pytest.raises(MalformedError) as refused:
        accepted(request_headers=header)
    assert refused.value.rule == "W14"


@pytest.mark.parametrize(
    ("date", "kept"),
    [
        (None, None),
        (b"Mon, 01 Jun 2026 12:00:00 GMT", "Mon, 01 Jun 2026 12:00:00 GMT"),
        (b"x" * MAX_DATE, "x" * MAX_DATE),
        (b"x" * (MAX_DATE + 1), None),
        (b"\xe9t\xe9", None),
    ],
)
def test_date_of_the_venue_is_kept_where_it_may_be_one(
    date: bytes | None, kept: str | None
) -> None:
    header = b"" if date is None else b"Date: %s\r\n" % date
    assert accepted(headers=header).http().server_date == kept
