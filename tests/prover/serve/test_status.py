"""What a feed's records make of its status, its screen and its metrics."""

from __future__ import annotations

import dataclasses
import re
from pathlib import Path

import pytest
import yaml
from rich.console import Console

from prover.feed.records import DeadLetter, Ended, Received, Started, Tick
from prover.serve.hops import HopWindow
from prover.serve.measures import Measures
from prover.serve.metrics import COUNTERS, GAUGES, HOP_SECONDS, HOPS, OTHER, FeedMetrics
from prover.serve.status import DEGRADED, DOWN, OK, FeedStatus
from prover.serve.view import line, screen
from tests.prover.serve.feeding import ALPHA, BETA, FEED, GRID, SESSION, a_miss, a_slot, a_start, at

ROOT = Path(__file__).resolve().parents[3]
NOW = at(120) + 100_000


def started(venue: str, notary: str = ALPHA, session: str = SESSION) -> Started:
    return Started(
        notary=notary,
        feed=FEED.feed,
        venue=venue,
        instrument="BTC/USD",
        session=session,
        attestation=a_start(),
    )


def ended(venue: str, session: str = SESSION) -> Ended:
    return Ended(
        notary=ALPHA, venue=venue, session=session, reason="venue_closed", detail="closed\x1b[31m"
    )


def received(venue: str, at_us: int) -> Received:
    return Received(
        notary=ALPHA, venue=venue, session=SESSION, index=0, received_us=at_us, payload=b"{}"
    )


def running() -> FeedStatus:
    status = FeedStatus(FEED)
    for venue in FEED.venues:
        for notary in FEED.notaries:
            status.take(started(venue, notary))
    for number in range(121):
        for notary in FEED.notaries:
            status.take(a_slot(number, notary=notary))
    return status


def shown(status: FeedStatus, width: int, now_us: int = NOW) -> str:
    console = Console(width=width, record=True, force_terminal=False)
    with console.capture() as capture:
        console.print(screen(status, now_us, width=width))
    return capture.get()


def test_a_feed_is_ok_while_every_connection_lives_and_every_notarys_slots_come() -> None:
    status = running()
    assert status.state(NOW) == OK
    status.take(ended("kraken"))
    assert status.state(NOW) == DEGRADED
    status.take(started("kraken", session="1b" * 16))
    assert status.state(NOW) == OK
    assert status.state(NOW + 60_000_000) == DOWN


def test_one_notary_that_is_away_degrades_the_feed() -> None:
    status = running()
    for number in range(121, 140):
        status.take(a_slot(number, notary=BETA))
    assert status.state(at(139)) == DEGRADED


def test_a_session_that_another_took_over_from_ends_unnoticed() -> None:
    status = running()
    status.take(started("kraken", session="1b" * 16))
    status.take(ended("kraken"))
    assert status.lanes["kraken", ALPHA].state == "live"


def test_a_quote_by_rest_is_no_connection() -> None:
    status = running()
    rest = dataclasses.replace(
        started("okx", session="1b" * 16), attestation=a_start(mode="sealed")
    )
    status.take(ended("okx"))
    status.take(rest)
    status.take(ended("okx", session="1b" * 16))
    lane = status.lanes["okx", ALPHA]
    assert (lane.state, lane.starts, lane.detail) == ("waiting", 1, "venue_closed: closed\x1b[31m")


def test_gaps_and_misses_of_the_last_minute_are_counted_by_fault() -> None:
    status = FeedStatus(FEED)
    for number in range(240):
        gaps = {"okx": "absent"} if number % 2 else {"okx": "venue_silent"}
        status.take(a_slot(number, gaps=gaps) if number != 230 else a_miss(230))
    row = status.lanes["okx", ALPHA].to_json(at(239))
    assert row["gaps"] == {"venue": 59, "prover": 60, "notary": 0}
    assert status.notaries[ALPHA].to_json(at(239))["slots"] == 119
    assert status.notaries[ALPHA].to_json(at(239))["missed"] == 1
    # However long it runs, a minute is kept.
    assert len(status.lanes["okx", ALPHA].gaps) <= 120


