"""Repeating a notary's work from raw records: attack row 27, a notary that forges after opening."""

from __future__ import annotations

import dataclasses
import subprocess
import sys
from pathlib import Path
from typing import Any

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from attestation.errors import (
    IncompleteError,
    InvalidProofError,
    MalformedError,
    QuotaryError,
    UntrustedError,
)
from attestation.hashing import hash_string
from attestation.request import KeyOpening
from attestation.secrets import Evidence
from attestation.tls13.certificates import RootStore
from tests.tls13.capture import REQUEST, RESPONSE
from tests.tls13.certs import issue, roots_pem
from tests.verifier import forge
from tests.verifier.evidence import DATED, evidence, kept_alive, roots, single, venue
from verifier.recheck import DIFFERS, Recheck, recheck
from verifier.reclaim import SIGNED


def check(found: Evidence | bytes, **changes: Any) -> Recheck:
    arguments: dict[str, Any] = {
        "roots": roots(),
        "trust": forge.trust(),
        "venue_files": {"binance": venue()},
        **changes,
    }
    return recheck(found, **arguments)


def rejected(found: Evidence, rule: str, kind: type[QuotaryError] = InvalidProofError) -> str:
    with pytest.raises(kind) as caught:
        check(found)
    assert type(caught.value) is kind
    assert caught.value.rule == rule
    return caught.value.detail


def with_bytes(honest: Evidence, direction: str, raw: bytes) -> Evidence:
    changes: dict[str, Any] = {direction: raw}
    return dataclasses.replace(honest, **changes)


def test_honest_evidence_is_the_same() -> None:
    report = check(evidence().encode())
    assert (report.sealed, report.notary, report.operator) == (True, "notary.one", "One Ltd")
    assert {"signature", "seal", "W1", "W6", "W9", "sections", "quote"} <= set(report.checked)
    assert report.not_checked == ("clock", "address", "log")


def test_open_sessions_are_rechecked_without_a_seal() -> None:
    report = check(evidence(mode="open"))
    assert not report.sealed
    assert "seal" in report.not_checked


def test_session_without_quote_is_rechecked() -> None:
    assert "quote" not in check(evidence(quote=False)).checked


@pytest.mark.parametrize(
    ("member", "value"),
    [
        ("connection.suite", "TLS_CHACHA20_POLY1305_SHA256"),
        ("connection.group", "secp384r1"),
        ("connection.handshake_hash", "00" * 32),
        ("connection.sent_bytes", 100),
        ("connection.received_records", 1),
        ("server.chain", ["00" * 32]),
        ("server.leaf_spki", "00" * 32),
        ("server.not_after_us", 1),
        ("server.scheme", "ed25519"),
        ("server.name", "other.venue.example"),
        ("http.method", "POST"),
        ("http.target", "/api/v3/ticker/bookTicker?symbol=ETHUSDT"),
        ("http.status", 201),
        ("http.server_date", "Mon, 01 Jun 2026 12:00:01 GMT"),
        ("http.server_date", None),
        ("quote.bid", "64000.2"),
        ("quote.ask", "64000.3"),
        ("quote.last", "64000.1"),
        ("quote.observed_us", 1),
        ("quote.market", "ETH/USD"),
    ],
)
def test_notary_that_signs_something_else_is_proven_to(member: str, value: Any) -> None:
    assert rejected(evidence(lies={member: value}), member) == SIGNED


@pytest.mark.parametrize("member", ["bid", "ask"])
def test_two_headers_for_one_session_cannot_both_be_rechecked(member: str) -> None:
    assert check(evidence()).session == evidence().attestation.session().id
    rejected(evidence(lies={f"quote.{member}": "1"}), f"quote.{member}")


def test_without_a_seal_nobody_is_blamed() -> None:
    detail = rejected(evidence(mode="open", lies={"http.status": 201}), "http.status")
    assert detail == DIFFERS


