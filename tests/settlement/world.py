"""A small world of notaries: what they signed and logged of a case's slots, for one trade.

Deterministic: keys, salts and ids follow from names.
"""

from __future__ import annotations

import dataclasses
import hashlib
from collections.abc import Callable, Mapping, Sequence

from attestation import merkle
from attestation.document import (
    Attestation,
    ConnectionField,
    Field,
    Header,
    HttpField,
    MessageRef,
    NotaryField,
    ObservationField,
    ServerField,
    SessionField,
    SlotField,
    body_leaves,
)
from attestation.encoding import decode_object
from attestation.hashing import format_hash, hash_string
from attestation.keys import SigningKey
from attestation.log.checkpoint import Checkpoint, sign_checkpoint
from attestation.log.cosignature import WitnessKey, cosign
from attestation.log.entry import (
    AttestedEntry,
    Entry,
    FeedEntry,
    FeedVenue,
    MissedEntry,
    PolicyEntry,
    SlotEntry,
    TickEntry,
    logged_at,
    write_entry,
)
from attestation.log.tree import Frontier
from attestation.schema import Document
from attestation.settlement.attested import AttestedSlot, verify_session, verify_slot
from attestation.settlement.bundle import (
    BundleLog,
    BundleSession,
    IncludedEntry,
    SettlementBundle,
)
from attestation.settlement.entries import LogRange, read_slots
from attestation.settlement.expect import SettlementExpect
from attestation.settlement.outcome import OutcomeDocument, write_outcome
from attestation.settlement.policy import SettlementPolicy
from attestation.settlement.recompute import recompute
from attestation.settlement.rule import Terms, needed_slots, settle
from attestation.settlement.sessions import KnownSessions, LoggedSession
from attestation.settlement.slots import LoggedSlot
from attestation.settlement.trade import TradeBatch, TradeLeaf, TradeOpening, trade_id
from attestation.trust import Trust, TrustedKey
from attestation.venues import VenueFile
from tests.settlement import cases

DAY = 86_400_000_000
OPERATOR = SigningKey(name="operator.example", algorithm="ed25519", seed=bytes(range(32)))
FEED = "btc"
ROOTS = "sha256:" + "ab" * 32
SESSION_BEFORE_US = 24_500_000
"""How long before the case the live sessions began."""


def seeded(label: str) -> bytes:
    return hashlib.sha256(label.encode()).digest()


def attest_key(notary: str) -> SigningKey:
    return SigningKey(name=notary, algorithm="ed25519", seed=seeded(f"attest {notary}"))


def trusted(key: SigningKey, role: str) -> TrustedKey:
    return TrustedKey(
        name=key.name,
        operator=f"Operator of {key.name}",
        key=key.verifying_key,
        role=role,
        valid_from_us=cases.START - DAY,
        valid_until_us=cases.START + DAY,
    )


def trust(policy: SettlementPolicy) -> Trust:
    return Trust(
        keys=tuple(trusted(attest_key(notary.notary), "attest") for notary in policy.notaries)
    )


def attest(record: LoggedSlot, key: SigningKey | None = None, **changes: object) -> Attestation:
    """The attestation of what a record has; ``changes`` are to its slot field."""
    key = attest_key(record.notary) if key is None else key
    given = record.fields or {}
    head = SlotField(
        feed=FEED, market="BTC/USD", slot_us=record.slot_us, venues=tuple(sorted(given))
    )
    head = dataclasses.replace(head, **changes)  # type: ignore[arg-type]
    notary = NotaryField(name=key.name, vkey=key.verifying_key.vkey, software="test")
    fields = [Field(name="slot", value=head.to_json())]
    fields += [
        Field(name=given[venue].FIELD, value=given[venue].to_json()) for venue in sorted(given)
    ]
    fields.append(Field(name="notary", value=notary.to_json()))
    return sign(fields, key, f"{record.notary}/{record.slot_us}", record.slot_us + 60_000)


def sign(fields: list[Field], key: SigningKey, label: str, issued_us: int) -> Attestation:
    seed = seeded(f"seed {label}").hex()
    header = Header(
        id=seeded(f"id {label}").hex()[:32],
        key=key.verifying_key.short,
        root=format_hash(merkle.root(body_leaves(fields, seed=seed, algorithm="sha256"))),
        size=len(fields),
        issued_us=issued_us,
    )
    signature = key.sign(header.encode()).hex()
    return Attestation(header=header, signature=signature, fields=tuple(fields), seed=seed)


def session_id(notary: str, venue: str) -> str:
    return seeded(f"session {notary}/{venue}").hex()[:32]


