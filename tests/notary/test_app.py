"""The control API over HTTP: answers, problems, and what OpenAPI declares."""

from __future__ import annotations

import asyncio
import json
from collections.abc import Awaitable, Callable
from pathlib import Path
from typing import Any

import httpx
import pytest

from attestation.document import Attestation
from attestation.errors import UsageError
from notary.app import HotPath, make_app
from notary.config import load_config
from notary.routes.declare import LeanRoute
from tests.notary.rig import Rig, attestation_request, bearer, http_response, running

Scene = Callable[[Rig, httpx.AsyncClient], Awaitable[None]]


def over_http(tmp_path: Path, scene: Scene) -> None:
    """Runs a scene with a client of the application, with and without its hot path."""

    async def run(folder: Path, *, hot: bool) -> None:
        async with running(folder) as rig:
            app = make_app(rig.desk, {"name": "notary.test.example"})
            transport = httpx.ASGITransport(app=HotPath(app, rig.desk) if hot else app)
            async with httpx.AsyncClient(transport=transport, base_url="http://n") as client:
                await scene(rig, client)

    for hot in (False, True):
        asyncio.run(run(tmp_path / str(hot), hot=hot))


def check_problem(answer: httpx.Response, status: int, rule: str) -> dict[str, Any]:
    """Checks a problem document (RFC 9457 section 3)."""
    assert answer.status_code == status, answer.text
    assert answer.headers["content-type"] == "application/problem+json"
    document: dict[str, Any] = answer.json()
    assert document["type"].startswith("urn:quotary:problem:")
    assert (document["status"], document["rule"]) == (status, rule)
    assert document["title"]
    assert document["detail"]
    return document


def test_whole_sealed_session_over_http(tmp_path: Path) -> None:
    async def scene(rig: Rig, client: httpx.AsyncClient) -> None:
        created = await client.post("/v1/sessions", content=rig.envelope())
        assert created.status_code == 201
        session = created.json()
        tunnel = rig.client(session)
        await tunnel.fetch()
        own = bearer(session)
        sealed = await client.post(f"/v1/sessions/{session['id']}/seal", json={}, headers=own)
        assert sealed.json()["seal"]["session"] == session["id"]
        body = {"opening": tunnel.opening(), "request": attestation_request(session)}
        path = f"/v1/sessions/{session['id']}/attestations"
        answer = await client.post(path, json=body, headers=own)
        assert answer.status_code == 200
        attestation = Attestation.from_json(answer.json()["attestation"])
        attestation.check_root()
        assert await tunnel.read_to_end() == http_response()
        assert (await client.post(path, json=body, headers=own)).json() == answer.json()
        again = await client.get(f"/v1/attestations/{attestation.header.id}", headers=own)
        assert again.json() == answer.json()
        ended = await client.delete(f"/v1/sessions/{session['id']}", headers=own)
        check_problem(ended, 409, "session")

    over_http(tmp_path, scene)


def test_each_refusal_is_a_problem_document(tmp_path: Path) -> None:
    async def scene(rig: Rig, client: httpx.AsyncClient) -> None:
        unknown = "0d" * 16
        client.headers.update(bearer({"token": unknown}))
        post, path = client.post, f"/v1/sessions/{unknown}"
        check_problem(await post("/v1/sessions", content=b"{"), 400, "body")
        check_problem(await post("/v1/sessions", content=b"x" * 200_000), 400, "body")
        check_problem(await post(f"{path}/seal", json={}), 404, "session")
        attest = await post(f"{path}/attestations", json={"request": {}})
        assert attest.status_code == 400
        check_problem(await client.delete(path), 404, "session")
        check_problem(await client.get(f"/v1/attestations/{unknown}"), 404, "id")
        # No page that would load scripts from elsewhere.
        for path in ("/nowhere", "/docs", "/redoc"):
            check_problem(await client.get(path), 404, "http")
        check_problem(await client.put("/v1/sessions"), 405, "http")
        session = rig.session()
        client.headers.update(bearer(session))
        path = f"/v1/sessions/{session['id']}"
        check_problem(await post(f"{path}/seal", json={}), 409, "gate")
        request = attestation_request(session)
        check_problem(await post(f"{path}/attestations", json={"request": request}), 409, "gate")
        assert (await client.delete(path)).status_code == 204
        check_problem(await client.delete(path), 409, "session")

    over_http(tmp_path, scene)


