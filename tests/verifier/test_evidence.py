"""Evidence that ``verifier serve`` has for its page, and what nobody has by it."""

from __future__ import annotations

import dataclasses
import json
import os
import socket
import threading
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import orjson
import pytest
import uvicorn
from starlette.testclient import TestClient

from attestation.hashing import hash_string
from attestation.settlement.bundle import SettlementBundle
from attestation.settlement.parts import split_bundle
from attestation.trust import Trust
from tests.settlement.day import a_day
from verifier.evidence import MAX_LINES, EvidenceFolder
from verifier.selftest import SAMPLES, SETTLEMENTS
from verifier.service import create_app, server_config
from verifier.settlement import SettlementMeans

HERE = SAMPLES / SETTLEMENTS
UP = (HERE / "up.0.json").read_bytes()
BUNDLE = SettlementBundle.decode(UP)
TRADE = BUNDLE.trade.leaf.trade
OWN, PARTS = split_bundle(BUNDLE)
ONE = next(iter(PARTS))
TRUST = Trust.parse((HERE / "trust.toml").read_bytes())
LOG_POLICY = (HERE / "log_policy.txt").read_bytes()
SECRET = b'{"secret":1}'


def keep(folder: Path) -> Path:
    """A folder as ``prover serve`` keeps bundles, with a secret beside it."""
    root = folder / "evidence"
    for name in ("trades", "parts", "tile/0", "tile/entries"):
        (root / name).mkdir(parents=True)
    (root / "trades" / f"{TRADE}.json").write_bytes(OWN.encode())
    for name, data in PARTS.items():
        (root / "parts" / f"{name.removeprefix('sha256:')}.json").write_bytes(data)
    (root / "checkpoint").write_bytes(b"log\n1\n")
    (root / "tile/0/000").write_bytes(bytes(8192))
    (root / "tile/0/001.p").mkdir()
    (root / "tile/0/001.p/7").write_bytes(bytes(7 * 32))
    (root / "key.json").write_bytes(SECRET)
    (folder / "secret").write_bytes(SECRET)
    (folder / f"{'ab' * 32}.json").write_bytes(SECRET)
    return root


def client(root: Path, *, log_policy: bytes | None = LOG_POLICY) -> TestClient:
    means = SettlementMeans(log_policy=log_policy)
    return TestClient(create_app(trust=TRUST, settlement=means, evidence=EvidenceFolder(root)))


@pytest.fixture
def asked(tmp_path: Path) -> TestClient:
    return client(keep(tmp_path))


def test_bundle_kept_in_parts_is_served_whole_and_by_part(asked: TestClient) -> None:
    whole = asked.get(f"/v1/trades/{TRADE}/bundle")
    assert whole.status_code == 200
    assert whole.content == BUNDLE.encode()
    assert asked.get(f"/v1/trades/{TRADE}/part").content == OWN.encode()
    assert asked.get(f"/v1/parts/{ONE}").content == PARTS[ONE]


@pytest.mark.parametrize("place", ["", "bundles", "trades"])
def test_bundle_in_one_file_is_served_as_it_is(tmp_path: Path, place: str) -> None:
    (tmp_path / place).mkdir(exist_ok=True)
    (tmp_path / place / f"{TRADE}.json").write_bytes(UP)
    asked = client(tmp_path)
    assert asked.get(f"/v1/trades/{TRADE}/bundle").content == UP.removesuffix(b"\n")
    assert asked.get(f"/v1/trades/{TRADE}/part").status_code == 404


def test_keys_of_the_server_are_served_beside_its_evidence(asked: TestClient) -> None:
    assert Trust.parse(asked.get("/trust.toml").content).keys == TRUST.keys
    assert asked.get("/log_policy.txt").content == LOG_POLICY


def test_server_without_evidence_serves_none_and_none_of_its_keys() -> None:
    asked = TestClient(create_app(trust=TRUST, settlement=SettlementMeans(log_policy=LOG_POLICY)))
    for path in (f"/v1/trades/{TRADE}/bundle", "/v1/ledger", "/trust.toml", "/log/checkpoint"):
        assert asked.get(path).status_code == 404


def test_what_is_named_by_its_hash_is_kept_for_ever_and_nothing_else(asked: TestClient) -> None:
    kept = {
        path: asked.get(path).headers["cache-control"]
        for path in (
            f"/v1/parts/{ONE}",
            f"/v1/trades/{TRADE}/bundle",
            f"/v1/trades/{TRADE}/part",
            "/log/checkpoint",
            "/log/tile/0/000",
            "/log/tile/0/001.p/7",
            "/trust.toml",
            "/log_policy.txt",
        )
    }
    assert {path for path, cache in kept.items() if "immutable" in cache} == {
        f"/v1/parts/{ONE}",
        "/log/tile/0/000",
    }
    assert {cache for cache in kept.values() if "immutable" not in cache} == {"no-cache"}


