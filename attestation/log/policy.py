"""Log policies (c2sp.org/tlog-policy): which logs, and which witnesses suffice.

    log <vkey> [<url>]
    witness <name> <vkey> [<url>]
    group <name> all|any|<k> <name>...
    quorum <name>|none

One a line, between spaces and tabs; ``#`` starts a comment line.  A name is defined
above its use and is a member of at most one group.
"""

from __future__ import annotations

import dataclasses
import re
from collections.abc import Iterable, Mapping, Sequence

from attestation.errors import IncompleteError, MalformedError, UntrustedError, UsageError
from attestation.keys import VerifyingKey
from attestation.log.checkpoint import SignedCheckpoint, open_checkpoint
from attestation.log.cosignature import WitnessKey

MAX_POLICY_SIZE = 64 * 1024
MAX_DEFINITIONS = 64
"""Logs, witnesses and groups, each; c2sp.org/tlog-policy recommends at least 32."""

_BLANK = re.compile("[ \t]+")
_CONTROL = re.compile(rb"[\x00-\x08\x0b-\x1f\x7f]")
_COUNT = re.compile("[1-9][0-9]{0,3}", re.ASCII)


@dataclasses.dataclass(frozen=True, slots=True, kw_only=True)
class PolicyLog:
    """A log: its key, whose name is the origin, and where it is."""

    key: VerifyingKey
    url: str | None = None


@dataclasses.dataclass(frozen=True, slots=True, kw_only=True)
class PolicyWitness:
    """A witness: its key, and where checkpoints are submitted to it."""

    key: WitnessKey
    url: str | None = None


@dataclasses.dataclass(frozen=True, slots=True, kw_only=True)
class Group:
    """Witnesses or groups by name, ``count`` of which suffice."""

    count: int
    members: tuple[str, ...]


@dataclasses.dataclass(frozen=True, slots=True, kw_only=True)
class Witnessed:
    """A checkpoint that satisfies a policy.

    ``quorum_time`` is the time in seconds at which the quorum was complete, going
    by the earliest cosignatures; None where the policy asks for no witness.
    """

    signed: SignedCheckpoint
    quorum_time: int | None


@dataclasses.dataclass(frozen=True, slots=True, kw_only=True)
class LogPolicy:
    """Known logs, known witnesses by name, groups of them, and the quorum's name."""

    logs: tuple[PolicyLog, ...]
    witnesses: Mapping[str, PolicyWitness]
    groups: Mapping[str, Group]
    quorum: str | None

    @classmethod
    def parse(cls, data: bytes) -> LogPolicy:
        """Parses a policy's text; raises MalformedError, with the line's number.

        UntrustedError where a key is of an unsupported type.
        """
        if len(data) > MAX_POLICY_SIZE:
            raise MalformedError(f"policy is larger than {MAX_POLICY_SIZE} bytes", found=len(data))
        if _CONTROL.search(data) or not data.endswith(b"\n"):
            raise MalformedError("a policy is lines of text", rule="log_policy")
        reader = _Reader()
        # Names are opaque bytes to the format: whatever is not UTF-8 stays apart.
        lines = data.decode("utf-8", "surrogateescape").split("\n")
        for number, line in enumerate(lines, 1):
            words = _BLANK.split(line.strip(" \t"))
            if words == [""] or words[0].startswith("#"):
                continue
            try:
                reader.read(words)
            except (MalformedError, UntrustedError) as error:
                raise type(error)(
                    f"line {number}: {error.detail}", rule="log_policy", found=ascii(error.found)
                ) from None
        return reader.finish()

    @classmethod
    def threshold(
        cls, logs: Iterable[VerifyingKey], witnesses: Sequence[WitnessKey], count: int
    ) -> LogPolicy:
        """Returns the policy that any ``count`` of the witnesses suffice, by name; 0: none."""
        by_name = {key.name: PolicyWitness(key=key) for key in witnesses}
        if len(by_name) != len(witnesses) or not 0 <= count <= len(witnesses):
            raise UsageError("not so many witnesses of different names", found=count)
        # No vkey's name holds a plus: the group's cannot be a witness's.
        group = {"+": Group(count=count, members=tuple(by_name))} if count else {}
        return cls(
            logs=tuple([PolicyLog(key=key) for key in logs]),
            witnesses=by_name,
            groups=group,
            quorum="+" if count else None,
        )

    def open(self, data: bytes) -> Witnessed:
        """Opens a checkpoint's note and checks the quorum.

        Raises what ``open_checkpoint`` raises, and IncompleteError where too few
        witnesses have cosigned.
        """
        return self.check(self.open_log(data))

    def open_log(self, data: bytes) -> SignedCheckpoint:
        """Opens a checkpoint's note, whoever has cosigned it."""
        return open_checkpoint(
            data,
            logs=[log.key for log in self.logs],
            witnesses=[witness.key for witness in self.witnesses.values()],
        )

    def check(self, signed: SignedCheckpoint) -> Witnessed:
        """Checks the quorum over a checkpoint opened with this policy's keys."""
        time = None
        if self.quorum is not None:
            time = self._time(self.quorum, signed.times)
            if time is None:
                raise IncompleteError(
                    "too few witnesses have cosigned the checkpoint",
                    rule="log.quorum",
                    found=sorted(key.name for key in signed.times),
                    wanted=self.quorum,
                )
        return Witnessed(signed=signed, quorum_time=time)

    def _time(self, name: str, times: Mapping[WitnessKey, int]) -> int | None:
        """Returns when a witness or group had cosigned, None if it has not."""
        # Definitions precede their use: a name's members are in the table before it.
        found = {
            witness: times[definition.key]
            for witness, definition in self.witnesses.items()
            if definition.key in times
        }
        for group, definition in self.groups.items():
            member_times = sorted(found[member] for member in definition.members if member in found)
            if len(member_times) >= definition.count:
                found[group] = member_times[definition.count - 1]
        return found.get(name)


