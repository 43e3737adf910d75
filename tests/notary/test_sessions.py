"""Admission: signed requests, replay, places, provers, continued connections."""

from __future__ import annotations

import asyncio
import json
from collections.abc import Callable
from pathlib import Path
from typing import Any

import pytest

import notary.sessions
from attestation.errors import MalformedError, QuotaryError, RefusedError
from attestation.keys import SigningKey
from notary.clock import Clock
from notary.limits import ProverLimits
from notary.replays import REPLAY_WINDOW_US
from tests.notary.rig import (
    PROVER,
    Rig,
    Venue,
    answer_and_keep,
    http_request,
    http_response,
    make_clock,
    running,
)
from tests.tls13.certs import HOST


def refused(rig: Rig, body: bytes) -> tuple[str, str | None, int]:
    """Returns kind, rule and status of the refusal."""
    with pytest.raises(QuotaryError) as error:
        rig.desk.create_session(body)
    return error.value.slug, error.value.rule, error.value.http_status


def in_rig(tmp_path: Path, scene: Callable[[Rig], None], **options: Any) -> None:
    """Runs a synchronous scene in a rig."""

    async def run() -> None:
        async with running(tmp_path, **options) as rig:
            scene(rig)

    asyncio.run(run())


def test_session_answers_with_all_a_prover_needs(tmp_path: Path) -> None:
    def scene(rig: Rig) -> None:
        session = rig.session(adhoc=None, trade="t-1", leg="open")
        assert session["purpose"] == "trade/t-1/open"
        assert (session["host"], session["port"]) == (HOST, 443)
        assert session["target"] == "/ticker?symbol=BTCUSDT"
        assert session["deadlines"]["opening_us"] == 5_000_000
        assert len({session["id"], session["nonce"], session["token"]}) == 3
        assert session["token"] not in repr(rig.desk.registry.get(session["id"]))

    in_rig(tmp_path, scene)


@pytest.mark.parametrize(
    ("changes", "kind", "rule", "status"),
    [
        ({"notary": "other.example"}, "refused", "request.notary", 403),
        ({"mode": "live", "feed": "f", "adhoc": None}, "refused", "request.feed", 403),
        ({"slot_us": 500_000, "feed": "f", "adhoc": None}, "refused", "request.feed", 403),
        (
            {"binding": "template", "form": "curl", "instrument": "DOGEUSDT"},
            "malformed",
            "W14",
            400,
        ),
        ({"venue": "nowhere"}, "refused", "W14", 403),
        ({"instrument": "DOGEUSDT"}, "malformed", "W14", 400),
        (
            {"venue": None, "instrument": None, "host": "evil.example", "port": 443},
            "refused",
            "W14",
            403,
        ),
        ({"venue": None, "instrument": None, "host": HOST, "port": 22}, "refused", "W14", 403),
        ({"conn": "0a" * 16, "mode": "open"}, "refused", "request.conn", 409),
    ],
)
def test_request_that_is_not_allowed_is_refused(
    tmp_path: Path, changes: dict[str, Any], kind: str, rule: str, status: int
) -> None:
    def scene(rig: Rig) -> None:
        assert refused(rig, rig.envelope(**changes)) == (kind, rule, status)
        assert len(rig.desk.registry) == 0

    in_rig(tmp_path, scene)


def test_replayed_request_is_refused(tmp_path: Path) -> None:
    def scene(rig: Rig) -> None:
        body = rig.envelope()
        rig.desk.create_session(body)
        assert refused(rig, body) == ("refused", "request.nonce", 409)

    in_rig(tmp_path, scene)


@pytest.mark.parametrize("shift", [REPLAY_WINDOW_US + 2_000_000, -REPLAY_WINDOW_US - 2_000_000])
def test_request_outside_the_window_is_refused(tmp_path: Path, shift: int) -> None:
    def scene(rig: Rig) -> None:
        at_us = rig.context.clock.now_us() + shift
        assert refused(rig, rig.envelope(at_us=at_us)) == ("stale", "request.at_us", 409)

    in_rig(tmp_path, scene)


