"""The fairness page: one HTML file in which bundles are verified by whoever opens it.

Built by ``make page`` from ``verifier/web`` and committed: for a version it is the same
bytes everywhere, and known by their hash.
"""

from __future__ import annotations

import hashlib
from pathlib import Path

PAGE = Path(__file__).parent / "web" / "fairness.html"


def page() -> bytes:
    """Returns the page of this version."""
    return PAGE.read_bytes()


def page_hash() -> str:
    """Returns the SHA-256 of the page, in hex."""
    return hashlib.sha256(page()).hexdigest()
