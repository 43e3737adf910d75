"""Runs a notary: relay and control API in one loop, from start-up to a clean end.

State of the world: before the READY line, sessions that an earlier process left
open are ended as ``restart``.  On SIGTERM or SIGINT nothing new is accepted,
claims already verified are attested, everything else ends as ``restart``, and
all of it is durable before the process ends.
"""

from __future__ import annotations

import asyncio
import gc
import importlib.metadata
import json
import os
import time
from collections.abc import Callable, Mapping
from pathlib import Path
from types import MappingProxyType
from typing import Any

import certifi
import structlog

from attestation.errors import UsageError
from attestation.hashing import HASHES
from attestation.keys import SigningKey
from attestation.log.cosignature import WitnessKey
from attestation.log.entry import KeyEntry
from attestation.template import FORMS
from attestation.tls13.certificates import RootStore
from attestation.venues import VenueFile, shipped_venues
from notary.admission import Admission
from notary.app import HotPath, make_app
from notary.clock import RE_ANCHOR_SECONDS, Clock
from notary.config import Config, LimitSettings, join_address, split_address
from notary.context import Context
from notary.control import control_protocol
from notary.crowd import Crowd
from notary.desk import Desk
from notary.feed_service import FeedService
from notary.listening import ControlServer, bind, fit_descriptors, signals
from notary.log.cosigners import Cosigner
from notary.log.files import PlainFiles
from notary.log.ledger import Ledger
from notary.log.published import PUBLISHED_FILE, PublishedFile
from notary.log.publisher import Publisher
from notary.log.reader import LogReader
from notary.log.sequencer import Sequencer
from notary.metrics import Metrics
from notary.relay import Relay
from notary.resolve import Endpoint, Resolver
from notary.rotation import note_logged, unlogged_rotations
from notary.sessions import SessionRegistry
from notary.signer import Signer, read_key
from notary.store import STORE_FILE, Store

FLUSH_SECONDS = 2.0
"""How long clients may take to read what they were sent before the end."""


def software() -> str:
    """Names this software and its version, as attested."""
    try:
        return f"quotary {importlib.metadata.version('quotary')}"
    except importlib.metadata.PackageNotFoundError:
        return "quotary"


def load_signer(config: Config) -> Signer:
    """Reads the configured keys; raises UsageError."""
    return Signer(
        config.name,
        [read_key(path) for path in config.key_files],
        retired=[read_key(path) for path in config.retired],
    )


def load_roots(config: Config) -> RootStore:
    """Reads certifi's roots, and those of ``[development]``; raises UsageError."""
    files = [Path(certifi.where())]
    if config.development is not None:
        files += config.development.roots
    try:
        return RootStore.from_pem(b"\n".join([file.read_bytes() for file in files]))
    except OSError as error:
        raise UsageError("cannot read a root file", found=str(error.filename)) from None


def allowed_venues(config: Config) -> Mapping[str, VenueFile]:
    """Returns the venue files the configuration allows; raises UsageError."""
    shipped = shipped_venues()
    names = config.allow.venues
    if names is None:
        return shipped
    unknown = sorted(set(names) - set(shipped))
    if unknown:
        raise UsageError("no such venue", rule="allow.venues", found=unknown)
    return MappingProxyType({name: shipped[name] for name in names})


def read_log_key(config: Config) -> SigningKey | None:
    """Reads the log's key, if a log is configured, and no other; raises UsageError."""
    if config.log is None or config.log.key is None:
        return None
    if not config.log.key.exists():
        raise UsageError(
            "no key of the log: make it with `notary keygen --role log`",
            rule="log.key",
            found=str(config.log.key),
        )
    return read_key(config.log.key)


def load_log_key(config: Config) -> SigningKey | None:
    """Reads the log's key, if a log is configured, and that it is no other; raises UsageError."""
    key = read_log_key(config)
    if key is not None and key.verifying_key.public in {
        signer.verifying_key.public for signer in map(read_key, config.key_files)
    }:
        raise UsageError("the log's key signs attestations: make another", rule="log.key")
    return key


