"""What is sent, byte for byte, and the session it belongs to."""

from __future__ import annotations

from typing import Any

import httpx
import pytest

from attestation.errors import UsageError
from prover.fetch import FetchPlan
from prover.plan import TransportOptions, plan_request
from prover.sections import Section, attestation_request
from prover.session import Purpose
from prover.sidecar import plan_template

KRAKEN = "https://api.kraken.com/0/public/Ticker?pair=XXBTZUSD"


def plan(
    url: str,
    *,
    method: str = "GET",
    headers: dict[str, str] | None = None,
    body: bytes = b"",
    options: TransportOptions | None = None,
) -> FetchPlan:
    with httpx.Client() as client:
        request = client.build_request(method, url, headers=headers, content=body or None)
    return plan_request(request, body, options or TransportOptions())


def test_venue_url_becomes_a_venue_session_with_exact_headers() -> None:
    result = plan(KRAKEN)
    assert (result.spec.venue, result.spec.instrument) == ("kraken", "XXBTZUSD")
    assert result.spec.members() == {
        "venue": "kraken",
        "instrument": "XXBTZUSD",
        "mode": "sealed",
        "binding": "full",
        "form": None,
        "adhoc": "fetch",
        "trade": None,
        "leg": None,
    }
    assert result.plaintext == (
        b"GET /0/public/Ticker?pair=XXBTZUSD HTTP/1.1\r\n"
        b"Host: api.kraken.com\r\n"
        b"Accept: application/json\r\n"
        b"Accept-Encoding: identity\r\n"
        b"Connection: close\r\n"
        b"User-Agent: quotary\r\n\r\n"
    )
    assert result.expect_json


@pytest.mark.parametrize(("wish", "sent"), [("keep-alive", b"keep-alive"), ("Close", b"close")])
def test_open_mode_keeps_the_connection_unless_told_to_close(wish: str, sent: bytes) -> None:
    options = TransportOptions(mode="open")
    result = plan(KRAKEN, headers={"Connection": wish}, options=options)
    assert b"\r\nConnection: %s\r\n" % sent in result.plaintext


def test_other_target_of_a_venue_host_is_an_ad_hoc_session() -> None:
    result = plan("https://api.kraken.com/0/public/Time")
    assert result.spec.venue is None
    assert (result.spec.host, result.spec.port) == ("api.kraken.com", 443)
    assert not result.expect_json


def test_port_stands_in_host_where_it_is_not_443() -> None:
    result = plan("https://API.venue.example:8443/price")
    assert b"\r\nHost: api.venue.example:8443\r\n" in result.plaintext
    assert result.spec.port == 8443


def test_own_headers_follow_but_encoding_and_connection_stay_ours() -> None:
    headers = {
        "Authorization": "Bearer x",
        "User-Agent": "mine",
        "Accept": "text/plain",
        "Accept-Encoding": "gzip",
        "Connection": "upgrade",
    }
    result = plan("https://api.venue.example/", headers=headers)
    assert result.plaintext == (
        b"GET / HTTP/1.1\r\nHost: api.venue.example\r\nAccept: text/plain\r\n"
        b"Accept-Encoding: identity\r\nConnection: close\r\nUser-Agent: mine\r\n"
        b"Authorization: Bearer x\r\n\r\n"
    )


def test_quote_with_a_header_of_ones_own_is_the_callers_mistake() -> None:
    """The notary would refuse it after the fact: such a header may lead to another market."""
    with pytest.raises(UsageError, match="x-simulated-trading") as caught:
        plan(KRAKEN, headers={"x-simulated-trading": "1"})
    assert caught.value.rule == "W14"
    assert plan(KRAKEN, headers={"User-Agent": "mine"}).spec.venue == "kraken"


def test_body_is_sent_with_its_length() -> None:
    result = plan("https://api.venue.example/", method="POST", body=b"a=1")
    assert result.plaintext.endswith(b"\r\nContent-Length: 3\r\n\r\na=1")


@pytest.mark.parametrize(
    ("url", "options", "rule"),
    [
        ("http://api.kraken.com/", TransportOptions(), "url"),
        ("https://api.kraken.com/", TransportOptions(venue="kraken"), "url"),
        (KRAKEN, TransportOptions(venue="kraken", market="ETH/USD"), "url"),
        (
            "https://api.venue.example/",
            TransportOptions(purpose=Purpose(trade="t1", leg="open")),
            "url",
        ),
    ],
)
def test_what_cannot_be_attested_as_asked_is_the_callers_mistake(
    url: str, options: TransportOptions, rule: str
) -> None:
    with pytest.raises(UsageError) as caught:
        plan(url, options=options)
    assert caught.value.rule == rule


def test_header_that_would_split_the_request_is_refused_before_it_is_sent() -> None:
    with pytest.raises(UsageError):
        plan("https://api.venue.example/", headers={"X-Note": "a\r\nHost: evil"})


