"""Documents as frozen dataclasses: one declaration, strict both ways.

A subclass of ``Document`` declares its members as dataclass fields and its
type string as ``TYPE``; encoding and decoding iterate the fields, so that no
member can be left out of what is hashed or signed.  Members:

- ``str``, ``int``, ``bool``; refined by ``Annotated[..., rule]``;
- ``bytes`` travels as base64url without padding;
- ``tuple[T, ...]`` is an array, ``JsonObject`` any object, a ``Document`` nests;
- ``T | None = None`` is a member that may be absent (there is no null).

An unknown member, type string or a missing member raises MalformedError.
"""

from __future__ import annotations

import dataclasses
import re
import types
from collections.abc import Callable
from functools import cache
from typing import (
    Annotated,
    Any,
    ClassVar,
    Protocol,
    Self,
    TypeAlias,
    Union,
    get_args,
    get_origin,
    get_type_hints,
)

from attestation.encoding import (
    Json,
    JsonObject,
    base64url_decode,
    base64url_encode,
    decode_object,
    encode,
    encode_decoded,
)
from attestation.errors import MalformedError


class Rule(Protocol):
    """What a member must be besides its type."""

    def predicate(self) -> Callable[[Any], object]:
        """Returns what is true of every value accepted."""

    def refusal(self, value: Any) -> MalformedError:
        """Returns the error for a value that is not."""


@dataclasses.dataclass(frozen=True, slots=True)
class Pattern:
    """A string member must match the regular expression as a whole."""

    regex: str
    name: str

    def predicate(self) -> Callable[[Any], object]:
        return re.compile(self.regex, re.ASCII).fullmatch

    def refusal(self, value: str) -> MalformedError:
        return MalformedError(f"is not {self.name}", found=value[:80])


@dataclasses.dataclass(frozen=True, slots=True)
class AtLeast:
    """An integer member must not be smaller."""

    minimum: int

    def predicate(self) -> Callable[[Any], object]:
        return self.minimum.__le__

    def refusal(self, value: int) -> MalformedError:
        return MalformedError(f"is smaller than {self.minimum}", found=value)


@dataclasses.dataclass(frozen=True, slots=True)
class Between:
    """An integer member must lie in the closed interval."""

    minimum: int
    maximum: int

    def predicate(self) -> Callable[[Any], object]:
        return lambda value: self.minimum <= value <= self.maximum

    def refusal(self, value: int) -> MalformedError:
        wanted = [self.minimum, self.maximum]
        return MalformedError("is out of range", found=value, wanted=wanted)


@dataclasses.dataclass(frozen=True, slots=True)
class OneOf:
    """A string member must be one of a closed list."""

    choices: tuple[str, ...]

    def predicate(self) -> Callable[[Any], object]:
        return frozenset(self.choices).__contains__

    def refusal(self, value: str) -> MalformedError:
        return MalformedError("is not a known choice", found=value[:80], wanted=self.choices)


Hex16 = Annotated[str, Pattern("[0-9a-f]{32}", "16 bytes of lower-case hex")]
Hex32 = Annotated[str, Pattern("[0-9a-f]{64}", "32 bytes of lower-case hex")]
Hex = Annotated[str, Pattern("(?:[0-9a-f]{2})*", "lower-case hex")]
HashString = Annotated[str, Pattern("[a-z0-9-]+:[0-9a-f]{64}", "a hash string")]
Price = Annotated[
    str,
    Pattern(
        r"(?=(?:[-.]?[0-9]){1,30}\Z)(?!-0\Z)-?(?:0|[1-9][0-9]*)(?:\.[0-9]*[1-9])?",
        "a decimal in normal form",
    ),
]
Name = Annotated[str, Pattern(r"[a-z0-9][a-z0-9._-]{0,63}", "a name")]
Text = Annotated[str, Pattern(r"(?s:.{0,1024})", "a text of at most 1,024 characters")]
Micros = Annotated[int, AtLeast(0)]
"""Microseconds since the Unix epoch, UTC, on the notary's clock."""
Count = Annotated[int, AtLeast(0)]


