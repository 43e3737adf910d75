"""One client's connection through the sidecar, from its ClientHello to the kept attestation.

Three tasks: bytes up, bytes down, and the one that leads, which talks to the
notary's control API.  What passes and when is ``prover.passage``'s to decide.
"""

from __future__ import annotations

import asyncio
import contextlib
import dataclasses
from collections.abc import Callable, Mapping
from typing import TypeVar

from attestation.encoding import Json
from attestation.errors import QuotaryError, UnavailableError
from attestation.http1 import Response
from attestation.request import AttestationRequest, KeylogOpened
from attestation.seal import SignedSeal
from attestation.tls13.certificates import RootStore
from prover.check import Expected, check_released, check_seal
from prover.control import Ticket
from prover.fetch import (
    AttestedFetch,
    FetchPlan,
    checked_fetch,
    is_json,
    own_sight,
    read_attestation,
)
from prover.flow import READ_SIZE, Channel, Flow, Timeouts, receive, run_async, send
from prover.keylog_file import KeyLogFile
from prover.notary_client import (
    Lane,
    Notary,
    attestation_call,
    commitment_calls,
    commitment_to,
    seal_call,
)
from prover.passage import Passage
from prover.session import GrantedSession

T = TypeVar("T")

POLL_SECONDS = 0.02
"""How often a key log is read again while lines of a connection are missing."""
KEYLOG_SHARE = 0.75
"""Of the time that a notary gives for the commitment, how much the client has to log its keys."""
GIVE_SECONDS = 5.0
"""How long a client may take to read what it is given."""
_PATIENT = Timeouts(connect=None, read=None, write=None, total=None)


@dataclasses.dataclass(frozen=True, slots=True, kw_only=True)
class Job:
    """What all connections of a sidecar share.

    ``plan`` holds the one request they may make; ``others`` names the requests
    of other sessions.  ``keep`` stores an attestation, blocking.
    """

    notary: Notary
    plan: FetchPlan
    others: Mapping[bytes, str]
    roots: RootStore
    keylog: KeyLogFile
    keep: Callable[[AttestedFetch], None]
    clock_us: Callable[[], int]


