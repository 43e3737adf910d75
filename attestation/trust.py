"""Trust files: which keys a verifier believes, for what and when.

TOML (docs/formats.md, "Keys and trust"):

    [[notary]]
    name = "notary.example"
    operator = "Example Ltd"
    vkey = "notary.example+530d903a+AekyeRrm..."
    role = "attest"                      # attest | log | witness
    valid_from = 2025-01-01T00:00:00Z    # RFC 3339, UTC; or the same as a string
    valid_until = 2026-01-01T00:00:00Z
    revoked_at = 2025-06-01T00:00:00Z    # only of a revoked key

    [log_policy]
    file = "log_policy.txt"

The file is the caller's own configuration: whatever is wrong with it raises
UsageError.  What does not follow from it raises UntrustedError.
"""

from __future__ import annotations

import dataclasses
import datetime
import json
import re
import tomllib
import unicodedata
from collections.abc import Iterable, Mapping
from typing import Any

from attestation.encoding import MAX_INTEGER
from attestation.errors import MalformedError, UntrustedError, UsageError
from attestation.keys import VerifyingKey
from attestation.log.cosignature import WitnessKey
from attestation.log.policy import LogPolicy

ROLES = ("attest", "log", "witness")
MAX_FILE_SIZE = 1024 * 1024
MAX_TEXT = 256
"""Characters of an operator's name or a file name."""

_EPOCH = datetime.datetime(1970, 1, 1, tzinfo=datetime.UTC)
_MICROSECOND = datetime.timedelta(microseconds=1)
_RFC3339_UTC = re.compile(
    r"[0-9]{4}-[0-9]{2}-[0-9]{2}T[0-9]{2}:[0-9]{2}:[0-9]{2}(?:\.[0-9]{1,6})?Z", re.ASCII
)
_REQUIRED = ("name", "operator", "vkey", "role", "valid_from", "valid_until")
_OPTIONAL = ("revoked_at",)


@dataclasses.dataclass(frozen=True, slots=True, kw_only=True)
class TrustedKey:
    """One key, its operator and role, and when it is believed.

    Times are microseconds since the epoch; the key is valid from
    ``valid_from_us`` until just before ``valid_until_us``.  Raises UsageError.
    """

    name: str
    operator: str
    key: VerifyingKey | WitnessKey
    role: str
    valid_from_us: int
    valid_until_us: int
    revoked_at_us: int | None = None

    def __post_init__(self) -> None:
        if self.name != self.key.name:
            raise UsageError(
                "name differs from its vkey's", rule="name", found=self.name, wanted=self.key.name
            )
        _check_text(self.operator, "operator")
        if self.role not in ROLES:
            raise UsageError("unknown role", rule="role", found=self.role, wanted=list(ROLES))
        if self.role != "witness" and isinstance(self.key, WitnessKey):
            raise UsageError("a key of type 04 is a witness's", rule="vkey", found=self.role)
        if self.role != "attest" and self.key.algorithm != "ed25519":
            raise UsageError(
                "logs and witnesses sign with Ed25519 only", rule="vkey", found=self.key.algorithm
            )
        _check_time(self.valid_from_us, "valid_from")
        _check_time(self.valid_until_us, "valid_until")
        if self.revoked_at_us is not None:
            _check_time(self.revoked_at_us, "revoked_at")
        if self.valid_from_us >= self.valid_until_us:
            raise UsageError("valid_until is not after valid_from", rule="valid_until")