@dataclasses.dataclass(frozen=True, slots=True, kw_only=True)
class Document:
    """Base of every document and nested part; see the module's docstring."""

    TYPE: ClassVar[str | None] = None

    def to_json(self) -> JsonObject:
        """Returns the members present as JSON values, ``type`` included."""
        return _writer(type(self))(self)  # type: ignore[arg-type]

    def encode(self) -> bytes:
        """Returns the canonical bytes."""
        return encode(self.to_json())

    def encode_decoded(self) -> bytes:
        """Returns the canonical bytes of a document that was decoded, without a second check."""
        return encode_decoded(self.to_json())

    @classmethod
    def from_json(cls, value: Json) -> Self:
        """Builds the document from decoded JSON; raises MalformedError."""
        document = _reader(cls)(value)  # type: ignore[arg-type]
        return cls._explain(value) if document is None else document

    @classmethod
    def _explain(cls, value: Json) -> Self:
        """Reads member by member, so that what is wrong is named."""
        if type(value) is not dict:
            raise MalformedError(f"{_label(cls)} is not an object")
        kind = value.get("type")
        if kind != cls.TYPE:
            raise MalformedError(f"not a {_label(cls)}", rule="type", found=kind, wanted=cls.TYPE)
        arguments: dict[str, Any] = {}
        name = ""
        try:
            for name, load, _, required in _members(cls):  # type: ignore[arg-type]
                if name in value:
                    arguments[name] = load(value[name])
                elif required:
                    break
            else:
                name = ""
        except MalformedError as error:
            rule = f"{name}.{error.rule}" if error.rule else name
            raise MalformedError(
                error.detail, rule=rule, found=error.found, wanted=error.wanted
            ) from None
        if name:
            raise MalformedError(f"{_label(cls)} lacks {name}", rule=name)
        if len(arguments) + (cls.TYPE is not None) != len(value):
            unknown = sorted(value.keys() - arguments.keys() - {"type"})
            raise MalformedError(f"{_label(cls)} has unknown members", found=unknown)
        return cls(**arguments)

    @classmethod
    def decode(cls, data: bytes, **limits: int) -> Self:
        """Decodes canonical bytes; raises MalformedError for anything else."""
        return cls.from_json(decode_object(data, **limits))


_Load: TypeAlias = Callable[[Any], Any]
_Dump: TypeAlias = Callable[[Any], Any] | None
"""None where the member is its own JSON value."""


def _label(cls: type[Document]) -> str:
    """Returns the type, or the class's name in words: ``venue content``."""
    return cls.TYPE or re.sub(r"(?<=.)(?=[A-Z])", " ", cls.__name__).lower()


def _exactly(kind: type) -> _Load:
    def load(value: Any) -> Any:
        if type(value) is not kind:
            raise MalformedError(f"is not of type {kind.__name__}")
        return value

    return load


def _checked(kind: type, rule: Rule) -> _Load:
    accepts = rule.predicate()

    def load(value: Any) -> Any:
        if type(value) is kind and accepts(value):
            return value
        if type(value) is not kind:
            raise MalformedError(f"is not of type {kind.__name__}")
        raise rule.refusal(value)

    return load


def _array(item: _Load) -> _Load:
    def load(value: Any) -> Any:
        if type(value) is not list:
            raise MalformedError("is not an array")
        return tuple([item(entry) for entry in value])

    return load


def _load_bytes(value: Any) -> bytes:
    if type(value) is not str:
        raise MalformedError("is not base64url")
    return base64url_decode(value)


def _codec(hint: Any) -> tuple[_Load, _Dump]:
    """Returns how a member of this type is read and written."""
    origin = get_origin(hint)
    if origin is Annotated:
        kind, rule = get_args(hint)
        return _checked(kind, rule), None
    if origin is tuple:
        load, dump = _codec(get_args(hint)[0])
        if dump is None:
            return _array(load), list
        return _array(load), lambda items: [dump(entry) for entry in items]
    if hint is bytes:
        return _load_bytes, base64url_encode
    if isinstance(hint, type) and issubclass(hint, Document):
        return hint.from_json, hint.to_json
    return _exactly(origin or hint), None