def test_asker_who_has_the_bytes_is_told_so(asked: TestClient) -> None:
    path = f"/v1/trades/{TRADE}/bundle"
    tag = asked.get(path).headers["etag"]
    again = asked.get(path, headers={"if-none-match": f'"other", W/{tag}'})
    assert (again.status_code, again.content) == (304, b"")
    assert asked.get(path, headers={"if-none-match": '"other"'}).status_code == 200


def test_evidence_is_no_page_and_not_for_other_origins(asked: TestClient) -> None:
    for path in (f"/v1/trades/{TRADE}/bundle", f"/v1/parts/{ONE}", "/log/checkpoint"):
        headers = asked.get(path, headers={"origin": "https://evil.example"}).headers
        assert not [name for name in headers if name.startswith("access-control")]
        assert headers["cross-origin-resource-policy"] == "same-origin"
        assert headers["x-content-type-options"] == "nosniff"
        assert headers["content-security-policy"].startswith("default-src 'none'")
        assert "sandbox" in headers["content-security-policy"]
        assert "html" not in headers["content-type"]


HOSTILE = [
    *(
        "/log/../../secret",
        "/log/..%2f..%2fsecret",
        "/log/%2e%2e/%2e%2e/secret",
        "/log//etc/passwd",
    ),
    *("/log/key.json", "/log/tile/0/../../key.json", "/log/tile/0/x000/000", "/log/tile/0/000%00"),
    *("/log/tile", "/log/", "/log/checkpoint/", "/log/checkpoint%00", "/log/checkpoint.new"),
    f"/v1/trades/..%2f..%2f{'ab' * 32}/bundle",
    f"/v1/trades/../../{'ab' * 32}/bundle",
    f"/v1/trades/{TRADE.upper()}/bundle",
    f"/v1/trades/{TRADE}%0a/bundle",
    f"/v1/trades/{TRADE}.json/bundle",
    "/v1/trades/../key/bundle",
    f"/v1/parts/{'ab' * 32}",
    "/v1/parts/sha256:" + "ab" * 32,
    "/v1/parts/sha256:../key",
    "/v1/parts/sha256:" + "..%2f" * 12 + "secret",
    "/v1/parts/sha256:" + "A" * 64,
    "/v1/parts/" + "a" * 9_000,
    "/key.json",
    "/../secret",
]


@pytest.fixture
def port(tmp_path: Path) -> Iterator[int]:
    """The server as it is served, so that no client tidies a path."""
    means = SettlementMeans(log_policy=LOG_POLICY)
    app = create_app(trust=TRUST, settlement=means, evidence=EvidenceFolder(keep(tmp_path)))
    server = uvicorn.Server(server_config(app))
    with socket.create_server(("127.0.0.1", 0)) as listener:
        running = threading.Thread(target=server.run, kwargs={"sockets": [listener]})
        running.start()
        try:
            yield listener.getsockname()[1]
        finally:
            server.should_exit = True
            running.join(30)


def test_no_path_leads_out_of_the_folder_or_to_what_is_no_evidence(port: int) -> None:
    def raw(path: str) -> bytes:
        with socket.create_connection(("127.0.0.1", port), timeout=30) as sent:
            sent.sendall(f"GET {path} HTTP/1.1\r\nHost: x\r\nConnection: close\r\n\r\n".encode())
            return b"".join(iter(lambda: sent.recv(65_536), b""))

    assert raw(f"/v1/trades/{TRADE}/part").startswith(b"HTTP/1.1 200 ")
    for path in HOSTILE:
        answer = raw(path)
        assert answer.startswith((b"HTTP/1.1 404 ", b"HTTP/1.1 400 ")), path
        assert SECRET not in answer, path
        assert b"Traceback" not in answer, path
    for method in ("POST", "PUT", "DELETE", "PATCH"):
        with socket.create_connection(("127.0.0.1", port), timeout=30) as sent:
            head = f"{method} /v1/parts/{ONE} HTTP/1.1\r\nHost: x\r\nConnection: close\r\n\r\n"
            sent.sendall(head.encode())
            assert sent.recv(64).startswith(b"HTTP/1.1 405 ")


def test_no_symbolic_link_and_no_pipe_is_followed(tmp_path: Path) -> None:
    root = keep(tmp_path)
    outside = tmp_path / "elsewhere"
    (outside / "trades").mkdir(parents=True)
    (outside / "trades" / f"{'cd' * 32}.json").write_bytes(UP)
    (root / "trades" / f"{'ab' * 32}.json").symlink_to(tmp_path / "secret")
    (root / "bundles").symlink_to(outside)
    (root / "log").symlink_to(tmp_path)
    (root / "trades" / f"{'ef' * 32}.json").mkdir()
    os.mkfifo(root / "trades" / f"{'01' * 32}.json")
    (root / "ledger.jsonl").symlink_to(tmp_path / "secret")
    asked = client(root)
    for trade in ("ab", "cd", "ef", "01"):
        assert asked.get(f"/v1/trades/{trade * 32}/bundle").status_code == 404
    assert asked.get("/v1/ledger").status_code == 404
    assert asked.get("/log/checkpoint").content == b"log\n1\n"


