"""The spool: what was appended is read back in order, whatever was cut off or damaged."""

from __future__ import annotations

import errno
import os
from pathlib import Path

import pytest
from hypothesis import given
from hypothesis import strategies as st

from attestation.errors import UnavailableError
from prover.feed import spool as spool_module
from prover.feed.spool import MARK, Spool, make_frame, scan_segment

PAYLOADS = st.lists(st.binary(max_size=60) | st.just(b"QSP1" * 9), max_size=6)


def make(folder: Path, limit: int = 2**20) -> Spool:
    folder.mkdir(exist_ok=True)
    (folder / MARK).write_text("id")
    return Spool(folder, limit=limit)


def drain(spool: Spool) -> list[bytes]:
    found = []
    while frames := spool.peek(7):
        found += [frame.payload for frame in frames]
        spool.drop(len(frames))
    return found


@given(payloads=PAYLOADS)
def test_segment_gives_back_its_payloads(payloads: list[bytes]) -> None:
    data = b"".join(map(make_frame, payloads))
    assert scan_segment(data) == (payloads, 0, 0)


@given(payloads=PAYLOADS, data=st.data())
def test_cut_anywhere_costs_only_the_frame_it_hit_and_is_no_damage(
    payloads: list[bytes], data: st.DataObject
) -> None:
    frames = list(map(make_frame, payloads))
    whole = b"".join(frames)
    end = data.draw(st.integers(0, len(whole)))
    kept, size = [], 0
    for frame, payload in zip(frames, payloads, strict=True):
        if size + len(frame) > end:
            break
        size += len(frame)
        kept.append(payload)
    assert scan_segment(whole[:end]) == (kept, 0, end - size)


@given(payloads=PAYLOADS.filter(len), data=st.data())
def test_flipped_bit_costs_only_the_frame_it_hit_and_shows(
    payloads: list[bytes], data: st.DataObject
) -> None:
    frames = list(map(make_frame, payloads))
    hit = data.draw(st.integers(0, len(frames) - 1))
    frame = bytearray(frames[hit])
    bit = data.draw(st.integers(0, len(frame) * 8 - 1))
    frame[bit // 8] ^= 1 << bit % 8
    frames[hit] = bytes(frame)
    scan = scan_segment(b"".join(frames))
    assert scan.payloads == payloads[:hit] + payloads[hit + 1 :]
    # At the very end, a longer length looks like a frame that was cut off.
    assert scan.damaged == 1 or (hit == len(frames) - 1 and scan.torn == len(frame))


@given(
    data=st.lists(st.binary(max_size=20) | st.sampled_from([b"QSP1", make_frame(b"x")])).map(
        b"".join
    )
)
def test_any_bytes_are_read_as_frames_damage_and_a_tail(data: bytes) -> None:
    scan = scan_segment(data)
    frames = b"".join(map(make_frame, scan.payloads))
    assert len(frames) + scan.torn <= len(data)
    assert (frames == data) == (not scan.damaged and not scan.torn)


def test_spool_gives_back_in_order_across_segments_and_leaves_no_file(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(spool_module, "SEGMENT_BYTES", 100)
    spool = make(tmp_path)
    payloads = [bytes([number]) * number for number in range(60)]
    for payload in payloads[:40]:
        assert spool.append(payload, vital=False)
    assert len(list(tmp_path.glob("*.spool"))) > 3
    found = [frame.payload for frame in spool.peek(2)]
    spool.drop(2)
    # What comes while it is replayed stands behind.
    for payload in payloads[40:]:
        assert spool.append(payload, vital=False)
    assert found + drain(spool) == payloads
    assert spool.empty
    assert spool.size == 0
    assert [path.name for path in tmp_path.iterdir()] == [MARK]


def test_next_process_finds_what_was_spooled_and_says_so(tmp_path: Path) -> None:
    first = make(tmp_path)
    first.append(b"one", vital=False)
    # Killed: not closed.
    with next(tmp_path.glob("*.spool")).open("ab") as file:
        file.write(make_frame(b"two")[:-1])
    second = make(tmp_path)
    assert not second.empty
    second.append(b"three", vital=False)
    frames = second.peek(9)
    assert frames == [(b"one", True)]
    second.drop(1)
    assert second.peek(9) == [(b"three", False)]
    assert second.damaged == 0


def test_messages_leave_the_last_of_the_room_to_what_is_vital(tmp_path: Path) -> None:
    spool = make(tmp_path, limit=8_000)
    while spool.append(b"m" * 88, vital=False):
        pass
    assert 6_900 <= spool.size <= 7_000
    while spool.append(b"s" * 88, vital=True):
        pass
    assert 7_900 <= spool.size <= 8_000
    assert len(drain(spool)) == 80


def test_full_disk_leaves_no_half_frame(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    spool = make(tmp_path)
    spool.append(b"before", vital=False)
    real = os.write

    def half(descriptor: int, data: memoryview) -> int:
        if len(data) > 20:
            return real(descriptor, data[:20])
        raise OSError(errno.ENOSPC, "No space left on device")

    monkeypatch.setattr(os, "write", half)
    with pytest.raises(UnavailableError):
        spool.append(b"x" * 50, vital=False)
    monkeypatch.undo()
    assert spool.append(b"after", vital=False)
    assert drain(spool) == [b"before", b"after"]
    assert spool.damaged == 0


def test_bare_mount_point_is_not_written_to(tmp_path: Path) -> None:
    spool = make(tmp_path / "spool")
    (tmp_path / "spool").rename(tmp_path / "gone")
    (tmp_path / "spool").mkdir()
    with pytest.raises(UnavailableError):
        spool.append(b"x", vital=True)
    assert not list((tmp_path / "spool").iterdir())
    (tmp_path / "spool").rmdir()
    (tmp_path / "gone").rename(tmp_path / "spool")
    assert spool.append(b"x", vital=True)
    assert drain(spool) == [b"x"]


def test_files_are_their_owners_alone(tmp_path: Path) -> None:
    spool = make(tmp_path)
    spool.append(b"x", vital=False)
    assert next(tmp_path.glob("*.spool")).stat().st_mode & 0o777 == 0o600
