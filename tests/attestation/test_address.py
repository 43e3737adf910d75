"""Which addresses a venue can have, by the one rule of all sides."""

from __future__ import annotations

import pytest
from hypothesis import given
from hypothesis import strategies as st

from attestation.address import is_public
from tests.notary.test_resolve import REFUSED


@pytest.mark.parametrize("address", REFUSED.values(), ids=REFUSED.keys())
def test_address_that_a_notary_refuses_is_not_public(address: str) -> None:
    assert not is_public(address)


@pytest.mark.parametrize("address", ["93.184.215.14", "1.1.1.1", "2606:4700:4700::1111"])
def test_address_of_a_host_anyone_can_reach_is_public(address: str) -> None:
    assert is_public(address)


@given(st.text(max_size=50) | st.ip_addresses().map(str))
def test_any_text_is_public_or_not(text: str) -> None:
    assert is_public(text) in (True, False)


@pytest.mark.parametrize("text", ["", "1.1.1.1 ", "１.1.1.1", "1.1.1.1\n", "example.com", "1" * 99])
def test_text_that_is_no_address_is_not_public(text: str) -> None:
    assert not is_public(text)
