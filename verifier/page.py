"""The fairness page: one HTML file in which bundles are verified by whoever opens it.

Built by ``make page`` from ``verifier/web`` and committed: for a version it is the same
bytes everywhere, and known by their hash.
"""

from __future__ import annotations

import hashlib
import re
from pathlib import Path

PAGE = Path(__file__).parent / "web" / "fairness.html"


def page() -> bytes:
    """Returns the page of this version."""
    return PAGE.read_bytes()


def page_hash() -> str:
    """Returns the SHA-256 of the page, in hex."""
    return hashlib.sha256(page()).hexdigest()


def page_headers() -> dict[str, str]:
    """Returns the HTTP headers to serve the page with.

    The page's own policy, which names its script and style by their hashes, and that
    nobody shows it inside of another page.
    """
    found = re.search(rb'http-equiv="Content-Security-Policy" content="([^"]+)"', page())
    if found is None:
        raise AssertionError("the page has a policy")
    return {
        "Content-Security-Policy": f"{found[1].decode('ascii')}; frame-ancestors 'none'",
        "Referrer-Policy": "no-referrer",
        "X-Content-Type-Options": "nosniff",
        "Cache-Control": "no-cache",
    }
