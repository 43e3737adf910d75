"""Repeating a notary's work where a key log was opened: the template binds, nothing less."""

from __future__ import annotations

import dataclasses
from functools import cache
from typing import Any

import pytest

from attestation.errors import InvalidProofError, MalformedError
from attestation.hashing import hash_string
from attestation.request import KeylogOpened, KeyOpening
from attestation.secrets import Evidence
from attestation.template import FORMS, render_template
from tests.tls13.capture import REQUEST, Capture, OpenSslServer, Pipe
from tests.tls13.certs import HOST, server
from tests.tls13.tlsclient import Client
from tests.verifier.evidence import DATED, evidence, single, venue
from tests.verifier.test_recheck import check, rejected
from verifier.reclaim import SIGNED


@dataclasses.dataclass(frozen=True)
class Session:
    """A captured session and its key log."""

    captured: Capture
    opened: KeylogOpened

    def evidence(self, **changes: Any) -> Evidence:
        return evidence(self.captured, opened=self.opened, **changes)


@cache
def session(
    request: bytes = b"",
    *,
    response: bytes = DATED,
    before: tuple[bytes, ...] = (),
    form: str = "httpx",
    mode: str = "sealed",
    update: bool = False,
    padding: int = 0,
    size: int = 2**14,
) -> Session:
    """One exchange with a real OpenSSL server, after those of ``before``."""
    request = request or render_template(venue(), "BTCUSDT", form=form, mode=mode)
    client = Client(HOST)
    pipe = Pipe(client, OpenSslServer(server()))
    pipe.pump()
    for text in before:
        client.write(text)
        pipe.pump()
        pipe.server.write(response)
        pipe.pump()
    if update:
        client.key_update()
    client.write(request, padding=padding, size=size)
    pipe.pump()
    pipe.server.write(response)
    pipe.pump()
    if mode == "sealed":
        pipe.server.close()
        client.close()
        pipe.pump()
    opened = KeylogOpened(
        kind="keylog",
        client_random=client.random.hex(),
        client_handshake=client.client_handshake.hex(),
        server_handshake=client.server_handshake.hex(),
        client_application=client.client_application.hex(),
        server_application=client.server_application.hex(),
    )
    return Session(pipe.capture(request=request, response=response), opened)


@pytest.mark.parametrize("form", FORMS)
def test_honest_evidence_of_each_form_is_the_same(form: str) -> None:
    report = check(session(form=form).evidence().encode())
    assert {"seal", "template", "quote"} <= set(report.checked)
    assert report.not_checked == ("clock", "address", "log")


def test_open_session_is_rechecked() -> None:
    report = check(session(mode="open").evidence(mode="open"))
    assert "template" in report.checked
    assert "seal" in report.not_checked


def test_continued_session_is_rechecked_with_those_before_it() -> None:
    template = render_template(venue(), "BTCUSDT", form="curl", mode="open")
    found = session(mode="open", form="curl", before=(template, template))
    assert "template" in check(found.evidence(mode="open", conn="ab" * 16)).checked


def test_request_before_it_that_is_no_template_is_refused() -> None:
    other = REQUEST.replace(b"close", b"keep-alive")
    found = session(mode="open", before=(other,)).evidence(mode="open", conn="ab" * 16)
    rejected(found, "template.request")


def test_target_that_no_file_at_hand_lists_is_said() -> None:
    report = check(session().evidence(quote=False), venue_files={})
    assert "template" in report.checked
    assert "template.target" in report.not_checked


def test_request_of_no_form_is_the_notarys_lie() -> None:
    assert rejected(session(REQUEST).evidence(), "template.request").startswith(SIGNED)


def test_request_in_two_records_is_the_notarys_lie() -> None:
    rejected(session(size=100).evidence(), "template.request")


def test_padded_request_is_the_notarys_lie() -> None:
    rejected(session(padding=1).evidence(), "template.record")


def test_key_update_before_the_request_is_the_notarys_lie() -> None:
    rejected(session(update=True).evidence(), "template.record")


def test_response_of_another_status_is_the_notarys_lie() -> None:
    found = session(response=DATED.replace(b"200 OK", b"203 OK")).evidence(quote=False)
    rejected(found, "http.status")


def test_opening_of_the_other_kind_is_refused() -> None:
    full, bound = evidence(), session().evidence()
    key = KeyOpening(kind="ephemeral", private_key=single().private_key.hex())
    rejected(dataclasses.replace(full, opening=session().opened), "opening.kind", MalformedError)
    rejected(dataclasses.replace(bound, opening=key), "opening.kind", MalformedError)


def test_secrets_that_were_not_committed_are_the_evidences_fault() -> None:
    found = session().evidence()
    for member in ("client_random", "client_application", "server_handshake"):
        other = dataclasses.replace(session().opened, **{member: "5a" * 32})
        detail = rejected(dataclasses.replace(found, opening=other), "opening.commitment")
        assert not detail.startswith(SIGNED)


def test_committed_secrets_that_open_nothing_are_the_notarys_lie() -> None:
    other = dataclasses.replace(session().opened, client_application="5a" * 48)
    at = session().evidence().attestation.session()
    commitment = other.commitment(session=at.id, nonce=at.nonce).digest
    found = session().evidence(seal_lies={"commitment": commitment})
    assert rejected(dataclasses.replace(found, opening=other), "W6").startswith(SIGNED)


def test_seal_names_a_commitment_exactly_where_there_is_one() -> None:
    rejected(session().evidence(seal_lies={"commitment": None}), "seal.commitment")
    rejected(evidence(seal_lies={"commitment": hash_string(b"")}), "seal.commitment")


def test_secrets_of_another_session_are_refused_without_a_seal_too() -> None:
    found = session(mode="open").evidence(mode="open")
    other = dataclasses.replace(session().opened, client_random="5a" * 32)
    with pytest.raises(InvalidProofError) as caught:
        check(dataclasses.replace(found, opening=other))
    assert caught.value.rule == "opening.client_random"
