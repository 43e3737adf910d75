"""Requests made from an OpenAPI document, and what an answer must be: as it is described.

Each operation is asked with what its schemas allow, with the same but for one change, and
with bytes of any kind.  Whatever is asked, the status is one that the operation declares,
none of the server's own faults (503, where declared, is of its surroundings), and the
body is what that status declares.
"""

from __future__ import annotations

import dataclasses
import json
import re
from collections.abc import Iterator, Mapping, Sequence
from types import MappingProxyType
from typing import Any
from urllib.parse import quote

import httpx
from hypothesis import strategies as st

METHODS = ("get", "put", "post", "delete", "patch")
_DEPTH = 6
"""How deep documents that hold documents of their kind are made."""

_JUNK = st.recursive(
    st.none()
    | st.booleans()
    | st.integers(-(2**70), 2**70)
    | st.floats(allow_nan=False)
    | st.text(max_size=20),
    lambda inner: st.lists(inner, max_size=3) | st.dictionaries(st.text(max_size=8), inner),
    max_leaves=8,
)


@dataclasses.dataclass(frozen=True)
class Operation:
    """A method of a path, as the document describes it."""

    document: dict[str, Any]
    method: str
    path: str

    def __str__(self) -> str:
        return f"{self.method} {self.path}"

    @property
    def streams(self) -> bool:
        """Whether its answer is a stream that has no end."""
        content = self.described["responses"].get("200", {}).get("content", {})
        return "text/event-stream" in content

    @property
    def described(self) -> dict[str, Any]:
        found: dict[str, Any] = self.document["paths"][self.path][self.method]
        return found

    def requests(
        self, known: Mapping[str, Sequence[Any]] = MappingProxyType({})
    ) -> st.SearchStrategy[dict[str, Any]]:
        """Arguments of ``httpx.AsyncClient.request``.

        ``known`` has values by parameter, or of the ``body``, that stand for something.
        """
        return st.builds(
            _request,
            st.just(self),
            st.fixed_dictionaries(
                {
                    each["name"]: _known(self._parameter(each), known.get(each["name"]))
                    for each in self._parameters("path")
                }
            ),
            st.fixed_dictionaries(
                {},
                optional={each["name"]: self._header(each) for each in self._parameters("header")},
            ),
            st.fixed_dictionaries(
                {},
                optional={
                    each["name"]: self._parameter(each) for each in self._parameters("query")
                },
            ),
            self._body(known.get("body", ())),
        )

    def check(self, answer: httpx.Response) -> None:
        """Asserts that the answer is one that the operation declares."""
        declared = self.described["responses"]
        assert answer.status_code < 500 or answer.status_code == 503, (str(self), answer.text)
        assert str(answer.status_code) in declared, (str(self), answer.status_code, answer.text)
        content = declared[str(answer.status_code)].get("content")
        if not content:
            return
        kind = answer.headers.get("content-type", "").partition(";")[0]
        assert kind in content, (str(self), answer.status_code, kind)
        schema = content[kind].get("schema")
        if schema and kind.endswith("json"):
            # Of a list of documents, a line each, a schema says no more than that it is text.
            value = answer.text if kind.endswith("ndjson") else answer.json()
            wrong = next(_wrong(schema, value, self.document, "answer"), None)
            assert wrong is None, (str(self), answer.status_code, wrong)

    def _parameters(self, place: str) -> list[dict[str, Any]]:
        return [each for each in self.described.get("parameters", ()) if each["in"] == place]

    def _parameter(self, described: dict[str, Any]) -> st.SearchStrategy[str]:
        wanted = allowed(described.get("schema", {}), self.document).map(_text)
        return wanted | st.text(min_size=1, max_size=20)

    def _header(self, described: dict[str, Any]) -> st.SearchStrategy[str]:
        # What httpx sends of a header: visible ASCII.
        wanted = allowed(described.get("schema", {}), self.document).map(_text)
        plain = st.text(st.characters(min_codepoint=0x21, max_codepoint=0x7E), min_size=1)
        return wanted.filter(lambda text: text.isascii() and text.isprintable()) | plain

    def _body(self, known: Sequence[Any]) -> st.SearchStrategy[tuple[bytes, str] | None]:
        content = self.described.get("requestBody", {}).get("content", {})
        if not content:
            return st.none()
        kind, described = next(iter(content.items()))
        schema = described.get("schema", {})
        shown = [*known, *[each["value"] for each in described.get("examples", {}).values()]]
        if "example" in described:
            shown.append(described["example"])
        documents = allowed(schema, self.document)
        if shown:
            documents |= st.sampled_from(shown)
        changed = st.builds(_changed, documents, st.integers(0, 2**16), _JUNK)
        encoded = (documents | changed | _JUNK).map(lambda value: json.dumps(value).encode())
        kinds = [kind] * 9 + ["text/plain", "", "application/json; charset=latin-1"]
        return st.tuples(encoded | st.binary(max_size=40), st.sampled_from(kinds))


def operations(document: dict[str, Any]) -> list[Operation]:
    """Every operation that the document describes."""
    return [
        Operation(document, method, path)
        for path, described in document["paths"].items()
        for method in METHODS
        if method in described
    ]