def test_stranger_that_knows_a_sessions_id_gets_nothing_of_it(tmp_path: Path) -> None:
    """Ids are shown in presentations; the token is the prover's own."""

    async def scene(rig: Rig, client: httpx.AsyncClient) -> None:
        session = rig.session()
        tunnel = rig.client(session)
        await tunnel.fetch()
        path = f"/v1/sessions/{session['id']}"
        opening = {"opening": tunnel.opening(), "request": attestation_request(session)}
        commitment = {"commitment": "sha256:" + "0" * 64}

        async def strange(headers: dict[str, str], status: int, rule: str) -> None:
            for answer in (
                await client.post(f"{path}/commitment", json=commitment, headers=headers),
                await client.post(f"{path}/seal", json={}, headers=headers),
                await client.post(f"{path}/attestations", json=opening, headers=headers),
                await client.delete(path, headers=headers),
            ):
                check_problem(answer, status, rule)
                assert (answer.headers.get("www-authenticate") == "Bearer") == (status == 401)

        other = rig.session()
        for headers in ({}, {"Authorization": "Bearer x"}, {"Authorization": "Basic " + "0" * 32}):
            await strange(headers, 401, "token")
        await strange(bearer(other), 403, "token")
        own = bearer(session)
        await client.post(f"{path}/seal", json={}, headers=own)
        answer = await client.post(f"{path}/attestations", json=opening, headers=own)
        stored = f"/v1/attestations/{answer.json()['attestation']['header']['id']}"
        check_problem(await client.get(stored), 401, "token")
        check_problem(await client.get(stored, headers=bearer(other)), 404, "id")
        await strange(bearer(other), 403, "token")
        rig.desk.registry.prune(rig.context.clock.now_us() + 10**9)
        lost = await client.post(f"{path}/attestations", json=opening, headers=bearer(other))
        check_problem(lost, 404, "session")
        again = await client.post(f"{path}/attestations", json=opening, headers=own)
        assert again.json() == answer.json()

    over_http(tmp_path, scene)


@pytest.mark.parametrize(
    "opening",
    [
        {"kind": "ephemeral", "private_key": "5ecre7" * 10},
        {"kind": "keylog", "private_key": "5e" * 32},
        {"kind": "ephemeral", "private_key": "5e" * 32, "key": "5e" * 16},
        {"kind": "ephemeral", "private_key": "5e" * 32, "iv": "5e" * 12},
        {"kind": "ephemeral", "private_key": 5},
        "5e" * 32,
    ],
)
def test_opening_of_another_form_is_refused_and_not_repeated(
    tmp_path: Path, opening: object
) -> None:
    """No free key, iv, nonce or sequence number (attacks row 4); nothing of it comes back."""

    async def scene(rig: Rig, client: httpx.AsyncClient) -> None:
        session = rig.session()
        body = {"opening": opening, "request": attestation_request(session)}
        path = f"/v1/sessions/{session['id']}/attestations"
        answer = await client.post(path, json=body, headers=bearer(session))
        assert answer.status_code == 400
        assert "5e5e" not in answer.text
        assert "5ecre7" not in answer.text

    over_http(tmp_path, scene)


def test_info_health_and_metrics_answer(tmp_path: Path) -> None:
    async def scene(rig: Rig, client: httpx.AsyncClient) -> None:
        assert (await client.get("/v1/info")).json()["name"] == "notary.test.example"
        assert (await client.get("/healthz")).json() == {"status": "ok"}
        rig.session()
        text = (await client.get("/metrics")).text
        assert 'quotary_notary_sessions_total{mode="sealed"} 1.0' in text
        rig.context.store.close()
        failing = await client.get("/healthz")
        assert (failing.status_code, failing.json()["store"]) == (503, False)
        refused = await client.post("/v1/sessions", content=rig.envelope())
        assert refused.status_code == 503

    over_http(tmp_path, scene)


