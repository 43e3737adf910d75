"""The log proof of docs/formats.md: the page's session in the log of docs/log.md."""

from __future__ import annotations

import dataclasses

from attestation.encoding import decode_object
from attestation.expect import Expect
from attestation.log.inclusion import Inclusion
from attestation.presentation import Presentation
from attestation.trust import Trust, TrustedKey
from tests.docs import log_example
from tests.docs import worked_session as worked
from tests.log.keys import LOG, WITNESSES
from verifier.decide import judge

DEMAND = """\
[log]
quorum = 2
max_delay_us = 5_000_000
"""
"""What the page adds to its expect file."""


def believed() -> Trust:
    """The page's trust file, with the log and the witnesses of docs/log.md."""
    trust = worked.trust()
    (notary,) = trust.keys
    for key, role, operator in (
        (LOG, "log", notary.operator),
        (WITNESSES[0], "witness", "First Society"),
        (WITNESSES[1], "witness", "Second Society"),
    ):
        entry = TrustedKey(
            name=key.name,
            operator=operator,
            key=key.verifying_key,
            role=role,
            valid_from_us=notary.valid_from_us,
            valid_until_us=notary.valid_until_us,
        )
        trust = trust.adding(entry)
    return trust


def blocks(shown: Presentation, expect: str, now_us: int) -> dict[str, str]:
    """Returns the page's blocks about the log proof of its presentation."""
    proof = log_example.blocks()["text log_proof"]
    entry = log_example.encoded()[log_example.ATTESTED]
    log = Inclusion(entry=decode_object(entry), proof=proof)
    logged = dataclasses.replace(shown, log=log)
    verdict = judge(
        [logged],
        trust=believed(),
        expect=Expect.parse((expect + "\n" + DEMAND).encode()),
        now_us=now_us,
    )
    added = Trust(keys=believed().keys[1:])
    return {
        "toml logged_trust": added.dump().decode(),
        "toml logged_expect": DEMAND,
        "json logged": log.encode().decode(),
        "json logged_accepted": verdict.encode().decode(),
    }
