"""``verifier trust``: show, check and add."""

from __future__ import annotations

import hashlib
import json
import subprocess
from typing import Any

import pytest

from attestation.log.cosignature import WitnessKey
from attestation.trust import Trust
from tests.verifier import forge, logged
from tests.verifier.shell import NOW, Shell

ONE = forge.LyingNotary()


class TestTrust:
    """``verifier trust``: the reader's own file."""

    def add(self, shell: Shell, key: str, *more: str) -> subprocess.CompletedProcess[bytes]:
        options = ("--operator", "Three Ltd", "--valid-until", "2027-01-01", *more)
        return shell.run("trust", "add", key, "--trust", "trust.toml", *options)

    def test_added_key_is_trusted_and_comments_stay(self, shell: Shell) -> None:
        old = b"# mine\n" + forge.trust(ONE).dump().rstrip(b"\n")
        shell.write("trust.toml", old)
        three = forge.LyingNotary(name="notary.three").key.verifying_key
        done = self.add(shell, three.vkey, "--valid-from", "2026-01-01T00:00:00Z")
        assert done.returncode == 0, done.stderr
        data = (shell.folder / "trust.toml").read_bytes()
        assert data.startswith(old)
        added = Trust.parse(data).find(three.short, "attest", forge.NOW)
        assert added.operator == "Three Ltd"
        assert [path.name for path in shell.folder.iterdir() if "trust" in path.name] == [
            "trust.toml"
        ]

    def test_witness_is_added_by_the_key_that_log_policies_name(self, shell: Shell) -> None:
        witness = logged.WITNESSES[0].key.verifying_key
        key = WitnessKey.of(witness)
        done = self.add(shell, key.vkey, "--role", "witness")
        assert done.returncode == 0, done.stderr
        trust = Trust.parse((shell.folder / "trust.toml").read_bytes())
        assert trust.witnesses[key].operator == "Three Ltd"
        # The same key in its other spelling would be two witnesses.
        assert self.add(shell, witness.vkey, "--role", "witness").returncode == 2
        assert self.add(shell, key.vkey, "--role", "log").returncode == 2

    def test_log_policy_is_shown_and_checked(self, shell: Shell) -> None:
        trust = forge.trust(ONE).dump() + b'\n[log_policy]\nfile = "policy.txt"\n'
        shell.write("trust.toml", trust)
        check = ("trust", "check", "--trust", "trust.toml", *NOW)
        assert shell.run(*check).returncode == 2
        shell.write(
            "policy.txt", f"log {logged.LOG.key.verifying_key.vkey}\nquorum none\n".encode()
        )
        done = shell.run(*check, "--json")
        assert done.returncode == 0
        assert b"log policy policy.txt: 1 logs, 0 witnesses, quorum none" in done.stderr
        assert json.loads(done.stdout)["log_policy"] == "policy.txt"

    def test_missing_file_is_made(self, shell: Shell) -> None:
        (shell.folder / "trust.toml").unlink()
        assert self.add(shell, ONE.key.verifying_key.vkey).returncode == 0
        assert shell.run("trust", "show", "--trust", "trust.toml").returncode == 0

    @pytest.mark.parametrize("more", [["--role", "king"], ["--valid-from", "2028-01-01"]])
    def test_bad_entry_leaves_the_file_alone(self, shell: Shell, more: list[str]) -> None:
        before = (shell.folder / "trust.toml").read_bytes()
        key = forge.LyingNotary(name="notary.three").key.verifying_key.vkey
        assert self.add(shell, key, *more).returncode == 2
        assert (shell.folder / "trust.toml").read_bytes() == before

    def test_a_callers_mistake_is_not_called_a_rejection(self, shell: Shell) -> None:
        key = forge.LyingNotary(name="notary.three").key.verifying_key.vkey
        options = ("--operator", "Three", "--valid-until")
        trust = ("--trust", "nowhere/trust.toml")
        done = shell.run("trust", "add", key, *options, "2027-01-01", *trust)
        assert (done.returncode, done.stderr) == (2, b"usage [trust]: no such folder: nowhere\n")
        done = shell.run("trust", "add", key, *options, "tomorrow", "--trust", "trust.toml")
        assert done.returncode == 2
        assert done.stderr.endswith(b"found tomorrow\n")

    def test_add_tells_programs_what_was_added(self, shell: Shell) -> None:
        key = forge.LyingNotary(name="notary.three").key.verifying_key
        (row,) = json.loads(self.add(shell, key.vkey, "--json").stdout)["keys"]
        assert (row["key"], row["operator"], row["role"]) == (key.short, "Three Ltd", "attest")

    def test_known_key_and_key_that_does_not_recompute_are_refused(self, shell: Shell) -> None:
        key = ONE.key.verifying_key
        assert self.add(shell, key.vkey).returncode == 2
        assert self.add(shell, key.vkey.replace(key.key_id.hex(), "00000000")).returncode == 2

    def test_show_lists_operators_and_whether_keys_are_valid(self, shell: Shell) -> None:
        done = shell.run("trust", "show", "--trust", "trust.toml", *NOW)
        lines = done.stderr.decode().splitlines()
        assert len(lines) == 6
        assert lines[0] == f"{ONE.key.verifying_key.short}  attest  valid  run by One Ltd"
        fingerprint = f"sha256:{hashlib.sha256(ONE.key.verifying_key.public).hexdigest()}"
        assert lines[2].strip() == fingerprint
        assert all(len(line) <= 80 for line in lines)
        rows = json.loads(shell.run("trust", "show", "--trust", "trust.toml", "--json").stdout)
        assert [row["operator"] for row in rows["keys"]] == ["One Ltd", "Two Ltd"]

    @pytest.mark.parametrize(
        ("changes", "code"),
        [
            ({}, 0),
            ({"role": "log"}, 12),
            ({"revoked_at_us": forge.T0}, 12),
            ({"valid_from_us": forge.NOW + 1}, 12),
            ({"valid_until_us": forge.NOW}, 12),
        ],
    )
    def test_check_fails_unless_a_key_may_attest(
        self, shell: Shell, changes: dict[str, Any], code: int
    ) -> None:
        shell.write("trust.toml", Trust(keys=(ONE.trusted(**changes),)).dump())
        done = shell.run("trust", "check", "--trust", "trust.toml", *NOW)
        assert done.returncode == code