@pytest.mark.parametrize(
    "member", ["session", "sent", "received", "sent_size", "received_size", "key"]
)
def test_seal_of_other_bytes_or_another_session_is_refused(member: str) -> None:
    values = {
        "session": "0" * 32,
        "sent": hash_string(b""),
        "received": hash_string(b""),
        "sent_size": 1,
        "received_size": 1,
        "key": "notary.one+00000000",
    }
    with pytest.raises(InvalidProofError):
        check(evidence(seal_lies={member: values[member]}))


def test_seal_is_required_where_the_mode_says_so_and_nowhere_else() -> None:
    rejected(dataclasses.replace(evidence(), seal=None), "seal", MalformedError)
    seal = evidence().seal
    rejected(dataclasses.replace(evidence(mode="open"), seal=seal), "seal", MalformedError)


def test_seal_signed_by_another_is_refused() -> None:
    seal = evidence(notary=forge.LyingNotary(name="notary.two")).seal
    assert seal is not None
    with pytest.raises(InvalidProofError):
        check(dataclasses.replace(evidence(), seal=seal))


@pytest.mark.parametrize("direction", ["sent", "received"])
def test_prover_cannot_frame_a_notary_with_other_bytes(direction: str) -> None:
    honest = evidence()
    raw = bytearray(getattr(honest, direction))
    raw[-1] ^= 1
    framed = with_bytes(honest, direction, bytes(raw))
    assert SIGNED not in rejected(framed, f"seal.{direction}")


def test_prover_cannot_frame_a_notary_with_another_key() -> None:
    key = KeyOpening(kind="ephemeral", private_key="11" * 32)
    framed = dataclasses.replace(evidence(), opening=key)
    assert SIGNED not in rejected(framed, "opening.private_key")


def test_prover_cannot_frame_a_notary_with_other_salts() -> None:
    honest = evidence()
    section = dataclasses.replace(honest.request.sections[0], salt="00" * 16)
    request = dataclasses.replace(honest.request, sections=(section, *honest.request.sections[1:]))
    framed = dataclasses.replace(honest, request=request)
    assert SIGNED not in rejected(framed, "section.request.line")


def test_section_that_was_not_asked_for_is_noticed() -> None:
    honest = evidence()
    request = dataclasses.replace(honest.request, sections=honest.request.sections[1:])
    rejected(dataclasses.replace(honest, request=request), "section")


@pytest.mark.parametrize(
    ("response", "rule"),
    [
        (DATED.replace(b"Content-Type", b"Age: 600\r\nContent-Type"), "W11"),
        (RESPONSE + b"x", "W8"),
    ],
)
def test_claim_that_breaks_a_rule_is_the_notarys_lie(response: bytes, rule: str) -> None:
    captured = dataclasses.replace(
        single(response), response=response if rule == "W11" else RESPONSE
    )
    assert rejected(evidence(captured), rule).startswith(SIGNED)


def test_host_of_the_request_is_checked() -> None:
    request = REQUEST.replace(b"api.venue.example", b"API.venue.example")
    assert rejected(evidence(single(DATED, request)), "W10").startswith(SIGNED)


def test_header_that_may_lead_to_another_market_is_checked() -> None:
    request = REQUEST.replace(b"Accept:", b"x-simulated-trading: 1\r\nAccept:")
    assert rejected(evidence(single(DATED, request)), "W14").startswith(SIGNED)


def test_two_exchanges_are_not_one_claim() -> None:
    rejected(evidence(kept_alive(2), mode="open"), "W8")


def test_last_exchange_of_a_kept_alive_connection_is_the_claim() -> None:
    report = check(evidence(kept_alive(3), mode="open", conn="0" * 32))
    assert "W8" in report.checked
    rejected(evidence(kept_alive(1), mode="open", conn="0" * 32), "W8")


def test_other_roots_that_support_the_chain_are_said_not_to_be_compared() -> None:
    more = RootStore.from_pem(
        roots_pem() + issue("another root", issuer=None, is_ca=True).chain_pem
    )
    report = check(evidence(), roots=more)
    assert report.not_checked[0] == "server.roots"