@pytest.mark.parametrize("place", [{}, {"market": "BTC/USD"}, {"instrument": "XXBTZUSD"}])
def test_quote_that_is_asked_for_by_its_place_is_the_venues(place: dict[str, str]) -> None:
    options = TransportOptions(venue="kraken", **place)  # type: ignore[arg-type]
    result = plan(KRAKEN, options=options)
    assert (result.spec.venue, result.spec.instrument) == ("kraken", "XXBTZUSD")
    assert result.spec.target == "/0/public/Ticker?pair=XXBTZUSD"
    whole = ("api.kraken.com", 443, result.spec.target, "XXBTZUSD")
    assert options.place == (whole if place else None)
    for url, method in (
        ("https://api.exchange.coinbase.com/products/BTC-USD/ticker", "GET"),
        ("https://api.kraken.com/0/public/Time", "GET"),
        (KRAKEN, "HEAD"),
    ):
        with pytest.raises(UsageError) as caught:
            plan(url, method=method, options=options)
        assert caught.value.rule == "url"
    other = KRAKEN.replace("XXBTZUSD", "XETHZUSD")
    if place:
        with pytest.raises(UsageError):
            plan(other, options=options)


def test_answer_is_taken_for_json_where_it_is_a_quote_or_was_asked_for() -> None:
    other = "https://api.venue.example/"
    for url, wish, sent, is_json in (
        (KRAKEN, "*/*", b"application/json", True),
        (KRAKEN, "text/plain", b"text/plain", True),
        (other, "application/json", b"application/json", True),
        (other, "text/plain", b"text/plain", False),
        (other, "*/*", b"*/*", False),
    ):
        result = plan(url, headers={"Accept": wish})
        assert b"\r\nAccept: %s\r\n" % sent in result.plaintext
        assert result.expect_json == is_json, (url, wish)


def test_without_libssl_the_venues_template_alone_is_planned() -> None:
    options = TransportOptions(binding="template")
    result = plan(KRAKEN, options=options)
    assert (result.spec.binding, result.spec.form) == ("template", "quotary")
    assert plan(KRAKEN).spec.binding == "full"
    for url, headers in (
        ("https://api.kraken.com/0/public/Time", {}),
        (KRAKEN, {"User-Agent": "mine"}),
    ):
        with pytest.raises(UsageError) as caught:
            plan(url, headers=headers, options=options)
        assert caught.value.rule == "binding"


def test_request_without_headers_of_its_own_has_ours() -> None:
    bare = httpx.Request("GET", KRAKEN)
    bare.headers.clear()
    assert plan_request(bare, b"", TransportOptions()).plaintext == plan(KRAKEN).plaintext


@pytest.mark.parametrize(
    "make",
    [
        lambda: TransportOptions(mode="live"),
        lambda: TransportOptions(market="BTC/USD"),
        lambda: TransportOptions(instrument="XXBTZUSD"),
        lambda: TransportOptions(venue="kraken", market="BTC/USD", instrument="XXBTZUSD"),
        lambda: Purpose(trade="t"),
        lambda: Purpose(adhoc="x", trade="t", leg="open"),
    ],
)
def test_contradictory_options_are_refused(make: object) -> None:
    with pytest.raises(UsageError):
        make()  # type: ignore[operator]


def test_sections_have_fresh_salts_and_the_schemes_asked_for() -> None:
    names = ("request.line", "response.body", "x.price@received[10:20]=tree/fixed:4")
    sections = [Section.parse(name) for name in names]

    def build(json_body: bool) -> list[tuple[str, str, str | None, str]]:
        request = attestation_request(
            "00" * 16,
            sections,
            json_body=json_body,
            quote=True,
            hash_algorithm="sha256",
            signature_algorithm="ed25519",
        )
        assert [extension.id for extension in request.extensions] == ["quote/v1"]
        return [(item.name, item.scheme, item.split, item.salt) for item in request.sections]

    first, second = build(True), build(False)
    assert [item[1:3] for item in first] == [("hash", None), ("tree", "json"), ("tree", "fixed:4")]
    assert second[1][1:3] == ("hash", None)
    salts = [item[3] for item in first + second]
    assert len(set(salts)) == len(salts)
    assert [len(salt) for salt in salts] == [32, 64, 64, 32, 32, 64]


@pytest.mark.parametrize(
    "text", ["", "x.a", "response.body=gzip", "response.body@received[0:1]", "a b", "x.a@sent[1]"]
)
def test_section_that_makes_no_sense_is_the_callers_mistake(text: str) -> None:
    with pytest.raises(UsageError):
        Section.parse(text).request(json_body=False)


@pytest.mark.parametrize(
    ("rule", "options"),
    [
        ("trade", {"purpose": Purpose(trade="T 1", leg="open")}),
        ("leg", {"purpose": Purpose(trade="t1", leg="up")}),
        ("retry_of", {"purpose": Purpose(trade="t1", leg="open", retry_of="zz")}),
        ("adhoc", {"purpose": Purpose(adhoc="a\x1bb")}),
        ("hash", {"hash_algorithm": "md5"}),
        ("signature", {"signature_algorithm": "rsa"}),
        ("name", {"sections": (Section(name="nonsense"),)}),
    ],
)
def test_what_every_notary_would_refuse_is_refused_before_a_session_is_spent(
    rule: str, options: dict[str, Any]
) -> None:
    with pytest.raises(UsageError) as caught:
        plan(KRAKEN, options=TransportOptions(**options))
    assert caught.value.rule == rule
    for name in ("hash_algorithm", "mode", "binding"):
        options.pop(name, None)
    if rule != "hash":
        with pytest.raises(UsageError) as caught:
            plan_template(venue="kraken", instrument="XXBTZUSD", form="curl", **options)
        assert caught.value.rule == rule


def test_host_that_no_session_can_name_is_a_usage_error() -> None:
    with pytest.raises(UsageError) as caught:
        plan("https://venue.example./price")
    assert caught.value.rule == "host"
