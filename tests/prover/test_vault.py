"""Fetches on disk: owner's alone, whole or not there, checked when read back."""

from __future__ import annotations

import dataclasses
import os
import stat
from pathlib import Path

import pytest

from attestation.document import Attestation
from attestation.errors import InvalidProofError, MalformedError, UnavailableError, UsageError
from attestation.log.inclusion import Inclusion
from prover import AttestedFetch, build_presentation, load, load_evidence, load_set, save
from prover.vault import (
    ATTESTATION_FILE,
    EVIDENCE_FILE,
    LOG_FILE,
    SECRETS_FILE,
    keep_log,
    parse_transcript,
    write_private,
)
from tests.prover.scene import Scene, make_scene
from tests.verifier import logged


@pytest.fixture(scope="module")
def scene() -> Scene:
    return make_scene()


@pytest.fixture(scope="module")
def fetch(scene: Scene) -> AttestedFetch:
    return scene.fetch()


def test_round_trip_gives_back_what_was_fetched(fetch: AttestedFetch, tmp_path: Path) -> None:
    save(tmp_path / "fetch", fetch)
    stored = load(tmp_path / "fetch")
    assert stored.attestation == fetch.attestation
    assert stored.secrets == fetch.secrets
    assert stored.exchange == fetch.exchange
    assert load_evidence(tmp_path / "fetch") == fetch.evidence
    assert build_presentation(stored) == build_presentation(fetch)


def test_folder_is_0700_and_files_0600_whatever_the_umask(
    fetch: AttestedFetch, tmp_path: Path
) -> None:
    folder = tmp_path / "deep" / "fetch"
    save(folder, fetch)
    assert stat.S_IMODE(folder.stat().st_mode) == 0o700
    names = sorted(path.name for path in folder.iterdir())
    assert names == sorted([ATTESTATION_FILE, SECRETS_FILE, EVIDENCE_FILE])
    assert {stat.S_IMODE(path.stat().st_mode) for path in folder.iterdir()} == {0o600}


def test_attestation_is_never_overwritten(fetch: AttestedFetch, tmp_path: Path) -> None:
    save(tmp_path, fetch)
    with pytest.raises(UsageError):
        save(tmp_path, fetch)


@pytest.mark.parametrize(("name", "error"), [("n" * 300, UnavailableError), ("a\0b", UsageError)])
def test_folder_that_cannot_be_is_named_and_no_raw_error(
    fetch: AttestedFetch, tmp_path: Path, name: str, error: type[Exception]
) -> None:
    with pytest.raises(error):
        save(tmp_path / name, fetch)


