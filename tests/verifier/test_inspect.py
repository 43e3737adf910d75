"""``verifier inspect``: for people, unverified, harmless."""

from __future__ import annotations

import json

import pytest

from attestation.encoding import encode
from tests.verifier import feeds, forge
from tests.verifier.shell import Shell
from verifier.selftest import SAMPLES, SETTLEMENTS


class TestInspect:
    """Row 45: text from venues, provers and notaries is hostile."""

    HOSTILE = "\x1b]0;owned\x07\x1b[2J\u202eevil\u2066\x00\r\n\x9b1m\x7fא\u0301"

    def test_document_is_marked_unverified(self, shell: Shell) -> None:
        done = shell.run("inspect", "good.json")
        assert (done.returncode, done.stdout) == (0, b"")
        lines = done.stderr.decode().split("\n")
        assert lines[0] == "UNVERIFIED: these are claims, nothing here has been checked"
        assert lines[1] == "quotary/presentation/v1"
        assert any("96500.12" in line for line in lines)
        assert any("(2026-01-15T12:00:00.000000Z)" in line for line in lines)

    def test_spans_are_told_in_seconds_and_moments_in_dates(self, shell: Shell) -> None:
        samples = SAMPLES / SETTLEMENTS
        lines = shell.run("inspect", str(samples / "up.0.json")).stderr.decode().splitlines()
        shown = {line.strip() for line in lines}
        assert "max_staleness_us: 3000000 (3 s)" in shown
        assert not any("(1970-" in line for line in lines)
        assert any(line.strip().startswith("effective_us: ") and "(20" in line for line in lines)

    def test_json_says_so_too(self, shell: Shell) -> None:
        done = shell.run("inspect", "good.json", "--json")
        value = json.loads(done.stdout)
        assert value["verified"] is False
        assert encode(value["document"]) == (shell.folder / "good.json").read_bytes()
        assert encode(value) == done.stdout.rstrip(b"\n")

    @pytest.mark.parametrize("place", ["connection.address", "notary.software", "quote.market"])
    def test_hostile_text_never_reaches_the_terminal_raw(self, shell: Shell, place: str) -> None:
        lie = forge.session(lies={place: self.HOSTILE})
        shell.write("hostile.json", lie.present().encode())
        for command in ("inspect", "verify"):
            if command == "inspect":
                done = shell.run("inspect", "hostile.json")
                assert done.returncode == 0
                assert b"\\u{1b}" in done.stderr
            else:
                done = shell.verify("hostile.json")
            text = done.stderr.decode()
            assert all(char == "\n" or " " <= char <= "~" for char in text)

    def test_lines_of_a_text_are_told_from_members(self, shell: Shell) -> None:
        lie = forge.session(lies={"notary.software": "1.0\nsignature: good\n  host: other"})
        shell.write("lines.json", lie.present().encode())
        lines = shell.run("inspect", "lines.json").stderr.decode().splitlines()
        at = next(at for at, line in enumerate(lines) if line.strip() == "software:")
        shown = [line.strip() for line in lines[at + 1 : at + 4]]
        assert shown == ["| 1.0", "| signature: good", "|   host: other"]

    def test_hostile_bytes_of_a_venue_are_escaped(self, shell: Shell) -> None:
        body = '{"a":"\u202e\u009b31m","b":"א"}'
        forged = forge.session(quote=False, body=body, body_scheme="hash")
        shell.write("venue.json", forged.present({"response.body": "whole"}).encode())
        text = shell.run("inspect", "venue.json").stderr.decode()
        assert "\\u{202e}\\u{9b}31m" in text
        assert all(char == "\n" or " " <= char <= "~" for char in text)

    def test_hostile_purpose_in_a_verdict_is_escaped(self, shell: Shell) -> None:
        lie = forge.session(purpose="trade/\x1b[2J/open")
        shell.write("hostile.json", lie.present().encode())
        done = shell.verify("hostile.json")
        assert done.returncode == 10
        assert b"\x1b" not in done.stderr

    def test_every_document_type_is_shown(self, shell: Shell) -> None:
        forged = forge.session()
        documents = [
            forged.attestation,
            forged.attestation.header,
            forged.present(),
            forged.secrets,
            forged.secrets.request,
            forge.slot(),
            feeds.slot().present(),
        ]
        for document in documents:
            done = shell.run("inspect", "-", stdin=document.encode())
            assert done.returncode == 0
            assert str(document.TYPE).encode() in done.stderr

    def test_what_is_kept_secret_stays_hidden(self, shell: Shell) -> None:
        secrets = forge.session().secrets
        done = shell.run("inspect", "-", stdin=secrets.encode())
        assert b"salt: (hidden)" in done.stderr
        for section in secrets.request.sections:
            assert section.salt.encode() not in done.stderr
        assert b"User-Agent" not in done.stderr
        assert f"({len(secrets.sent)} bytes)".encode() in done.stderr
        attestation = forge.session().attestation
        done = shell.run("inspect", "-", stdin=attestation.encode())
        assert b"seed: (hidden)" in done.stderr
        assert attestation.seed.encode() not in done.stderr

    @pytest.mark.parametrize("data", [b"", b"{}", b'{"type":"quotary/other/v1"}', b"\xff", b"[]"])
    def test_what_is_no_document_is_malformed(self, shell: Shell, data: bytes) -> None:
        assert shell.run("inspect", "-", stdin=data).returncode == 10

    def test_array_of_values_and_containers_is_shown(self, shell: Shell) -> None:
        field = {"type": "quotary/field/v1", "name": "x", "value": {"a": [[], True, {"b": 1}, "s"]}}
        shell.write("mixed.json", encode(field))
        done = shell.run("inspect", "mixed.json")
        assert done.returncode == 0
        shown = [line.strip() for line in done.stderr.decode().splitlines()[1:]]
        assert shown[-5:] == ["a: 4", "- : []", "- true", "- b: 1", "- s"]