def test_request_from_before_the_start_is_refused(tmp_path: Path) -> None:
    """A restart forgets which nonces were used, so that it takes none of before."""

    def scene(rig: Rig) -> None:
        at_us = rig.context.clock.now_us() - 5_000_000
        assert refused(rig, rig.envelope(at_us=at_us))[1] == "request.at_us"

    in_rig(tmp_path, scene)


def test_replay_is_refused_for_as_long_as_the_time_would_be_accepted(tmp_path: Path) -> None:
    state = {"offset": 0}
    base = make_clock()

    def moved() -> int:
        return base.monotonic_ns() + state["offset"]

    clock = Clock(lambda: base.wall_ns() + state["offset"], moved)

    def scene(rig: Rig) -> None:
        body = rig.envelope(at_us=clock.now_us() + REPLAY_WINDOW_US - 1_000_000)
        rig.desk.create_session(body)
        state["offset"] += 2 * (REPLAY_WINDOW_US - 1_000_000) * 1000
        assert refused(rig, body)[1] == "request.nonce"
        state["offset"] += 3_000_000_000
        assert refused(rig, body)[1] == "request.at_us"

    in_rig(tmp_path, scene, clock=clock)


def test_signature_of_another_key_is_refused(tmp_path: Path) -> None:
    def scene(rig: Rig) -> None:
        envelope = json.loads(rig.envelope())
        request = json.dumps(envelope["request"], sort_keys=True, separators=(",", ":"))
        other = SigningKey(name=PROVER.name, algorithm="ed25519", seed=b"\x09" * 32)
        envelope["signature"] = other.sign(request.encode()).hex()
        body = json.dumps(envelope).encode()
        assert refused(rig, body) == ("invalid_proof", "signature", 422)

    in_rig(tmp_path, scene)


@pytest.mark.parametrize("member", ["adhoc", "instrument", "at_us", "nonce", "mode"])
def test_changed_member_breaks_the_signature(tmp_path: Path, member: str) -> None:
    other = {
        "adhoc": "other",
        "instrument": "ETHUSDT",
        "at_us": 1,
        "nonce": "0c" * 16,
        "mode": "open",
    }

    def scene(rig: Rig) -> None:
        envelope = json.loads(rig.envelope())
        envelope["request"][member] = other[member]
        assert refused(rig, json.dumps(envelope).encode())[1] == "signature"

    in_rig(tmp_path, scene)


@pytest.mark.parametrize(
    "body",
    [
        b"",
        b"[]",
        b"{}",
        b'{"request":{},"signature":"","more":1}',
        b'{"request":{},"request":{},"signature":""}',
        b"[" * 100_000,
        b"\xff",
        b" " * 70_000,
    ],
)
def test_malformed_envelope_is_refused(tmp_path: Path, body: bytes) -> None:
    def scene(rig: Rig) -> None:
        assert refused(rig, body)[0] == "malformed"

    in_rig(tmp_path, scene)


def test_unknown_prover_is_refused_where_the_notary_is_closed(tmp_path: Path) -> None:
    def scene(rig: Rig) -> None:
        assert refused(rig, rig.envelope()) == ("refused", "prover", 403)

    in_rig(tmp_path, scene, provers=frozenset())


def anonymous_envelope(rig: Rig, **changes: Any) -> bytes:
    """Returns an unsigned request."""
    envelope = json.loads(rig.envelope(prover="anonymous", **changes))
    envelope["signature"] = ""
    return json.dumps(envelope).encode()


def test_anonymous_prover_may_not_name_a_trade(tmp_path: Path) -> None:
    def scene(rig: Rig) -> None:
        rig.desk.create_session(anonymous_envelope(rig))
        changes = {"adhoc": None, "trade": "t-1", "leg": "open"}
        body = anonymous_envelope(rig, **changes)
        assert refused(rig, body) == ("refused", "request.trade", 403)

    in_rig(tmp_path, scene, anonymous=True)


