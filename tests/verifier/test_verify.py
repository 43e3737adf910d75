"""What ``verify`` returns, and each expectation by the rule it names."""

from __future__ import annotations

import dataclasses
from fractions import Fraction
from typing import Any

import pytest

from attestation.errors import (
    ExpectationError,
    IncompleteError,
    InvalidProofError,
    MalformedError,
    QuotaryError,
    StaleError,
    UntrustedError,
)
from attestation.expect import Expect, LogExpectation, NotaryQuorum
from attestation.hashing import hash_string
from attestation.presentation import Presentation
from tests.verifier import forge
from verifier import VerifiedQuote, VerifiedTranscript, verify
from verifier.insecure import insecure_verify_authentic


def check(presentation: Presentation | bytes, expect: Expect | None = None, **changes: Any) -> Any:
    arguments: dict[str, Any] = {
        "trust": forge.trust(),
        "expect": expect or forge.expect(),
        "now_us": forge.NOW,
        **changes,
    }
    return verify(presentation, **arguments)


def rejected(kind: type[QuotaryError], rule: str, *arguments: Any, **changes: Any) -> None:
    with pytest.raises(kind) as caught:
        check(*arguments, **changes)
    assert type(caught.value) is kind
    assert caught.value.rule == rule


def test_a_redacted_quote_is_verified() -> None:
    quote = check(forge.session().present().encode())
    assert isinstance(quote, VerifiedQuote)
    assert (quote.venue, quote.market, quote.instrument) == ("coinbase", "BTC/USD", "BTC-USD")
    assert (quote.bid, quote.ask, quote.last) == ("96500.12", "96500.98", "96500.5")
    assert quote.mid == Fraction("96500.55")
    assert (quote.not_before_us, quote.not_after_us) == (forge.T0 + 31_000, forge.T0 + 91_000)
    assert (quote.host, quote.mode, quote.binding) == (
        "api.exchange.coinbase.com",
        "sealed",
        "full",
    )
    assert quote.notary.operator == "One Ltd"
    assert "quote" in quote.checked
    assert "log" in quote.not_checked


def test_bytes_and_document_give_the_same() -> None:
    presentation = forge.session().whole()
    assert check(presentation) == check(presentation.encode())


def test_quote_of_a_venue_without_a_file_is_untrusted() -> None:
    rejected(UntrustedError, "quote.venue", forge.session().present(), venue_files={})


@pytest.mark.parametrize("venue", ["binance", "coinbase", "kraken"])
@pytest.mark.parametrize("scheme", ["tree", "hash"])
def test_each_scheme_of_body_is_verified(venue: str, scheme: str) -> None:
    forged = forge.session(venue, body_scheme=scheme)
    shown = None if scheme == "tree" else {"response.body": "whole"}
    assert check(forged.present(shown), forge.expect(venue)).bid == forge.BID


def test_a_transcript_is_verified_by_host_and_returns_opened_sections() -> None:
    forged = forge.session(quote=False)
    result = check(
        forged.present({"response.headers": "whole"}), Expect(hosts=("api.exchange.coinbase.com",))
    )
    assert isinstance(result, VerifiedTranscript)
    assert list(result.sections) == ["response.headers"]
    assert result.sections["response.headers"].data == forged.exchange.transcript.cut(
        "received", *forged.exchange.response.headers_span
    )


def test_verified_data_cannot_be_built_elsewhere() -> None:
    quote = check(forge.session().present())
    members = {field.name: getattr(quote, field.name) for field in dataclasses.fields(quote)}
    with pytest.raises(TypeError):
        VerifiedQuote(**{**members, "_token": object()})


@pytest.mark.parametrize(
    ("changes", "kind", "rule"),
    [
        ({"market": "ETH/USD"}, ExpectationError, "expect.market"),
        ({"instruments": ("BTC-EUR",)}, ExpectationError, "expect.instruments"),
        ({"not_before_us": forge.T0 + 31_001}, StaleError, "expect.not_before_us"),
        ({"not_after_us": forge.T0 + 90_999}, StaleError, "expect.not_after_us"),
        ({"max_age_us": 1_968_999}, StaleError, "expect.max_age_us"),
        ({"purpose": "trade/t-1/close"}, ExpectationError, "expect.purpose"),
        ({"modes": ("live",)}, ExpectationError, "expect.modes"),
        ({"bindings": ("template",)}, ExpectationError, "expect.bindings"),
        ({"roots": hash_string(b"others")}, ExpectationError, "expect.roots"),
        ({"notaries": NotaryQuorum(count=2)}, IncompleteError, "expect.notaries.count"),
        (
            {"notaries": NotaryQuorum(count=1, operators=("Two Ltd",))},
            ExpectationError,
            "expect.notaries.operators",
        ),
        ({"log": LogExpectation(quorum=1)}, IncompleteError, "expect.log"),
    ],
)
def test_expectation_that_is_not_met_is_named(
    changes: dict[str, Any], kind: type[QuotaryError], rule: str
) -> None:
    rejected(kind, rule, forge.session().present(), forge.expect(**changes))