def make_store(config: Config, log_key: SigningKey | None, clock: Clock) -> Store:
    """Opens the store, with its log if there is a key; raises UsageError, UnavailableError."""
    if log_key is None:
        return Store(config.data / STORE_FILE)
    published = PublishedFile(config.data / PUBLISHED_FILE)
    return Store(
        config.data / STORE_FILE,
        sequence=lambda database: Sequencer(database, log_key, published, clock.now_us),
    )


def make_ledger(config: Config, log_key: SigningKey, store: Store, context: Context) -> Ledger:
    """Builds what publishes and proves the store's log."""
    assert config.log is not None
    reader = LogReader(config.data / STORE_FILE)
    cosigners = [
        Cosigner(key=WitnessKey.parse(witness.vkey), url=witness.url)
        for witness in config.log.witnesses
    ]
    files = None
    if config.log.files is not None:
        files = PlainFiles(config.log.files, log_key.verifying_key, reader)
    publisher = Publisher(
        store.latest_head,
        log_key.verifying_key,
        reader,
        cosigners=cosigners,
        files=files,
        interval_us=config.log.interval_us,
        metrics=context.metrics,
        log=context.log,
    )
    return Ledger(reader, publisher)


def make_context(
    config: Config, signer: Signer, roots: RootStore, store: Store, clock: Clock
) -> Context:
    """Joins the configuration with the system's clock and random bytes."""
    fixed = {}
    if config.development is not None:
        for rule in config.development.connect_to:
            address, port = split_address(rule.to)
            fixed[(rule.host, rule.port)] = Endpoint(address=address, port=port)
    return Context(
        clock=clock,
        random=os.urandom,
        signer=signer,
        store=store,
        roots=roots,
        resolver=Resolver(connect_to=MappingProxyType(fixed)),
        limits=config.limits.session,
        deadlines=config.limits.deadlines,
        extensions=config.allow.extensions,
        software=software(),
        metrics=Metrics(),
    )


def make_registry(config: Config, context: Context) -> SessionRegistry:
    """Builds the admission rules of the configuration."""
    allow = config.allow
    admission = Admission(
        notary=config.name,
        venues=allowed_venues(config),
        hosts=frozenset(split_address(host) for host in allow.hosts),
        provers=frozenset(prover.vkey for prover in config.provers),
        unknown_provers=allow.unknown_provers,
        anonymous=allow.anonymous,
        prover_limits=config.limits.prover,
        unknown_limits=config.limits.unknown_prover,
        address_limits=config.limits.unknown_address,
        strangers_limits=config.limits.unknown_all,
        shared_addresses=frozenset(map(str, config.limits.shared_addresses)),
    )
    return SessionRegistry(
        admission, clock=context.clock, random=context.random, feeds=context.feeds
    )


def make_crowd(limits: LimitSettings, most: int) -> Crowd:
    """Builds the rules of a listener's connections; half of them are kept from strangers."""
    return Crowd(
        most=most,
        per_address=limits.address_connections,
        strangers=most // 2,
        shared=frozenset(map(str, limits.shared_addresses)),
    )


def describe(config: Config, context: Context, proxy: str) -> dict[str, Any]:
    """Returns what ``GET /v1/info`` answers."""
    return {
        "name": config.name,
        "operator": config.operator,
        "vkeys": list(context.signer.vkeys),
        "algorithms": {"hash": sorted(HASHES), "signature": list(context.signer.algorithms)},
        # A live session is one of a feed's, and feeds are in the log.
        "modes": ["sealed", "open"] + ["live"] * (context.feeds is not None),
        "bindings": ["full", "template"],
        "forms": list(FORMS),
        "venues": [
            {"name": name, "hash": venue.hash} for name, venue in allowed_venues(config).items()
        ],
        "hosts": list(config.allow.hosts),
        "extensions": list(context.extensions),
        "roots": context.roots.hash,
        "limits": context.limits.to_json(),
        "deadlines": context.deadlines.to_json(),
        "proxy": proxy,
        "development": config.development is not None,
        "software": context.software,
    }