def session(
    policy: SettlementPolicy,
    notary: str,
    venue: str,
    *,
    key: SigningKey | None = None,
    **changes: object,
) -> Attestation:
    """The attestation of a live session's start; ``changes`` are to members, by dotted name."""
    key = attest_key(notary) if key is None else key
    file = cases.venue_file(venue)
    instrument = next(item.instrument for item in policy.venues if item.venue == venue)
    began = cases.START - SESSION_BEFORE_US
    host = file.channel.hosts[0]
    fields: dict[str, Document] = {
        "session": SessionField(
            id=session_id(notary, venue),
            mode="live",
            binding="full",
            prover=OPERATOR.verifying_key.vkey,
            purpose=f"live/{FEED}/{venue}",
            nonce=seeded(f"nonce {notary}/{venue}").hex()[:32],
        ),
        "connection": ConnectionField(
            host=host,
            port=file.channel.port,
            address="8.8.4.4",
            suite="TLS_AES_128_GCM_SHA256",
            group="x25519",
            connected_us=began,
            hello_us=began + 1_000,
            opened_us=began + 20_000,
            released_us=began + 21_000,
            request_first_us=began + 22_000,
            request_last_us=began + 22_000,
            response_first_us=began + 40_000,
            response_last_us=began + 40_000,
            sent_records=4,
            sent_bytes=900,
            received_records=7,
            received_bytes=4_000,
            handshake_hash=seeded(f"handshake {notary}/{venue}").hex(),
        ),
        "server": ServerField(
            name=host,
            chain=(seeded(f"leaf {venue}").hex(), seeded("intermediate").hex()),
            leaf_spki=seeded(f"spki {venue}").hex(),
            not_after_us=cases.START + DAY,
            roots=ROOTS,
            scheme="ecdsa_secp256r1_sha256",
        ),
        "http": HttpField(
            method="GET", target=file.streamed(file.channel.target, instrument), status=101
        ),
        "notary": NotaryField(name=key.name, vkey=key.verifying_key.vkey, software="test"),
    }
    for name, value in changes.items():
        field, _, member = name.partition(".")
        fields[field] = dataclasses.replace(fields[field], **{member: value})  # type: ignore[arg-type]
    body = [Field(name=name, value=field.to_json()) for name, field in fields.items()]
    return sign(body, key, f"session {notary}/{venue}", began + 50_000)


def heard(record: LoggedSlot) -> LoggedSlot:
    """The record with each observation resting on a message of its venue's session."""
    fields = {
        venue: dataclasses.replace(
            seen,
            session=session_id(record.notary, venue),
            messages=(MessageRef(index=7, hash=hash_string(cases.message(seen))),),
        )
        if isinstance(seen, ObservationField)
        else seen
        for venue, seen in (record.fields or {}).items()
    }
    return record if record.fields is None else dataclasses.replace(record, fields=fields)


def feed(policy: SettlementPolicy) -> FeedEntry:
    return FeedEntry(
        logged_us=cases.START - 30_000_000,
        feed=FEED,
        venues=tuple(
            FeedVenue(venue=venue.venue, instrument=venue.instrument, venue_file=venue.venue_file)
            for venue in policy.venues
        ),
        market=policy.market,
        grid_us=policy.grid_us,
        late_us=policy.late_us,
        provers=(OPERATOR.verifying_key.vkey,),
        from_us=cases.START - 20_000_000,
    )


def opening(policy: SettlementPolicy, terms: Terms, number: int = 1) -> TradeOpening:
    nonce = f"{number:032x}"
    leaf = TradeLeaf(
        trade=trade_id(nonce),
        player=hash_string(b"player"),
        side=terms.side,
        market=policy.market,
        stake="25",
        duration_us=terms.duration_us,
        policy_id=policy.policy_id,
        nonce=nonce,
    )
    return TradeOpening(salt=seeded(f"salt {number}").hex()[:32], leaf=leaf)


@dataclasses.dataclass
class World:
    """Logs by notary, attestations of slots and sessions, and the trade's batch."""

    policy: SettlementPolicy
    terms: Terms
    logs: dict[str, list[Entry]]
    attestations: dict[tuple[str, int], Attestation]
    opening: TradeOpening
    batch: TradeBatch
    messages: dict[str, bytes] = dataclasses.field(default_factory=dict)
    sessions: dict[tuple[str, str], Attestation] = dataclasses.field(default_factory=dict)

    @property
    def trade_index(self) -> int:
        first = self.logs[self.policy.notaries[0].notary]
        return next(index for index, entry in enumerate(first) if entry.kind == "trades")

    def ranges(self, skip: int = 0) -> list[LogRange]:
        """All logs from entry ``skip`` on."""
        return [
            LogRange(
                notary=notary,
                feed=feed(self.policy),
                first=skip,
                entries=tuple(entries[skip:]),
            )
            for notary, entries in self.logs.items()
        ]

    def attested(self) -> list[AttestedSlot]:
        """Every attestation, verified."""
        known = trust(self.policy)
        return [verify_slot(item, trust=known) for item in self.attestations.values()]

    def refused(self) -> dict[tuple[str, str], str]:
        """The sessions that the policy takes nothing from."""
        known = trust(self.policy)
        sessions = []
        for (notary, _), item in self.sessions.items():
            index, entry = next(
                (index, entry)
                for index, entry in enumerate(self.logs[notary])
                if isinstance(entry, AttestedEntry) and entry.session == item.session().id
            )
            attested = verify_session(item, trust=known)
            if attested.notary == notary:
                sessions.append(LoggedSession(attested=attested, entry=entry, index=index))
        return KnownSessions(sessions).refused(self.policy)


