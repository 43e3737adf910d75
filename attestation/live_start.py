"""That an attested start is of the live session a feed's observation names (W10, W14)."""

from __future__ import annotations

from attestation.document import ConnectionField, HttpField, ServerField, SessionField
from attestation.errors import InvalidProofError
from attestation.live_rules import live_rules
from attestation.venues import VenueFile


def check_live_start(
    session: SessionField,
    connection: ConnectionField,
    server: ServerField,
    http: HttpField,
    *,
    feed: str,
    venue: VenueFile,
    instrument: str,
) -> None:
    """Checks purpose, host, certificate's name, port and upgrade of a live session.

    Raises InvalidProofError, a notary attests no such thing: ``session.purpose``,
    ``session.host``, ``session.server``, ``session.port``, ``session.method``,
    ``session.target`` or ``session.status``.
    """
    _demand("purpose", session.purpose, f"live/{feed}/{venue.name}")
    channel = venue.websocket
    if channel is None or not channel.allows(connection.host):
        hosts = [] if channel is None else list(channel.hosts)
        raise _contradicts("host", connection.host, hosts)
    rules = live_rules(venue, instrument, host=connection.host)
    _demand("server", server.name, connection.host)
    _demand("port", connection.port, rules.port)
    _demand("method", http.method, "GET")
    if not rules.target.fullmatch(http.target.encode("ascii")):
        raise _contradicts("target", http.target, rules.target.pattern.decode("ascii"))
    _demand("status", http.status, 101)


def _demand(member: str, found: object, wanted: object) -> None:
    if found != wanted:
        raise _contradicts(member, found, wanted)


def _contradicts(member: str, found: object, wanted: object) -> InvalidProofError:
    return InvalidProofError(
        f"the session's {_WHAT[member]}", rule=f"session.{member}", found=found, wanted=wanted
    )


_WHAT = {
    "purpose": "purpose is not this feed's and venue's",
    "host": "host is not the venue's",
    "server": "certificate was checked for another name",
    "port": "port is not the venue file's",
    "method": "method is not the upgrade's",
    "target": "request is not the venue file's",
    "status": "answer is no upgrade",
}