def test_messages_a_second_are_of_the_last_whole_seconds() -> None:
    status = FeedStatus(FEED)
    for number in range(1_000):
        status.take(received("okx", NOW - 10_000_000 + number * 10_000))
    lane = status.lanes["okx", ALPHA]
    assert lane.rate.per_second(NOW) == 100
    assert lane.rate.per_second(NOW + 30_000_000) == 0


def test_what_parts_of_the_feed_count_stands_beside_what_records_say() -> None:
    status = FeedStatus(FEED)
    status.count("failures_total", rule="network", venue="okx", notary=ALPHA)
    status.value("connects_headroom_ratio", 0.25, venue="okx", notary=ALPHA)
    letter = DeadLetter(received=received("okx", NOW), rule="W11", detail="no")
    status.take(letter)
    (row,) = (
        row
        for row in status.to_json(NOW)["lanes"]  # type: ignore[union-attr]
        if isinstance(row, dict) and (row["venue"], row["notary"]) == ("okx", ALPHA)
    )
    assert (row["failures"], row["headroom_percent"], row["dead_letters"]) == (1, 25, 1)
    assert (row["state"], row["detail"]) == ("waiting", "network")


@pytest.mark.parametrize("width", [80, 94, 100, 120, 200])
def test_the_screen_fits_its_terminal_and_shows_every_connection(width: int) -> None:
    status = running()
    quote = Tick(
        notary=ALPHA,
        venue="kraken",
        instrument="BTC/USD",
        bid="64000.12",
        ask="64000.13",
        received_us=NOW - 40_000,
    )
    status.take(quote)
    status.take(ended("okx"))
    for hop in HOPS:
        status.hop(hop, 0.0123)
    text = shown(status, width)
    assert max(map(len, text.splitlines())) <= width
    for word in ("binance", "kraken", "okx", "64000.12", "64000.13", "40 ms", "waiting", "alpha"):
        assert word in text, word
    assert "…" not in text
    assert "p99" in text and "12.3" in text


def test_where_the_screen_is_low_those_that_are_not_well_are_shown() -> None:
    status = running()
    for number in range(121, 130):
        status.take(a_slot(number, gaps=dict.fromkeys(FEED.venues, "clock")))
    status.take(ended("okx"))
    console = Console(width=100, force_terminal=False)
    with console.capture() as capture:
        console.print(screen(status, NOW, width=100, height=14))
    rows = capture.get().splitlines()
    assert len(rows) < 14
    assert any(row.startswith("okx") and "waiting" in row for row in rows)
    assert any(re.fullmatch("and 4 more connections *", row) for row in rows)


def test_what_venues_say_cannot_change_the_terminal() -> None:
    status = running()
    status.take(ended("okx"))
    text = shown(status, 200)
    assert "venue_closed: closed\\x1b[31m" in text
    assert "\x1b[31m" not in text


def test_without_a_terminal_the_status_is_one_line() -> None:
    status = running()
    status.take(a_miss(121))
    status.take(ended("okx"))
    said = line(status, NOW)
    assert "\n" not in said
    assert said.startswith("btc-usd degraded: 5/6 connections live; slots in 60 s: alpha.example ")
    assert "1 missed" in said


def test_percentiles_are_of_values_that_were_seen() -> None:
    window = HopWindow()
    for micros in range(1, 101):
        window.add("stored", micros)
    found = window.percentiles()["stored"]
    assert found == {"p50_us": 50, "p95_us": 95, "p99_us": 99, "count": 100}
    window.add("signed", 7)
    assert window.percentiles()["signed"]["p99_us"] == 7


def exposed(metrics: FeedMetrics) -> set[str]:
    """The names of all samples that may be scraped."""
    for name, (_, labels) in COUNTERS.items():
        metrics.count(name, **dict.fromkeys(labels, "x"))
    for name, (_, labels) in GAUGES.items():
        metrics.value(name, 1, **dict.fromkeys(labels, "x"))
    metrics.hop("stored", 0.001)
    return {sample.name for family in metrics.registry.collect() for sample in family.samples}


