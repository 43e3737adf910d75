"""Makes docs/interoperation.md from the matrix: ``python -m tests.interop`` writes it anew.

The versions are those of the machine that wrote the page last; the test that
compares the page with the matrix leaves them out.
"""

from __future__ import annotations

import re
from collections.abc import Mapping
from pathlib import Path

from tests.interop import hellos
from tests.interop.habits import HABITS
from tests.interop.matrix import (
    ARRIVALS,
    ATTESTED,
    CLIENTS,
    FULL,
    OWN_GROUPS,
    SERVERS,
    SHAPED,
    STOCK,
    offered,
)
from tests.interop.refusals import REFUSALS
from tests.interop.site import GROUPS, SUITES

PAGE = Path(__file__).resolve().parents[2] / "docs" / "interoperation.md"
_LEAF_NAMES = {"rsa": "RSA", "p256": "P-256", "p384": "P-384", "ed25519": "Ed25519"}


def blocks() -> dict[str, str]:
    """Returns the parts of the page that follow from the matrix."""
    return {
        "servers": _servers(),
        "habits": _habits(),
        "stock": _stock(),
        "refusals": _refusals(),
        "clients": _clients(),
    }


def versions_of(servers: Mapping[str, str], clients: Mapping[str, str]) -> str:
    """Returns the page's table of versions."""
    rows = [[SERVERS[name], servers[name]] for name in SERVERS]
    rows += [[f"client: {CLIENTS[name]}", clients[name]] for name in CLIENTS]
    return _table(["server or client", "version"], rows)


def written(page: str, parts: Mapping[str, str]) -> str:
    """Returns the page with the content of its marked blocks replaced."""
    for name, content in parts.items():
        pattern = re.compile(f"<!-- {name} -->\n.*?<!-- /{name} -->", re.DOTALL)
        page, count = pattern.subn(
            lambda _, block=f"<!-- {name} -->\n{content}<!-- /{name} -->": block, page
        )
        if count != 1:
            raise ValueError(f"the page has {count} blocks {name}")
    return page


def _servers() -> str:
    rows = []
    for server, text in SERVERS.items():
        cells = [
            cell
            for cell in ATTESTED
            if (cell.server, cell.client, cell.site.trait) == (server, "quotary", "")
        ]
        if not cells:
            continue
        leaves, suites, groups = offered(server)
        rows.append(
            [
                text,
                ", ".join(_LEAF_NAMES[leaf] for leaf in leaves),
                "all" if tuple(suites) == SUITES else ", ".join(suites),
                "all" if tuple(groups) == GROUPS else ", ".join(groups),
                "every one" if server in FULL else "every two of them together",
                ", ".join(
                    ["sealed", *(["open"] if any(cell.mode == "open" for cell in cells) else [])]
                    + (list(ARRIVALS) if server in SHAPED else [])
                ),
                str(len(cells)),
            ]
        )
    head = ["server", "leaves", "suites", "groups", "combinations", "fetched", "tests"]
    return _table(head, rows)


def _habits() -> str:
    return _table(
        ["habit", "what the server does", "servers", "mode"],
        [
            [name, habit.what, ", ".join(habit.servers), habit.mode]
            for name, habit in HABITS.items()
        ],
    )


def _refusals() -> str:
    rows: dict[tuple[str, str, str, str], list[str]] = {}
    for refusal in REFUSALS:
        error = f"{refusal.kind.__name__} `{refusal.rule}`: …{refusal.text}…"
        key = (refusal.what, ", ".join(refusal.clients), refusal.by, error)
        names = rows.setdefault(key, [])
        since = dict([refusal.since] if refusal.since else [])
        told = [
            f"{name} (from {since[name]})" if name in since else name for name in refusal.servers
        ]
        names += [name for name in told if name not in names]
    return _table(
        ["what the server has or does", "servers", "clients", "refused by", "error"],
        [
            [what, ", ".join(names), who, by, error]
            for (what, who, by, error), names in rows.items()
        ],
    )


def _stock() -> str:
    rows = []
    for client in STOCK:
        cells = [cell for cell in ATTESTED if cell.client == client]
        habits = [f"{cell.site.trait} ({cell.server})" for cell in cells if cell.site.trait]
        groups = sorted({cell.site.group for cell in cells if cell.site.group in OWN_GROUPS})
        opened = [cell.server for cell in cells if cell.mode == "open"]
        rows.append(
            [
                f"{client}: {CLIENTS[client]}",
                ", ".join(dict.fromkeys(cell.server for cell in cells)),
                ", ".join(habits),
                ", ".join(groups),
                ", ".join(opened),
                str(len(cells)),
            ]
        )
    head = ["client", "servers, each leaf", "habits", "groups beside", "open mode", "tests"]
    return _table(head, rows)


def _clients() -> str:
    told = [
        [f"`{client.name}`" if client.peer != "python" else client.name, client.refused]
        for client in hellos.CLIENTS
    ]
    rows = [[name, f"`W2`: ClientHello {why}" if why else "goes out"] for name, why in told]
    return _table(["client", "its (last) ClientHello"], rows)


def _table(head: list[str], rows: list[list[str]]) -> str:
    lines = [head, ["---"] * len(head), *rows]
    return "".join(f"| {' | '.join(line)} |\n" for line in lines)