def damaged(root: Path, change: str) -> None:
    part = root / "parts" / f"{ONE.removeprefix('sha256:')}.json"
    own = root / "trades" / f"{TRADE}.json"
    if change == "other bytes":
        part.write_bytes(part.read_bytes() + b" ")
    elif change == "gone":
        part.unlink()
    elif change == "too large":
        own.write_bytes(b" " * (17 * 1024 * 1024))
    else:
        ranged = PARTS[OWN.range]
        value = orjson.loads(ranged)
        value["slots"] = value["slots"] * 100_000
        data = orjson.dumps(value, option=orjson.OPT_SORT_KEYS)
        (root / "parts" / f"{hash_string(data).removeprefix('sha256:')}.json").write_bytes(data)
        own.write_bytes(dataclasses.replace(OWN, range=hash_string(data)).encode())


@pytest.mark.parametrize("change", ["other bytes", "gone", "too large", "a bomb of parts"])
def test_damaged_evidence_is_told_as_such(tmp_path: Path, change: str) -> None:
    root = keep(tmp_path)
    damaged(root, change)
    answer = client(root).get(f"/v1/trades/{TRADE}/bundle")
    assert answer.status_code == 503
    assert answer.json()["rule"] == "evidence"
    assert str(tmp_path) not in answer.text


def test_part_whose_bytes_are_others_is_never_served_for_ever(tmp_path: Path) -> None:
    root = keep(tmp_path)
    damaged(root, "other bytes")
    answer = client(root).get(f"/v1/parts/{ONE}")
    assert answer.status_code == 503
    assert "immutable" not in answer.headers.get("cache-control", "")


def placed(line: bytes) -> tuple[int, str]:
    said = json.loads(line)
    return said["entry"], said["trade"]


def test_ledger_is_served_in_pages_in_the_order_of_the_log(tmp_path: Path) -> None:
    lines = sorted(a_day().ledger().splitlines(keepends=True), key=placed)
    (tmp_path / "ledger.jsonl").write_bytes(b"".join(reversed(lines)))
    asked = client(tmp_path)
    assert asked.get("/v1/ledger").content.splitlines(keepends=True) == lines
    after = dict(zip(("entry", "trade"), placed(lines[1]), strict=True))
    assert asked.get("/v1/ledger", params=after).content == b"".join(lines[2:])
    assert asked.get("/v1/promises").status_code == 404


def test_page_of_a_ledger_is_bounded(tmp_path: Path) -> None:
    line: dict[str, Any] = json.loads(a_day().ledger().splitlines()[0])
    many = [{**line, "entry": number} for number in range(MAX_LINES + 5)]
    (tmp_path / "ledger.jsonl").write_bytes(b"".join(orjson.dumps(each) + b"\n" for each in many))
    found = client(tmp_path).get("/v1/ledger").content.splitlines()
    assert [json.loads(each)["entry"] for each in found] == list(range(MAX_LINES))


@pytest.mark.parametrize(
    "line", [b"", b"{}", b"[]", b'{"entry":1.5,"trade":"a"}', b"x" * 100_000, b'{"promise":"x"}']
)
def test_ledger_with_a_line_that_is_none_is_told_as_such(tmp_path: Path, line: bytes) -> None:
    (tmp_path / "ledger.jsonl").write_bytes(a_day().ledger() + line + b"\n")
    answer = client(tmp_path).get("/v1/ledger")
    assert (answer.status_code, answer.json()["rule"]) == (503, "evidence")


@pytest.mark.parametrize("query", ["entry=-2", "entry=x", "trade=zz", "entry=99999999999999999999"])
def test_question_that_is_none_is_a_problem_document(asked: TestClient, query: str) -> None:
    answer = asked.get(f"/v1/ledger?{query}")
    assert answer.status_code == 422
    assert answer.headers["content-type"] == "application/problem+json"
    assert answer.json()["rule"] == query.partition("=")[0]


def test_openapi_describes_evidence_where_it_is_served(asked: TestClient) -> None:
    paths = asked.get("/openapi.json").json()["paths"]
    for path in ("/v1/trades/{trade}/bundle", "/v1/parts/{part}", "/v1/ledger", "/log/{path}"):
        assert set(paths[path]) == {"get"}
        assert {"200", "404", "503"} <= set(paths[path]["get"]["responses"])