@dataclasses.dataclass(frozen=True, slots=True, kw_only=True)
class Trust:
    """The keys of a trust file, in its order, and the log policy it names.

    ``log_policy`` is the content of ``log_policy_file``, which the caller reads.
    No two entries share name and id, one key has one name (quorums count names),
    and one name has one operator; else raises UsageError.
    """

    keys: tuple[TrustedKey, ...] = ()
    log_policy_file: str | None = None
    log_policy: LogPolicy | None = None
    _by_short: dict[str, TrustedKey] = dataclasses.field(init=False, repr=False, compare=False)
    _witnesses: dict[WitnessKey, TrustedKey] = dataclasses.field(
        init=False, repr=False, compare=False
    )

    def __post_init__(self) -> None:
        by_short: dict[str, TrustedKey] = {}
        names: dict[tuple[str, bytes], str] = {}
        operators: dict[str, str] = {}
        for entry in self.keys:
            short, public = entry.key.short, (entry.key.algorithm, entry.key.public)
            if short in by_short:
                raise UsageError("two entries have the same name and key id", found=short)
            if names.setdefault(public, entry.name) != entry.name:
                raise UsageError(
                    "one key has two names", found=entry.name, wanted=names[public], rule="vkey"
                )
            if operators.setdefault(entry.name, entry.operator) != entry.operator:
                raise UsageError(
                    f"{entry.name} has two operators",
                    rule="operator",
                    found=entry.operator,
                    wanted=operators[entry.name],
                )
            by_short[short] = entry
        if self.log_policy_file is not None:
            _check_text(self.log_policy_file, "log_policy.file")
        object.__setattr__(self, "_by_short", by_short)
        object.__setattr__(self, "_witnesses", _witnesses(self.keys))

    @classmethod
    def parse(cls, data: bytes) -> Trust:
        """Parses a trust file's bytes; raises UsageError for anything wrong in it."""
        table = _load_toml(data)
        _check_members(table, (), ("notary", "log_policy"), "trust file")
        entries = table.get("notary", [])
        if not isinstance(entries, list) or not all(isinstance(item, dict) for item in entries):
            raise UsageError("notary is not an array of tables", rule="notary")
        policy = table.get("log_policy", {})
        if not isinstance(policy, dict):
            raise UsageError("log_policy is not a table", rule="log_policy")
        _check_members(policy, (), ("file",), "log_policy")
        file = _text(policy, "file") if "file" in policy else None
        return cls(
            keys=tuple(_entry(item, number) for number, item in enumerate(entries, start=1)),
            log_policy_file=file,
        )

    def dump(self) -> bytes:
        """Returns the trust file: the same bytes for equal trust, without comments."""
        lines: list[str] = []
        for entry in self.keys:
            lines += [
                "[[notary]]",
                f"name = {_toml_string(entry.name)}",
                f"operator = {_toml_string(entry.operator)}",
                f"vkey = {_toml_string(entry.key.vkey)}",
                f"role = {_toml_string(entry.role)}",
                f"valid_from = {_toml_time(entry.valid_from_us)}",
                f"valid_until = {_toml_time(entry.valid_until_us)}",
            ]
            if entry.revoked_at_us is not None:
                lines.append(f"revoked_at = {_toml_time(entry.revoked_at_us)}")
            lines.append("")
        if self.log_policy_file is not None:
            lines += ["[log_policy]", f"file = {_toml_string(self.log_policy_file)}", ""]
        return "\n".join(lines).encode("utf-8")

    def adding(self, entry: TrustedKey) -> Trust:
        """Returns this trust with one more key; raises UsageError if it collides."""
        return dataclasses.replace(self, keys=(*self.keys, entry))

    def get(self, short_name: str) -> TrustedKey | None:
        """Returns the entry of ``<name>+<8 hex>``, whatever it is worth."""
        return self._by_short.get(short_name)

    def find(
        self, short_name: str, role: str, at_us: int, *, witnessed_us: int | None = None
    ) -> TrustedKey:
        """Resolves ``<name>+<8 hex>`` to a key valid for ``role`` at a time.

        Raises UntrustedError; its ``rule`` tells the reason apart.  A revoked key
        is refused at any time, for its holder chooses the time it signs, but where
        a log's witnesses had seen the signature before, at ``witnessed_us``.
        """
        entry = self._by_short.get(short_name)
        if entry is None:
            raise UntrustedError(
                "the key is not in the trust file", rule="trust.unknown", found=short_name
            )
        if entry.role != role:
            raise UntrustedError(
                f"{short_name} is trusted in another role",
                rule="trust.role",
                found=entry.role,
                wanted=role,
            )
        if at_us < entry.valid_from_us:
            raise UntrustedError(
                f"{short_name} was not valid yet",
                rule="trust.valid_from",
                found=at_us,
                wanted=entry.valid_from_us,
            )
        if at_us >= entry.valid_until_us:
            raise UntrustedError(
                f"{short_name} had expired",
                rule="trust.valid_until",
                found=at_us,
                wanted=entry.valid_until_us,
            )
        if entry.revoked_at_us is not None and (
            witnessed_us is None or witnessed_us > entry.revoked_at_us
        ):
            raise UntrustedError(
                f"{short_name} is revoked: only a log can prove that it signed before",
                rule="trust.revoked_at",
                found=at_us,
                wanted=entry.revoked_at_us,
            )
        return entry

    def logs_of(self, origin: str) -> dict[VerifyingKey, TrustedKey]:
        """Returns the keys of the log of that origin, which is their name; revoked ones too."""
        return {
            entry.key: entry
            for entry in self.keys
            if entry.role == "log" and entry.name == origin and isinstance(entry.key, VerifyingKey)
        }

    @property
    def witnesses(self) -> Mapping[WitnessKey, TrustedKey]:
        """The keys of witnesses, revoked ones too."""
        return self._witnesses

    def operator_of(self, name: str) -> str:
        """Returns who runs the notary of that name; raises UntrustedError if unknown."""
        for entry in self.keys:
            if entry.name == name:
                return entry.operator
        raise UntrustedError(
            "no notary of that name is in the trust file", rule="trust.unknown", found=name
        )


