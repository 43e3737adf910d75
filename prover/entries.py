"""Entries that a prover has logged: feeds, policies, batches of trades."""

from __future__ import annotations

import dataclasses

from attestation.errors import MalformedError, naming
from attestation.log.entry import FeedEntry, PolicyEntry, TradesEntry
from attestation.log.inclusion import Inclusion
from prover.control import Call, ControlConnection
from prover.flow import Flow
from prover.logged import check_log
from prover.notary_client import Notary

Submitted = FeedEntry | PolicyEntry | TradesEntry


@dataclasses.dataclass(frozen=True, slots=True)
class Logged:
    """An entry as a notary's log has it, and where."""

    entry: Submitted
    index: int


def submit(control: ControlConnection, notary: Notary, name: str, entry: Submitted) -> Flow[Logged]:
    """Has an entry logged over a connection to the notary of that ``name``.

    The same entry again is answered with the first one's place.  Raises RefusedError
    where the log's rules or the notary's operator refuse it, MalformedError where the
    notary logged something else, and as ``check_log`` for a log that is not its own.
    """
    call = Call("POST", "/v1/entries", notary.sign_entry(name, entry), "entry")
    answer = yield from control.call(call)
    with naming("entry"):
        folded = Inclusion.from_json(answer).fold()
    check_log(folded, notary.trust, notary=name)
    found = folded.entry
    if not isinstance(found, Submitted) or dataclasses.replace(found, logged_us=0) != entry:
        raise MalformedError("the notary logged another entry", rule="entry", found=found.kind)
    return Logged(entry=found, index=folded.index)


def log_entry(notary: Notary, entry: Submitted) -> Flow[Logged]:
    """Has an entry logged; as ``submit``, over one of the notary's connections."""
    lane = yield from notary.acquire()
    try:
        return (yield from submit(lane.control, notary, lane.notary_name, entry))
    finally:
        notary.release(lane)
