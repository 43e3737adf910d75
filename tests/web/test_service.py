"""``verifier serve`` shows the page, under the policy that the page names itself."""

from __future__ import annotations

import re

from starlette.testclient import TestClient

from attestation.trust import Trust
from verifier.page import page
from verifier.service import create_app


def test_page_is_served_unchanged_under_its_own_policy() -> None:
    answer = TestClient(create_app(trust=Trust())).get("/")
    assert answer.status_code == 200
    assert answer.content == page()
    assert answer.headers["content-type"] == "text/html; charset=utf-8"
    own = re.search(r'http-equiv="Content-Security-Policy" content="([^"]+)"', page().decode())
    assert own is not None
    assert answer.headers["content-security-policy"] == f"{own[1]}; frame-ancestors 'none'"
    assert answer.headers["x-content-type-options"] == "nosniff"
    assert answer.headers["referrer-policy"] == "no-referrer"
