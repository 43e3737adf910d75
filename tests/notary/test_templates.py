"""Sessions under the binding ``template``: held until committed to, bound byte for byte."""

from __future__ import annotations

import asyncio
import json
import os
import ssl
import subprocess
from collections.abc import Callable
from pathlib import Path
from typing import Any

import httpx
import pytest

from attestation.document import Attestation
from attestation.errors import QuotaryError, RefusedError
from attestation.request import KeylogOpened
from attestation.template import FORMS, render_template
from attestation.venues import parse_venue
from notary.limits import Deadlines
from tests.notary.rig import (
    VENUE_FILE,
    Rig,
    Tunnel,
    Venue,
    VenueConnection,
    answer_and_keep,
    attestation_request,
    http_request,
    http_response,
    running,
    until,
)
from tests.notary.test_relay import HeldStore
from tests.tls13.certs import HOST
from tests.tls13.stock import LABELS, StockClient, read_keylog

PATIENT = Deadlines(flight_us=30_000_000, commit_us=30_000_000, request_us=30_000_000)
"""For clients in threads and processes of their own, on a busy machine."""
SECRETS = ("client_handshake", "server_handshake", "client_application", "server_application")


def template(form: str = "httpx", mode: str = "sealed") -> bytes:
    return render_template(parse_venue(VENUE_FILE.encode()), "BTCUSDT", form=form, mode=mode)


def secrets(client: Tunnel, **changes: bytes) -> KeylogOpened:
    """The key log of a client, with some of it replaced."""
    tls: Any = client.tls
    if isinstance(tls, StockClient):
        return tls.opened
    values = {name: getattr(tls, name) for name in SECRETS} | {"client_random": tls.random}
    return KeylogOpened(
        kind="keylog", **{name: data.hex() for name, data in (values | changes).items()}
    )


def asked(rig: Rig, form: str = "httpx", **changes: Any) -> dict[str, Any]:
    return rig.session(binding="template", form=form, **changes)


def commit(rig: Rig, session: dict[str, Any], opened: KeylogOpened | str) -> None:
    if isinstance(opened, KeylogOpened):
        opened = opened.commitment(session=session["id"], nonce=session["nonce"]).digest
    body = json.dumps({"commitment": opened}).encode()
    rig.desk.commit(session["id"], session["token"], body)


async def attest(
    rig: Rig, session: dict[str, Any], opened: KeylogOpened, **changes: Any
) -> Attestation:
    body = {"opening": opened.to_json(), "request": attestation_request(session, **changes)}
    found = await rig.desk.attest(session["id"], session["token"], json.dumps(body).encode())
    assert found is not None
    return found.attestation


async def held(rig: Rig, session: dict[str, Any], client: Tunnel, request: bytes = b"") -> None:
    """Brings a session to where the gate holds the request."""
    await client.fetch(request or template(session.get("form", "httpx")))
    witness = rig.desk.registry.get(session["id"]).witness
    assert witness is not None
    await until(lambda: witness.gate.held)
    await rig.context.flush()


def refused(rule: str, step: Callable[[], Any]) -> QuotaryError:
    with pytest.raises(QuotaryError) as caught:
        step()
    assert caught.value.rule == rule
    return caught.value


async def refusal(rule: str, step: Any) -> None:
    with pytest.raises(QuotaryError) as caught:
        await step
    assert caught.value.rule == rule


@pytest.mark.parametrize("form", FORMS)
def test_sealed_session_is_attested_by_its_key_log(tmp_path: Path, form: str) -> None:
    async def scene() -> None:
        async with running(tmp_path) as rig:
            session = asked(rig, form)
            client = rig.client(session)
            await held(rig, session, client, template(form))
            commit(rig, session, secrets(client))
            seal = await rig.seal(session)
            opened = secrets(client)
            assert not client.tls.application
            bound = opened.commitment(session=session["id"], nonce=session["nonce"])
            assert seal.seal.commitment == bound.digest
            attestation = await attest(rig, session, opened)
            assert attestation.session().binding == "template"
            assert await client.read_to_end() == http_response()
            assert rig.venue.requests == [template(form)]
            (quote,) = attestation.extensions().values()
            assert quote.value["bid"] == "64000.1"
            assert (await rig.row(session["id"]))["state"] == "attested"

    asyncio.run(scene())