def test_anonymous_request_with_a_signature_is_refused(tmp_path: Path) -> None:
    """It would be nobody's: who signs names a key."""

    def scene(rig: Rig) -> None:
        envelope = json.loads(anonymous_envelope(rig))
        for signature in ("00", "ab" * 64):
            body = json.dumps(envelope | {"signature": signature}).encode()
            assert refused(rig, body) == ("invalid_proof", "signature", 422)
        rig.desk.create_session(json.dumps(envelope).encode())

    in_rig(tmp_path, scene, anonymous=True)


def test_anonymous_prover_is_refused_unless_configured(tmp_path: Path) -> None:
    def scene(rig: Rig) -> None:
        assert refused(rig, anonymous_envelope(rig)) == ("refused", "prover", 403)

    in_rig(tmp_path, scene)


def test_prover_over_its_sessions_is_refused_until_one_ends(tmp_path: Path) -> None:
    def scene(rig: Rig) -> None:
        first = rig.session()
        rig.session()
        assert refused(rig, rig.envelope()) == ("refused", "limits.sessions", 429)
        rig.desk.end_session(first["id"], first["token"])
        rig.session()

    in_rig(tmp_path, scene, prover_limits=ProverLimits(sessions=2))


def test_new_sessions_are_refused_and_open_ones_ended_while_the_clocks_disagree(
    tmp_path: Path,
) -> None:
    base = make_clock()
    state = {"ahead": 0}
    clock = Clock(lambda: base.wall_ns() + state["ahead"], base.monotonic_ns)

    def scene(rig: Rig) -> None:
        session = rig.session()
        state["ahead"] = 60_000_000
        rig.desk.tick()
        assert rig.desk.registry.get(session["id"]).ended == "clock"
        assert refused(rig, rig.envelope()) == ("unavailable", "clock", 503)

    in_rig(tmp_path, scene, clock=clock)


def test_connection_is_continued_by_its_own_prover_host_and_mode_only(tmp_path: Path) -> None:
    async def scene() -> None:
        async with running(tmp_path, venue=Venue(answer_and_keep)) as rig:
            session = rig.session(mode="open")
            client = rig.client(session)
            await client.fetch(http_request(close=False))
            await client.read_response(len(http_response(close=False)))
            await rig.attest(session, client)
            conn = {"conn": session["id"]}
            assert refused(rig, rig.envelope(mode="sealed", **conn))[1] == "request.conn"
            place = {"venue": None, "instrument": None, "host": "intern.example", "port": 443}
            assert refused(rig, rig.envelope(mode="open", **place, **conn))[2] == 403
            following = rig.session(mode="open", **conn)
            assert refused(rig, rig.envelope(mode="open", conn=following["id"]))[2] == 409

    asyncio.run(scene())


