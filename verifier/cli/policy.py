"""``verifier policy``: settlement policies, before they are agreed to."""

from __future__ import annotations

from collections.abc import Iterable, Iterator
from pathlib import Path
from typing import TYPE_CHECKING, Annotated

import typer

from attestation.errors import MalformedError, UsageError
from verifier.cli.boundary import CONFIGURATION_LIMIT, answer, boundary, read, read_trust, say
from verifier.cli.documents import JsonOption, TrustOption
from verifier.cli.settlement import (
    LogPolicyOption,
    VenueOption,
    read_log_policy,
    read_venue_files,
)

if TYPE_CHECKING:
    from attestation.document import Attestation
    from attestation.log.policy import LogPolicy
    from attestation.settlement.entries import LogRange
    from attestation.settlement.policy import PolicyNotary, SettlementPolicy
    from verifier.dryrun import DryRun, PastTrade

app = typer.Typer(no_args_is_help=True, help="Read, compare and try settlement policies.")

PolicyArgument = Annotated[
    str, typer.Argument(metavar="POLICY", help="A settlement policy, - for stdin.")
]


@app.command("show", short_help="Check a policy and print its rules as sentences.")
def show_command(
    file: PolicyArgument, venue_file: VenueOption = None, as_json: JsonOption = False
) -> None:
    """Check a policy, in any layout, and print its rules as sentences; --json: as it is hashed."""
    with boundary(as_json=as_json):
        from attestation.encoding import decode_message
        from attestation.settlement.policy import SettlementPolicy
        from verifier.policies import describe_policy

        # A draft is written by hand; what is agreed to is the canonical document.
        draft = decode_message(read(file, limit=CONFIGURATION_LIMIT), limit=CONFIGURATION_LIMIT)
        policy = SettlementPolicy.from_json(draft)
        if as_json:
            answer(policy.encode())
        for line in describe_policy(policy, read_venue_files(venue_file or ())):
            say(line)


@app.command("hash", short_help="Print a policy's id, which trades name.")
def hash_command(file: PolicyArgument) -> None:
    """Print a policy's id: the SHA-256 of its canonical bytes, what a trade names."""
    with boundary():
        typer.echo(read_policy(file).policy_id)


@app.command("diff")
def diff_command(
    old: Annotated[str, typer.Argument(metavar="OLD", help="A settlement policy.")],
    new: Annotated[str, typer.Argument(metavar="NEW", help="Another, - for stdin.")],
    as_json: JsonOption = False,
) -> None:
    """Print what differs between two policies, member by member."""
    with boundary(as_json=as_json):
        from attestation.encoding import Json, encode
        from verifier.policies import differences

        first, second = read_policy(old), read_policy(new)
        say(f"old {first.policy_id}")
        say(f"new {second.policy_id}")
        found = differences(first, second)
        for member, before, after in found:
            say(f"  {member}: {before} -> {after}")
        if not found:
            say("no difference")
        if as_json:
            rows: list[Json] = [
                {"member": member, "old": before, "new": after} for member, before, after in found
            ]
            ids: dict[str, Json] = {"old": first.policy_id, "new": second.policy_id}
            answer(encode({"type": "quotary/policy_diff/v1", **ids, "differences": rows}))


@app.command("dry-run", short_help="Say what a policy would have decided of the past.")
def dry_run_command(
    file: PolicyArgument,
    log: Annotated[
        list[str],
        typer.Option(
            "--log",
            metavar="SOURCE",
            help="The log of the policy's notary, URL or folder; several in their order.",
        ),
    ],
    slots: Annotated[
        Path,
        typer.Option(
            metavar="FOLDER", help="Where slots are: files of slot parts, bundles or attestations."
        ),
    ],
    trust: TrustOption,
    ledger: Annotated[
        str | None,
        typer.Option(metavar="FILE", help="Decide the trades of this ledger again."),
    ] = None,
    every: Annotated[
        int, typer.Option(min=1, metavar="SECONDS", help="Without a ledger: a trade so often.")
    ] = 10,
    log_policy: LogPolicyOption = None,
    as_json: JsonOption = False,
) -> None:
    """Say what a policy would have decided of slots that are past, without using it."""
    with boundary(as_json=as_json):
        from attestation.log.policy import LogPolicy
        from attestation.settlement.attested import verify_slot
        from verifier.dryrun import dry_run, made_up

        policy = read_policy(file)
        believed = read_trust(trust)
        known = LogPolicy.parse(read_log_policy(log_policy, trust, believed))
        if len(log) != len(policy.notaries):
            raise UsageError(
                "name the log of each of the policy's notaries, in its order",
                rule="log",
                found=len(log),
                wanted=len(policy.notaries),
            )
        ranges = [
            _read_log(source, notary, known)
            for source, notary in zip(log, policy.notaries, strict=True)
        ]
        attested = [verify_slot(item, trust=believed) for item in _attestations(slots)]
        trades: Iterable[PastTrade]
        if ledger is None:
            trades = made_up(policy, ranges, every_us=every * 1_000_000)
        else:
            trades = _past_trades(ledger, ranges[0])
        found = dry_run(policy, logs=ranges, slots=attested, trades=trades)
        _say_run(policy, found)
        if as_json:
            answer(_run_document(policy, found))


