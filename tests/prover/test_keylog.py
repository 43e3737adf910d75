"""Key logs: which lines become whose secrets, and which files are followed."""

from __future__ import annotations

import os
import stat
from pathlib import Path

import pytest
from hypothesis import given
from hypothesis import strategies as st

from attestation.errors import IncompleteError, MalformedError, UsageError
from prover.keylog import LABELS, MAX_LINE, KeyLog
from prover.keylog_file import KeyLogFile

OURS, THEIRS = b"\x01" * 32, b"\x02" * 32


def lines(random: bytes = OURS, size: int = 32) -> list[bytes]:
    return [
        f"{label} {random.hex()} {bytes([number] * size).hex()}\n".encode()
        for number, label in enumerate(LABELS, 16)
    ]


def awaiting(random: bytes = OURS) -> KeyLog:
    log = KeyLog()
    log.expect(random)
    return log


@given(order=st.permutations(range(4)), size=st.sampled_from([32, 48]), cut=st.integers(1, 40))
def test_four_lines_in_any_order_and_pieces_are_a_connections_secrets(
    order: list[int], size: int, cut: int
) -> None:
    log, own = awaiting(), lines(size=size)
    data = b"# SSL/TLS secrets log file\n" + b"".join(
        [lines(THEIRS)[i] + own[i] + b"EXPORTER_SECRET " + own[i].split(b" ", 1)[1] for i in order]
    )
    for start in range(0, len(data) - 1, cut):
        log.feed(data[start : min(start + cut, len(data) - 1)])
    log.feed(data[-1:])
    opened = log.secrets(OURS)
    assert opened is not None
    assert opened.client_random == OURS.hex()
    assert opened.client_handshake == bytes([16] * size).hex()
    assert opened.server_application == bytes([19] * size).hex()


def test_a_line_without_its_end_is_not_read_yet() -> None:
    log = awaiting()
    data = b"".join(lines())
    log.feed(data[:-1])
    assert log.secrets(OURS) is None
    log.feed(data[-1:])
    assert log.secrets(OURS) is not None


def test_lines_of_another_connection_are_never_a_connections() -> None:
    log = awaiting()
    log.feed(b"".join(lines(THEIRS)))
    assert log.secrets(OURS) is None
    assert log.secrets(THEIRS) is None
    # They were dropped as they were read: who asks for them later gets none.
    log.expect(THEIRS)
    assert log.secrets(THEIRS) is None


def test_what_is_missing_is_named() -> None:
    log = awaiting()
    error = log.missing(OURS, "keys.log")
    assert isinstance(error, IncompleteError)
    assert "does the client write its key log there" in str(error)
    log.feed(lines()[0])
    error = log.missing(OURS, "keys.log")
    assert error.wanted == list(LABELS)[1:]


@pytest.mark.parametrize(
    "wrong",
    [
        b"CLIENT_TRAFFIC_SECRET_0 %s %s\n" % (OURS.hex().encode(), b"ab" * 31),
        b"CLIENT_TRAFFIC_SECRET_0 %s\n" % OURS.hex().encode(),
        b"CLIENT_TRAFFIC_SECRET_0 %s %s\n" % (OURS.hex().encode(), b"xy" * 32),
        b"CLIENT_TRAFFIC_SECRET_0 %s %s\n" % (OURS.hex().encode(), b"ab" * 32),
    ],
    ids=["cut short", "no secret", "not hex", "another secret"],
)
def test_a_line_that_cannot_be_right_is_refused_by_name(wrong: bytes) -> None:
    log = awaiting()
    log.feed(b"".join(lines()) + wrong)
    with pytest.raises(MalformedError) as caught:
        log.secrets(OURS)
    assert caught.value.rule == "keylog"
    assert "ab" * 31 not in str(caught.value)


def test_secrets_of_two_sizes_are_refused() -> None:
    log = awaiting()
    log.feed(b"".join([*lines()[:3], lines(size=48)[3]]))
    with pytest.raises(MalformedError):
        log.secrets(OURS)


def test_a_line_said_twice_counts_once() -> None:
    log = awaiting()
    log.feed(b"".join(lines() * 2))
    assert log.secrets(OURS) is not None


def test_a_line_too_long_is_passed_over_and_the_next_is_read() -> None:
    log = awaiting()
    log.feed(b"x" * (MAX_LINE + 1))
    log.feed(b"x" * MAX_LINE)
    log.feed(b"\n" + b"".join(lines()))
    assert log.secrets(OURS) is not None


@given(st.binary(max_size=200))
def test_no_bytes_of_a_log_are_a_bug(data: bytes) -> None:
    log = awaiting()
    log.feed(data + b"\n" + OURS.hex().encode() + data)
    log.secrets(OURS)


def test_nothing_secret_is_in_a_representation() -> None:
    log = awaiting()
    log.feed(b"".join(lines()))
    assert "10" * 32 not in repr(log) + repr(log.secrets(OURS))


# The file.


def test_file_is_made_for_its_owner_alone_and_followed(tmp_path: Path) -> None:
    path = tmp_path / "keys.log"
    with KeyLogFile(path) as file:
        assert stat.S_IMODE(path.stat().st_mode) == 0o600
        file.log.expect(OURS)
        for line in lines():
            assert file.secrets(OURS) is None
            with path.open("ab") as log:
                log.write(line)
        assert file.secrets(OURS) is not None


def test_what_stood_there_before_is_passed_over(tmp_path: Path) -> None:
    path = tmp_path / "keys.log"
    path.write_bytes(b"".join(lines()))
    path.chmod(0o600)
    with KeyLogFile(path) as file:
        file.log.expect(OURS)
        assert file.secrets(OURS) is None


@pytest.mark.parametrize("replaced", [False, True], ids=["cut", "replaced"])
def test_file_that_begins_anew_is_read_from_its_beginning(tmp_path: Path, replaced: bool) -> None:
    path = tmp_path / "keys.log"
    with KeyLogFile(path) as file:
        file.log.expect(OURS)
        path.write_bytes(b"# something longer than nothing" * 40)
        assert file.secrets(OURS) is None
        if replaced:
            (tmp_path / "new").touch(mode=0o600)
            os.replace(tmp_path / "new", path)
        path.write_bytes(b"".join(lines()))
        assert file.secrets(OURS) is not None


def test_pipe_is_refused_and_says_why(tmp_path: Path) -> None:
    os.mkfifo(tmp_path / "pipe", 0o600)
    with pytest.raises(UsageError, match="a full one stops the client"):
        KeyLogFile(tmp_path / "pipe")


def test_file_that_others_can_read_is_refused_with_the_cure(tmp_path: Path) -> None:
    (tmp_path / "keys.log").touch(mode=0o644)
    with pytest.raises(UsageError, match="chmod 600"):
        KeyLogFile(tmp_path / "keys.log")


@pytest.mark.parametrize("name", [".", "no/such/folder", "\0"])
def test_path_that_can_be_no_key_log_is_the_callers_mistake(tmp_path: Path, name: str) -> None:
    with pytest.raises(UsageError):
        KeyLogFile(tmp_path / name)