class Relayed:
    """A connection whose tunnel to the notary's relay stands."""

    def __init__(
        self,
        job: Job,
        lane: Lane,
        session: GrantedSession,
        channel: Channel,
        reader: asyncio.StreamReader,
        writer: asyncio.StreamWriter,
    ) -> None:
        self._job = job
        self._lane = lane
        self._session = session
        self._channel = channel
        self._reader = reader
        self._writer = writer
        self._passage = Passage(job.plan, job.others, roots=job.roots, clock_us=job.clock_us)
        self._changed = asyncio.Event()
        self._sending = False
        self._client_ended = False
        """It sends no more; it may still read."""
        self._client_gone = False
        self._relay_gone = False
        self._fetch: AttestedFetch | None = None

    @property
    def committed(self) -> bool:
        """Whether the session was committed to: ended now, it would count as aborted."""
        return self._passage.committed

    async def attest(self, early: bytes) -> AttestedFetch:
        """Relays until the one request was answered, attested, checked and kept.

        ``early`` came with the relay's answer.  Raises QuotaryError with the
        rule that was broken, by whichever side.
        """
        failure: BaseException | None = None
        try:
            async with asyncio.TaskGroup() as group:
                tasks = [group.create_task(self._up()), group.create_task(self._down(early))]
                self._fetch = await self._lead()
                for task in tasks:
                    task.cancel()
        except BaseExceptionGroup as errors:
            # The first is what ended the connection; others follow from it.
            failure = errors.exceptions[0]
        finally:
            random = self._passage.reading.client_random
            if random is not None:
                self._job.keylog.log.forget(random)
        if failure is not None:
            raise failure
        assert self._fetch is not None
        return self._fetch

    # Bytes.

    async def _up(self) -> None:
        with contextlib.suppress(ConnectionError):
            while data := await self._reader.read(READ_SIZE):
                passing = self._passage.from_client(data)
                random = self._passage.reading.client_random
                if random is not None and not self._passage.reading.protected:
                    self._job.keylog.log.expect(random)
                if passing:
                    self._sending = True
                    try:
                        await self._run(send(self._channel, passing))
                    except UnavailableError:
                        break  # The other direction's end, or the notary, says why.
                    self._sending = False
                self._changed.set()
        self._client_ended = True
        self._changed.set()

    async def _down(self, data: bytes) -> None:
        while data or (data := await self._receive()):
            await self._give(self._passage.from_relay(data))
            data = b""
            self._end_open()
            self._changed.set()
        self._relay_gone = True
        self._changed.set()

    async def _receive(self) -> bytes:
        try:
            return await run_async(receive(self._channel), _PATIENT)
        except UnavailableError:
            # Reset: the leading task asks the notary why.
            return b""

    async def _give(self, data: bytes) -> None:
        """Writes to the client; one that left, or does not read, holds up no attestation."""
        if not data or self._client_gone:
            return
        try:
            async with asyncio.timeout(GIVE_SECONDS):
                self._writer.write(data)
                await self._writer.drain()
        except (ConnectionError, TimeoutError):
            self._client_gone = True

    def _end_open(self) -> None:
        """Ends the client's direction right behind an open response: no request may follow.

        Later, the client could have sent one in the meantime.
        """
        sealed = self._job.plan.spec.mode == "sealed"
        if sealed or not self._passage.committed or self._passage.response is None:
            return
        if not self._client_gone:
            with contextlib.suppress(OSError):
                self._writer.write_eof()

    # The session.

    async def _lead(self) -> AttestedFetch:
        passage, control = self._passage, self._lane.control
        await self._until(lambda: passage.reading.protected)
        opened = await self._secrets()
        passage.open(opened)
        await self._until(lambda: passage.asked and not self._sending)
        passage.commit()
        calls = commitment_calls(self._session, opened)
        if self._job.plan.spec.mode == "sealed":
            calls.append(seal_call(self._session))
        committing, *sealing = await self._run(control.submit_all(calls))
        await self._run(control.collect(committing))
        if sealing:
            return await self._sealed(sealing[0], opened)
        return await self._open(opened)

    async def _sealed(self, sealing: Ticket, opened: KeylogOpened) -> AttestedFetch:
        job, passage, control = self._job, self._passage, self._lane.control
        reading, session = passage.reading, self._session
        signed = SignedSeal.from_json(await self._run(control.collect(sealing)))
        # Nothing of the client passed since the commitment.
        sent = bytes(reading.sent)
        check_seal(
            signed,
            session=session.id,
            sent=sent,
            commitment=commitment_to(session, opened),
            keys=job.notary.attestation_key,
        )
        request = job.plan.attestation_request(session.id, json_body=True, quote=True)
        answer = await self._run(control.call(attestation_call(session, opened, request)))
        size = signed.seal.received_size
        await self._until(lambda: len(reading.received) >= size)
        check_released(signed.seal, bytes(reading.received))
        response = passage.response
        if response is None:
            raise UnavailableError("the released response is not complete", rule="W8")
        fetch = self._checked(answer, request, response, signed)
        await asyncio.to_thread(job.keep, fetch)
        await self._give(passage.release())
        return fetch

    async def _open(self, opened: KeylogOpened) -> AttestedFetch:
        job, passage, session = self._job, self._passage, self._session
        response = await self._until(lambda: passage.response)
        quote = response.status == 200
        request = job.plan.attestation_request(session.id, json_body=is_json(response), quote=quote)
        call = attestation_call(session, opened, request)
        answer = await self._run(self._lane.control.call(call))
        if not response.keep_alive:
            # The venue's close_notify belongs to the claim and may come late.
            counted = read_attestation(answer).connection().received_bytes
            await self._until(lambda: len(passage.reading.received) >= counted)
        fetch = self._checked(answer, request, response, None)
        await asyncio.to_thread(job.keep, fetch)
        return fetch

    def _checked(
        self,
        answer: dict[str, Json],
        request: AttestationRequest,
        response: Response,
        signed: SignedSeal | None,
    ) -> AttestedFetch:
        job, raw = self._job, self._passage.reading.own()
        own = own_sight(
            job.notary,
            self._lane,
            job.plan,
            self._session,
            raw,
            self._passage.exchange(response),
            seal=signed,
        )
        return checked_fetch(job.notary, answer, Expected.of(request, own), raw, signed)

    async def _secrets(self) -> KeylogOpened:
        keylog, random = self._job.keylog, self._passage.reading.client_random
        assert random is not None  # no protected record comes before a ClientHello
        loop = asyncio.get_running_loop()
        # The rest of the time is for the request, and the commitment's way.
        end = loop.time() + KEYLOG_SHARE * self._session.commit_seconds
        while (found := keylog.secrets(random)) is None:
            if self._relay_gone:
                raise await self._why()
            if loop.time() >= end:
                raise keylog.log.missing(random, str(keylog.path))
            await asyncio.sleep(POLL_SECONDS)
        return found

    async def _until(self, there: Callable[[], T | None]) -> T:
        """Waits until what a function returns is true; raises what keeps it from coming."""
        while not (found := there()):
            if self._relay_gone:
                raise await self._why()
            if self._client_ended and not self._passage.committed:
                raise UnavailableError(
                    "the client closed before its request was complete", rule="client"
                )
            self._changed.clear()
            try:
                async with asyncio.timeout(self._job.notary.timeouts.read):
                    await self._changed.wait()
            except TimeoutError:
                raise UnavailableError("nothing came in time", rule="network") from None
        return found

    async def _why(self) -> QuotaryError:
        """Asks the notary what ended the session."""
        try:
            await self._run(self._lane.control.call(seal_call(self._session)))
        except QuotaryError as error:
            return error
        return UnavailableError(f"{self._channel.peer} closed the connection", rule="network")

    async def _run(self, flow: Flow[T]) -> T:
        return await run_async(flow, self._job.notary.timeouts)
