"""``openssl s_server``: a process for each site, on a port the system chose.

The response is a file, which ``-HTTP`` sends as it is; or it is typed into the
server's terminal, between commands that send a KeyUpdate.
"""

from __future__ import annotations

import contextlib
import re
import subprocess
import threading
from collections.abc import Iterator, Sequence
from contextlib import ExitStack, contextmanager
from pathlib import Path

from tests.interop.leaves import Leaves
from tests.interop.path import Address
from tests.interop.process import Running
from tests.interop.server import Server
from tests.interop.site import OPENSSL_GROUPS, TARGET, Site, body, response

_TRAITS: dict[str, tuple[str, ...]] = {
    "": (),
    "long": (),
    "tls12": ("-tls1_2",),
    "client-certificate": ("-verify", "2"),
    "padding": ("-record_padding", "512"),
    "small-fragments": ("-max_send_frag", "512", "-split_send_frag", "512"),
    "no-middlebox": ("-no_middlebox",),
    "tickets": ("-num_tickets", "8"),
    "no-tickets": ("-num_tickets", "0"),
    "psk": ("-nocert", "-psk", "00112233"),
    "weak-key": ("-cipher", "DEFAULT:@SECLEVEL=0"),
    "key-update": (),
    "key-update-requested": (),
}
_TYPED = {"key-update": "k", "key-update-requested": "K"}
"""Traits whose response is typed, and the command that comes before it."""
_SENT_UPDATE = "KeyUpdate"
"""What ``-msg`` prints once a command was carried out."""


@contextmanager
def openssl(sites: Sequence[Site], leaves: Leaves, folder: Path) -> Iterator[Server]:
    """Runs one ``s_server`` for each site that is asked for."""
    ports: dict[Site, Address] = {}
    with ExitStack() as stack:

        def address(site: Site) -> Address:
            assert site in sites
            if site not in ports:
                ports[site] = stack.enter_context(_serving(site, leaves, folder))
            return ports[site]

        yield Server(name="openssl", address=address)


@contextmanager
def _serving(site: Site, leaves: Leaves, folder: Path) -> Iterator[Address]:
    root = folder / site.name
    page = root / TARGET.lstrip("/")
    page.parent.mkdir(parents=True)
    content = response("long" if site.trait == "small-fragments" else site.trait)
    page.write_bytes(content.replace(b"\r\n", b"\r\nConnection: close\r\n", 1))
    command: list[str | Path] = ["openssl", "s_server", "-accept", "127.0.0.1:0"]
    command += ["-alpn", "http/1.1", *_TRAITS[site.trait]]
    if site.trait != "psk":
        leaf = leaves.leaf(site.leaf)
        command += ["-cert", leaf.chain, "-cert_chain", leaf.chain, "-key", leaf.key]
        command += ["-CAfile", leaves.roots_file]
    if site.group:
        command += ["-groups", OPENSSL_GROUPS[site.group]]
    if site.suite:
        command += ["-ciphersuites", site.suite]
    typed = _TYPED.get(site.trait)
    command += ["-HTTP"] if typed is None else ["-crlf", "-msg"]
    process = Running(
        command,
        folder=root,
        name=f"openssl-{site.name}",
        stdin=subprocess.DEVNULL if typed is None else subprocess.PIPE,
    )
    try:
        process.until(lambda: re.search(r"^ACCEPT \S+:\d+$", process.text(), re.MULTILINE))
        if typed is not None:
            threading.Thread(target=_type, args=(process, typed), daemon=True).start()
        found = re.search(r"^ACCEPT \S+:(\d+)$", process.text(), re.MULTILINE)
        assert found is not None
        yield "127.0.0.1", int(found[1])
    finally:
        process.stop()


def _type(process: Running, command: str) -> None:
    """Answers each request that the server prints: the command first, then a response."""
    stdin = process.process.stdin
    assert stdin is not None
    content = body()
    head = "HTTP/1.1 200 OK\nContent-Type: application/json\n"
    head += f"Content-Length: {len(content)}\n\n"
    answered = 0
    with contextlib.suppress(OSError, RuntimeError):
        while True:
            process.until(
                lambda seen=answered: process.text().count("User-Agent: ") > seen, forever=True
            )
            answered += 1
            updates = process.text().count(_SENT_UPDATE)
            stdin.write(f"{command}\n".encode())
            stdin.flush()
            # A command counts only where it begins what the server reads at once.
            process.until(lambda before=updates: process.text().count(_SENT_UPDATE) > before)
            stdin.write(head.encode() + content)
            stdin.flush()
