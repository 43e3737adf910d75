"""Samples of slots: what ``tests/make_samples.py`` ships of them."""

from __future__ import annotations

import json
from collections.abc import Callable
from typing import Any

from attestation.encoding import encode
from attestation.hashing import hash_string
from attestation.presentation import Presentation
from tests.verifier import feeds, forge

TWO = forge.LyingNotary(name="notary.two", operator="Two Ltd")
FEW = ("coinbase", "okx")
FEW_EXPECT = 'venues = ["coinbase", "okx"]\nmarket = "BTC/USD"\n'
FEW_ROOTS = f'{FEW_EXPECT}roots = "{feeds.ROOTS}"\n'
FEW_OF_TWO = f"{FEW_EXPECT}[notaries]\ncount = 2\n"
ALL = f'venues = {json.dumps(feeds.VENUES)}\nmarket = "BTC/USD"\n'


def build() -> dict[str, bytes]:
    """Slots of every venue, with the messages and sessions they rest on."""
    one, some = feeds.slot(), feeds.slot(venues=FEW)
    two = feeds.slot(venues=FEW, notary=TWO, feed="btc")
    both = some.present()
    silent = feeds.slot(venues=FEW, gaps={"okx": ("venue_silent", "venue")})
    blamed = feeds.slot(venues=FEW, gaps={"okx": ("venue_silent", "prover")})
    other = feeds.slot(venues=["kraken"])

    def signed(start: bool = False, **lies: Any) -> bytes:
        named = {name.replace("__", "."): value for name, value in lies.items()}
        made = feeds.slot(
            venues=FEW, lies=None if start else named, start_lies=named if start else None
        )
        return made.present().encode()

    def edit(change: Callable[[dict[str, Any]], object]) -> bytes:
        return _edited(both, change)

    files = {
        "valid_slot_of_all_venues.0.json": one.present().encode(),
        "valid_slot_of_all_venues.0.expect.toml": f'{ALL}roots = "{feeds.ROOTS}"\n'.encode(),
        "valid_slot_alone.0.json": one.bare().encode(),
        "valid_slot_before.0.json": feeds.slot(venues=FEW, slot_us=feeds.SLOT_US - feeds.GRID_US)
        .bare()
        .encode(),
        "valid_slot_before.0.expect.toml": FEW_EXPECT.encode(),
        "valid_slot_alone.0.expect.toml": ALL.encode(),
        "valid_slot_of_two_notaries.0.1.json": some.present().encode(),
        "valid_slot_of_two_notaries.0.2.json": two.present().encode(),
        "valid_slot_of_two_notaries.0.expect.toml": FEW_OF_TWO.encode(),
        "slot_beside_a_fetch.10.json": _edited(
            forge.session().present(), lambda value: value.update(messages=["AA"])
        ),
        "slot_message_twice.10.json": edit(
            lambda value: value["messages"].append(value["messages"][0])
        ),
        "slot_session_twice.10.json": edit(
            lambda value: value["sessions"].append(value["sessions"][0])
        ),
        "slot_other_message.11.json": edit(lambda value: value["messages"].append("AA")),
        "slot_tampered_message.11.json": edit(
            lambda value: value["messages"].__setitem__(0, "AA" + value["messages"][0][2:])
        ),
        "slot_tampered_session.11.json": edit(
            lambda value: value["sessions"][0]["fields"][1]["value"].update(port=444)
        ),
        "slot_session_of_another_venue.11.json": _edited(
            both, lambda value: value.update(sessions=[other.starts["kraken"].to_json()])
        ),
        "slot_wrong_fault.11.json": blamed.present().encode(),
        "slot_lying_bid.11.json": signed(okx__bid="64177.8"),
        "slot_lying_exchange_time.11.json": signed(okx__exchange_us=forge.T0),
        "slot_observed_later.11.json": signed(okx__received_us=feeds.SLOT_US + 1),
        "slot_lying_host.11.json": signed(
            start=True, connection__host="ws.example", server__name="ws.example"
        ),
        "slot_lying_target.11.json": signed(start=True, http__target="/ws/ethusdt"),
        "slot_certificate_of_another.11.json": signed(start=True, server__name="evil.example"),
        "slot_gap_of_one.15.json": silent.present().encode(),
        "slot_message_missing.15.json": _edited(
            feeds.slot(venues=["bitfinex"]).present(), lambda value: value["messages"].pop()
        ),
        "slot_session_missing.15.json": some.present(sessions=["okx"]).encode(),
        "slot_opened.15.json": edit(
            lambda value: value["openings"].append({"data": "AA", "index": 1, "salt": "00" * 16})
        ),
        "slot_private_address.17.json": signed(start=True, connection__address="127.0.0.1"),
        "slot_other_roots.17.json": signed(start=True, server__roots=hash_string(b"mine")),
        "slot_without_a_venue.17.json": feeds.slot(venues=["coinbase"]).present().encode(),
        "slot_of_another_market.17.json": signed(slot__market="ETH/USD"),
        "slots_that_disagree.17.1.json": some.present().encode(),
        "slots_that_disagree.17.2.json": feeds.slot(
            venues=FEW, notary=TWO, lies={"okx.bid": "70000", "okx.ask": "70001"}
        )
        .bare()
        .encode(),
        "slots_of_two_instants.17.1.json": some.present().encode(),
        "slots_of_two_instants.17.2.json": feeds.slot(
            venues=FEW, notary=TWO, slot_us=feeds.SLOT_US + feeds.GRID_US
        )
        .present()
        .encode(),
    }
    expects = {
        "slot_message_missing.15": 'venues = ["bitfinex"]\nmarket = "BTC/USD"\n',
        "slots_that_disagree.17": FEW_OF_TWO,
        "slots_of_two_instants.17": FEW_OF_TWO,
    }
    names = {".".join(name.split(".")[:2]) for name in files if name.endswith(".json")}
    for name in names - {"slot_beside_a_fetch.10"}:
        if f"{name}.expect.toml" not in files:
            files[f"{name}.expect.toml"] = expects.get(name, FEW_ROOTS).encode()
    return files


def _edited(presentation: Presentation, change: Callable[[dict[str, Any]], object]) -> bytes:
    """Changes the document and writes it canonically again."""
    value: dict[str, Any] = json.loads(presentation.encode())
    change(value)
    return encode(value)