async def serve(
    config: Config,
    signer: Signer,
    roots: RootStore,
    *,
    announce: Callable[[str], None],
    stop: asyncio.Event | None = None,
) -> None:
    """Serves until SIGTERM or SIGINT, or until ``stop`` is set.

    ``announce`` gets the READY line.  Raises UsageError or UnavailableError if
    it cannot start.
    """
    log = structlog.get_logger("notary")
    stop = stop or asyncio.Event()
    limits = fit_descriptors(config.limits)
    if limits is not config.limits:
        fewer = {"relay": limits.connections, "control": limits.control_connections}
        log.warning("descriptors_scarce", **fewer)
    control_socket = bind(config.listen)
    relay_socket = bind(config.relay)
    clock = Clock(time.time_ns, time.monotonic_ns)
    log_key = load_log_key(config)
    store = make_store(config, log_key, clock)
    feeds: FeedService | None = None
    try:
        context = make_context(config, signer, roots, store, clock)
        ended = await store.recover(clock.now_us())
        if log_key is not None:
            context.ledger = make_ledger(config, log_key, store, context)
            await _log_rotations(config, store)
            feeds = await FeedService.open(context, config.data / STORE_FILE)
        relay_address = join_address(*relay_socket.getsockname()[:2])
        proxy = config.proxy or relay_address
        registry = make_registry(config, context)
        desk = Desk(context, registry, proxy=proxy)
        feed_desk = None if feeds is None else feeds.desk(registry.admission, registry.replays)
        relay = Relay(desk, crowd=make_crowd(limits, limits.connections))
        app = make_app(desk, describe(config, context, proxy), feed_desk)
        crowd = make_crowd(limits, limits.control_connections)
        control = ControlServer(HotPath(app, desk), control_protocol(crowd, context.metrics))
        await relay.listen(relay_socket)
        serving = asyncio.create_task(control.serve(sockets=[control_socket]))
        background = [asyncio.create_task(_tick(desk))]
        if context.ledger is not None:
            background.append(asyncio.create_task(context.ledger.publisher.run()))
        if feeds is not None:
            feeds.start()
        with signals(stop):
            await control.listening.wait()
            ready = {
                "type": "ready",
                "control": f"http://{join_address(*control_socket.getsockname()[:2])}",
                "relay": relay_address,
                "vkey": signer.default.verifying_key.vkey,
            }
            if log_key is not None:
                ready["log"] = log_key.verifying_key.vkey
            _spare_collector()
            log.info("started", recovered=ended, **ready)
            announce(json.dumps(ready))
            stopping = asyncio.create_task(stop.wait())
            await asyncio.wait({stopping, serving}, return_when=asyncio.FIRST_COMPLETED)
            stopping.cancel()
            log.info("stopping")
            relay.stop_accepting()
            await desk.stop()
            if feeds is not None:
                await feeds.stop()
            await relay.drain(FLUSH_SECONDS)
            control.should_exit = True
            for task in background:
                task.cancel()
            await serving
            await asyncio.gather(*background, return_exceptions=True)
            if context.ledger is not None:
                await context.ledger.close()
            if feeds is not None:
                feeds.close()
    finally:
        # Blocking, but the last thing done: nothing durable may be outrun.
        store.close()
    log.info("stopped")


async def _log_rotations(config: Config, store: Store) -> None:
    """Makes public, in the log, which key follows which: prepared, or done since."""
    for statement in unlogged_rotations(config.key_files, config.data):
        await store.log_entry(KeyEntry, statement=statement)
        note_logged(config.data, statement)


def _spare_collector() -> None:
    """Keeps what start-up made out of garbage collections, and these rare.

    A session makes no cycles worth collecting at once; walking the modules for
    them cost about a tenth of its CPU (docs/performance.md).
    """
    gc.collect()
    gc.freeze()
    gc.set_threshold(50_000, 50, 100)


async def _tick(desk: Desk) -> None:
    while True:
        await asyncio.sleep(RE_ANCHOR_SECONDS)
        desk.tick()