def allowed(
    schema: dict[str, Any], document: dict[str, Any], depth: int = _DEPTH
) -> st.SearchStrategy[Any]:
    """Values that a schema allows."""
    if "$ref" in schema:
        return allowed(_resolve(schema, document), document, depth - 1)
    for several in ("oneOf", "anyOf"):
        if several in schema:
            kinds = [each for each in schema[several] if each.get("type") != "null"]
            return st.one_of([allowed(each, document, depth) for each in kinds])
    if "const" in schema:
        return st.just(schema["const"])
    if "enum" in schema:
        return st.sampled_from(schema["enum"])
    match schema.get("type"):
        case "object":
            return _object(schema, document, depth)
        case "array":
            most = min(schema.get("maxItems", 2), 2) if depth > 0 else 0
            least = min(schema.get("minItems", 0), most)
            item = allowed(schema.get("items", {}), document, depth - 1)
            return st.lists(item, min_size=least, max_size=most)
        case "integer":
            low, high = schema.get("minimum", -(2**53) + 1), schema.get("maximum", 2**53 - 1)
            return st.integers(low, high)
        case "boolean":
            return st.booleans()
        case "string":
            return _string(schema)
    return st.dictionaries(st.sampled_from(["type", "kind", "a"]), st.text(max_size=5), max_size=2)


def _object(
    schema: dict[str, Any], document: dict[str, Any], depth: int
) -> st.SearchStrategy[dict[str, Any]]:
    members = schema.get("properties", {})
    required = set(schema.get("required", ()))
    wanted = {name for name in members if name in required or depth > 0}
    made = {name: allowed(members[name], document, depth - 1) for name in sorted(wanted)}
    return st.fixed_dictionaries(
        {name: made[name] for name in made if name in required},
        optional={name: made[name] for name in made if name not in required},
    )


def _string(schema: dict[str, Any]) -> st.SearchStrategy[str]:
    if "pattern" in schema:
        return st.from_regex(re.compile(schema["pattern"], re.ASCII), fullmatch=True).map(
            lambda text: text.removesuffix("\n")
        )
    if schema.get("contentEncoding") == "base64url":
        return st.sampled_from(["", "AA", "e30", "Zm9v"])
    return st.text(max_size=20)


def _resolve(schema: dict[str, Any], document: dict[str, Any]) -> dict[str, Any]:
    found: Any = document
    for step in schema["$ref"].removeprefix("#/").split("/"):
        found = found[step]
    resolved: dict[str, Any] = found
    return resolved


def _request(
    operation: Operation,
    path: dict[str, str],
    headers: dict[str, str],
    query: dict[str, str],
    body: tuple[bytes, str] | None,
) -> dict[str, Any]:
    place = operation.path
    for name, value in path.items():
        # A path's segment is never empty, and never leads elsewhere.
        place = place.replace(f"{{{name}}}", quote(value, safe="").replace(".", "%2E"))
    made: dict[str, Any] = {"method": operation.method.upper(), "url": place, "params": query}
    made["headers"] = dict(headers)
    if body is not None:
        made["content"], kind = body
        made["headers"] |= {"content-type": kind} if kind else {}
    return made


def _known(made: st.SearchStrategy[str], known: Sequence[str] | None) -> st.SearchStrategy[str]:
    return made | st.sampled_from(known) if known else made


def _text(value: Any) -> str:
    return json.dumps(value) if isinstance(value, bool | list | dict) else str(value) or "0"


def _changed(value: Any, where: int, junk: Any) -> Any:
    """The value with one member, anywhere in it, left out, added or replaced."""
    places = list(_places(value, ()))
    path = places[where % len(places)]
    if not path:
        return junk
    copy = json.loads(json.dumps(value))
    inside = copy
    for step in path[:-1]:
        inside = inside[step]
    if where % 3 == 0:
        del inside[path[-1]]
    elif where % 3 == 1 and isinstance(inside, dict):
        inside["more"] = junk
    else:
        inside[path[-1]] = junk
    return copy


def _places(value: Any, path: tuple[Any, ...]) -> Iterator[tuple[Any, ...]]:
    yield path
    if isinstance(value, dict | list):
        items = value.items() if isinstance(value, dict) else enumerate(value)
        for key, inner in items:
            yield from _places(inner, (*path, key))


def _wrong(
    schema: dict[str, Any], value: Any, document: dict[str, Any], where: str
) -> Iterator[str]:
    """Yields where a value is not what the schema says."""
    if "$ref" in schema:
        yield from _wrong(_resolve(schema, document), value, document, where)
        return
    for several in ("oneOf", "anyOf"):
        if several in schema:
            if all(any(_wrong(each, value, document, where)) for each in schema[several]):
                yield f"{where}: none of {several}"
            return
    if "const" in schema and value != schema["const"]:
        yield f"{where}: not {schema['const']!r}"
    if "enum" in schema and value not in schema["enum"]:
        yield f"{where}: none of {schema['enum']}"
    kinds: dict[str, Any] = {
        "object": dict,
        "array": list,
        "string": str,
        "integer": int,
        "number": (int, float),
        "boolean": bool,
    }
    kind = schema.get("type")
    if isinstance(kind, str) and kind in kinds:
        if not isinstance(value, kinds[kind]) or (kind == "integer" and isinstance(value, bool)):
            yield f"{where}: no {kind}"
            return
    if isinstance(value, dict):
        members = schema.get("properties", {})
        for name in schema.get("required", ()):
            if name not in value:
                yield f"{where}: lacks {name}"
        for name, inner in value.items():
            if name in members:
                yield from _wrong(members[name], inner, document, f"{where}.{name}")
            elif schema.get("additionalProperties") is False:
                yield f"{where}: has {name}"
    elif isinstance(value, list):
        for number, inner in enumerate(value):
            yield from _wrong(schema.get("items", {}), inner, document, f"{where}.{number}")
    elif isinstance(value, str) and "pattern" in schema:
        if not re.search(schema["pattern"], value, re.ASCII):
            yield f"{where}: not {schema['pattern']}"