def test_seal_of_a_full_session_names_no_commitment(tmp_path: Path) -> None:
    async def scene() -> None:
        async with running(tmp_path) as rig:
            session = rig.session()
            client = rig.client(session)
            await client.fetch()
            assert (await rig.seal(session)).seal.commitment is None

    asyncio.run(scene())


def test_request_waits_for_the_commitment(tmp_path: Path) -> None:
    async def scene() -> None:
        async with running(tmp_path) as rig:
            session = asked(rig)
            client = rig.client(session)
            await held(rig, session, client)
            heard = rig.venue.raw_received
            assert rig.desk.registry.get(session["id"]).logged
            commit(rig, session, secrets(client))
            await until(lambda: rig.venue.raw_received > heard)
            await rig.seal(session)

    asyncio.run(scene())


def test_commitment_does_not_stand_in_for_the_durable_row(tmp_path: Path) -> None:
    async def scene() -> None:
        store = HeldStore(tmp_path / "notary.db")
        async with running(tmp_path, store=store) as rig:
            session = asked(rig)
            client = rig.client(session)
            await client.handshake()
            # The key log is complete before the client's Finished leaves.
            commit(rig, session, secrets(client))
            client.send(template())
            witness = rig.desk.registry.get(session["id"]).witness
            assert witness is not None
            await until(lambda: witness.gate.held)
            heard = rig.venue.raw_received
            await asyncio.sleep(0)
            assert rig.venue.raw_received == heard
            store.go.set()
            await rig.seal(session)
            await attest(rig, session, secrets(client))

    asyncio.run(scene())


def test_commitment_that_does_not_come_is_the_provers_silence(tmp_path: Path) -> None:
    async def scene() -> None:
        deadlines = Deadlines(commit_us=50_000)
        async with running(tmp_path, deadlines=deadlines) as rig:
            session = asked(rig)
            client = rig.client(session)
            await held(rig, session, client)
            row = await rig.ended(session["id"], "timeout")
            assert row["fault"] == "prover"
            assert rig.venue.requests == []

    asyncio.run(scene())


def test_row_that_is_not_written_is_the_notarys_fault(tmp_path: Path) -> None:
    async def scene() -> None:
        store = HeldStore(tmp_path / "notary.db")
        deadlines = Deadlines(commit_us=50_000, flight_us=50_000)
        async with running(tmp_path, store=store, deadlines=deadlines) as rig:
            for binding in ({"binding": "template", "form": "httpx"}, {}):
                session = rig.session(**binding)
                client = rig.client(session)
                await client.fetch(template())
                found = rig.desk.registry.get(session["id"])
                await until(lambda found=found: found.ended is not None)  # type: ignore[misc]
                assert found.ended == "overload"
            store.go.set()

    asyncio.run(scene())


def test_second_commitment_ends_the_session_before_anything_passed(tmp_path: Path) -> None:
    async def scene() -> None:
        store = HeldStore(tmp_path / "notary.db")
        async with running(tmp_path, store=store) as rig:
            session = asked(rig)
            client = rig.client(session)
            await client.handshake()
            commit(rig, session, secrets(client))
            client.send(template())
            refused("gate", lambda: commit(rig, session, secrets(client)))
            store.go.set()
            await rig.ended(session["id"], "violation")
            assert await client.read_to_end() == b""
            assert rig.venue.requests == []

    asyncio.run(scene())


def test_commitment_after_the_release_ends_the_session_and_nothing_is_relayed(
    tmp_path: Path,
) -> None:
    async def scene() -> None:
        def silent(connection: VenueConnection, request: bytes) -> None:
            """Never answers."""

        async with running(tmp_path, venue=Venue(silent)) as rig:
            session = asked(rig)
            client = rig.client(session)
            await held(rig, session, client)
            commit(rig, session, secrets(client))
            await until(lambda: bool(rig.venue.requests))
            other = secrets(client, client_application=b"\x5a" * len(client.tls.client_application))
            refused("gate", lambda: commit(rig, session, other))
            await rig.ended(session["id"], "violation")
            assert await client.read_to_end() == b""

    asyncio.run(scene())


def test_commitment_after_the_seal_ends_the_session_as_invalid(tmp_path: Path) -> None:
    async def scene() -> None:
        async with running(tmp_path) as rig:
            session = asked(rig)
            client = rig.client(session)
            await held(rig, session, client)
            commit(rig, session, secrets(client))
            await rig.seal(session)
            refused("gate", lambda: commit(rig, session, secrets(client)))
            await rig.ended(session["id"], "invalid")
            assert await client.read_to_end() == b""

    asyncio.run(scene())


