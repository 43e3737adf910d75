"""The tables of docs/formats.md and docs/witness.md name what the code has, all of it."""

from __future__ import annotations

import dataclasses
import importlib
import pkgutil
import re
from typing import Annotated, Any, get_args, get_origin

import pytest

import attestation
from attestation import errors
from attestation.expect import Expect, NotaryQuorum
from attestation.reasons import FAULTS
from attestation.request import Opened
from attestation.schema import AtLeast, Between, Document, Pattern, member_types
from attestation.trust import Trust, TrustedKey
from attestation.venues import VenueFile
from notary.limits import Deadlines, SessionLimits
from notary.transitions import TABLE
from tests.docs.worked_example import FENCE, PAGE
from verifier.recheck import Recheck

TEXT = PAGE.read_text(encoding="utf-8")
LOG = (PAGE.parent / "log.md").read_text(encoding="utf-8")
SETTLEMENT = (PAGE.parent / "settlement-policy.md").read_text(encoding="utf-8")
WITNESS = (PAGE.parent / "witness.md").read_text(encoding="utf-8")
TYPES: dict[str, str] = {
    # A blank keeps readers of Markdown from taking these for links.
    label: regex.replace("] (", "](")
    for label, _, regex in (
        line.partition("  ")
        for info, content in FENCE.findall(TEXT)
        if info == "text types"
        for line in content.splitlines()
    )
}
LABELS: dict[str, str] = {regex: label for label, regex in TYPES.items()}


def table(page: str, marker: str) -> list[list[str]]:
    """The rows below ``<!-- marker -->``, without the head."""
    found = re.search(rf"<!-- {re.escape(marker)} -->\n((?:\|.*\n)+)", page)
    assert found is not None, f"no table {marker}"
    rows = [
        [cell.strip() for cell in line.strip("|\n").split("|")] for line in found[1].splitlines()
    ]
    return rows[2:]


def documents() -> dict[str, type[Document]]:
    """Every document class of the package, and the one of verifier.recheck, by dotted name."""
    for module in pkgutil.walk_packages(attestation.__path__, "attestation."):
        importlib.import_module(module.name)
    found: dict[str, type[Document]] = {}
    waiting: list[type[Document]] = [Document]
    while waiting:
        for kind in waiting.pop().__subclasses__():
            waiting.append(kind)
            # A class made again for its slots stays behind in the list of subclasses.
            dotted = f"{kind.__module__}.{kind.__name__}"
            if kind.__module__.startswith("attestation."):
                found[dotted] = getattr(importlib.import_module(kind.__module__), kind.__name__)
    # One of its kinds stands for it.
    del found[f"{Opened.__module__}.{Opened.__name__}"]
    # What a venue file is once it is read; its members are those of its content.
    del found[f"{VenueFile.__module__}.{VenueFile.__name__}"]
    return found | {"verifier.recheck.Recheck": Recheck}


def described(name: str, hint: Any) -> str:
    """How the page writes a member's type."""
    origin = get_origin(hint)
    if origin is Annotated:
        _, rule = get_args(hint)
        if isinstance(rule, Pattern):
            return LABELS[rule.regex]
        if isinstance(rule, AtLeast):
            if rule.minimum == 0:
                return "time" if name.endswith("_us") else "count"
            return f"integer from {rule.minimum}"
        if isinstance(rule, Between):
            return f"integer {rule.minimum} to {rule.maximum}"
        return " or ".join(f"`{choice}`" for choice in rule.choices)
    if origin is tuple:
        return f"array of {described(name, get_args(hint)[0])}"
    if isinstance(hint, type) and issubclass(hint, Document):
        return str(hint.__name__)
    names: dict[Any, str] = {str: "string", bool: "boolean", bytes: "base64url"}
    return names.get(hint, "object")


def page_of(dotted: str) -> str:
    """The text of the page that describes a document: log and settlement have their own."""
    if dotted.startswith("attestation.settlement."):
        return SETTLEMENT
    return LOG if dotted.startswith("attestation.log.") else TEXT


def test_every_document_has_its_table() -> None:
    for page in (TEXT, LOG, SETTLEMENT):
        shown = re.findall(r"<!-- members of (\S+) -->", page)
        assert sorted(shown) == sorted(name for name in documents() if page_of(name) is page)


