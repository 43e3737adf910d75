"""Stored slots as others see them: with what the store has of what they rest on."""

from __future__ import annotations

import dataclasses
from pathlib import Path

import pytest

from attestation.document import ObservationField
from attestation.encoding import decode_object
from attestation.expect import Expect
from attestation.presentation import Presentation
from prover.feed.presented import present_stored
from prover.feed.records import Missed, Received, Slot, Started
from prover.feed.store import Store
from prover.feed.store_reads import StoreReader
from tests.prover.shell import prover
from tests.verifier import feeds, forge
from verifier import VerifiedSlot, verify, verify_first

VENUES = ("bitfinex", "coinbase", "okx")
NOTARY = forge.LyingNotary().name
EXPECT = Expect(venues=VENUES, market=forge.MARKET)
TRUST = forge.trust()


def record(slot_us: int = feeds.SLOT_US) -> Slot:
    made = feeds.slot(venues=VENUES, slot_us=slot_us)
    return Slot(notary=NOTARY, attestation=made.attestation)


def beside() -> list[Started | Received]:
    made: list[Started | Received] = []
    for venue in VENUES:
        instrument, _, rests_on = feeds.read(venue)
        session = feeds.session_id(venue, forge.LyingNotary())
        made.append(
            Started(
                notary=NOTARY,
                feed=feeds.FEED,
                venue=venue,
                instrument=instrument,
                session=session,
                attestation=feeds.started(venue),
            )
        )
        made += [
            Received(
                notary=NOTARY,
                venue=venue,
                session=session,
                index=index,
                received_us=feeds.SLOT_US - 60_000,
                payload=payload,
            )
            for index, payload in rests_on
        ]
    return made


@pytest.fixture
def folder(tmp_path: Path) -> Path:
    """A store with two slots, a missed one between them, and what they rest on."""
    place = tmp_path / "feed"
    store = Store(place, now_us=lambda: feeds.SLOT_US)
    for each in beside():
        store.take(each)
    store.take(record(feeds.SLOT_US - feeds.GRID_US))
    store.take(record())
    missed_us = feeds.SLOT_US + feeds.GRID_US
    store.take(Missed(notary=NOTARY, feed=feeds.FEED, slot_us=missed_us, fault="notary"))
    assert store.flush(30)
    store.close()
    return place


def check(presentation: Presentation | bytes, expect: Expect = EXPECT) -> VerifiedSlot:
    found = verify(presentation, trust=TRUST, expect=expect, now_us=forge.NOW)
    assert isinstance(found, VerifiedSlot)
    return found


class Kept:
    """What a store has left: messages by hash and starts by session."""

    def __init__(self, *dropped: str) -> None:
        self.dropped = dropped

    def message(self, hash: str) -> Received | None:
        for each in beside():
            if isinstance(each, Received) and each.venue not in self.dropped:
                slot = record().fields[each.venue]
                assert isinstance(slot, ObservationField)
                named = {ref.index: ref.hash for ref in slot.messages}
                if named[each.index] == hash:
                    return each
        return None

    def session(self, session: str) -> Started | None:
        for each in beside():
            if (
                isinstance(each, Started)
                and each.session == session
                and f"{each.venue} start" not in self.dropped
            ):
                return each
        return None


def test_everything_that_is_kept_stands_beside_the_slot() -> None:
    made = present_stored(record(), Kept())
    assert (made.without_messages, made.without_session) == ((), ())
    assert {"messages", "session"} <= set(check(made.presentation).checked)


def test_what_is_gone_is_left_out_and_said() -> None:
    made = present_stored(record(), Kept("okx", "coinbase start"))
    assert (made.without_messages, made.without_session) == (("okx",), ("coinbase",))
    found = check(made.presentation)
    assert [
        ("messages" in quote.checked, "session" in quote.checked) for quote in found.quotes
    ] == [
        (True, True),
        (True, False),
        (False, True),
    ]


def test_a_message_that_is_not_the_one_named_is_not_shown() -> None:
    class Wrong(Kept):
        def message(self, hash: str) -> Received | None:
            found = super().message(hash)
            return None if found is None else dataclasses.replace(found, payload=b"{}")

    made = present_stored(record(), Wrong())
    assert made.without_messages == VENUES
    check(made.presentation)


def test_only_what_shown_venues_rest_on_is_shown() -> None:
    made = present_stored(record(), Kept(), ["coinbase"])
    assert len(made.presentation.messages or ()) == len(made.presentation.sessions or ()) == 1


def test_the_store_gives_back_what_stands_beside_a_slot(folder: Path) -> None:
    reader = StoreReader(folder)
    slot = reader.slots(feeds.FEED, NOTARY, from_us=feeds.SLOT_US, to_us=2**53, limit=1)[0]
    assert isinstance(slot, Slot)
    made = present_stored(slot, reader)
    reader.close()
    assert (made.without_messages, made.without_session) == ((), ())
    assert {"messages", "session"} <= set(check(made.presentation).checked)


def test_the_command_shows_the_first_slot_after_an_instant(folder: Path) -> None:
    out, before = str(folder / "slot.json"), str(folder / "before.json")
    at_us = feeds.SLOT_US - feeds.GRID_US + 1
    arguments = ["--at-us", str(at_us), "--before", before, "--out", out, "--json"]
    done = prover("present-slot", "--data", str(folder), *arguments)
    assert done.code == 0, done.err
    assert done.json()["slot_us"] == feeds.SLOT_US
    assert done.json()["bytes"] + 1 == Path(out).stat().st_size
    found = verify_first(
        Path(out).read_bytes(),
        Path(before).read_bytes(),
        at_us=at_us,
        grid_us=feeds.GRID_US,
        trust=TRUST,
        expect=EXPECT,
        now_us=forge.NOW,
    )
    assert {"messages", "session"} <= set(found.checked)
    assert Path(out).stat().st_mode & 0o077 == 0


def test_the_command_shows_chosen_venues_alone(folder: Path) -> None:
    common = ["--at-us", str(feeds.SLOT_US), "--alone"]
    done = prover(
        "present-slot", "--data", str(folder), *common, "--venue", "okx", "--venue", "coinbase"
    )
    assert done.code == 0, done.err
    shown = Presentation.from_json(decode_object(done.out.encode()))
    assert (shown.messages, shown.sessions, len(shown.fields)) == (None, None, 4)
    check(shown, dataclasses.replace(EXPECT, venues=("coinbase", "okx")))


@pytest.mark.parametrize(
    ("arguments", "code", "said"),
    [
        ([], 15, "slot.missed"),
        (["--at-us", str(2**52)], 15, "no slot at or after"),
        (["--feed", "other"], 2, "name one of the store's feeds"),
        (["--at-us", "0", "--venue", "nowhere"], 2, "no such venue"),
        (["--at-us", "0", "--before", "x.json"], 15, "no slot before it"),
        (["--json"], 2, "stdout holds one document"),
    ],
)
def test_the_command_says_why_there_is_nothing_to_show(
    folder: Path, arguments: list[str], code: int, said: str
) -> None:
    done = prover("present-slot", "--data", str(folder), *arguments)
    assert (done.code, said in done.err) == (code, True), done.err


def test_a_folder_without_a_store_is_named(tmp_path: Path) -> None:
    assert prover("present-slot", "--data", str(tmp_path)).code == 20