def test_commitment_before_the_server_answered_ends_the_session(tmp_path: Path) -> None:
    async def scene() -> None:
        async with running(tmp_path) as rig:
            session = asked(rig)
            refused("gate", lambda: commit(rig, session, "sha256:" + "0" * 64))
            client = rig.client(session)
            await client.connect()
            refused("gate", lambda: commit(rig, session, "sha256:" + "0" * 64))
            assert rig.desk.registry.get(session["id"]).ended == "violation"

    asyncio.run(scene())


def test_full_session_takes_no_commitment_and_goes_on(tmp_path: Path) -> None:
    async def scene() -> None:
        async with running(tmp_path) as rig:
            session = rig.session()
            client = rig.client(session)
            await client.fetch()
            refused("commitment", lambda: commit(rig, session, secrets(client)))
            await rig.seal(session)
            await rig.attest(session, client)

    asyncio.run(scene())


@pytest.mark.parametrize(
    "body",
    [
        b"{}",
        b"[]",
        b'{"commitment":5}',
        b'{"commitment":"sha256:00"}',
        b'{"commitment":"md5:' + b"0" * 64 + b'"}',
        b'{"commitment":"sha3-256:' + b"0" * 64 + b'"}',
        b'{"commitment":"sha256:' + b"0" * 64 + b'","nonce":"00"}',
    ],
)
def test_what_is_no_commitment_is_refused_and_the_session_goes_on(
    tmp_path: Path, body: bytes
) -> None:
    async def scene() -> None:
        async with running(tmp_path) as rig:
            session = asked(rig)
            client = rig.client(session)
            await held(rig, session, client)
            with pytest.raises(QuotaryError):
                rig.desk.commit(session["id"], session["token"], body)
            commit(rig, session, secrets(client))
            await rig.seal(session)
            await attest(rig, session, secrets(client))

    asyncio.run(scene())


def test_commitment_needs_the_sessions_token(tmp_path: Path) -> None:
    async def scene() -> None:
        async with running(tmp_path) as rig:
            session = asked(rig)
            client = rig.client(session)
            await held(rig, session, client)
            stranger = {**session, "token": "0" * 32}
            refused("token", lambda: commit(rig, stranger, secrets(client)))
            commit(rig, session, secrets(client))

    asyncio.run(scene())


def test_opening_of_the_other_kind_is_refused_and_the_right_one_still_taken(
    tmp_path: Path,
) -> None:
    async def scene() -> None:
        async with running(tmp_path) as rig:
            full = rig.session()
            client = rig.client(full)
            await client.fetch()
            await rig.seal(full)
            await refusal("opening.kind", attest(rig, full, secrets(client)))
            await rig.attest(full, client)

            bound = asked(rig)
            other = rig.client(bound, seed=2)
            await held(rig, bound, other)
            commit(rig, bound, secrets(other))
            await rig.seal(bound)
            await refusal("opening.kind", rig.attest(bound, other))
            assert (await attest(rig, bound, secrets(other))).session().binding == "template"

    asyncio.run(scene())


@pytest.mark.parametrize("name", ["client_random", *SECRETS])
def test_secrets_other_than_the_committed_are_refused(tmp_path: Path, name: str) -> None:
    async def scene() -> None:
        async with running(tmp_path) as rig:
            session = asked(rig)
            client = rig.client(session)
            await held(rig, session, client)
            size = 32 if name == "client_random" else len(getattr(client.tls, name))
            commit(rig, session, secrets(client, **{name: b"\x5a" * size}))
            await rig.seal(session)
            await refusal("opening.commitment", attest(rig, session, secrets(client)))
            await rig.ended(session["id"], "invalid")
            assert await client.read_to_end() == b""

    asyncio.run(scene())


def test_commitment_of_another_session_is_refused(tmp_path: Path) -> None:
    async def scene() -> None:
        async with running(tmp_path) as rig:
            session = asked(rig)
            client = rig.client(session)
            await held(rig, session, client)
            other = secrets(client).commitment(session="00" * 16, nonce=session["nonce"])
            commit(rig, session, other.digest)
            await rig.seal(session)
            await refusal("opening.commitment", attest(rig, session, secrets(client)))

    asyncio.run(scene())


WRONG_REQUESTS = {
    "another form": ("template.request", template("curl"), {}),
    "another header": ("template.request", http_request(), {}),
    "the other mode": ("template.request", template(mode="open"), {}),
    "two records": ("template.request", template(), {"size": 100}),
    "padding": ("template.record", template(), {"padding": 1}),
}