class _Reader:
    """Reads a policy's lines in order."""

    def __init__(self) -> None:
        self._logs: list[PolicyLog] = []
        self._witnesses: dict[str, PolicyWitness] = {}
        self._groups: dict[str, Group] = {}
        self._members: set[str] = set()
        self._quorum: list[str] = []

    def read(self, words: list[str]) -> None:
        match words:
            case ["log", vkey, *url] if len(url) <= 1:
                self._log(vkey, url)
            case ["witness", name, vkey, *url] if len(url) <= 1:
                self._witness(name, vkey, url)
            case ["group", name, count, *members] if members:
                self._group(name, count, members)
            case ["quorum", name]:
                if self._quorum:
                    raise MalformedError("a second quorum")
                if name != "none":
                    self._check_known(name)
                self._quorum.append(name)
            case _:
                raise MalformedError("not a log, witness, group or quorum line", found=words[0])

    def finish(self) -> LogPolicy:
        if not self._quorum:
            raise MalformedError("a policy has a quorum line", rule="log_policy")
        quorum = None if self._quorum == ["none"] else self._quorum[0]
        return LogPolicy(
            logs=tuple(self._logs),
            witnesses=self._witnesses,
            groups=self._groups,
            quorum=quorum,
        )

    def _log(self, vkey: str, url: list[str]) -> None:
        key = VerifyingKey.parse(_vkey(vkey))
        if key.algorithm != "ed25519":
            raise MalformedError("logs sign with Ed25519 only", found=key.algorithm)
        if any(key.public == log.key.public for log in self._logs):
            raise MalformedError("a log's key stands here twice", found=key.name)
        _check_room(self._logs)
        self._logs.append(PolicyLog(key=key, url=url[0] if url else None))

    def _witness(self, name: str, vkey: str, url: list[str]) -> None:
        key = WitnessKey.parse(_vkey(vkey))
        if any(key.public == other.key.public for other in self._witnesses.values()):
            raise MalformedError("a witness's key stands here twice", found=key.name)
        self._check_new(name)
        _check_room(self._witnesses)
        self._witnesses[name] = PolicyWitness(key=key, url=url[0] if url else None)

    def _group(self, name: str, count: str, members: list[str]) -> None:
        self._check_new(name)
        for member in members:
            self._check_known(member)
            if member in self._members:
                raise MalformedError("a name is a member twice", found=member)
            self._members.add(member)
        wanted = {"all": len(members), "any": 1}.get(count)
        if wanted is None:
            if _COUNT.fullmatch(count) is None or int(count) > len(members):
                raise MalformedError("not all, any, or a number of the members", found=count)
            wanted = int(count)
        _check_room(self._groups)
        self._groups[name] = Group(count=wanted, members=tuple(members))

    def _check_new(self, name: str) -> None:
        if name == "none" or name in self._witnesses or name in self._groups:
            raise MalformedError("the name is defined already", found=name)

    def _check_known(self, name: str) -> None:
        if name not in self._witnesses and name not in self._groups:
            raise MalformedError("the name is not defined above", found=name)


def _vkey(text: str) -> str:
    try:
        text.encode("utf-8")
    except UnicodeEncodeError:
        raise MalformedError("a vkey is not UTF-8") from None
    return text


def _check_room(definitions: Sequence[object] | Mapping[str, object]) -> None:
    if len(definitions) >= MAX_DEFINITIONS:
        raise MalformedError(f"more than {MAX_DEFINITIONS} definitions of one kind")