def read_policy(name: str) -> SettlementPolicy:
    """Reads a policy's file; raises MalformedError with the member that cannot be meant."""
    from attestation.settlement.policy import SettlementPolicy

    return SettlementPolicy.decode(read(name, limit=CONFIGURATION_LIMIT))


def _read_log(name: str, notary: PolicyNotary, known: LogPolicy) -> LogRange:
    """Reads a whole log, which must be what its checkpoint signs, and finds the feed."""
    from attestation.log.entry import FeedEntry, read_entry
    from attestation.log.tiles import CHECKPOINT_PATH
    from attestation.settlement.entries import LogRange
    from verifier.logfiles import read_all
    from verifier.logsource import open_source

    with open_source(name) as source:
        signed = known.open_log(source.read(CHECKPOINT_PATH))
        entries = [read_entry(data) for data in read_all(source.read, signed.checkpoint)]
    for entry in entries:
        if isinstance(entry, FeedEntry) and entry.feed == notary.feed:
            return LogRange(notary=notary.notary, feed=entry, first=0, entries=tuple(entries))
    raise UsageError(
        "the log has no such feed", rule="feed", found=signed.checkpoint.origin, wanted=notary.feed
    )


def _attestations(folder: Path) -> Iterator[Attestation]:
    """Yields the slots' attestations of a folder's files, each once."""
    from attestation.document import Attestation, SlotField
    from attestation.encoding import decode_object
    from attestation.settlement.bundle import BUNDLE_LIMIT, SettlementBundle
    from attestation.settlement.parts import SlotPart

    seen: set[str] = set()
    for path in sorted(folder.rglob("*.json")):
        value = decode_object(read(str(path), limit=BUNDLE_LIMIT), limit=BUNDLE_LIMIT)
        kind = value.get("type")
        found: list[Attestation] = []
        if kind == SettlementBundle.TYPE:
            found = list(SettlementBundle.from_json(value).slots)
        elif kind == SlotPart.TYPE:
            found = [SlotPart.from_json(value).attestation]
        elif kind == Attestation.TYPE:
            found = [Attestation.from_json(value)]
        for item in found:
            if (
                item.fields
                and item.fields[0].name == SlotField.FIELD
                and item.header.id not in seen
            ):
                seen.add(item.header.id)
                yield item


def _past_trades(ledger: str, log: LogRange) -> Iterator[PastTrade]:
    from attestation.log.entry import TradesEntry
    from attestation.settlement.ledger import read_ledger
    from attestation.settlement.rule import Terms
    from verifier.dryrun import PastTrade

    with Path(ledger).open("rb") as file:
        for line in read_ledger(file):
            entry = log.get(line.entry)
            if not isinstance(entry, TradesEntry):
                raise MalformedError(
                    "the log has no batch there", rule="ledger.entry", found=line.entry
                )
            terms = Terms(
                side="up" if line.leaf.side == "up" else "down",
                duration_us=line.leaf.duration_us,
                logged_us=entry.logged_us,
            )
            yield PastTrade(terms=terms, ended=line.outcome)


def _run_document(policy: SettlementPolicy, found: DryRun) -> bytes:
    from attestation.encoding import Json, encode

    counts: dict[str, Json] = {
        name: getattr(found, name)
        for name in ("trades", "undecided", "fees", "slid", "longest_us", "same", "other")
    }
    outcomes: dict[str, Json] = {
        outcome: found.outcomes.get(outcome, 0) for outcome in ("up", "down", "tie", "void")
    }
    reasons: list[Json] = [
        {"reason": reason, "count": count} for reason, count in sorted(found.reasons.items())
    ]
    counts |= {"outcomes": outcomes, "reasons": reasons}
    return encode({"type": "quotary/dry_run/v1", "policy_id": policy.policy_id, **counts})


def _say_run(policy: SettlementPolicy, found: DryRun) -> None:
    decided = found.trades - found.undecided
    say(f"policy {policy.policy_id} ({policy.name}) would have decided {decided} of {found.trades}")
    for outcome in ("up", "down", "tie", "void"):
        count = found.outcomes.get(outcome, 0)
        share = f"{100 * count / decided:.2f} %" if decided else "-"
        say(f"  {outcome:<5} {count:>8}  {share}")
    say(f"  with the operator's fee {found.fees}")
    say(f"  closes that waited {found.slid}, the longest {found.longest_us / 1e6:g} s")
    if found.same or found.other:
        say(f"  as they ended {found.same}, otherwise {found.other}")
    for reason, count in sorted(found.reasons.items()):
        say(f"  {count} x {reason}")
    say("  prices alone: sessions and messages behind the slots were not read again")