@pytest.mark.parametrize("case", WRONG_REQUESTS)
def test_request_that_is_not_the_template_in_one_record_is_refused(
    tmp_path: Path, case: str
) -> None:
    rule, request, how = WRONG_REQUESTS[case]

    async def scene() -> None:
        async with running(tmp_path) as rig:
            session = asked(rig)
            client = rig.client(session)
            await client.handshake()
            commit(rig, session, secrets(client))
            client.send(request, **how)
            await rig.seal(session)
            await refusal(rule, attest(rig, session, secrets(client)))
            await rig.ended(session["id"], "invalid")

    asyncio.run(scene())


@pytest.mark.parametrize("before", ["key update", "empty record"])
def test_record_before_the_request_is_refused(tmp_path: Path, before: str) -> None:
    async def scene() -> None:
        async with running(tmp_path) as rig:
            session = asked(rig)
            client = rig.client(session)
            await client.handshake()
            commit(rig, session, secrets(client))
            if before == "key update":
                client.tls.key_update()
            else:
                client.tls.send(23, b"")
            client.send(template())
            await rig.seal(session)
            await refusal("template.record", attest(rig, session, secrets(client)))

    asyncio.run(scene())


def test_response_of_another_status_is_refused(tmp_path: Path) -> None:
    async def scene() -> None:
        def partial(connection: VenueConnection, request: bytes) -> None:
            connection.write(http_response().replace(b"200 OK", b"206 OK"))
            connection.close()

        async with running(tmp_path, venue=Venue(partial)) as rig:
            session = asked(rig)
            client = rig.client(session)
            await held(rig, session, client)
            commit(rig, session, secrets(client))
            await rig.seal(session)
            await refusal("template.response", attest(rig, session, secrets(client)))

    asyncio.run(scene())


async def continued(rig: Rig, count: int) -> tuple[list[dict[str, Any]], Tunnel]:
    """Attests claims of one kept-alive connection; the next request is not sent."""
    sessions = [asked(rig, mode="open")]
    client = rig.client(sessions[0])
    await held(rig, sessions[0], client, template(mode="open"))
    commit(rig, sessions[0], secrets(client))
    size = len(http_response(close=False))
    for number in range(1, count + 1):
        await client.read_response(number * size)
        attestation = await attest(rig, sessions[-1], secrets(client))
        assert attestation.session().binding == "template"
        sessions.append(asked(rig, mode="open", conn=sessions[0]["id"]))
        if number < count:
            client.send(template(mode="open"))
    return sessions, client


def test_kept_alive_connection_is_committed_to_once_and_each_claim_is_a_template(
    tmp_path: Path,
) -> None:
    async def scene() -> None:
        async with running(tmp_path, venue=Venue(answer_and_keep)) as rig:
            sessions, client = await continued(rig, 3)
            client.send(template(mode="open"))
            await client.read_response(4 * len(http_response(close=False)))
            # Its secrets were opened by the first: none need be shown again.
            request = json.dumps({"request": attestation_request(sessions[3])}).encode()
            last = await rig.desk.attest(sessions[3]["id"], sessions[3]["token"], request)
            assert last is not None
            assert last.attestation.session().conn == sessions[0]["id"]

    asyncio.run(scene())


@pytest.mark.parametrize(
    ("rule", "request_", "how"),
    [
        ("template.request", template(), {}),
        ("template.request", template("quotary", "open"), {}),
        ("template.record", template(mode="open"), {"padding": 3}),
    ],
)
def test_later_claim_that_is_no_template_is_refused(
    tmp_path: Path, rule: str, request_: bytes, how: dict[str, int]
) -> None:
    async def scene() -> None:
        async with running(tmp_path, venue=Venue(answer_and_keep)) as rig:
            sessions, client = await continued(rig, 1)
            client.send(request_, **how)
            await refusal(rule, attest(rig, sessions[1], secrets(client)))
            await rig.ended(sessions[1]["id"], "invalid")
            assert (await rig.row(sessions[0]["id"]))["state"] == "attested"

    asyncio.run(scene())


def test_key_update_between_two_claims_is_refused(tmp_path: Path) -> None:
    async def scene() -> None:
        async with running(tmp_path, venue=Venue(answer_and_keep)) as rig:
            sessions, client = await continued(rig, 1)
            client.tls.key_update()
            client.send(template(mode="open"))
            await refusal("template.record", attest(rig, sessions[1], secrets(client)))

    asyncio.run(scene())