def parse_time(text: str) -> int:
    """Parses an RFC 3339 time in UTC, ending in ``Z``, to microseconds of the epoch.

    At most six decimals.  Raises MalformedError, also before 1970.
    """
    if _RFC3339_UTC.fullmatch(text) is None:
        raise MalformedError("not an RFC 3339 time ending in Z", found=text[:40])
    try:
        moment = datetime.datetime.fromisoformat(text)
    except ValueError:
        raise MalformedError("no such date or time", found=text[:40]) from None
    result = _micros(moment)
    if result < 0:
        raise MalformedError("a time before 1970", found=text[:40])
    return result


def _load_toml(data: bytes) -> dict[str, Any]:
    if len(data) > MAX_FILE_SIZE:
        raise UsageError(f"trust file is larger than {MAX_FILE_SIZE} bytes", found=len(data))
    try:
        return tomllib.loads(data.decode("utf-8"))
    except (ValueError, RecursionError) as error:
        raise UsageError(f"trust file is not TOML: {error}") from error


def _entry(table: dict[str, Any], number: int) -> TrustedKey:
    where = f"notary entry {number}"
    _check_members(table, _REQUIRED, _OPTIONAL, where)
    try:
        key = read_vkey(_text(table, "vkey"))
        return TrustedKey(
            name=_text(table, "name"),
            operator=_text(table, "operator"),
            key=key,
            role=_text(table, "role"),
            valid_from_us=_time(table, "valid_from"),
            valid_until_us=_time(table, "valid_until"),
            revoked_at_us=_time(table, "revoked_at") if "revoked_at" in table else None,
        )
    except (UsageError, MalformedError, UntrustedError) as error:
        raise UsageError(
            f"{where}: {error.detail}",
            rule=error.rule or "vkey",
            found=error.found,
            wanted=error.wanted,
        ) from error


def read_vkey(vkey: str) -> VerifyingKey | WitnessKey:
    """Parses a vkey; that of a cosigner has a type of its own, and so another id.

    Raises MalformedError, and UntrustedError for any other type.
    """
    try:
        return VerifyingKey.parse(vkey)
    except UntrustedError as unsupported:
        try:
            return WitnessKey.parse(vkey)
        except MalformedError:
            raise unsupported from None


def _witnesses(keys: Iterable[TrustedKey]) -> dict[WitnessKey, TrustedKey]:
    """Returns the witnesses' entries by key; raises UsageError for a key in both spellings."""
    found: dict[WitnessKey, TrustedKey] = {}
    for entry in keys:
        if entry.role == "witness":
            key = entry.key if isinstance(entry.key, WitnessKey) else WitnessKey.of(entry.key)
            if found.setdefault(key, entry) is not entry:
                raise UsageError("a witness's key stands here twice", found=key.vkey, rule="vkey")
    return found


def _check_members(
    table: dict[str, Any], required: tuple[str, ...], optional: tuple[str, ...], where: str
) -> None:
    missing = [name for name in required if name not in table]
    if missing:
        raise UsageError(f"{where} lacks members", rule=missing[0], found=missing)
    unknown = sorted(table.keys() - {*required, *optional})
    if unknown:
        raise UsageError(f"{where} has unknown members", rule=unknown[0], found=unknown)


def _text(table: dict[str, Any], member: str) -> str:
    value = table[member]
    if not isinstance(value, str):
        raise UsageError(f"{member} is not a string", rule=member)
    return value


def _time(table: dict[str, Any], member: str) -> int:
    value = table[member]
    if isinstance(value, str):
        try:
            return parse_time(value)
        except MalformedError as error:
            raise UsageError(
                f"{member} is {error.detail}", rule=member, found=error.found
            ) from error
    if not isinstance(value, datetime.datetime) or value.utcoffset() != datetime.timedelta(0):
        raise UsageError(f"{member} is not a date and time in UTC (Z)", rule=member)
    return _micros(value)


def _micros(moment: datetime.datetime) -> int:
    # Exact: a float of seconds would lose microseconds.
    return (moment - _EPOCH) // _MICROSECOND


def _check_time(value: int, member: str) -> None:
    if not 0 <= value <= MAX_INTEGER:
        raise UsageError(
            f"{member} is not between 1970 and {_toml_time(MAX_INTEGER)}", rule=member, found=value
        )


def _check_text(value: str, member: str) -> None:
    if not 0 < len(value) <= MAX_TEXT or any(
        unicodedata.category(character) in ("Cc", "Cs", "Zl", "Zp") for character in value
    ):
        raise UsageError(f"{member} is not one line of 1 to {MAX_TEXT} characters", rule=member)


def _toml_string(value: str) -> str:
    # JSON's escapes are TOML's; control characters, where they differ, are refused.
    return json.dumps(value, ensure_ascii=False)


def _toml_time(value_us: int) -> str:
    moment = _EPOCH + value_us * _MICROSECOND
    return moment.replace(tzinfo=None).isoformat() + "Z"
