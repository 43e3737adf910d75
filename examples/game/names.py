"""Players' names: text, and nothing that hides or reorders text."""

from __future__ import annotations

import unicodedata

from attestation.errors import UsageError

LONGEST = 24


def player_name(text: object) -> str:
    """Returns a name as it is shown; raises UsageError for none.

    Composed, with single spaces; without controls, formats, surrogates, private and
    unassigned characters; with at most two marks in a row.
    """
    if not isinstance(text, str) or len(text) > 200:
        raise UsageError("a name is text", rule="name")
    name = " ".join(unicodedata.normalize("NFC", text).split())
    kinds = [unicodedata.category(character) for character in name]
    if not 1 <= len(name) <= LONGEST:
        raise UsageError(f"a name has 1 to {LONGEST} characters", rule="name")
    if any(kind[0] == "C" or kind in ("Zl", "Zp") for kind in kinds):
        raise UsageError("a name has no invisible characters", rule="name")
    stacked = any(
        all(kind[0] == "M" for kind in kinds[at : at + 3]) for at in range(len(kinds) - 2)
    )
    if stacked or kinds[0][0] == "M":
        raise UsageError("a name begins with a letter, and its marks are few", rule="name")
    return name
