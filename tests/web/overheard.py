"""What Python's own tests of verification ask, for the page to be asked too.

    python -m pytest -p tests.web.overheard tests/verifier/test_attacks.py

runs tests and writes each question once to the file that ``OVERHEARD`` names.  So the page
meets every attack that somebody thought of for Python; the answers are Python's again, at the
time of asking.
"""

from __future__ import annotations

import base64
import functools
import os
import subprocess
import sys
from collections import Counter
from collections.abc import Callable, Sequence
from functools import cache
from pathlib import Path
from tempfile import TemporaryDirectory
from typing import Any

import orjson
import pytest

from attestation.errors import QuotaryError
from attestation.expect import Expect
from attestation.log.policy import LogPolicy
from attestation.presentation import Presentation
from attestation.trust import Trust
from tests.web.expected import expect_text
from tests.web.vectors import Vector
from tests.web.voices import presentation_vector

ROOT = Path(__file__).parents[2]
OVERHEARD = "QUOTARY_OVERHEARD"
MOST = 100
"""Questions of one test: some change every byte in turn."""
TESTS = (
    "verifier/test_attacks.py",
    "verifier/test_logproof.py",
    "verifier/test_logproof_keys.py",
    "verifier/test_logproof_shown.py",
    "verifier/test_quorum.py",
    "verifier/test_slot_attacks.py",
    "verifier/test_slot_quorum.py",
    "verifier/test_slots.py",
    "verifier/test_verify.py",
)


class Listener:
    """Writes questions to a file, each once."""

    def __init__(self, path: str) -> None:
        self._path = Path(path)
        self._known: set[bytes] = set()
        self._heard: Counter[str] = Counter()
        self._policies: dict[int, tuple[LogPolicy, bytes]] = {}

    def policy(self, data: bytes, made: LogPolicy) -> None:
        """Remembers the text that a log policy was read from."""
        self._policies[id(made)] = (made, data)

    def presentations(
        self,
        shown: Presentation | bytes | Sequence[Presentation | bytes],
        *,
        trust: Trust,
        expect: Expect,
        now_us: int,
        venue_files: object = None,
    ) -> None:
        """Takes up a question about presentations, if it can be asked in bytes."""
        if venue_files is not None:
            return  # the page has those of its version
        several = [shown] if isinstance(shown, Presentation | bytes) else shown
        if not several or any(key.key.algorithm != "ed25519" for key in trust.keys):
            return  # page.algorithm, of which voices.py asks
        try:
            data = [each if isinstance(each, bytes) else each.encode() for each in several]
            question = {
                "presentations": [base64.b64encode(each).decode() for each in data],
                "trust": trust.dump().decode(),
                "expect": expect_text(expect),
                "now_us": now_us,
            }
        except (QuotaryError, TypeError, ValueError, AttributeError):
            return
        if any(b'"root":"sha3-256:' in each for each in data):
            return
        if trust.log_policy is not None:
            _, data_of = self._policies.get(id(trust.log_policy), (None, None))
            question["log_policy"] = (data_of or _written(trust.log_policy)).decode()
        self.write(question)

    def write(self, question: dict[str, Any]) -> None:
        line = orjson.dumps(question)
        test = os.environ.get("PYTEST_CURRENT_TEST", "").partition("[")[0]
        if line not in self._known and self._heard[test] < MOST:
            self._known.add(line)
            self._heard[test] += 1
            with self._path.open("ab") as file:
                file.write(line + b"\n")


def _written(policy: LogPolicy) -> bytes:
    """The text of a log policy that was made of keys: a threshold."""
    lines = [f"log {log.key.vkey}" for log in policy.logs]
    lines += [f"witness {name} {each.key.vkey}" for name, each in policy.witnesses.items()]
    for name, group in policy.groups.items():
        lines.append(f"group {name} {group.count} {' '.join(group.members)}")
    lines.append(f"quorum {policy.quorum or 'none'}")
    return "".join(f"{line}\n" for line in lines).encode()


def pytest_configure(config: pytest.Config) -> None:
    """Listens to what is asked from now on; called where this module is a plugin."""
    from verifier import quorum, verify

    listener = Listener(os.environ[OVERHEARD])
    _tap(LogPolicy, "parse", after=listener.policy)
    for module, name in (
        (sys.modules["verifier.verify"], "verify"),
        (quorum, "verify_quorum"),
        (quorum, "verify_slot_quorum"),
        (quorum, "verify_voices"),
    ):
        _tap(module, name, before=listener.presentations)
    # What the package hands out.
    sys.modules["verifier"].__dict__.update(
        verify=sys.modules["verifier.verify"].verify,
        verify_quorum=quorum.verify_quorum,
        verify_slot_quorum=quorum.verify_slot_quorum,
    )
    assert verify is not None


def _tap(
    owner: Any,
    name: str,
    *,
    before: Callable[..., None] | None = None,
    after: Callable[[Any, Any], None] | None = None,
) -> None:
    """Has a function of a module, or of a class, tell what it is called with, or has made."""
    called = getattr(owner, name)

    @functools.wraps(called)
    def tapped(*arguments: Any, **named: Any) -> Any:
        if before is not None:
            before(*arguments, **named)
        found = called(*arguments, **named)
        if after is not None:
            after(arguments[0], found)
        return found

    setattr(owner, name, staticmethod(tapped) if isinstance(owner, type) else tapped)


@cache
def overheard() -> list[Vector]:
    """Runs those tests, and returns what they ask."""
    with TemporaryDirectory() as folder:
        heard = Path(folder) / "questions.jsonl"
        command = [sys.executable, "-m", "pytest", "-q", "-p", "no:cacheprovider"]
        command += ["-p", "tests.web.overheard", *(f"tests/{name}" for name in TESTS)]
        done = subprocess.run(
            command,
            cwd=ROOT,
            env={**os.environ, OVERHEARD: str(heard)},
            capture_output=True,
            text=True,
            timeout=200,
        )
        assert done.returncode == 0, done.stdout[-4_000:]
        questions = [orjson.loads(line) for line in heard.read_bytes().splitlines()]
    return [
        presentation_vector(
            f"overheard/{number}",
            [base64.b64decode(each) for each in question["presentations"]],
            question["trust"],
            question["expect"],
            question["now_us"],
            log_policy=question.get("log_policy"),
        )
        for number, question in enumerate(questions)
    ]