def test_roots_that_do_not_support_the_chain_are_nobodys_lie() -> None:
    strange = RootStore.from_pem(issue("another root", issuer=None, is_ca=True).chain_pem)
    with pytest.raises(UntrustedError) as caught:
        check(evidence(), roots=strange)
    assert caught.value.rule == "W4"


def test_unknown_venue_file_leaves_the_quote_unchecked() -> None:
    report = check(evidence(), venue_files={})
    assert "quote" in report.not_checked


def test_unknown_key_is_untrusted() -> None:
    with pytest.raises(UntrustedError):
        check(evidence(notary=forge.LyingNotary(name="notary.two")))


def test_field_changed_after_signing_is_refused() -> None:
    honest = evidence()
    fields = (*honest.attestation.fields[:3], honest.attestation.fields[4])
    attestation = dataclasses.replace(honest.attestation, fields=fields)
    rejected(dataclasses.replace(honest, attestation=attestation), "header.size")


def test_slot_attestation_is_no_session() -> None:
    found = dataclasses.replace(evidence(), attestation=forge.slot())
    rejected(found, "session", MalformedError)


@settings(max_examples=60)
@given(st.data())
def test_any_changed_byte_is_not_what_was_sealed(data: st.DataObject) -> None:
    honest = evidence()
    direction = data.draw(st.sampled_from(["sent", "received"]))
    raw = bytearray(getattr(honest, direction))
    raw[data.draw(st.integers(0, len(raw) - 1))] ^= data.draw(st.integers(1, 255))
    rejected(with_bytes(honest, direction, bytes(raw)), f"seal.{direction}")


@settings(max_examples=60)
@given(st.data())
def test_changed_byte_without_a_seal_is_an_error_or_changes_nothing(data: st.DataObject) -> None:
    # Legacy record versions are outside every hash and tag (RFC 8446 section 5.1).
    honest = evidence(mode="open")
    direction = data.draw(st.sampled_from(["sent", "received"]))
    raw = bytearray(getattr(honest, direction))
    position = data.draw(st.integers(0, len(raw) - 1))
    raw[position] ^= data.draw(st.integers(1, 255))
    try:
        report = check(with_bytes(honest, direction, bytes(raw)))
    except QuotaryError:
        return
    assert (direction, position) == ("sent", 2)
    assert report == check(honest)


@settings(max_examples=40)
@given(st.data())
def test_any_truncation_is_an_error_of_our_own(data: st.DataObject) -> None:
    honest = evidence(mode="open")
    direction = data.draw(st.sampled_from(["sent", "received"]))
    raw = getattr(honest, direction)
    cut = raw[: data.draw(st.integers(0, len(raw) - 1))]
    with pytest.raises((InvalidProofError, IncompleteError, MalformedError)):
        check(with_bytes(honest, direction, cut))


class TestCommand:
    """``verifier recheck``."""

    def run(self, folder: Path, found: Evidence, *more: str) -> subprocess.CompletedProcess[str]:
        (folder / "evidence.json").write_bytes(found.encode())
        (folder / "roots.pem").write_bytes(roots_pem())
        (folder / "trust.toml").write_bytes(forge.trust().dump())
        options = ("--trust", "trust.toml", "--roots", "roots.pem", *more)
        return subprocess.run(
            [sys.executable, "-m", "verifier", "recheck", "evidence.json", *options],
            cwd=folder,
            capture_output=True,
            timeout=60,
            check=False,
            text=True,
            env={"PYTHONPATH": str(Path(__file__).parents[2])},
        )

    def test_same_is_exit_code_0(self, tmp_path: Path) -> None:
        done = self.run(tmp_path, evidence(), "--json")
        assert done.returncode == 0, done.stderr
        assert done.stderr.startswith("SAME: attestation ")
        assert Recheck.decode(done.stdout.encode()).sealed

    def test_something_else_is_exit_code_11(self, tmp_path: Path) -> None:
        done = self.run(tmp_path, evidence(lies={"http.status": 201}))
        assert done.returncode == 11
        assert done.stderr == (
            "REJECTED invalid_proof [http.status]: the notary signed something else; "
            "found 201; wanted 200\n"
        )