def build(
    policy: SettlementPolicy,
    terms: Terms,
    logged: list[LoggedSlot],
    sessions: Mapping[tuple[str, str], Attestation] | None = None,
    lie: Callable[[ObservationField], ObservationField] | None = None,
) -> World:
    """Has notaries sign and log what the records say; others' trades are in the batch too.

    ``sessions`` stand in the place of those of the same notary and venue; ``lie`` makes of
    what was heard what notaries sign.
    """
    own = opening(policy, terms)
    others = [opening(policy, terms, number).commitment() for number in range(2, 9)]
    batch = TradeBatch.of([own.commitment(), *others])
    world = World(policy, terms, {}, {}, own, batch)
    for place, notary in enumerate(policy.notaries):
        entries: list[Entry] = [feed(policy)]
        entries += [logged_at(TickEntry(), cases.START + at * 1_000_000) for at in range(-25, 18)]
        if place == 0:
            document = policy.to_json()
            entries.append(
                PolicyEntry(
                    logged_us=cases.START - 28_000_000,
                    policy_id=policy.policy_id,
                    document=document,
                    effective_us=policy.effective_us,
                )
            )
            entries.append(logged_at(batch.entry(), terms.logged_us))
        for venue in policy.venues:
            place = (notary.notary, venue.venue)
            made = (sessions or {}).get(place) or session(policy, *place)
            world.sessions[place] = made
            entries.append(_start(made))
        for record in logged:
            if record.notary == notary.notary:
                entries.append(_entry(world, record, lie))
        entries.append(logged_at(TickEntry(), cases.end(policy, terms)))
        # Ticks of a second that has other entries are no matter here.
        world.logs[notary.notary] = sorted(entries, key=lambda entry: entry.logged_us)
    return world


def _start(made: Attestation) -> AttestedEntry:
    return AttestedEntry(
        logged_us=made.header.issued_us + 5_000,
        session=made.session().id,
        header=hash_string(made.header.encode()),
    )


def _entry(
    world: World,
    record: LoggedSlot,
    lie: Callable[[ObservationField], ObservationField] | None,
) -> Entry:
    if record.fields is None:
        return MissedEntry(
            logged_us=record.slot_us + world.policy.late_us,
            feed=FEED,
            slot_us=record.slot_us,
            fault=record.fault,
        )
    record = heard(record)
    for seen in (record.fields or {}).values():
        if isinstance(seen, ObservationField):
            payload = cases.message(seen)
            world.messages[hash_string(payload)] = payload
    if lie is not None:
        fields = {
            venue: lie(seen) if isinstance(seen, ObservationField) else seen
            for venue, seen in (record.fields or {}).items()
        }
        record = dataclasses.replace(record, fields=fields)
    made = attest(record)
    world.attestations[record.notary, record.slot_us] = made
    return SlotEntry(
        logged_us=record.slot_us + 100_000,
        feed=FEED,
        slot_us=record.slot_us,
        header=hash_string(made.header.encode()),
    )


WITNESSES = tuple(
    SigningKey(name=f"witness.example/{name}", algorithm="ed25519", seed=seeded(name))
    for name in ("a", "b", "c")
)


def log_key(origin: str) -> SigningKey:
    return SigningKey(name=origin, algorithm="ed25519", seed=seeded(f"log {origin}"))


def log_policy(notaries: int) -> bytes:
    """The text of a log policy: every notary's log, any two of three witnesses."""
    lines = [f"log {log_key(f'n{number}/log').verifying_key.vkey}" for number in range(notaries)]
    for key in WITNESSES:
        lines.append(f"witness {key.name[-1]} {WitnessKey.of(key.verifying_key).vkey}")
    return ("\n".join([*lines, "group two 2 a b c", "quorum two"]) + "\n").encode()


def bound(policy: SettlementPolicy) -> SettlementPolicy:
    """The policy that names the log policy of its notaries."""
    return dataclasses.replace(policy, log_policy=hash_string(log_policy(len(policy.notaries))))


