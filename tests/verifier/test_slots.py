"""Slots: several venues at one instant, with the messages and sessions they rest on."""

from __future__ import annotations

import dataclasses
from typing import Any

import pytest

from attestation.document import ObservationField
from attestation.errors import (
    ExpectationError,
    IncompleteError,
    InvalidProofError,
    MalformedError,
    QuotaryError,
    UntrustedError,
    UsageError,
)
from attestation.expect import Expect
from attestation.presentation import Presentation
from attestation.slot_presentation import present_slot, present_start, slot_messages
from attestation.subscription import subscription
from attestation.venues import load_venue
from tests.verifier import feeds, forge
from verifier import VerifiedQuote, VerifiedSlot, verify
from verifier.decide import decide
from verifier.insecure import insecure_verify_authentic

HONEST = feeds.slot()
TWO = ("bitfinex", "coinbase")


def expect(*venues: str, **changes: Any) -> Expect:
    return Expect(venues=venues or feeds.VENUES, market=forge.MARKET, **changes)


def check(presentation: Presentation | bytes, wanted: Expect | None = None) -> VerifiedSlot:
    found = verify(presentation, trust=forge.trust(), expect=wanted or expect(), now_us=forge.NOW)
    assert isinstance(found, VerifiedSlot)
    return found


def rejected(
    kind: type[QuotaryError],
    rule: str | None,
    presentation: Presentation | bytes,
    wanted: Expect | None = None,
) -> None:
    with pytest.raises(kind) as caught:
        verify(presentation, trust=forge.trust(), expect=wanted or expect(), now_us=forge.NOW)
    assert (type(caught.value), caught.value.rule) == (kind, rule), str(caught.value)


# What a slot gives.


def test_a_slot_gives_a_quote_of_every_expected_venue_in_its_order() -> None:
    found = check(HONEST.present().encode())
    assert tuple(quote.venue for quote in found.quotes) == feeds.VENUES
    for quote in found.quotes:
        _, read, _ = feeds.read(quote.venue)
        assert (quote.bid, quote.ask, quote.exchange_us) == (read.bid, read.ask, read.exchange_us)
        assert (quote.mode, quote.not_after_us) == ("live", feeds.SLOT_US - 50_000)
    assert (found.feed, found.slot_us) == (feeds.FEED, feeds.SLOT_US)
    assert found.purpose == f"slot/{feeds.FEED}/{feeds.SLOT_US}"


@pytest.mark.parametrize(
    ("beside", "checked", "left"),
    [
        ({}, {"messages", "session"}, {"log", "tls_evidence"}),
        ({"sessions": ()}, {"messages"}, {"log", "session", "tls_evidence"}),
        ({"messages": ()}, {"session"}, {"log", "messages", "tls_evidence"}),
        (
            {"messages": ("coinbase",), "sessions": ("kraken",)},
            set(),
            {"log", "messages", "session", "tls_evidence"},
        ),
    ],
)
def test_a_verdict_says_checked_only_of_what_was_there_for_every_venue(
    beside: dict[str, Any], checked: set[str], left: set[str]
) -> None:
    verdict = decide(
        [HONEST.present(**beside)], trust=forge.trust(), expect=expect(), now_us=forge.NOW
    )
    assert {"messages", "session"} & set(verdict.checked) == checked
    assert set(verdict.not_checked) == left
    assert [quote.venue for quote in verdict.quotes] == list(feeds.VENUES)


def test_one_expected_venue_gives_its_quote_whatever_else_is_shown() -> None:
    for shown in (HONEST.present(), HONEST.present("coinbase"), HONEST.bare("coinbase", "kraken")):
        quote = verify(shown, trust=forge.trust(), expect=expect("coinbase"), now_us=forge.NOW)
        assert isinstance(quote, VerifiedQuote)
        assert quote.purpose == f"slot/{feeds.FEED}/coinbase/{feeds.SLOT_US}"
    assert quote.host is None


