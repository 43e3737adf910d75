"""The rendered requests, and the record each has to fill."""

from __future__ import annotations

import pytest

from attestation.errors import UsageError
from attestation.http1 import check_host, read_request
from attestation.template import (
    FORMS,
    check_requests,
    check_response,
    render_template,
)
from attestation.tls13.application import Plaintext
from attestation.tls13.wire import Record
from attestation.venues import load_venue, parse_venue, shipped_venues
from tests.tls13.verifying import refused

HOST = "data-api.binance.vision"
LINE = "GET /api/v3/ticker/bookTicker?symbol=BTCUSDT HTTP/1.1\r\n"
RENDERED = {
    "quotary": (
        f"{LINE}Host: {HOST}\r\nAccept: application/json\r\nAccept-Encoding: identity\r\n"
        "Connection: close\r\nUser-Agent: quotary\r\n\r\n"
    ),
    "httpx": (
        f"{LINE}Host: {HOST}\r\nAccept: */*\r\nAccept-Encoding: identity\r\n"
        "Connection: close\r\nUser-Agent: quotary\r\n\r\n"
    ),
    "curl": (
        f"{LINE}Host: {HOST}\r\nUser-Agent: quotary\r\nAccept: */*\r\n"
        "Accept-Encoding: identity\r\nConnection: close\r\n\r\n"
    ),
}
TEMPLATE = RENDERED["httpx"].encode()


def test_the_three_forms_are_rendered_byte_for_byte() -> None:
    assert set(FORMS) == set(RENDERED)
    for form, text in RENDERED.items():
        found = render_template(load_venue("binance"), "BTCUSDT", form=form, mode="sealed")
        assert found == text.encode()


@pytest.mark.parametrize("form", FORMS)
def test_open_sessions_keep_the_connection_alive(form: str) -> None:
    found = render_template(load_venue("binance"), "BTCUSDT", form=form, mode="open")
    assert found == RENDERED[form].replace("close", "keep-alive").encode()


@pytest.mark.parametrize("form", FORMS)
@pytest.mark.parametrize("name", shipped_venues())
def test_every_listed_instrument_has_a_template_that_a_strict_reader_takes(
    name: str, form: str
) -> None:
    venue = load_venue(name)
    for listing in venue.markets:
        found = render_template(venue, listing.instrument, form=form, mode="sealed")
        request = read_request(found)
        check_host(request, host=venue.hosts[0], port=venue.port)
        assert (request.method, request.target) == ("GET", venue.target(listing.instrument))


def test_host_names_another_port_than_443() -> None:
    toml = (
        'name = "odd"\nhosts = ["odd.example"]\nport = 8443\n'
        'markets = [{ market = "BTC/USD", instrument = "X", quote = "USD" }]\n'
        '[rest]\nmethod = "GET"\ntarget = "/{instrument}"\nprices = "string"\n'
        'bid = "/b"\nask = "/a"\nrate = { requests = 1, seconds = 1 }\n'
    )
    venue = parse_venue(toml.encode())
    rendered = render_template(venue, "X", form="curl", mode="sealed")
    assert b"\r\nHost: odd.example:8443\r\n" in rendered


def test_instrument_outside_the_files_list_has_no_template() -> None:
    with refused("W14"):
        render_template(load_venue("binance"), "BTCUSDT&x=1", form="curl", mode="sealed")


def test_unknown_form_and_mode_have_no_template() -> None:
    venue = load_venue("binance")
    with refused("form", kind=UsageError):
        render_template(venue, "BTCUSDT", form="wget", mode="sealed")
    with refused("mode", kind=UsageError):
        render_template(venue, "BTCUSDT", form="curl", mode="live")


def sent(*texts: bytes, first: int = 3, padding: int = 0) -> tuple[Plaintext, list[Record]]:
    """A client's plaintext, one record for each text, after ``first`` records."""
    plaintext, records = Plaintext(), [Record(22, 0x0303, b"", b"")] * first
    for text in texts:
        start = len(plaintext.data)
        plaintext.data.extend(text)
        if text:
            plaintext.spans.append((len(records), start, len(plaintext.data)))
        records.append(Record(23, 0x0303, bytes(len(text) + 17 + padding), b""))
    return plaintext, records


def test_template_alone_in_its_record_is_taken() -> None:
    plaintext, records = sent(TEMPLATE)
    check_requests(plaintext, records, {TEMPLATE}, first_record=3)


def test_templates_that_follow_one_another_are_taken() -> None:
    other = TEMPLATE.replace(b"BTC", b"ETH")
    plaintext, records = sent(TEMPLATE, other, TEMPLATE)
    check_requests(plaintext, records, {TEMPLATE, other}, first_record=3)
    check_requests(plaintext, records, {other, TEMPLATE}, first_record=4, first_span=1)


@pytest.mark.parametrize(
    "texts",
    [
        (TEMPLATE[:-1],),
        (TEMPLATE + b"\r\n",),
        (TEMPLATE[:20], TEMPLATE[20:]),
        (TEMPLATE.replace(b"quotary", b"Quotary"),),
        (TEMPLATE.replace(b"BTCUSDT", b"ETHUSDT"),),
        (RENDERED["curl"].encode(),),
        (TEMPLATE.replace(b"close", b"keep-alive"),),
        (TEMPLATE + TEMPLATE,),
        (TEMPLATE, b"x"),
    ],
)
def test_any_other_request_is_refused(texts: tuple[bytes, ...]) -> None:
    plaintext, records = sent(*texts)
    with refused("template.request"):
        check_requests(plaintext, records, {TEMPLATE}, first_record=3)


def test_record_before_the_request_is_refused() -> None:
    # An empty record, or a KeyUpdate: neither has a span of its own.
    plaintext, records = sent(b"", TEMPLATE)
    with refused("template.record"):
        check_requests(plaintext, records, {TEMPLATE}, first_record=3)


def test_record_between_two_requests_is_refused() -> None:
    plaintext, records = sent(TEMPLATE, b"", TEMPLATE)
    with refused("template.record"):
        check_requests(plaintext, records, {TEMPLATE}, first_record=3)


def test_padded_record_is_refused() -> None:
    plaintext, records = sent(TEMPLATE, padding=1)
    with refused("template.record"):
        check_requests(plaintext, records, {TEMPLATE}, first_record=3)


@pytest.mark.parametrize(
    "start",
    [b"HTTP/1.1 201 ", b"HTTP/1.1 2000", b"HTTP/1.0 200 ", b"http/1.1 200 ", b"\nHTTP", b"X"],
)
def test_response_of_another_beginning_is_refused(start: bytes) -> None:
    with refused("template.response"):
        check_response(start)


def test_beginning_of_a_response_may_still_become_one() -> None:
    whole = b"HTTP/1.1 200 OK\r\n\r\n"
    for size in range(len(whole) + 1):
        check_response(whole[:size])