def test_every_metric_of_the_catalogue_is_exposed_by_its_name() -> None:
    names = exposed(FeedMetrics())
    assert {f"quotary_{name}" for name in (*COUNTERS, *GAUGES)} <= names
    assert {"quotary_hop_seconds_bucket", "process_cpu_seconds_total"} <= names


def test_the_budgets_can_be_read_off_the_histogram() -> None:
    assert {0.005, 0.05, 0.1} <= set(HOP_SECONDS)
    assert list(HOP_SECONDS) == sorted(set(HOP_SECONDS))


def test_what_the_feed_measures_is_in_the_catalogue() -> None:
    used = set()
    for path in (ROOT / "prover" / "feed").glob("*.py"):
        text = path.read_text(encoding="utf-8")
        used |= set(re.findall(r"metrics\.(?:count|value)\(\s*\"([a-z_]+)\"", text))
    assert used
    assert used <= {*COUNTERS, *GAUGES}


def test_alert_rules_name_metrics_labels_and_hops_that_exist() -> None:
    rules = yaml.safe_load((ROOT / "docs/deploy/alerts.yml").read_text(encoding="utf-8"))
    (group,) = rules["groups"]
    known = exposed(FeedMetrics()) | {"up"}
    labels = {label for _, names in (*COUNTERS.values(), *GAUGES.values()) for label in names}
    labels |= {"hop", "le", "job"}
    for rule in group["rules"]:
        assert rule.keys() == {"alert", "expr", "labels", "annotations"} | (
            {"for"} & rule.keys()
        ), rule
        named = set(re.findall(r"\b(?:quotary_[a-z_]+|up)\b", rule["expr"]))
        assert named and named <= known, rule["alert"]
        for listed in re.findall(r"by \(([^)]*)\)", rule["expr"]):
            assert set(re.split(r",\s*", listed)) <= labels, rule["alert"]
        for label, value in re.findall(r"([a-z]+)=~?\"([^\"]*)\"", rule["expr"]):
            assert label in labels | {"reason", "fault"}, rule["alert"]
            if label == "hop":
                assert set(value.split("|")) <= set(HOPS), rule["alert"]
        for label in re.findall(r"\$labels\.([a-z]+)", rule["annotations"]["summary"]):
            assert label in labels, rule["alert"]
            assert label in rule["expr"] or "by (" not in rule["expr"], rule["alert"]
    assert len({rule["alert"] for rule in group["rules"]}) == len(group["rules"])


def test_a_label_that_a_notary_chooses_takes_few_values() -> None:
    metrics = FeedMetrics()
    for number in range(1_000):
        metrics.count("failures_total", rule=f"r{number}", venue="okx", notary=ALPHA)
    text = metrics.render().decode()
    assert text.count("quotary_failures_total{") <= 65
    assert f'rule="{OTHER}"' in text


def test_what_is_not_in_the_catalogue_is_a_bug() -> None:
    with pytest.raises(KeyError):
        FeedMetrics().count("nothing_total")
    with pytest.raises(ValueError):
        FeedMetrics().count("messages_total", place="x")


def test_a_slots_latencies_are_read_from_its_own_times() -> None:
    metrics, status = FeedMetrics(), FeedStatus(FEED)
    measures = Measures(metrics, status, lambda: at(3) + 60_000)
    measures.take(a_slot(3))
    measures.take(a_slot(4, gaps={"okx": "absent"}))
    found = status.hops.percentiles()
    assert found["signed"]["p50_us"] == 1_500
    assert found["published"]["p99_us"] == 60_000
    text = metrics.render().decode()
    assert f'quotary_slots_total{{notary="{ALPHA}"}} 2.0' in text
    assert 'reason="absent"' in text


def test_slots_that_are_caught_up_with_say_nothing_of_latency() -> None:
    status = FeedStatus(FEED)
    measures = Measures(FeedMetrics(), status, lambda: at(100))
    for number in (3, 4, 5):
        measures.take(a_slot(number))
    assert status.hops.percentiles() == {}
    assert status.notaries[ALPHA].total == 3
    # From the first that came in time on, one that is late is late.
    for number in (100, 80):
        measures.take(a_slot(number))
    assert status.hops.percentiles()["published"]["p99_us"] == 20 * GRID