def test_a_shown_session_names_the_host_and_meets_the_roots() -> None:
    wanted = expect("binance", roots=feeds.ROOTS)
    quote = verify(HONEST.present(), trust=forge.trust(), expect=wanted, now_us=forge.NOW)
    assert isinstance(quote, VerifiedQuote)
    assert quote.host == "stream.binance.com:9443"
    rejected(IncompleteError, "expect.roots", HONEST.bare(), wanted)
    others = dataclasses.replace(wanted, roots="sha256:" + "0" * 64)
    rejected(ExpectationError, "expect.roots", HONEST.present(), others)


def test_a_purpose_is_of_the_slot_or_of_its_one_expected_venue() -> None:
    whole = f"slot/{feeds.FEED}/{feeds.SLOT_US}"
    check(HONEST.bare(), expect(*TWO, purpose=whole))
    rejected(ExpectationError, "expect.purpose", HONEST.bare(), expect("okx", purpose=whole))
    rejected(
        ExpectationError,
        "expect.purpose",
        HONEST.bare(),
        expect(*TWO, purpose=f"slot/{feeds.FEED}/{feeds.SLOT_US + 1}"),
    )


# What it refuses.


def test_every_expected_venue_must_be_in_the_slot_be_shown_and_have_a_quote() -> None:
    gap = feeds.slot(gaps={"okx": ("keepalive_missed", "prover")})
    rejected(ExpectationError, "expect.venues", feeds.slot(venues=TWO).bare())
    rejected(IncompleteError, "expect.venues", HONEST.bare(*TWO), expect(*TWO, "okx"))
    with pytest.raises(IncompleteError) as caught:
        check(gap.present())
    assert (caught.value.rule, caught.value.found) == ("slot.gap", "prover")
    check(gap.present(), expect(*TWO))


@pytest.mark.parametrize(
    ("lies", "kind", "rule"),
    [
        ({"okx.reason": "timeout"}, InvalidProofError, "gap.fault"),
        ({"okx.fault": "prover"}, InvalidProofError, "gap.fault"),
        ({"okx.reason": "unheard_of"}, InvalidProofError, "gap.fault"),
        ({"coinbase.received_us": feeds.SLOT_US + 1}, InvalidProofError, "observation.received_us"),
        ({"coinbase.bid": "99999999"}, InvalidProofError, "observation.bid"),
        ({"coinbase.instrument": "ETH-USD"}, InvalidProofError, "quote.market"),
        ({"slot.market": "ETH/USD"}, ExpectationError, "expect.market"),
        ({"slot.slot_us": forge.NOW + 9}, InvalidProofError, "slot.slot_us"),
        ({"coinbase.more": 1}, MalformedError, None),
        ({"coinbase.messages": None}, MalformedError, "messages"),
    ],
)
def test_a_lie_in_a_slot_is_refused(
    lies: dict[str, Any], kind: type[QuotaryError], rule: str | None
) -> None:
    slot = feeds.slot(lies=lies, gaps={"okx": ("venue_silent", "venue")})
    shown = forge.show_fields(slot.attestation, range(len(feeds.VENUES) + 2))
    rejected(kind, rule, shown, expect("coinbase"))


@pytest.mark.parametrize("member", ["bid", "ask", "exchange_us"])
@pytest.mark.parametrize("venue", ["bitfinex", "bybit", "coinbase", "gemini"])
def test_a_quote_that_does_not_follow_from_its_messages_is_refused(venue: str, member: str) -> None:
    _, quote, _ = feeds.read(venue)
    lie = {"bid": "1", "ask": "99999999", "exchange_us": (quote.exchange_us or 0) + 1}[member]
    slot = feeds.slot(lies={f"{venue}.{member}": lie})
    rejected(InvalidProofError, f"observation.{member}", slot.present())
    if member != "exchange_us":
        check(slot.present(messages=()))  # without them it is the notary's word


def test_messages_of_a_quote_are_all_there_or_none() -> None:
    first, *rest = HONEST.messages["bitfinex"]
    assert rest
    shown = HONEST.present("bitfinex", sessions=())
    some = dataclasses.replace(shown, messages=(first,))
    rejected(IncompleteError, "messages.missing", some, expect("bitfinex"))