def test_failed_write_leaves_the_old_file_and_nothing_else(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    path = tmp_path / "file"
    write_private(path, b"old")

    def fail(*_: object) -> None:
        raise OSError(28, "No space left on device")

    monkeypatch.setattr("prover.vault.os.fsync", fail)
    with pytest.raises(Exception, match="No space left"):
        write_private(path, b"new")
    assert path.read_bytes() == b"old"
    assert [item.name for item in tmp_path.iterdir()] == ["file"]


def test_secrets_of_another_fetch_are_refused(fetch: AttestedFetch, tmp_path: Path) -> None:
    other = dataclasses.replace(fetch, secrets=dataclasses.replace(fetch.secrets, header="aa" * 16))
    save(tmp_path, other)
    with pytest.raises(InvalidProofError) as caught:
        load(tmp_path)
    assert caught.value.rule == "secrets.header"


def test_section_whose_salt_is_not_kept_is_refused(fetch: AttestedFetch, tmp_path: Path) -> None:
    asked = fetch.secrets.request
    fewer = dataclasses.replace(asked, sections=asked.sections[:-1])
    secrets = dataclasses.replace(fetch.secrets, request=fewer)
    save(tmp_path, dataclasses.replace(fetch, secrets=secrets))
    with pytest.raises(InvalidProofError) as caught:
        load(tmp_path)
    assert caught.value.rule == "section.response.body"


def test_evidence_of_another_attestation_is_refused(
    fetch: AttestedFetch, scene: Scene, tmp_path: Path
) -> None:
    other = dataclasses.replace(fetch, attestation=scene.altered("session", purpose="adhoc/other"))
    save(tmp_path, fetch)
    write_private(tmp_path / EVIDENCE_FILE, other.evidence.encode() + b"\n")
    with pytest.raises(InvalidProofError) as caught:
        load_evidence(tmp_path)
    assert caught.value.rule == "evidence"


def test_log_proof_is_kept_replaced_and_checked_when_read_back(
    fetch: AttestedFetch, scene: Scene, tmp_path: Path
) -> None:
    def proven(attestation: Attestation, size: int = 1_000) -> Inclusion:
        entry = logged.entry_of(attestation)
        entry = dataclasses.replace(entry, logged_us=attestation.header.issued_us + 1)
        return logged.prove(entry, size=size)

    first, later = proven(fetch.attestation), proven(fetch.attestation, 1_200)
    save(tmp_path, dataclasses.replace(fetch, log=first))
    assert load(tmp_path).log == first
    keep_log(tmp_path, later)
    assert load(tmp_path).log == later
    assert stat.S_IMODE((tmp_path / LOG_FILE).stat().st_mode) == 0o600
    other = scene.altered("session", purpose="adhoc/other")
    keep_log(tmp_path, proven(other))
    with pytest.raises(InvalidProofError):
        load(tmp_path)


def test_set_is_of_one_request_and_purpose(
    fetch: AttestedFetch, scene: Scene, tmp_path: Path
) -> None:
    with pytest.raises(UsageError):
        load_set(tmp_path)
    for name in ("b", "a"):
        save(tmp_path / name, fetch)
    assert list(load_set(tmp_path)) == ["a", "b"]
    for number, (field, changes) in enumerate(
        (("session", {"purpose": "adhoc/other"}), ("http", {"target": "/other"}))
    ):
        other = tmp_path / f"c{number}"
        save(other, dataclasses.replace(fetch, attestation=scene.altered(field, **changes)))
        with pytest.raises(UsageError) as caught:
            load_set(tmp_path)
        assert caught.value.rule == "folder"
        (other / ATTESTATION_FILE).unlink()


def test_folder_that_others_could_read_is_closed_to_them(
    fetch: AttestedFetch, tmp_path: Path
) -> None:
    tmp_path.chmod(0o755)
    save(tmp_path, fetch)
    assert stat.S_IMODE(tmp_path.stat().st_mode) == 0o700


def test_unreadable_file_is_named_and_no_raw_error(fetch: AttestedFetch, tmp_path: Path) -> None:
    save(tmp_path, fetch)
    (tmp_path / SECRETS_FILE).unlink()
    (tmp_path / SECRETS_FILE).mkdir()
    with pytest.raises(UnavailableError):
        load(tmp_path)


def test_changed_transcript_is_refused(fetch: AttestedFetch, tmp_path: Path) -> None:
    received = fetch.secrets.received.replace(b"64001.1", b"64001.2")
    changed = dataclasses.replace(fetch.secrets, received=received)
    save(tmp_path, dataclasses.replace(fetch, secrets=changed))
    with pytest.raises(InvalidProofError) as caught:
        load(tmp_path)
    assert caught.value.rule == "section.response.body"


def test_changed_field_does_not_fold_to_the_root(fetch: AttestedFetch, tmp_path: Path) -> None:
    save(tmp_path, fetch)
    path = tmp_path / ATTESTATION_FILE
    path.write_bytes(path.read_bytes().replace(b'"status":200', b'"status":201'))
    with pytest.raises(InvalidProofError):
        load(tmp_path)


@pytest.mark.parametrize("data", [b"", b"{}", b'{"type":"quotary/attestation/v1"}', b"\xff"])
def test_file_that_is_no_attestation_is_malformed(
    fetch: AttestedFetch, tmp_path: Path, data: bytes
) -> None:
    save(tmp_path, fetch)
    (tmp_path / ATTESTATION_FILE).write_bytes(data)
    with pytest.raises(MalformedError):
        load(tmp_path)


def test_response_that_a_close_ended_is_read_back(fetch: AttestedFetch) -> None:
    endless = b"HTTP/1.1 200 OK\r\n\r\nbody"
    exchange = parse_transcript(dataclasses.replace(fetch.secrets, received=endless))
    assert exchange.response.body == b"body"
    with pytest.raises(MalformedError):
        parse_transcript(dataclasses.replace(fetch.secrets, received=endless[:12]))


def test_missing_folder_is_the_callers_mistake(tmp_path: Path) -> None:
    with pytest.raises(UsageError):
        load(tmp_path / "nowhere")


@pytest.mark.parametrize(
    "choice",
    [
        {"show": ["request.body"]},
        {"hide": ["x.none"]},
        {"pointers": ["/none"]},
        {"hide": ["response.body"], "quote_only": True},
        {"show": ["request.line"], "pointers": ["/error"]},
    ],
)
def test_what_was_not_attested_cannot_be_shown(
    fetch: AttestedFetch, choice: dict[str, list[str]]
) -> None:
    with pytest.raises(UsageError):
        build_presentation(fetch, **choice)  # type: ignore[arg-type]


def test_hidden_sections_and_members_are_nowhere_in_the_presentation(
    fetch: AttestedFetch,
) -> None:
    whole = build_presentation(fetch)
    assert whole.seed is not None
    assert len(whole.openings) == 5
    part = build_presentation(fetch, hide=["request.headers"], pointers=["/result/XXBTZUSD/b/0"])
    assert part.seed is None
    names = [shown.value.get("name") for shown in part.fields if shown.name == "section"]
    assert "request.headers" not in names
    shown = [opening.parts for opening in part.openings if opening.parts is not None]
    assert [entry.at for parts in shown for entry in parts] == ["/result/XXBTZUSD/b/0"]


@pytest.mark.parametrize("linked", [False, True])
def test_what_is_no_file_is_written_to_and_not_replaced(tmp_path: Path, linked: bool) -> None:
    """As root, ``--out /dev/null`` would take the device away from everybody."""
    pipe = tmp_path / "pipe"
    os.mkfifo(pipe)
    path = tmp_path / "link" if linked else pipe
    if linked:
        path.symlink_to(pipe)
    descriptor = os.open(pipe, os.O_RDONLY | os.O_NONBLOCK)
    try:
        write_private(path, b"shown")
        assert os.read(descriptor, 100) == b"shown"
    finally:
        os.close(descriptor)
    assert stat.S_ISFIFO(pipe.stat().st_mode)
    assert sorted(tmp_path.iterdir()) == sorted({pipe, path})
