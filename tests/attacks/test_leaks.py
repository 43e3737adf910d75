"""Row 29: keys, seeds, tokens and API keys are in no log, store, metric or error text."""

from __future__ import annotations

import base64
import stat
from collections.abc import Iterator

import httpx
import pytest

from attestation.template import render_template
from attestation.venues import load_venue
from tests.adversaries.prover import (
    BINANCE,
    HOST,
    SECRETS,
    Attempt,
    MaliciousProver,
    Refusal,
    get,
    section,
    whole_body,
)
from tests.adversaries.stage import ATTACKER, NotaryProcess
from tests.adversaries.venue import VenueConnection, answer, response
from tests.attacks.conftest import World

API_KEY = "kx-51b0c7f0a9e24d0c-secret"
LINE = f"Authorization: Bearer {API_KEY}"


class Secrets:
    """What must not be found, by what it is; and what was said by the notary."""

    def __init__(self) -> None:
        self.words: dict[str, bytes] = {"API key": API_KEY.encode()}
        self.seeds: dict[str, bytes] = {}
        self.texts: list[str] = []

    def of_session(self, attempt: Attempt) -> None:
        client = attempt.client
        self.words[f"key of {attempt.id}"] = client.private_key
        self.words[f"token of {attempt.id}"] = bytes.fromhex(attempt.granted["token"])
        for name in (*SECRETS, "master"):
            self.words[f"{name} of {attempt.id}"] = getattr(client, name)

    def refused(self, attempt: Attempt, body: object) -> None:
        with pytest.raises(Refusal) as caught:
            attempt.ask(body)
        self.texts.append(str(caught.value))


def spellings(secret: bytes) -> list[bytes]:
    """The secret as bytes, as hex in both cases, and in base64 of both alphabets."""
    encoded = base64.b64encode(secret).rstrip(b"=")
    hexed = secret.hex()
    return [
        secret,
        hexed.encode(),
        hexed.upper().encode(),
        encoded,
        encoded.translate(bytes.maketrans(b"+/", b"-_")),
        repr(secret)[2:-1].encode(),
    ]


@pytest.fixture(scope="module")
def notary(world: World, tmp_path_factory: pytest.TempPathFactory) -> Iterator[NotaryProcess]:
    with NotaryProcess(
        tmp_path_factory.mktemp("discreet"),
        routes={HOST: world.hostile.port, BINANCE: world.hostile.port},
        roots=[world.hostile.issuer.root_pem],
        hosts=[f"{HOST}:443"],
        deadlines={"opening_us": 4_000_000},
        name="discreet.notary.example",
    ) as running:
        yield running


@pytest.fixture(scope="module")
def secrets(world: World, notary: NotaryProcess) -> Secrets:
    """Runs sessions that end in every way, each with an API key in its request."""
    found = Secrets()
    found.words["seed of the notary"] = notary.key.seed
    found.words["seed of the prover"] = ATTACKER.seed
    with MaliciousProver(notary.url, notary.name, ATTACKER) as prover:
        unasked = attest_well(world, prover, found)
        fail_at_the_opening(world, prover, found)
        fail_before_the_opening(world, prover, found)
        found.texts.append(prover.http.get("/metrics").text)
        found.texts.append(prover.http.get("/v1/info").text)
        found.texts.append(prover.http.get("/openapi.json").text)
        found.texts.append(prover.http.get("/healthz").text)
        assert notary.ending(unasked.id) == ("attested", None)
    return found


def start(prover: MaliciousProver, found: Secrets, data: bytes = b"") -> Attempt:
    attempt = prover.attempt().handshake()
    attempt.send(data or get(HOST, "/", LINE))
    found.of_session(attempt)
    return attempt


def attest_well(world: World, prover: MaliciousProver, found: Secrets) -> Attempt:
    """Returns one that is attested by itself, in time: nobody asks for it."""
    world.hostile.behave()
    attempt = start(prover, found)
    attempt.seal()
    hidden = section("request.headers", "sent")
    found.words["salt"] = bytes.fromhex(hidden["salt"])
    attestation = attempt.open(request=attempt.request(hidden))["attestation"]
    found.seeds["seed of an attestation"] = bytes.fromhex(attestation["seed"])
    found.texts.append(str({**attestation, "seed": ""}))
    attempt.open(b"\x22" * 32)  # answered with the same attestation: the key is not looked at
    open_by_key_log(world, prover, found)
    unasked = start(prover, found)
    unasked.seal()
    unasked.ask({"opening": unasked.opening()})
    return unasked


def open_by_key_log(world: World, prover: MaliciousProver, found: Secrets) -> None:
    form = "quotary"
    text = render_template(load_venue("binance"), "BTCUSDT", form=form, mode="sealed")
    for change in ({}, {"client_handshake": b"\x5a" * 32}, {"client_random": b"\x5a" * 32}):
        attempt = prover.template(form=form).handshake()
        attempt.commit()
        attempt.send(text)
        found.of_session(attempt)
        attempt.seal()
        body = {"opening": attempt.keylog(**change), "request": attempt.request()}
        if change:
            found.refused(attempt, {**body, "opening": {**attempt.keylog(), "iv": API_KEY}})
            found.refused(attempt, body)
        else:
            attempt.ask(body)