def test_a_message_that_no_shown_observation_names_is_refused() -> None:
    (other,) = HONEST.messages["kraken"]
    shown = HONEST.present("coinbase", sessions=())
    more = dataclasses.replace(shown, messages=(*HONEST.messages["coinbase"], other))
    rejected(InvalidProofError, "messages", more, expect("coinbase"))
    beside = dataclasses.replace(shown, messages=(b"{}",))
    rejected(InvalidProofError, "messages", beside, expect("coinbase"))


@pytest.mark.parametrize(
    ("lies", "kind", "rule"),
    [
        ({"session.purpose": "live/main/kraken"}, InvalidProofError, "session.purpose"),
        ({"session.purpose": "live/other/coinbase"}, InvalidProofError, "session.purpose"),
        ({"connection.host": "evil.example"}, InvalidProofError, "session.host"),
        ({"server.name": "evil.example"}, InvalidProofError, "session.server"),
        ({"connection.port": 8443}, InvalidProofError, "session.port"),
        ({"http.method": "POST"}, InvalidProofError, "session.method"),
        ({"http.target": "/elsewhere"}, InvalidProofError, "session.target"),
        ({"http.status": 200}, InvalidProofError, "http.status"),
        ({"session.mode": "open"}, InvalidProofError, "connection.opened_us"),
        ({"session.binding": "template"}, InvalidProofError, "session.binding"),
        (
            {
                "connection.response_first_us": feeds.SLOT_US - 49_999,
                "connection.response_last_us": feeds.SLOT_US - 49_999,
            },
            InvalidProofError,
            "connection.issued_us",
        ),
        ({"connection.address": "10.0.0.1"}, ExpectationError, "expect.insecure_allow_development"),
        ({"session.id": "0" * 32}, InvalidProofError, "sessions"),
    ],
)
def test_a_lie_about_the_session_is_refused(
    lies: dict[str, Any], kind: type[QuotaryError], rule: str
) -> None:
    slot = feeds.slot(venues=["coinbase"], start_lies=lies)
    shown = dataclasses.replace(slot.bare(), sessions=(slot.starts["coinbase"],))
    rejected(kind, rule, shown, expect("coinbase"))


