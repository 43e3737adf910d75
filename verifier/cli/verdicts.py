"""A favourable verdict, for people."""

from __future__ import annotations

from attestation.verdict import Accepted, VerdictLog, VerdictQuote
from verifier.cli.boundary import say
from verifier.text import safe, utc


def say_verdict(verdict: Accepted) -> None:
    """Prints the verdict to stderr, line by line."""
    from verifier.decide import witnesses

    if verdict.verdict == "authentic":
        say("AUTHENTIC, but compared with nothing: it may be of another market, time or trade")
    elif not verdict.quotes:
        say("ACCEPTED as a transcript, without a quote")
    elif len({quote.venue for quote in verdict.quotes}) > 1:
        _say_venues(verdict)
    else:
        for quote in verdict.quotes:
            say(
                f"ACCEPTED {safe(quote.venue)} {safe(quote.market)} ({safe(quote.instrument)}): "
                f"bid {quote.bid}, ask {quote.ask}, mid {quote.mid}"
            )
    if verdict.mid is not None:
        say(f"  mid {verdict.mid}: the median of {len(verdict.quotes)}")
    say(f"  attestation {verdict.attestation}")
    if verdict.host is not None:
        say(f"  host {safe(verdict.host)}, mode {verdict.mode}, binding {verdict.binding}")
    say(f"  purpose {safe(verdict.purpose)}")
    say(f"  {_interval(verdict.not_before_us, verdict.not_after_us)}")
    say(f"  {safe(witnesses(verdict))}")
    for log in verdict.logs or ():
        say(f"  {_log_line(log)}")
    say(f"  not checked: {', '.join(verdict.not_checked)}")


def _say_venues(verdict: Accepted) -> None:
    """A slot: a line for each venue, and notary, in columns."""
    venues = sorted({quote.venue for quote in verdict.quotes})
    say(f"ACCEPTED {safe(verdict.quotes[0].market)}: {len(venues)} venues at one instant")
    rows = [_row(quote) for quote in verdict.quotes]
    widths = [max(map(len, column)) for column in zip(*rows, strict=True)]
    blocks: dict[str, list[tuple[str, ...]]] = {}
    for quote, row in zip(verdict.quotes, rows, strict=True):
        blocks.setdefault(quote.attestation, []).append(row)
    for notary, block in zip(verdict.notaries, blocks.values(), strict=True):
        if len(blocks) > 1:
            say(f"  as {safe(notary.name)} saw them:")
        for row in block:
            cells = [cell.ljust(width) for cell, width in zip(row, widths, strict=True)]
            say(f"    {'  '.join(cells)}".rstrip())
    for agreed in verdict.mids or ():
        say(f"  {safe(agreed.venue)} mid {agreed.mid}: the median of {len(verdict.notaries)}")


def _row(quote: VerdictQuote) -> tuple[str, ...]:
    return (
        safe(quote.venue),
        safe(quote.instrument),
        f"bid {quote.bid}",
        f"ask {quote.ask}",
        f"mid {quote.mid}",
        _interval(quote.not_before_us, quote.not_after_us),
    )


def _interval(first_us: int, last_us: int) -> str:
    if first_us == last_us:
        return f"at {utc(first_us)}"
    return f"between {utc(first_us)} and {utc(last_us)}"


def _log_line(log: VerdictLog) -> str:
    line = f"logged as entry {log.index} of {safe(log.origin)} at {utc(log.logged_us)}"
    if log.quorum_us is None:
        return f"{line}, by its operator's word: no witness was demanded"
    names = ", ".join(map(safe, log.witnesses))
    return f"{line}, cosigned by {utc(log.quorum_us)} by {names}"
