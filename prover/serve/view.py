"""The feed's status for people: a table on a terminal, one line where there is none."""

from __future__ import annotations

from collections import Counter
from collections.abc import Iterable

from rich.console import Group, RenderableType
from rich.table import Table
from rich.text import Text

from attestation.reasons import PARTIES
from prover.serve.hops import PERCENTILES
from prover.serve.metrics import BUDGET_MS, HOPS
from prover.serve.status import (
    CONNECTING,
    DEGRADED,
    DOWN,
    LIVE,
    OK,
    WAITING,
    FeedStatus,
    LaneStatus,
)

STALE_MS = 3_000
"""A quote older than that is shown as such: the venues' own limit for pushes on change."""
_STYLES = {
    OK: "green",
    LIVE: "green",
    DEGRADED: "yellow",
    WAITING: "yellow",
    CONNECTING: "cyan",
    DOWN: "bold red",
}


def screen(
    status: FeedStatus, now_us: int, *, width: int = 100, height: int = 50
) -> RenderableType:
    """Returns the whole view: head, venues, notaries' slots, latencies.

    Where not all connections fit, those with the least trouble are left out.
    """
    hops = _hops(status)
    # Of the rest: four lines between parts, the head, the table's, and the cursor's.
    room = height - len(status.notaries) - hops.row_count - 9
    room -= len(status.troubles)
    lanes, hidden = _chosen(status, now_us, max(room, 3))
    more = [Text(f"and {hidden} more connections", style="dim")] if hidden else []
    return Group(
        _head(status, now_us),
        Text(),
        _venues(status, lanes, now_us, width),
        *more,
        Text(),
        _notaries(status, now_us),
        *[Text(f"{url}  {_plain(why)}", style="bold red") for url, why in status.troubles.items()],
        Text(),
        hops,
    )


def line(status: FeedStatus, now_us: int) -> str:
    """Returns the status as one line, for logs."""
    live = sum(lane.state == LIVE for lane in status.lanes.values())
    gaps = _gaps(status, now_us)
    slots = ", ".join(
        f"{row.notary} {_slots(row.to_json(now_us))}" for row in status.notaries.values()
    )
    shown = ", ".join(f"{gaps[party]} {party}" for party in PARTIES)
    slots = slots or "none"
    return (
        f"{status.feed.feed} {status.state(now_us)}: {live}/{len(status.lanes)} connections live; "
        f"slots in 60 s: {slots}; gaps: {shown}"
    )


def _head(status: FeedStatus, now_us: int) -> Text:
    state = status.state(now_us)
    text = Text()
    text.append(f"{status.feed.feed} ", style="bold")
    text.append(f"{status.feed.market} ")
    text.append(state, style=_STYLES[state])
    text.append(f"  every {status.feed.grid_us // 1_000} ms", style="dim")
    store = status.store
    if store.get("store_available") == 0 or store.get("spool_bytes"):
        size = store.get("spool_bytes", 0) / 1e6
        text.append(f"  store away, {size:.1f} MB spooled", style="bold red")
    if store.get("reconcile_difference"):
        text.append(
            f"  {store['reconcile_difference']} records not accounted for", style="bold red"
        )
    if store.get("lost_records"):
        text.append(f"  {store['lost_records']} records lost", style="bold red")
    return text


def _chosen(status: FeedStatus, now_us: int, room: int) -> tuple[list[LaneStatus], int]:
    """Returns the connections to show, and how many others there are."""
    lanes = sorted(status.lanes.values(), key=lambda lane: (lane.venue, lane.notary))
    if len(lanes) <= room:
        return lanes, 0
    trouble = {
        id(lane): (lane.state == LIVE, -lane.gaps_by_fault(now_us).total()) for lane in lanes
    }
    worst = sorted(lanes, key=lambda lane: trouble[id(lane)])[: room - 1]
    return [lane for lane in lanes if lane in worst], len(lanes) - len(worst)


