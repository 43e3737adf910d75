"""Rows 27, 33, 34, 40: a lying notary behind a sidecar, which did not do the TLS itself.

Whatever the notary says, either the sidecar refuses it with the member that is
wrong, and the stock client gets nothing of a sealed response, or it is true.
"""

from __future__ import annotations

from collections.abc import Iterator

import httpx
import pytest

from attestation.errors import InvalidProofError, MalformedError, QuotaryError
from tests.adversaries.notary import LyingNotary
from tests.adversaries.stage import PROVER
from tests.attacks.test_lying_notary import HASH, LIES, SEALS, flipped
from tests.prover.sidecars import RunningSidecar, running_sidecar


@pytest.fixture(scope="module")
def sealed(
    running: LyingNotary, tmp_path_factory: pytest.TempPathFactory
) -> Iterator[RunningSidecar]:
    folder = tmp_path_factory.mktemp("sidecar")
    with running_sidecar(running.honest, folder, key=PROVER, url=running.url) as sidecar:
        yield sidecar


@pytest.fixture
def sidecar(sealed: RunningSidecar, lying: LyingNotary) -> Iterator[RunningSidecar]:
    """A sidecar behind the liar; afterwards, told the truth, it attests."""
    before = sealed.kept()
    yield sealed
    assert sealed.kept() == before
    lying.honestly()
    with sealed.httpx() as client:
        body = client.get(sealed.url).content
    assert sealed.attested().response.body == body


def refused(sidecar: RunningSidecar) -> QuotaryError:
    """The client gets no byte of the response, whatever was wrong."""
    with sidecar.httpx() as client, pytest.raises(httpx.TransportError):
        client.get(sidecar.url)
    return sidecar.failure()


@pytest.mark.parametrize("how", SEALS)
def test_false_seal_is_refused_before_the_secrets_are_opened(
    lying: LyingNotary, sidecar: RunningSidecar, how: str
) -> None:
    lie, kind, rule = SEALS[how]
    lying.lie("seal", lie(lying))
    failure = refused(sidecar)
    assert isinstance(failure, kind)
    assert failure.rule == rule
    assert "attestation" not in lying.heard


@pytest.mark.parametrize("commitment", [None, HASH], ids=["none", "another"])
def test_seal_of_another_commitment_is_refused(
    lying: LyingNotary, sidecar: RunningSidecar, commitment: str | None
) -> None:
    def lie(answer: dict[str, dict[str, object]]) -> dict[str, object]:
        seal = {**answer["seal"], "commitment": commitment}
        seal = {name: value for name, value in seal.items() if value is not None}
        return lying.resealed()({**answer, "seal": seal})

    lying.lie("seal", lie)
    failure = refused(sidecar)
    assert isinstance(failure, InvalidProofError)
    assert failure.rule == "seal.commitment"
    assert "attestation" not in lying.heard


@pytest.mark.parametrize("how", LIES)
def test_false_attestation_is_refused_and_its_evidence_kept(
    lying: LyingNotary, sidecar: RunningSidecar, how: str
) -> None:
    lie, kind, rule = LIES[how]
    lying.lie("attestation", lie(lying))
    sidecar.refused.clear()
    failure = refused(sidecar)
    assert isinstance(failure, kind)
    assert failure.rule == rule
    # Of what is no attestation there is nothing to show.
    assert len(sidecar.refused) == (how not in ("no_attestation", "extra_member"))


def test_binding_other_than_the_one_asked_for_is_refused(
    lying: LyingNotary, sidecar: RunningSidecar
) -> None:
    lying.lie("attestation", lying.altered("session", binding="full"))
    assert refused(sidecar).rule == "session.binding"


@pytest.mark.parametrize("after", [False, True], ids=["handshake", "release"])
def test_relay_that_alters_bytes_is_refused(
    lying: LyingNotary, sidecar: RunningSidecar, after: bool
) -> None:
    released = not after

    def mark(answer: dict[str, object]) -> dict[str, object]:
        nonlocal released
        released = True
        return answer

    lying.lie("seal", mark)
    lying.rewrite = lambda data: flipped(data) if released else data
    with sidecar.httpx() as client, pytest.raises(httpx.TransportError):
        client.get(sidecar.url)
    assert isinstance(sidecar.failure(), QuotaryError)


def test_relay_that_never_ends_is_cut_off(lying: LyingNotary, sidecar: RunningSidecar) -> None:
    flood = False

    def mark(answer: dict[str, object]) -> dict[str, object]:
        nonlocal flood
        flood = True
        return answer

    # Records that are of the right form and never end.
    lying.lie("seal", mark)
    lying.rewrite = lambda data: (
        data if not flood else (b"\x17\x03\x03\x40\x00" + bytes(0x4000)) * 64
    )
    failure = refused(sidecar)
    assert isinstance(failure, (MalformedError, InvalidProofError))