def fail_at_the_opening(world: World, prover: MaliciousProver, found: Secrets) -> None:
    world.hostile.behave()
    bad_bodies = [
        lambda attempt: {"opening": attempt.opening(key="x"), "request": attempt.request()},
        lambda attempt: {"opening": attempt.opening(kind=API_KEY), "request": attempt.request()},
        lambda attempt: {"opening": attempt.opening()["private_key"]},
        lambda attempt: {"opening": {**attempt.opening(), "private_key": API_KEY}},
        lambda attempt: {"opening": attempt.opening(), "request": API_KEY},
        lambda attempt: {"opening": attempt.opening(), "x": attempt.opening()},
        lambda attempt: {
            "opening": attempt.opening(attempt.client.private_key[:16] + bytes(16)),
            "request": attempt.request(),
        },
        lambda attempt: {
            "opening": attempt.opening(),
            "request": attempt.request(section("x.a", "sent", start=0, end=9_999)),
        },
        lambda attempt: {
            "opening": attempt.opening(),
            "request": attempt.request(whole_body(), extensions=[{"id": "quote/v1"}]),
        },
    ]
    for body in bad_bodies:
        attempt = start(prover, found)
        attempt.seal()
        found.refused(attempt, body(attempt))
    bad_answers = [
        response(headers=f"Set-Cookie: {API_KEY}\r\nContent-Encoding: gzip\r\n".encode()),
        b"HTTP/1.1 two hundred\r\n\r\n" + API_KEY.encode(),
        response() + API_KEY.encode(),
    ]
    for data in bad_answers:
        world.hostile.behave(answer(data))
        attempt = start(prover, found)
        attempt.seal()
        found.refused(attempt, {"opening": attempt.opening(), "request": attempt.request()})
    world.hostile.behave()
    attempt = start(prover, found, get("other.example", "/", LINE))
    attempt.seal()
    found.refused(attempt, {"opening": attempt.opening(), "request": attempt.request()})


def fail_before_the_opening(world: World, prover: MaliciousProver, found: Secrets) -> None:
    def cut(connection: VenueConnection) -> None:
        connection.request()
        connection.send_raw(b"\xff" * 10)
        connection.cut()

    world.hostile.behave(cut)
    attempt = start(prover, found)
    with pytest.raises(Refusal) as caught:
        attempt.seal()
    found.texts.append(str(caught.value))
    granted = prover.session()
    with pytest.raises(Refusal) as caught:
        prover.connect(granted, token="0" * 32)
    found.texts.append(str(caught.value))
    found.words["token of nobody"] = bytes.fromhex(granted["token"])
    body = {"request": prover.request(), "signature": API_KEY}
    found.texts.append(prover.http.post("/v1/sessions", json=body).text)
    world.hostile.behave()


def search(place: str, data: bytes, words: dict[str, bytes]) -> list[str]:
    return [
        f"{name} in {place}"
        for name, secret in words.items()
        for spelling in spellings(secret)
        if spelling in data
    ]


def test_no_secret_is_in_the_log(notary: NotaryProcess, secrets: Secrets) -> None:
    data = notary.log.read_bytes()
    assert b"session_attested" in data
    assert b"connection_failed" in data
    assert search("log", data, {**secrets.words, **secrets.seeds}) == []


def test_no_secret_is_in_the_store(notary: NotaryProcess, secrets: Secrets) -> None:
    """But the seeds of attestations, without which none could be given out again."""
    files = [path for path in notary.folder.iterdir() if path.name.startswith("notary.db")]
    data = b"".join(path.read_bytes() for path in files)
    assert b"adhoc/attack" in data
    assert search("store", data, secrets.words) == []


def test_no_secret_is_in_what_the_notary_answers(notary: NotaryProcess, secrets: Secrets) -> None:
    assert len(secrets.texts) > 15
    data = "\n".join(secrets.texts).encode()
    assert search("answers", data, {**secrets.words, **secrets.seeds}) == []


def test_files_of_the_notary_are_its_owners_alone(notary: NotaryProcess, secrets: Secrets) -> None:
    for path in notary.folder.iterdir():
        if path.name.startswith("notary.db") or path.suffix == ".key":
            assert stat.S_IMODE(path.stat().st_mode) == 0o600, path


def test_secrets_are_found_where_they_are(secrets: Secrets) -> None:
    """The search finds what it looks for: a key in any spelling."""
    for secret in secrets.words.values():
        for spelling in spellings(secret):
            assert search("x", b"<" + spelling + b">", {"it": secret}) != []


def test_id_of_a_session_or_an_attestation_gives_a_stranger_nothing(
    notary: NotaryProcess, secrets: Secrets
) -> None:
    """Presentations show both ids; fields left out of them must not be had here."""
    rows = notary.query("SELECT id, session FROM attestations")
    assert rows
    for identifier, session in rows:
        for headers in ({}, {"Authorization": f"Bearer {session}"}):
            found = httpx.get(f"{notary.url}/v1/attestations/{identifier}", headers=headers)
            assert (found.status_code, "fields" in found.text) == (404 if headers else 401, False)
            path = f"{notary.url}/v1/sessions/{session}/attestations"
            asked = httpx.post(path, json={"opening": None}, headers=headers)
            assert (asked.status_code, "fields" in asked.text) == (403 if headers else 401, False)
    assert httpx.get(f"{notary.url}/v1/attestations").status_code in (404, 405)
    assert httpx.get(f"{notary.url}/v1/sessions").status_code in (404, 405)