def test_an_opened_subscription_is_the_channels() -> None:
    venue = load_venue("okx")
    (wanted,) = subscription(venue, "BTC-USDT", time_s=forge.T0 // 1_000_000)
    other = wanted.replace(b"BTC", b"ETH")
    slot = feeds.slot(venues=["okx"])

    def shown(frames: dict[str, bytes]) -> Presentation:
        return dataclasses.replace(slot.bare(), sessions=(feeds.start_opened("okx", frames),))

    whole = feeds.frame(wanted)
    quote = verify(
        shown({"message.0": whole}), trust=forge.trust(), expect=expect("okx"), now_us=forge.NOW
    )
    assert "session" in quote.checked
    for frames in (
        {"message.0": feeds.frame(other)},
        {"message.0": wanted},
        {"message.0": whole + whole},
        {"message.0": whole[:-1]},
        {"message.0": b"\x89" + whole[1:]},
        {"message.0": b""},
        {"message.1": whole},
        {"message.0": whole, "message.1": whole},
        {"message.00": whole},
        {"message.zero": whole},
    ):
        rejected(InvalidProofError, "session.subscription", shown(frames), expect("okx"))


def fetched(**changes: Any) -> tuple[feeds.FeedSlot, forge.Forged]:
    """A slot of coinbase whose quote a sealed session fetched, and that session."""
    purpose = f"slot/{feeds.FEED}/coinbase/{feeds.SLOT_US}"
    session = forge.session(**{"purpose": purpose, **changes})
    lies = {
        "source": "rest",
        "session": session.attestation.session().id,
        "bid": forge.BID,
        "ask": forge.ASK,
        "exchange_us": forge.T0 + 104_537,
        "received_us": forge.T0 + 91_000,
        "messages": [],
    }
    named = {f"coinbase.{member}": value for member, value in lies.items()}
    return feeds.slot(venues=["coinbase"], lies=named), session


def test_a_quote_of_a_request_follows_from_its_session() -> None:
    slot, session = fetched()
    shown = dataclasses.replace(slot.bare(), sessions=(session.present(),))
    quote = verify(shown, trust=forge.trust(), expect=expect("coinbase"), now_us=forge.NOW)
    assert {"messages", "session"} <= set(quote.checked)
    assert (quote.mode, quote.binding) == ("sealed", "full")
    assert quote.host == "api.exchange.coinbase.com"
    rejected(ExpectationError, "expect.modes", shown, expect("coinbase", modes=("live",)))
    closed = dataclasses.replace(slot.bare(), sessions=(present_start(session.attestation),))
    quote = verify(closed, trust=forge.trust(), expect=expect("coinbase"), now_us=forge.NOW)
    assert ("session" in quote.checked, "messages" in quote.not_checked) == (True, True)
    # Alone it does not tell how it was bound.
    rejected(IncompleteError, "expect.bindings", slot.bare(), expect("coinbase"))
    either = expect("coinbase", bindings=("full", "template"))
    quote = verify(slot.bare(), trust=forge.trust(), expect=either, now_us=forge.NOW)
    assert quote.binding == "template"


@pytest.mark.parametrize(
    ("changes", "kind", "rule"),
    [
        ({"purpose": "trade/t-1/open"}, InvalidProofError, "session.purpose"),
        (
            {"purpose": f"slot/{feeds.FEED}/coinbase/{feeds.SLOT_US - feeds.GRID_US}"},
            InvalidProofError,
            "session.purpose",
        ),
        ({"bid": "96500.1"}, InvalidProofError, "observation.bid"),
        ({"lies": {"http.target": "/products/ETH-USD/ticker"}}, InvalidProofError, "W14"),
        ({"lies": {"quote.observed_us": 1}}, InvalidProofError, "quote.observed_us"),
        ({"at_us": forge.T0 + 1}, InvalidProofError, "observation.received_us"),
        ({"mode": "open"}, InvalidProofError, "session.mode"),
        ({"lies": {"session.binding": "template"}}, ExpectationError, "expect.bindings"),
        ({"lies": {"quote.bid": "1"}}, InvalidProofError, "quote.bid"),
        (
            {"lies": {"connection.address": "10.0.0.1"}},
            ExpectationError,
            "expect.insecure_allow_development",
        ),
    ],
)
def test_a_session_that_did_not_fetch_the_quote_is_refused(
    changes: dict[str, Any], kind: type[QuotaryError], rule: str
) -> None:
    slot, session = fetched(**changes)
    shown = dataclasses.replace(slot.bare(), sessions=(session.present(),))
    rejected(kind, rule, shown, expect("coinbase"))
    # Its body hidden, only what the bytes say is not compared any more.
    hidden = dataclasses.replace(slot.bare(), sessions=(present_start(session.attestation),))
    with pytest.raises(kind):
        verify(hidden, trust=forge.trust(), expect=expect("coinbase"), now_us=forge.NOW)


def test_a_development_address_is_taken_where_it_is_expected() -> None:
    slot = feeds.slot(venues=TWO, start_lies={"connection.address": "127.0.0.1"})
    check(slot.present(), expect(*TWO, insecure_allow_development=True))


def test_sessions_are_the_notarys_own_and_from_before_the_slot() -> None:
    other = forge.LyingNotary(name="notary.two", operator="Two Ltd")
    trust = forge.trust(forge.LyingNotary(), other)
    honest = feeds.slot(venues=TWO)
    same_id = {"session.id": feeds.session_id("coinbase", forge.LyingNotary())}
    theirs = feeds.start("coinbase", notary=other, lies=same_id)
    late = feeds.start("coinbase", at_us=feeds.SLOT_US)
    for start, rule in ((theirs, "session.notary"), (late, "session.issued_us")):
        shown = dataclasses.replace(honest.bare(), sessions=(start,))
        with pytest.raises(InvalidProofError) as caught:
            verify(shown, trust=trust, expect=expect(*TWO), now_us=forge.NOW)
        assert caught.value.rule == rule
    alone = dataclasses.replace(honest.bare(), sessions=(theirs,))
    rejected(UntrustedError, "trust.unknown", alone, expect(*TWO))


def test_a_quote_is_not_from_before_its_sessions_first_answer() -> None:
    start = feeds.start("coinbase", at_us=feeds.SLOT_US - 120_000)
    shown = dataclasses.replace(HONEST.bare("coinbase"), sessions=(start,))
    rejected(InvalidProofError, "session.start", shown, expect("coinbase"))


def test_what_stands_beside_a_slot_has_its_limits() -> None:
    shown, start = HONEST.present("coinbase"), HONEST.starts["coinbase"]
    for changes, rule in (
        ({"messages": ()}, "messages"),
        ({"messages": (b"1", b"1")}, "messages"),
        ({"messages": (bytes(1024 * 1024 + 1),)}, "messages"),
        ({"messages": tuple(b"%d" % number for number in range(1025))}, "messages"),
        ({"sessions": ()}, "sessions"),
        ({"sessions": (start,) * 65}, "sessions"),
        ({"sessions": (shown,)}, "sessions"),
    ):
        with pytest.raises(MalformedError) as caught:
            dataclasses.replace(shown, **changes)  # type: ignore[arg-type]
        assert caught.value.rule == rule
    session = forge.session().present()
    for member in ({"messages": (b"1",)}, {"sessions": (start,)}):
        with pytest.raises(MalformedError):
            dataclasses.replace(session, **member)  # type: ignore[arg-type]
    twice = dataclasses.replace(shown, sessions=(start, start))
    rejected(MalformedError, "sessions", twice, expect("coinbase"))
    slot = dataclasses.replace(shown, sessions=(HONEST.bare("coinbase"),))
    rejected(MalformedError, "sessions", slot, expect("coinbase"))


def test_a_slot_opens_nothing_and_is_no_transcript() -> None:
    opening = forge.session().present({"response.status": "whole"}).openings
    opened = dataclasses.replace(HONEST.bare("coinbase"), openings=opening)
    rejected(IncompleteError, "openings", opened, expect("coinbase"))
    hosts = Expect(hosts=("ws-feed.exchange.coinbase.com",))
    rejected(ExpectationError, "expect.hosts", HONEST.present(), hosts)


# How it is made.


def test_a_slot_is_presented_whole_by_its_seed_and_in_part_by_salts() -> None:
    whole, part = HONEST.bare(), HONEST.bare(*TWO)
    assert (whole.seed, whole.proof) == (HONEST.attestation.seed, ())
    assert part.seed is None and [shown.name for shown in part.fields] == [
        "slot",
        "observation",
        "observation",
        "notary",
    ]
    assert Presentation.decode(HONEST.present().encode()) == HONEST.present()


def test_messages_to_fetch_are_those_of_the_shown_observations() -> None:
    slot = feeds.slot(venues=[*TWO, "okx"], gaps={"okx": ("venue_silent", "venue")})
    wanted = slot_messages(slot.attestation)
    assert list(wanted) == list(TWO)
    seen = ObservationField.from_json(slot.attestation.fields[1].value)
    assert wanted["bitfinex"] == seen.messages
    assert list(slot_messages(slot.attestation, ["coinbase"])) == ["coinbase"]


def test_a_presentation_that_no_verifier_would_take_is_not_made() -> None:
    attestation = HONEST.attestation
    (coinbase,), (first, *_) = HONEST.messages["coinbase"], HONEST.messages["bitfinex"]
    for arguments in (
        {"venues": ["nowhere"]},
        {"venues": ["kraken"], "messages": [coinbase]},
        {"venues": ["bitfinex"], "messages": [first]},
        {"venues": ["kraken"], "sessions": [HONEST.starts["coinbase"]]},
    ):
        with pytest.raises(UsageError):
            present_slot(attestation, **arguments)  # type: ignore[arg-type]
    with pytest.raises(MalformedError):
        present_slot(forge.session().attestation)


def test_authentic_looks_at_what_stands_beside_a_slot_too() -> None:
    broken = dataclasses.replace(HONEST.present("coinbase"), messages=(b"{}",))
    with pytest.raises(InvalidProofError):
        insecure_verify_authentic(broken, trust=forge.trust(), now_us=forge.NOW)