def test_every_route_declares_its_problems_and_examples(tmp_path: Path) -> None:
    async def scene(rig: Rig, client: httpx.AsyncClient) -> None:
        document = (await client.get("/openapi.json")).json()
        operations = {
            (method, path): operation
            for path, methods in document["paths"].items()
            for method, operation in methods.items()
        }
        assert document["components"]["securitySchemes"]["session"]["scheme"] == "bearer"
        assert set(operations) == {
            ("post", "/v1/sessions"),
            ("post", "/v1/sessions/{session}/commitment"),
            ("post", "/v1/sessions/{session}/seal"),
            ("post", "/v1/sessions/{session}/attestations"),
            ("delete", "/v1/sessions/{session}"),
            ("get", "/v1/attestations/{attestation}"),
            ("get", "/v1/info"),
            ("get", "/healthz"),
            ("get", "/metrics"),
        }
        for (method, path), operation in operations.items():
            statuses = set(operation["responses"])
            if method == "post":
                assert {"400", "409"} <= statuses, path
                example = operation["requestBody"]["content"]["application/json"]["example"]
                assert json.dumps(example)
            if "{" in path:
                assert {"401", "404"} <= statuses, path
                assert operation["security"] == [{"session": []}]
            for status, response in operation["responses"].items():
                if status >= "400" and path.startswith("/v1"):
                    content = response["content"]["application/problem+json"]
                    assert content["example"]["status"] == int(status)

    over_http(tmp_path, scene)


def test_no_route_parses_bodies_by_the_framework(tmp_path: Path) -> None:
    async def scene(rig: Rig, client: httpx.AsyncClient) -> None:
        from notary.routes.sessions import session_routes

        routes = session_routes(rig.desk).routes
        assert routes
        assert all(isinstance(route, LeanRoute) for route in routes)

    over_http(tmp_path, scene)


CONFIG = 'name = "n.example"\noperator = "Someone"\n'


def test_development_section_needs_the_flag(tmp_path: Path) -> None:
    file = tmp_path / "notary.toml"
    file.write_text(
        CONFIG + "[development]\n"
        'connect_to = [{ host = "a.example", port = 443, to = "127.0.0.1:8443" }]\n'
    )
    with pytest.raises(UsageError) as refused:
        load_config(file, development=False)
    assert refused.value.rule == "config.development"
    settings = load_config(file, development=True)
    assert settings.development is not None
    assert settings.development.connect_to[0].to == "127.0.0.1:8443"


@pytest.mark.parametrize(
    "text",
    [
        "",
        "name = ",
        'name = "n.example"\n',
        CONFIG + "more = 1\n",
        CONFIG + 'listen = "7047"\n',
        CONFIG + '[allow]\nhosts = ["API.example.com:443"]\n',
        CONFIG + '[allow]\nhosts = ["127.0.0.1:443"]\n',
        CONFIG + '[[provers]]\nname = "p"\nvkey = "p+00000000+AAAA"\n',
        CONFIG.replace("n.example", "n+example"),
        CONFIG + "[limits.deadlines]\nresponse_us = 'soon'\n",
    ],
)
def test_wrong_configuration_is_a_usage_error(tmp_path: Path, text: str) -> None:
    file = tmp_path / "notary.toml"
    file.write_text(text)
    with pytest.raises(UsageError):
        load_config(file, development=False)


def test_environment_overrides_the_file_and_paths_are_relative_to_it(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    file = tmp_path / "notary.toml"
    file.write_text(CONFIG + 'data = "state"\n[allow]\nanonymous = false\n')
    monkeypatch.setenv("QUOTARY_NOTARY_OPERATOR", "Someone else")
    monkeypatch.setenv("QUOTARY_NOTARY_ALLOW__ANONYMOUS", "true")
    settings = load_config(file, development=False)
    assert (settings.operator, settings.allow.anonymous) == ("Someone else", True)
    assert settings.key_files == (tmp_path / "state" / "attest.key",)