@pytest.mark.parametrize("dotted", sorted(documents()))
def test_a_table_of_members_is_the_document(dotted: str) -> None:
    kind = documents()[dotted]
    wanted = [] if kind.TYPE is None else [["`type`", f"`{kind.TYPE}`"]]
    wanted += [
        [f"`{name}`" + ("" if required else "?"), described(name, hint)]
        for name, hint, required in member_types(kind)
    ]
    page = page_of(dotted)
    assert f"\n**{kind.__name__}**" in page.split(f"\n\n<!-- members of {dotted} -->")[0][-80:]
    rows = table(page, f"members of {dotted}")
    assert [row[:2] for row in rows] == wanted
    for member, _, unit, _ in rows:
        assert (unit == "µs") == member.rstrip("?").strip("`").endswith("_us")


def test_every_expression_of_the_page_is_used() -> None:
    used = {
        get_args(hint)[1].regex
        for kind in documents().values()
        for _, whole, _ in member_types(kind)
        for hint in (whole, *get_args(whole))
        if get_origin(hint) is Annotated and isinstance(get_args(hint)[1], Pattern)
    }
    assert set(TYPES.values()) == used
    assert all(re.compile(regex) for regex in used)


def test_the_table_of_trust_files_is_the_code() -> None:
    rows = table(TEXT, "trust file")
    wanted = []
    for field in dataclasses.fields(TrustedKey):
        name = {"key": "vkey"}.get(field.name, field.name.removesuffix("_us"))
        wanted.append(f"`{name}`" + ("" if field.default is dataclasses.MISSING else "?"))
    assert sorted(row[0] for row in rows) == sorted(wanted)
    (example,) = (content for info, content in FENCE.findall(TEXT) if info == "toml trust")
    assert Trust.parse(example.encode()).dump().decode().rstrip() == example.rstrip()
    for line in example.splitlines()[1:]:
        with pytest.raises(errors.UsageError):
            Trust.parse(example.replace(line, "").encode())


def test_the_table_of_errors_is_the_code() -> None:
    wanted = [
        [kind.__name__, f"`{kind.slug}`", str(kind.exit_code), str(kind.http_status)]
        for kind in errors.QuotaryError.__subclasses__()
        if kind.__module__ == errors.__name__
    ]
    assert [row[:4] for row in table(TEXT, "errors")] == wanted


def test_the_defaults_of_an_expectation_are_the_code() -> None:
    one = Expect(hosts=("example.com",))
    development = bool(one.insecure_allow_development)
    quorum = Expect(hosts=("example.com",), notaries=NotaryQuorum(count=1))
    assert quorum.divergence_bps == one.divergence_bps
    assert (quorum.apart_us, quorum.shared_operators) == (one.apart_us, one.shared_operators)
    assert dict(row[:2] for row in table(TEXT, "expect defaults")) == {
        "`modes`": ", ".join(f"`{mode}`" for mode in one.accepted_modes),
        "`bindings`": ", ".join(f"`{binding}`" for binding in one.accepted_bindings),
        "`notaries.count`": f"`{one.notary_count}`",
        "`notaries.max_div_bps`": f"`{one.divergence_bps}`",
        "`notaries.max_apart_us`": f"`{one.apart_us}`",
        "`notaries.insecure_shared_operators`": f"`{str(one.shared_operators).lower()}`",
        "`max_date_skew_us`": f"`{one.date_skew_us}`",
        "`insecure_allow_development`": f"`{str(development).lower()}`",
    }


@pytest.mark.parametrize(
    "row", table(TEXT, "limits") + table(LOG, "limits"), ids=lambda row: row[2].strip("`")
)
def test_a_limit_is_the_code(row: list[str]) -> None:
    module, _, name = row[2].strip("`").rpartition(".")
    assert getattr(importlib.import_module(module), name) == int(row[1])


def test_the_deadlines_and_limits_of_a_session_are_the_code() -> None:
    for marker, kind in (("deadlines", Deadlines), ("session limits", SessionLimits)):
        wanted = {f"`{field.name}`": str(field.default) for field in dataclasses.fields(kind)}
        assert dict(row[:2] for row in table(WITNESS, marker)) == wanted


def test_the_gate_moves_as_the_page_shows() -> None:
    for path, states in TABLE.items():
        wanted = [
            [
                state.value,
                ", ".join(f"{event} → {to}" for event, to in events.items() if to != "closed"),
            ]
            for state, events in states.items()
            if any(to != "closed" for to in events.values())
        ]
        assert table(WITNESS, f"gate {path}") == wanted


def test_the_ends_of_a_session_are_the_code() -> None:
    rows = table(WITNESS, "reasons")
    assert {row[0].strip("`"): row[1] for row in rows} == dict(FAULTS)