def test_ended_sessions_make_room_for_new_ones(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(notary.sessions, "MAX_SESSIONS", 3)

    def scene(rig: Rig) -> None:
        alive = [rig.session(), rig.session()]
        for _ in range(5):
            ending = rig.session()
            rig.desk.end_session(ending["id"], ending["token"])
        assert len(rig.desk.registry) <= 3
        alive.append(rig.session())
        assert refused(rig, rig.envelope()) == ("refused", "limits.sessions", 429)
        assert {session.id for session in rig.desk.registry.alive()} == {
            session["id"] for session in alive
        }

    in_rig(tmp_path, scene)


STRANGER = SigningKey(name="stranger.example", algorithm="ed25519", seed=b"s" * 32)


def test_strangers_fill_half_of_the_room_and_known_provers_have_the_rest(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    """Keys are free: whatever limits strangers are given, they keep no known prover out."""
    monkeypatch.setattr(notary.sessions, "MAX_SESSIONS", 6)
    free = ProverLimits(sessions=1_000)

    def scene(rig: Rig) -> None:
        made = [rig.desk.create_session(rig.envelope(STRANGER)) for _ in range(3)]
        for _ in range(3):
            full = ("refused", "limits.sessions", 429)
            assert refused(rig, rig.envelope(STRANGER)) == full
            rig.session()
        assert refused(rig, rig.envelope()) == full
        # A stranger's that ended makes room for a stranger's, and only for that.
        rig.desk.registry._crowded_us = 0
        rig.desk.end_session(made[0]["id"], made[0]["token"])
        rig.desk.create_session(rig.envelope(STRANGER))
        assert refused(rig, rig.envelope(STRANGER)) == full

    limits = {"address_limits": free, "strangers_limits": free}
    in_rig(tmp_path, scene, admission=limits, unknown_limits=free, prover_limits=free)


def test_full_house_is_not_searched_for_each_stranger(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(notary.sessions, "MAX_SESSIONS", 2)
    free = ProverLimits(sessions=1_000)

    def scene(rig: Rig) -> None:
        searched = []
        forget = rig.desk.registry._forget_ended
        monkeypatch.setattr(
            rig.desk.registry,
            "_forget_ended",
            lambda until: (searched.append(until), forget(until)),
        )
        rig.desk.create_session(rig.envelope(STRANGER))
        for _ in range(20):
            assert refused(rig, rig.envelope(STRANGER))[1] == "limits.sessions"
        # A slow machine may take longer for them than a look holds.
        assert len(searched) < 20 * 3
        rig.session()

    limits = {"address_limits": free, "strangers_limits": free}
    in_rig(tmp_path, scene, admission=limits, unknown_limits=free)


def test_claims_of_a_connection_that_stands_make_room_when_they_ended(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    """Only the first is kept, which names it: a thousand claims are no thousand places."""
    monkeypatch.setattr(notary.sessions, "MAX_SESSIONS", 3)

    async def scene() -> None:
        async with running(tmp_path, venue=Venue(answer_and_keep)) as rig:
            first = session = rig.session(mode="open")
            client = rig.client(session)
            await client.handshake()
            for _ in range(5):
                client.send(http_request(close=False))
                await client.read_response(len(http_response(close=False)))
                await rig.attest(session, client)
                session = rig.session(mode="open", conn=first["id"])
            assert len(rig.desk.registry) <= 3
            assert rig.desk.registry.known(first["id"]) is not None

    asyncio.run(scene())


def test_session_that_ended_is_known_while_there_is_room(tmp_path: Path) -> None:
    def scene(rig: Rig) -> None:
        ended = rig.session()
        rig.desk.end_session(ended["id"], ended["token"])
        rig.session()
        assert rig.desk.registry.get(ended["id"]).ended == "prover_closed"

    in_rig(tmp_path, scene)


def test_accounts_and_nonces_are_forgotten_once_nothing_rests_on_them(tmp_path: Path) -> None:
    def scene(rig: Rig) -> None:
        registry = rig.desk.registry
        ended, alive = rig.session(), rig.desk.create_session(rig.envelope(STRANGER))
        rig.desk.end_session(ended["id"], ended["token"])
        now = rig.context.clock.now_us()
        registry.prune(now)
        assert len(registry.replays._nonces) == 2
        later = now + 10**9
        registry.prune(later)
        assert len(registry.replays._nonces) == 0
        kept = STRANGER.verifying_key.vkey
        assert PROVER.verifying_key.vkey not in registry._accounts
        assert kept in registry._accounts
        rig.desk.end_session(alive["id"], alive["token"])
        registry.prune(later)
        assert registry._accounts == {}

    in_rig(tmp_path, scene)


def test_ended_sessions_are_forgotten_after_a_while(tmp_path: Path) -> None:
    def scene(rig: Rig) -> None:
        session = rig.session()
        rig.desk.end_session(session["id"], session["token"])
        now = rig.context.clock.now_us()
        rig.desk.registry.prune(now)
        assert len(rig.desk.registry) == 1
        rig.desk.registry.prune(now + 10**9)
        assert len(rig.desk.registry) == 0

    in_rig(tmp_path, scene)


def test_target_is_that_of_a_venues_quote_alone(tmp_path: Path) -> None:
    def scene(rig: Rig) -> None:
        adhoc = {"venue": None, "instrument": None, "host": HOST, "port": 443}
        for changes, target in (({}, "/ticker?symbol=BTCUSDT"), (adhoc, None)):
            session = rig.session(**changes)
            assert session.get("target") == target
            assert rig.desk.registry.get(session["id"]).template is None
        bound = rig.session(binding="template", form="quotary")
        template = rig.desk.registry.get(bound["id"]).template
        assert template is not None
        assert template.startswith(b"GET /ticker?symbol=BTCUSDT HTTP/1.1\r\n")

    in_rig(tmp_path, scene)


def test_session_that_ended_says_why_and_an_attested_one_is_no_error(tmp_path: Path) -> None:
    issued: Any = object()
    wrong = MalformedError("it was wrong", rule="W9", found=1, wanted=2)

    def scene(rig: Rig) -> None:
        session = rig.desk.registry.get(rig.session()["id"])
        session.check_alive()
        session.ended, session.issued = "attested", issued
        session.check_alive()
        session.issued, session.ended = None, "invalid"
        full = RefusedError("it is full", rule="W13", http_status=429)
        for failure, told in (
            (None, ("session", "invalid", 409)),
            (wrong, ("W9", 1, RefusedError.http_status)),
            (full, ("W13", None, 429)),
        ):
            if failure is not None:
                session.fail(failure)
            with pytest.raises(RefusedError, match="the session ended: ") as caught:
                session.check_alive()
            error = caught.value
            assert (error.rule, error.found, error.http_status) == told

    in_rig(tmp_path, scene)


def test_deadline_that_was_stopped_ends_nothing(tmp_path: Path) -> None:
    async def scene() -> None:
        async with running(tmp_path) as rig:
            session = rig.desk.registry.get(rig.session()["id"])
            timer = session.timer
            assert timer is not None
            session.stop_timer()
            assert timer.cancelled()
            assert session.timer is None
            session.stop_timer()

    asyncio.run(scene())


def test_continuing_session_is_its_connections_own_provers_and_binding(tmp_path: Path) -> None:
    async def scene() -> None:
        async with running(tmp_path, venue=Venue(answer_and_keep)) as rig:
            session = rig.session(mode="open")
            waiting = rig.session(mode="open")
            client = rig.client(session)
            await client.fetch(http_request(close=False))
            await client.read_response(len(http_response(close=False)))
            conn = {"mode": "open", "conn": session["id"]}
            theirs = rig.envelope(STRANGER, **conn)
            assert refused(rig, theirs) == ("refused", "request.conn", 403)
            other = rig.envelope(**conn, binding="template", form="quotary")
            assert refused(rig, other)[1] == "request.binding"
            # A session that has no connection yet names none.
            unconnected = rig.envelope(mode="open", conn=waiting["id"])
            assert refused(rig, unconnected) == ("refused", "request.conn", 409)
            assert len(rig.desk.registry) == 2
            assert rig.session(**conn)["id"] != session["id"]

    asyncio.run(scene())


def test_token_is_the_sessions_own(tmp_path: Path) -> None:
    def scene(rig: Rig) -> None:
        first, second = rig.session(), rig.session()
        for token in (second["token"], "", first["token"][:-1], first["token"] + "0"):
            with pytest.raises(RefusedError) as caught:
                rig.desk.end_session(first["id"], token)
            assert (caught.value.rule, caught.value.http_status) == ("token", 403)
            with pytest.raises(RefusedError):
                rig.desk.registry.authenticate(first["id"], token)
        for unknown in ("0" * 32, ""):
            with pytest.raises(RefusedError) as caught:
                rig.desk.registry.authenticate(unknown, "0" * 32)
            assert (caught.value.rule, caught.value.http_status) == ("token", 403)
        assert rig.desk.registry.authenticate(first["id"], first["token"]).id == first["id"]

    in_rig(tmp_path, scene)