@pytest.mark.parametrize(
    "changes",
    [
        {"instruments": ("BTC-USD", "BTC-EUR")},
        {"not_before_us": forge.T0 + 31_000, "not_after_us": forge.T0 + 91_000},
        {"max_age_us": 1_969_000},
        {"purpose": "trade/t-1/open"},
        {"roots": hash_string(b"roots")},
        {"notaries": NotaryQuorum(count=1, operators=("Two Ltd", "One Ltd"))},
    ],
)
def test_expectation_that_is_just_met_is_accepted(changes: dict[str, Any]) -> None:
    assert check(forge.session().present(), forge.expect(**changes)).bid == forge.BID


def test_another_venue_is_not_expected() -> None:
    rejected(ExpectationError, "expect.venues", forge.session().present(), forge.expect("binance"))


def test_another_host_is_not_expected() -> None:
    rejected(
        ExpectationError, "expect.hosts", forge.session().present(), Expect(hosts=("example.com",))
    )


def test_another_port_is_another_server() -> None:
    """The certificate names the host alone: whoever runs something on another port has it too."""
    host = "api.exchange.coinbase.com"
    shown = forge.session(quote=False, lies={"connection.port": 8443}).present({})
    rejected(ExpectationError, "expect.hosts", shown, Expect(hosts=(host,)))
    assert check(shown, Expect(hosts=(f"{host}:8443",))).host == f"{host}:8443"
    usual = forge.session(quote=False).present({})
    rejected(ExpectationError, "expect.hosts", usual, Expect(hosts=(f"{host}:8443",)))
    assert check(usual, Expect(hosts=(host,))).host == host


def test_open_mode_must_be_asked_for() -> None:
    presentation = forge.session(mode="open").present()
    rejected(ExpectationError, "expect.modes", presentation)
    assert check(presentation, forge.expect(modes=("open",))).mode == "open"


def test_template_binding_must_be_asked_for() -> None:
    presentation = forge.session(lies={"session.binding": "template"}).present()
    rejected(ExpectationError, "expect.bindings", presentation)
    assert check(presentation, forge.expect(bindings=("template",))).binding == "template"
    both = check(presentation, forge.expect(bindings=("full", "template")))
    assert both.binding == "template"


@pytest.mark.parametrize(
    ("lies", "rule"),
    [
        ({"http.status": 206}, "http.status"),
        ({"session.mode": "live", "connection.sealed_us": None}, "session.binding"),
    ],
)
def test_template_binding_that_no_notary_signs_is_refused(lies: dict[str, Any], rule: str) -> None:
    lies = {"session.binding": "template", "connection.opened_us": forge.T0 + 20_000, **lies}
    if rule == "http.status":
        del lies["connection.opened_us"]
    expect = forge.expect(bindings=("template",), modes=("sealed", "live"))
    rejected(InvalidProofError, rule, forge.session(lies=lies).present(), expect)


@pytest.mark.parametrize(
    "address",
    [
        *("10.0.0.1", "127.0.0.1", "169.254.169.254", "::1", "::ffff:10.0.0.1", "nowhere"),
        # Global by the registry, and yet no host's: a notary connects to none of them.
        *("224.0.0.251", "ff0e::1", "64:ff9b::a00:1", "2002:a00:1::", "::ffff:93.184.215.14"),
    ],
)
def test_private_address_is_refused_unless_development_is_allowed(address: str) -> None:
    presentation = forge.session(lies={"connection.address": address}).present()
    rejected(ExpectationError, "expect.insecure_allow_development", presentation)
    allowed = forge.expect(insecure_allow_development=True)
    assert check(presentation, allowed).bid == forge.BID


@pytest.mark.parametrize(
    ("date", "accepted"),
    [
        ("Thu, 15 Jan 2026 11:59:55 GMT", True),
        # Whole seconds, cut: 54 may stand for a little less than 55, which is too early.
        ("Thu, 15 Jan 2026 11:59:54 GMT", False),
        ("Thu, 15 Jan 2026 12:00:05 GMT", True),
        ("Thu, 15 Jan 2026 12:00:06 GMT", False),
    ],
)
def test_date_of_the_exchange_bears_on_the_notarys_clock(date: str, accepted: bool) -> None:
    presentation = forge.session(lies={"http.server_date": date}).present()
    if accepted:
        assert check(presentation).bid == forge.BID
    else:
        rejected(StaleError, "expect.max_date_skew_us", presentation)


