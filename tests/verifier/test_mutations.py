"""Any bytes: never an error but the package's own, never other data than what was signed."""

from __future__ import annotations

import dataclasses
import json
from collections.abc import Callable, Iterable
from typing import Any

import pytest
from hypothesis import given
from hypothesis import strategies as st

from attestation.encoding import encode
from attestation.errors import MalformedError, QuotaryError, UsageError
from attestation.expect import LogExpectation
from attestation.presentation import Presentation
from tests.verifier import forge, logged
from verifier import verify
from verifier.insecure import insecure_verify_authentic

TRUST, EXPECT = forge.trust(), forge.expect()
REDACTED = forge.session().present()
WHOLE = forge.session().whole()


def check(data: bytes) -> Any:
    return verify(data, trust=TRUST, expect=EXPECT, now_us=forge.NOW)


HONEST = check(REDACTED.encode())


def flips(
    data: bytes, bits: Callable[[int], Iterable[int]], check: Callable[[bytes], Any] = check
) -> list[tuple[int, int]]:
    """Returns the flips (byte, bit) that are accepted."""
    accepted = []
    for position in range(len(data)):
        for bit in bits(position):
            flipped = bytearray(data)
            flipped[position] ^= 1 << bit
            try:
                check(bytes(flipped))
            except QuotaryError:
                continue
            accepted.append((position, bit))
    return accepted


@pytest.mark.slow
def test_every_single_bit_flip_is_refused() -> None:
    assert flips(REDACTED.encode(), lambda position: range(8)) == []


def test_a_bit_flip_in_every_byte_of_a_whole_presentation_is_refused() -> None:
    assert flips(WHOLE.encode(), lambda position: [position % 8]) == []


def test_a_bit_flip_in_every_byte_of_a_logged_presentation_is_refused() -> None:
    log = logged.prove(logged.entry_of(forge.session().attestation), witnesses=logged.WITNESSES[:2])
    shown = dataclasses.replace(REDACTED, log=log).encode()
    trust, expect = logged.trust(), forge.expect(log=LogExpectation(quorum=2))

    def check_logged(data: bytes) -> Any:
        return verify(data, trust=trust, expect=expect, now_us=forge.NOW)

    assert check_logged(shown).log is not None
    assert flips(shown, lambda position: [position % 8], check_logged) == []


@pytest.mark.parametrize("index", [2**32 - 1, 2**32, 2**53 - 1])
def test_a_seeds_fields_stand_at_their_own_indices(index: int) -> None:
    document = json.loads(WHOLE.encode())
    document["fields"][-1]["index"] = index
    with pytest.raises(MalformedError, match="all fields are shown"):
        check(encode(document))


def test_every_truncation_is_refused() -> None:
    data = REDACTED.encode()
    for size in range(len(data)):
        with pytest.raises(QuotaryError):
            check(data[:size])


@given(st.binary(max_size=300))
def test_any_bytes_raise_the_packages_own_error(data: bytes) -> None:
    with pytest.raises(QuotaryError):
        check(data)


JSON = st.recursive(
    st.none() | st.booleans() | st.integers() | st.floats(allow_nan=False) | st.text(max_size=8),
    lambda inner: (
        st.lists(inner, max_size=4)
        | st.dictionaries(
            st.sampled_from(["type", "index", "field", "value", "a"]), inner, max_size=4
        )
    ),
    max_leaves=8,
)


def paths(value: Any, at: tuple[Any, ...] = ()) -> list[tuple[Any, ...]]:
    """Every place in a document."""
    found = [at] if at else []
    items = value.items() if isinstance(value, dict) else enumerate(value)
    for key, item in items:
        if isinstance(item, (dict, list)):
            found += paths(item, (*at, key))
        else:
            found.append((*at, key))
    return found


@given(st.data())
def test_any_value_at_any_place_is_refused(data: st.DataObject) -> None:
    document = json.loads(REDACTED.encode())
    place = data.draw(st.sampled_from(paths(document)))
    target: Any = document
    for step in place[:-1]:
        target = target[step]
    before = target[place[-1]]
    after = data.draw(JSON)
    if after == before and type(after) is type(before):
        return
    target[place[-1]] = after
    try:
        text = encode(document)
    except UsageError:  # outside the profile: sent as ordinary JSON
        text = json.dumps(document, sort_keys=True, separators=(",", ":")).encode()
    with pytest.raises(QuotaryError):
        check(text)


@given(st.data())
def test_any_place_removed_is_refused_or_changes_nothing(data: st.DataObject) -> None:
    document = json.loads(REDACTED.encode())
    place = data.draw(st.sampled_from(paths(document)))
    target: Any = document
    for step in place[:-1]:
        target = target[step]
    del target[place[-1]]
    with pytest.raises(QuotaryError):
        check(encode(document))


@given(st.data())
def test_a_lying_member_is_refused_or_is_not_what_is_returned(data: st.DataObject) -> None:
    """A notary signs any value for any member: verify raises, or says what the bytes say."""
    fields = [
        (field.value["id"].partition("/")[0], member)  # type: ignore[union-attr]
        if field.name == "extension"
        else (field.name, member)
        for field in forge.session().attestation.fields
        if field.name != "section"
        for member in (field.value["value"] if field.name == "extension" else field.value)  # type: ignore[union-attr]
    ]
    name, member = data.draw(st.sampled_from(fields))
    lie = data.draw(st.integers(0, 2**53 - 1) | st.text(max_size=12) | st.just(None))
    presentation = forge.session(lies={f"{name}.{member}": lie}).present()
    try:
        quote = check(presentation.encode())
    except QuotaryError:
        return
    assert (quote.bid, quote.ask, quote.last) == (HONEST.bid, HONEST.ask, HONEST.last)
    assert (quote.venue, quote.market, quote.instrument) == (
        HONEST.venue,
        HONEST.market,
        HONEST.instrument,
    )


@given(st.lists(st.sampled_from(forge.session().pointers), unique=True))
def test_any_choice_of_parts_gives_the_same_quote_or_none(shown: list[str]) -> None:
    presentation = forge.session().present({"response.body": shown}) if shown else None
    if presentation is None:
        return
    try:
        quote = check(presentation.encode())
    except QuotaryError:
        assert set(shown) != set(forge.session().pointers)
        return
    assert quote == HONEST


@given(st.sets(st.integers(0, 10), min_size=1))
def test_any_choice_of_fields_is_authentic_or_refused(shown: set[int]) -> None:
    presentation: Presentation = forge.show_fields(forge.session().attestation, sorted(shown))
    try:
        found = insecure_verify_authentic(presentation, trust=TRUST, now_us=forge.NOW)
    except QuotaryError:
        assert not {0, 1, 2, 3, 10} <= shown
        return
    assert {0, 1, 2, 3, 10} <= shown
    assert found.fields.header == presentation.header
