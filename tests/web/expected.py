"""Expect files, written as a reader would."""

from __future__ import annotations

import json
from typing import Any

from attestation.expect import Expect


def expect_text(expect: Expect) -> str:
    """An expect file of the expectation."""
    return "\n".join(f"{member} = {toml(value)}" for member, value in expect.to_json().items())


def toml(value: Any) -> str:
    """A value of an expect file: strings, numbers, lists and one level of tables."""
    if isinstance(value, dict):
        return "{ " + ", ".join(f"{name} = {toml(item)}" for name, item in value.items()) + " }"
    return json.dumps(value)