def checkpoint(origin: str, entries: Sequence[bytes], at_us: int, *, witnesses: int = 2) -> str:
    """A log's signed checkpoint over all of these entries, cosigned at a time."""
    root = merkle.root([merkle.leaf_hash(entry) for entry in entries])
    note = sign_checkpoint(Checkpoint(origin=origin, size=len(entries), root=root), log_key(origin))
    lines = [cosign(note.text, key, at_us // 1_000_000) for key in WITNESSES[:witnesses]]
    return note.add(*lines).encode().decode()


def included(entries: Sequence[bytes], index: int) -> IncludedEntry:
    path = merkle.inclusion_proof([merkle.leaf_hash(entry) for entry in entries], index)
    return IncludedEntry(
        index=index,
        entry=decode_object(entries[index]),
        proof=tuple([node.hex() for node in path]),
    )


def bundle(made: World, *, start: int | None = None, later: int = 0) -> SettlementBundle:
    """The bundle of the world's trade: entries of each log from ``start`` on.

    By default from before the first slot that a void would need.  Ends with the first
    entry after the outcome is final, or with one that is ``later``.
    """
    settled = settled_outcome(made)
    first_us = needed_slots(made.policy, made.terms)[0][0]
    logs = []
    data: dict[str, list[bytes]] = {}
    for notary in made.policy.notaries:
        entries = made.logs[notary.notary]
        begin = start
        if begin is None:
            begin = sum(entry.logged_us < first_us for entry in entries) - 1
        end = 1 + later + sum(entry.logged_us <= settled.final_after_us for entry in entries)
        data[notary.notary] = every = [write_entry(entry) for entry in entries[:end]]
        frontier = Frontier()
        frontier.extend(merkle.leaf_hash(entry) for entry in every[:begin])
        feed_index = next(at for at, entry in enumerate(entries) if entry.kind == "feed")
        logs.append(
            BundleLog(
                notary=notary.notary,
                start=checkpoint(notary.log, every[:begin], entries[max(begin - 1, 0)].logged_us),
                frontier=tuple([node.hex() for node in frontier.nodes]),
                entries=tuple([decode_object(entry) for entry in every[begin:]]),
                checkpoint=checkpoint(notary.log, every, entries[len(every) - 1].logged_us),
                feed=included(every, feed_index),
                sessions=_sessions(made, notary.notary, every),
            )
        )
    policy_index = [entry.kind for entry in made.logs["n0"]].index("policy")
    used = set(settled.attestations)
    return SettlementBundle(
        policy=included(data["n0"], policy_index),
        batch=made.trade_index,
        trade=made.batch.prove(made.opening),
        logs=tuple(logs),
        slots=tuple([item for item in made.attestations.values() if item.header.id in used]),
        messages=tuple(_needed(made, used)),
        outcome=settled.outcome,
        settlement=hash_string(settled.encode()),
    )


def _sessions(made: World, notary: str, entries: Sequence[bytes]) -> tuple[BundleSession, ...]:
    """The sessions of a notary with their entries' proofs."""
    places = {
        entry.session: index
        for index, entry in enumerate(made.logs[notary][: len(entries)])
        if isinstance(entry, AttestedEntry)
    }
    return tuple(
        [
            BundleSession(attestation=item, entry=included(entries, places[item.session().id]))
            for (name, _), item in made.sessions.items()
            if name == notary
        ]
    )


def _needed(made: World, used: set[str]) -> list[bytes]:
    """The messages of the attestations used, by hash."""
    hashes = {
        message.hash
        for slot in made.attested()
        if slot.header.id in used
        for seen in slot.fields.values()
        if isinstance(seen, ObservationField)
        for message in seen.messages
    }
    return [made.messages[item] for item in sorted(hashes)]


def venue_files(policy: SettlementPolicy) -> dict[str, VenueFile]:
    return {venue.venue: cases.venue_file(venue.venue) for venue in policy.venues}


def settled_outcome(made: World) -> OutcomeDocument:
    read = read_slots(made.policy, made.ranges(), made.attested(), made.refused())
    settlement = settle(made.policy, made.terms, read.logged, read_until_us=read.read_until_us)
    return write_outcome(
        settlement,
        policy=made.policy,
        terms=made.terms,
        trade=made.opening.leaf.trade,
        logged=read.logged,
    )


def read(bundle_: SettlementBundle, policy: SettlementPolicy) -> OutcomeDocument:
    """Recomputes a bundle as a reader who trusts the world's notaries."""
    return recompute(
        bundle_,
        trust=trust(policy),
        log_policy=log_policy(len(policy.notaries)),
        expect=SettlementExpect(policy_id=policy.policy_id),
        venue_files=venue_files(policy),
    )
