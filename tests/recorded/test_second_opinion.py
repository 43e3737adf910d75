"""ccxt, which knows the venues' formats from other hands, reads the same prices.

It is no dependency: ``make peer-ccxt`` installs it apart, and only tests run it.
"""

from __future__ import annotations

import json
import random
import re
import subprocess
from pathlib import Path

import pytest

from attestation.errors import MalformedError
from attestation.feed import Channel, Update
from attestation.quote import derive_quote
from attestation.strictjson import scalars
from attestation.venues import load_venue
from examples.venues.channels import CHANNELS
from examples.venues.listings import VENUES
from examples.venues.prices import UNIT, Quote
from examples.venues.pushes import State
from tests.conftest import require_peer
from tests.recorded.test_websocket import BY_EYE, messages, sent, text

pytestmark = [pytest.mark.recorded, pytest.mark.peer("ccxt")]

HERE = Path(__file__).parent
DIGIT = re.compile(rb"[0-9]")


DEEPER = re.compile(rb',\["[0-9.]+","[0-9.]+"\]')
"""Levels of a book behind its first."""
CHANNEL_NUMBER = 232952
"""The number that bitfinex's recorded subscription was given."""

Sides = list[float] | None


def scripts(venue: str) -> dict[str, list[bytes]]:
    """Messages of one connection each: as recorded, with digits changed, and simulated."""
    chance = random.Random(venue)
    recorded = [text(venue, message) for message in messages(venue)]
    return {
        "recorded": recorded,
        # ccxt sorts a book before it looks at its first level; a mutated one is not sorted.
        "mutated": [
            mutant
            for line in (DEEPER.sub(b"", line) for line in recorded)
            for mutant in (line, *mutants(line, chance))
        ],
        "simulated": [*recorded, *simulated(venue, chance)],
    }


def mutants(line: bytes, chance: random.Random) -> list[bytes]:
    """A message with one digit changed, eight times."""
    places = [match.start() for match in DIGIT.finditer(line)]
    return [
        line[:at] + b"%d" % chance.randrange(10) + line[at + 1 :]
        for at in chance.sample(places, min(8, len(places)))
    ]


def simulated(venue: str, chance: random.Random) -> list[bytes]:
    """What the simulated venue pushes, at prices of all sizes."""
    place = next(one for one in VENUES if one.name == venue)
    instrument = BY_EYE[venue][0]
    listing = next(one for one in place.listings if one.instrument == instrument)
    # Later than what was recorded, in every venue's own counting.
    state = State(sequence=10**12, channel=CHANNEL_NUMBER)
    found: list[str] = []
    for number in range(40):
        bid = chance.randrange(1, 10 ** chance.randrange(3, 8)) * UNIT // 100
        ask = bid + chance.randrange(1, 900) * UNIT // 100
        at_us = state.now_us = 1_900_000_000_000_000 + number * 1_000_000
        quote = Quote(bid=bid, ask=ask, last=bid, at_us=at_us, noise=bytes(16))
        found += CHANNELS[venue].update(place, listing, quote, state)
        state.shown = quote
    return [one.encode() for one in found]


def read(venue: str, lines: list[bytes]) -> list[Sides]:
    """What the venue file reads of each message; None for anything but a quote."""
    channel = Channel(load_venue(venue), BY_EYE[venue][0])
    found: list[Sides] = []
    for index, line in enumerate(lines):
        try:
            result = channel.read(sent(venue, line), index)
        except MalformedError:
            found.append(None)
            continue
        is_quote = isinstance(result, Update)
        found.append([float(result.quote.bid), float(result.quote.ask)] if is_quote else None)
    return found


@pytest.mark.parametrize("script", ["recorded", "mutated", "simulated"])
def test_wherever_a_quote_is_read_ccxt_reads_the_same(script: str) -> None:
    given = {venue: scripts(venue)[script] for venue in BY_EYE}
    answers = json.loads(
        subprocess.run(
            [require_peer("ccxt"), str(HERE / "ccxt_reader.py")],
            input=json.dumps(
                {
                    venue: {
                        "instrument": BY_EYE[venue][0],
                        "live": [line.decode() for line in lines],
                        "rest": (HERE / venue / "rest.json").read_text("utf-8"),
                    }
                    for venue, lines in given.items()
                }
            ),
            capture_output=True,
            text=True,
            check=True,
            timeout=120,
        ).stdout
    )
    for venue, lines in given.items():
        if (venue, script) == ("gemini", "mutated"):
            continue  # A quote of its rests on several messages; ccxt follows no sequence.
        ours, theirs = read(venue, lines), answers[venue]["live"]
        assert any(ours), venue
        for line, own, other in zip(lines, ours, theirs, strict=True):
            assert own is None or own == other, (venue, line)
        body = (HERE / venue / "rest.json").read_bytes()
        rest = derive_quote(load_venue(venue), BY_EYE[venue][0], scalars(body))
        assert [float(rest.bid), float(rest.ask)] == answers[venue]["rest"], venue
