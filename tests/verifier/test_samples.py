"""The shipped samples: reproducible, complete, and told apart by the selftest."""

from __future__ import annotations

import shutil
from pathlib import Path

import pytest

from attestation.errors import UsageError
from attestation.settlement.bundle import SettlementBundle
from attestation.settlement.expect import SettlementExpect
from attestation.settlement.recompute import recompute
from attestation.trust import Trust
from attestation.venues import shipped_venues
from tests.make_samples import build, shipped
from verifier.selftest import EVIDENCE, SAMPLES, SETTLEMENTS, run, samples


def test_shipped_samples_are_made_again_byte_for_byte() -> None:
    found = {path.relative_to(SAMPLES).as_posix(): path.read_bytes() for path in shipped()}
    assert build() == found, "run: python -m tests.make_samples"


def test_every_sample_ends_with_the_code_in_its_name() -> None:
    outcomes = list(run())
    assert [outcome for outcome in outcomes if not outcome.as_expected] == []
    assert len(outcomes) >= 80


def test_samples_cover_every_error_of_verifying() -> None:
    assert {sample.code for sample in samples()} == {0, 2, 10, 11, 12, 13, 15, 17}


def test_samples_of_settlements_cover_every_outcome_and_error() -> None:
    found = samples(SAMPLES / SETTLEMENTS)
    honest = {sample.name for sample in found if sample.code == 0}
    assert honest == {"up", "down", "tie", "void", "refund_no_quorum"}
    assert {sample.code for sample in found} == {0, 2, 10, 11, 12, 13, 14, 15, 16, 17}


def test_samples_of_evidence_tell_an_honest_notary_from_one_that_signed_something_else() -> None:
    rules = {
        outcome.sample.name.partition("/")[2]: outcome.error and outcome.error.rule
        for outcome in run()
        if outcome.sample.name.startswith(f"{EVIDENCE}/")
    }
    assert rules == {
        "another_answer": "section.response.body",
        "another_certificate": "server.leaf_spki",
        "another_key": "opening.private_key",
        "another_record": "seal.received",
        "another_request": "http.target",
        "same": None,
        "same_in_open_mode": None,
        "seal_missing": "seal",
        "seal_of_other_bytes": "seal.sent",
        "signed_by_nobody_known": "trust.unknown",
    }


def test_honest_settlements_end_as_their_names_say() -> None:
    folder = SAMPLES / SETTLEMENTS
    for name, outcome, fee in (
        ("up", "up", False),
        ("down", "down", False),
        ("tie", "tie", False),
        ("void", "void", True),
        ("refund_no_quorum", "void", False),
    ):
        bundle = SettlementBundle.decode((folder / f"{name}.0.json").read_bytes())
        found = recompute(
            bundle,
            trust=Trust.parse((folder / "trust.toml").read_bytes()),
            log_policy=(folder / "log_policy.txt").read_bytes(),
            expect=SettlementExpect.parse((folder / "expect.toml").read_bytes()),
            venue_files=shipped_venues(),
        )
        assert (found.outcome, found.fee) == (outcome, fee)


def test_every_tampered_sample_fails_for_a_reason_of_its_own_kind() -> None:
    for outcome in run():
        if outcome.sample.code:
            assert outcome.error is not None
            assert outcome.error.exit_code == outcome.sample.code


@pytest.mark.parametrize("name", ["valid_redacted.0.json", "tampered_bid.11.json"])
def test_selftest_notices_an_outcome_that_is_not_expected(name: str, tmp_path: Path) -> None:
    folder = tmp_path / "samples"
    shutil.copytree(SAMPLES, folder)
    (folder / name).rename(folder / name.replace(".0.", ".12.").replace(".11.", ".0."))
    assert [outcome.sample.name for outcome in run(folder) if not outcome.as_expected] == [
        name.partition(".")[0]
    ]


def test_folder_without_samples_is_a_usage_error(tmp_path: Path) -> None:
    with pytest.raises(UsageError):
        samples(tmp_path)
