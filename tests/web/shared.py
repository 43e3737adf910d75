"""All questions that the page and Python must answer alike, by what they are about."""

from __future__ import annotations

from collections.abc import Callable
from itertools import chain

from tests.web import membered, overheard, owned, parsed, relogged, telling, vectors, voices
from tests.web.misattested import misattested
from tests.web.resigned import resigned_bundles, session_lies, signed_lies
from tests.web.vectors import Vector

SHARED: dict[str, Callable[[], list[Vector]]] = {
    "bundles": vectors.bundles,
    "what a lying notary signs": lambda: [*signed_lies(), *session_lies(), *resigned_bundles(200)],
    "logs that no honest notary keeps": relogged.lies,
    "presentations of a lying notary": misattested,
    "documents by themselves": lambda: [*parsed.documents(), *owned.files()],
    "presentations, signatures and venues' bytes": voices.voices,
    "every member of every document": membered.membered,
    "what tests of Python's verification ask": overheard.overheard,
    "one check each": telling.telling,
}


def shared() -> list[Vector]:
    """All of them."""
    return list(chain.from_iterable(make() for make in SHARED.values()))