def test_signature_from_the_future_is_stale() -> None:
    presentation = forge.session().present()
    issued = presentation.header.issued_us
    assert check(presentation, now_us=issued - 2_000_000).bid == forge.BID
    rejected(StaleError, "header.issued_us", presentation, now_us=issued - 2_000_001)


def test_two_seconds_of_age_count_from_the_start_of_the_interval() -> None:
    presentation = forge.session().present()
    start = forge.T0 + 31_000
    expect = forge.expect(max_age_us=3_000_000)
    assert check(presentation, expect, now_us=start + 3_000_000).bid == forge.BID
    rejected(StaleError, "expect.max_age_us", presentation, expect, now_us=start + 3_000_001)


def test_slot_gives_the_one_expected_venue() -> None:
    attestation = forge.slot()
    quote = check(forge.show_fields(attestation, [0, 2, 4]))
    assert (quote.venue, quote.bid, quote.mode) == ("coinbase", forge.BID, "live")
    assert quote.purpose == f"slot/main/coinbase/{forge.T0 + 1_000_000}"
    assert quote.not_before_us == quote.not_after_us == forge.T0 + 950_000
    assert "session" in quote.not_checked


@pytest.mark.parametrize(
    ("lies", "kind", "rule"),
    [
        (
            {"coinbase.received_us": forge.T0 + 1_000_001},
            InvalidProofError,
            "observation.received_us",
        ),
        ({"coinbase.bid": "96501"}, InvalidProofError, "observation.bid"),
        ({"coinbase.bid": "-1"}, InvalidProofError, "observation.bid"),
        ({"coinbase.venue": "binance"}, MalformedError, "slot.venues"),
        ({"slot.venues": ["coinbase", "binance", "kraken"]}, MalformedError, "slot.venues"),
        ({"slot.market": "ETH/USD"}, ExpectationError, "expect.market"),
        ({"slot.slot_us": forge.NOW + 60_000_000}, InvalidProofError, "slot.slot_us"),
    ],
)
def test_lie_in_a_slot_is_refused(
    lies: dict[str, Any], kind: type[QuotaryError], rule: str
) -> None:
    rejected(kind, rule, forge.show_fields(forge.slot(lies=lies), [0, 2, 4]))


def test_slot_of_another_purpose_is_refused() -> None:
    expect = forge.expect(purpose="slot/main/coinbase/1")
    rejected(ExpectationError, "expect.purpose", forge.show_fields(forge.slot(), [0, 2, 4]), expect)


@pytest.mark.parametrize(
    ("changes", "kind", "rule"),
    [
        ({"modes": ("sealed",)}, ExpectationError, "expect.modes"),
        ({"bindings": ("template",)}, ExpectationError, "expect.bindings"),
        ({"roots": hash_string(b"roots")}, IncompleteError, "expect.roots"),
    ],
)
def test_slot_that_cannot_meet_an_expectation_is_refused(
    changes: dict[str, Any], kind: type[QuotaryError], rule: str
) -> None:
    rejected(kind, rule, forge.show_fields(forge.slot(), [0, 2, 4]), forge.expect(**changes))


@pytest.mark.parametrize("lies", [{"instrument": "NEW-USD"}, {"market": "BTC/USD"}])
def test_quote_under_another_venue_file_is_untrusted_whatever_that_lists(
    lies: dict[str, str],
) -> None:
    changed = {f"quote.{member}": value for member, value in lies.items()}
    changed["quote.venue_file"] = hash_string(b"a newer file")
    presentation = forge.session(lies=changed).present()
    rejected(UntrustedError, "quote.venue_file", presentation)


def test_authentic_is_less_than_accepted() -> None:
    presentation = forge.session(purpose="trade/another/open").present().encode()
    found = insecure_verify_authentic(presentation, trust=forge.trust(), now_us=forge.NOW)
    assert list(found.sections) == ["response.body"]
    with pytest.raises(UntrustedError):
        insecure_verify_authentic(
            presentation,
            trust=forge.trust(forge.LyingNotary(name="notary.two")),
            now_us=forge.NOW,
        )
    lie = forge.session(lies={"http.status": 201}).present({"response.status": "whole"})
    with pytest.raises(InvalidProofError):
        insecure_verify_authentic(lie, trust=forge.trust(), now_us=forge.NOW)


def test_the_package_gives_the_function_whatever_was_imported_first() -> None:
    import verifier as package
    import verifier.verify  # binds the module of that name in the package

    assert package.verify is verify
    assert callable(package.verify)
    namespace: dict[str, object] = {}
    exec("from verifier import *", namespace)
    assert namespace["verify"] is verify