def _venues(status: FeedStatus, lanes: list[LaneStatus], now_us: int, width: int) -> Table:
    names = short_names(status.notaries)
    # From left to right, as far as they fit.
    columns: list[tuple[str, bool]] = [("venue", False)]
    if len(names) > 1:
        columns.append(("notary", False))
    columns += [("state", False), ("bid", True), ("ask", True), ("age", True), ("msg/s", True)]
    columns.append(("gaps/min", False))
    if width >= 94:
        columns += [("restarts", True), ("room", True)]
    if width >= 110:
        columns.append(("last word", False))
    rows = []
    for lane in lanes:
        headroom = Text(f"{lane.headroom:.0%}", style="" if lane.headroom > 0.2 else "bold red")
        bid, ask, age = _quote(lane, now_us)
        last = "" if lane.state == LIVE else _plain(status.detail(lane))
        if not last and lane.dead_letters:
            last = f"{lane.dead_letters} messages could not be read"
        cells: dict[str, str | Text] = {
            "venue": lane.venue,
            "notary": names[lane.notary],
            "state": Text(lane.state, style=_STYLES[lane.state]),
            "bid": bid,
            "ask": ask,
            "age": age,
            "msg/s": str(lane.rate.per_second(now_us)),
            "gaps/min": _faults(lane.gaps_by_fault(now_us)),
            "restarts": str(max(lane.starts - 1, 0)),
            "room": headroom,
            "last word": Text(last, style="dim"),
        }
        rows.append([cells[name] for name, _ in columns])
    table = Table(box=None, header_style="dim", padding=(0, 2, 0, 0))
    room = width
    for at, (name, right) in enumerate(columns):
        widest = max([len(name), *[len(row[at]) for row in rows]])
        if name == "last word":
            # What the others leave; cut here, else all columns would be made narrower.
            for row in rows:
                row[at] = Text(str(row[at])[: max(room - 2, 0)], style="dim")
        room -= widest + 2
        table.add_column(name, justify="right" if right else "left", no_wrap=True)
    for row in rows:
        table.add_row(*row)
    return table


def short_names(notaries: Iterable[str]) -> dict[str, str]:
    """Returns the first labels of the notaries' names, where they tell them apart."""
    names = list(notaries)
    short = {name: name.partition(".")[0] for name in names}
    return short if len(set(short.values())) == len(names) else {name: name for name in names}


def _quote(lane: LaneStatus, now_us: int) -> tuple[str, str, str | Text]:
    if not lane.bid:
        return "", "", ""
    age_ms = max(now_us - lane.quoted_us, 0) // 1_000
    age = f"{age_ms} ms" if age_ms < 10_000 else f"{age_ms // 1_000} s"
    return lane.bid, lane.ask, Text(age, style="yellow" if age_ms > STALE_MS else "")


def _notaries(status: FeedStatus, now_us: int) -> Table:
    table = Table(box=None, show_header=False, padding=(0, 2, 0, 0))
    for row in status.notaries.values():
        state = row.state(now_us)
        age = "no slot yet"
        if row.newest_us:
            age = f"newest {max(now_us - row.newest_us, 0) // 1_000} ms ago"
        counts = _slots(row.to_json(now_us))
        table.add_row(
            row.notary, Text(state, style=_STYLES[state]), f"slots in 60 s: {counts}", age
        )
    return table


def _hops(status: FeedStatus) -> Table:
    table = Table(box=None, header_style="dim", padding=(0, 2, 0, 0))
    table.add_column("latency, ms")
    for name in ("p50", "p95", "p99", "budget"):
        table.add_column(name, justify="right")
    found = status.hops.percentiles()
    for hop in (hop for hop in HOPS if hop in found):
        p50, p95, p99 = (found[hop][f"p{percent}_us"] / 1_000 for percent in PERCENTILES)
        budget = BUDGET_MS.get(hop)
        style = "bold red" if budget is not None and p99 > budget else ""
        cells: list[str | Text] = [f"{p50:.1f}", f"{p95:.1f}", Text(f"{p99:.1f}", style=style)]
        table.add_row(hop, *cells, "" if budget is None else str(budget))
    return table


def _gaps(status: FeedStatus, now_us: int) -> Counter[str]:
    return sum((lane.gaps_by_fault(now_us) for lane in status.lanes.values()), Counter())


def _faults(counts: Counter[str]) -> Text:
    shown = [f"{counts[party]} {party}" for party in PARTIES if counts[party]]
    return Text(", ".join(shown) or "none", style="yellow" if shown else "dim")


def _slots(row: object) -> str:
    assert isinstance(row, dict)
    missed = f", {row['missed']} missed" if row["missed"] else ""
    return f"{row['slots']} attested{missed}"


def _plain(text: str) -> str:
    """What venues and notaries say, as one harmless line."""
    return ascii(text[:200])[1:-1]