# A class is hashable; mypy looks at its instances' __hash__, hence the ignores.
@cache
def _members(cls: type[Document]) -> tuple[tuple[str, _Load, _Dump, bool], ...]:
    """Returns (name, load, dump, required) of each member, in declaration order."""
    return tuple((name, *_codec(hint), required) for name, hint, required in member_types(cls))


def member_types(cls: type[Document]) -> list[tuple[str, Any, bool]]:
    """Returns (name, type hint with its rule, required) of each member."""
    # JsonObject refers to Json by name, which a subclass's module need not import.
    hints = get_type_hints(cls, localns={"Json": Json}, include_extras=True)
    members = []
    for field in dataclasses.fields(cls):
        hint = hints[field.name]
        optional = get_origin(hint) in (Union, types.UnionType)
        if optional:
            (hint,) = [part for part in get_args(hint) if part is not types.NoneType]
        members.append((field.name, hint, not optional))
    return members


# Most of what a verification costs is reading documents.  So each class gets one
# straight-line function each way, made from its members as dataclasses make __init__.
# Names of the made functions are upper case, which no member is.


@cache
def _reader(cls: type[Document]) -> Callable[[Any], Any]:
    """Returns what builds a document, or None from what ``Document._explain`` refuses."""
    members = member_types(cls)
    names: dict[str, Any] = {"CLASS": cls, "NEW": object.__new__, "ERROR": MalformedError}
    lines = []
    for name, hint, required in members:
        # The slot itself: a frozen dataclass's __init__ takes three times as long.
        names[f"SET_{name}"] = getattr(cls, name).__set__
        lines.append(f"_{name} = DATA.get({name!r})")
        steps = _accept(name, hint, names)
        if not required:
            steps = [f"if _{name} is not None:", "  COUNT += 1", *["  " + step for step in steps]]
        lines += steps
    fixed = sum(required for _, _, required in members) + (cls.TYPE is not None)
    wrong_type = "" if cls.TYPE is None else f" or DATA.get('type') != {cls.TYPE!r}"
    source = "\n    ".join(
        [
            "def read(DATA):",
            f"if type(DATA) is not dict{wrong_type}: return None",
            f"COUNT = {fixed}",
            "try:",
            *["  " + line for line in lines],
            "except ERROR: return None",
            "if COUNT != len(DATA): return None",
            "SELF = NEW(CLASS)",
            *[f"SET_{name}(SELF, _{name})" for name, _, _ in members],
            *(["SELF.__post_init__()"] if hasattr(cls, "__post_init__") else []),
            "return SELF",
        ]
    )
    exec(source, names)  # noqa: S102 - made of the class's own member names and rules
    return names["read"]  # type: ignore[no-any-return]


def _accept(name: str, hint: Any, names: dict[str, Any]) -> list[str]:
    """Returns the lines that judge and convert one member."""
    origin = get_origin(hint)
    kind, rule = get_args(hint) if origin is Annotated else (origin or hint, None)
    if kind in (str, int, bool, dict):
        test = ""
        if rule is not None:
            names[f"ACCEPTS_{name}"] = rule.predicate()
            test = f" or not ACCEPTS_{name}(_{name})"
        return [f"if type(_{name}) is not {kind.__name__}{test}: return None"]
    names[f"LOAD_{name}"] = _codec(hint)[0]
    return [f"if _{name} is None: return None", f"_{name} = LOAD_{name}(_{name})"]


@cache
def _writer(cls: type[Document]) -> Callable[[Any], JsonObject]:
    names: dict[str, Any] = {}
    present = [] if cls.TYPE is None else [f"'type': {cls.TYPE!r}"]
    perhaps = []
    for name, hint, required in member_types(cls):
        dump = _codec(hint)[1]
        names[f"DUMP_{name}"] = dump
        value = f"SELF.{name}" if dump is None else f"DUMP_{name}(SELF.{name})"
        if required:
            present.append(f"{name!r}: {value}")
        else:
            perhaps.append(f"if SELF.{name} is not None: RESULT[{name!r}] = {value}")
    source = "\n    ".join(
        ["def write(SELF):", f"RESULT = {{{', '.join(present)}}}", *perhaps, "return RESULT"]
    )
    exec(source, names)  # noqa: S102 - made of the class's own member names and rules
    return names["write"]  # type: ignore[no-any-return]