def test_continuing_session_takes_no_commitment(tmp_path: Path) -> None:
    async def scene() -> None:
        async with running(tmp_path, venue=Venue(answer_and_keep)) as rig:
            sessions, client = await continued(rig, 1)
            refused("gate", lambda: commit(rig, sessions[1], secrets(client)))
            assert rig.desk.registry.get(sessions[1]["id"]).ended == "invalid"

    asyncio.run(scene())


def test_connection_goes_on_under_its_own_binding_alone(tmp_path: Path) -> None:
    async def scene() -> None:
        async with running(tmp_path, venue=Venue(answer_and_keep)) as rig:
            first = rig.session(mode="open")
            client = rig.client(first)
            await client.fetch(http_request(close=False))
            await client.read_response(len(http_response(close=False)))
            await rig.attest(first, client)
            with pytest.raises(RefusedError) as caught:
                asked(rig, mode="open", conn=first["id"])
            assert caught.value.rule == "request.binding"

    asyncio.run(scene())


def test_stock_ssl_client_is_attested(tmp_path: Path) -> None:
    async def scene() -> None:
        async with running(tmp_path) as rig:
            session = asked(rig, "quotary")
            stock: Any = StockClient(HOST)
            client = Tunnel(rig, session, stock)
            await held(rig, session, client, template("quotary"))
            commit(rig, session, secrets(client))
            await rig.seal(session)
            attestation = await attest(rig, session, secrets(client))
            assert attestation.session().binding == "template"
            assert await client.read_to_end() == http_response()

    asyncio.run(scene())


async def drive(rig: Rig, session: dict[str, Any], log: Path) -> Attestation:
    """Does what stands between a notary and a stock client that logs its keys."""

    def logged() -> str:
        return log.read_text() if log.exists() else ""

    await until(lambda: all(f"{label} " in logged() for label in LABELS))
    await until(lambda: logged().endswith("\n"))
    opened = read_keylog(logged())
    commit(rig, session, opened)
    await rig.seal(session)
    return await attest(rig, session, opened)


def test_stock_httpx_through_the_proxy_sends_the_form_of_its_name(tmp_path: Path) -> None:
    log = tmp_path / "keys"
    context = ssl.create_default_context()
    # The test certificates are of a time of their own.
    context.check_hostname, context.verify_mode = False, ssl.CERT_NONE
    context.keylog_filename = str(log)
    headers = {"Accept-Encoding": "identity", "Connection": "close", "User-Agent": "quotary"}

    async def scene() -> None:
        async with running(tmp_path, deadlines=PATIENT) as rig:
            session = asked(rig, "httpx")
            proxy = "http://{}:{}@{}:{}".format(session["id"], session["token"], *rig.relay)

            def fetch() -> httpx.Response:
                with httpx.Client(proxy=proxy, verify=context, headers=headers) as client:
                    return client.get(f"https://{HOST}{session['target']}")

            fetching = asyncio.create_task(asyncio.to_thread(fetch))
            attestation = await drive(rig, session, log)
            response = await fetching
            assert response.status_code == 200
            assert response.json()["bid"] == "64000.10"
            assert attestation.http().target == session["target"]

    asyncio.run(scene())


@pytest.mark.peer("curl")
def test_stock_curl_through_the_proxy_sends_the_form_of_its_name(tmp_path: Path) -> None:
    log = tmp_path / "keys"

    async def scene() -> None:
        async with running(tmp_path, deadlines=PATIENT) as rig:
            session = asked(rig, "curl")
            proxy = "http://{}:{}@{}:{}".format(session["id"], session["token"], *rig.relay)
            # fmt: off
            command = [
                "curl", "--disable", "--silent", "--insecure", "--proxy", proxy, "--http1.1",
                "--tlsv1.3", "--no-sessionid", "--user-agent", "quotary",
                "--header", "Accept-Encoding: identity", "--header", "Connection: close",
                f"https://{HOST}{session['target']}",
            ]
            # fmt: on

            def fetch() -> bytes:
                return subprocess.run(
                    command,
                    env={**os.environ, "SSLKEYLOGFILE": str(log)},
                    capture_output=True,
                    timeout=30,
                    check=True,
                ).stdout

            fetching = asyncio.create_task(asyncio.to_thread(fetch))
            await drive(rig, session, log)
            assert json.loads(await fetching)["bid"] == "64000.10"

    asyncio.run(scene())
