"""``python -m examples.game incidents``: what an operator does with a trade that was not paid.

An incident's stake is held until somebody resolves it, in one of two ways.  ``--refund`` gives
the stake back, with ``--fee`` what the policy adds for a fault of the operator.
``--settle-as-proven`` asks the verify API about the kept bundle, or about another one
(``--bundle``), and pays what it proves: nothing else can be paid.  A late trade was refunded
before; ``--refund`` says so, and moves nothing.  Each attempt is written down in the book.
"""

from __future__ import annotations

import argparse
import getpass
import json
import sys
import time
from dataclasses import asdict
from datetime import UTC, datetime
from fractions import Fraction
from pathlib import Path
from typing import Any

from attestation.errors import InvalidProofError, QuotaryError, UnavailableError, UsageError
from attestation.hashing import hash_string
from attestation.keys import VerifyingKey
from attestation.settlement.policy import SettlementPolicy
from attestation.verdict import Rejected, rejected
from examples.game.bet import UNRESOLVED, Bet, Resolution, tokens
from examples.game.book import Book
from examples.game.settling import is_about, proven_facts
from examples.game.terms import Terms
from verifier.client import VerifyClient

SETTINGS = "settings.json"
"""In the game's folder: what the game was started with."""
FOLDER = Path("build/play/game")


def main(arguments: list[str] | None = None) -> int:
    """Runs the command; returns the exit code."""
    options = _parser().parse_args(arguments)
    try:
        if not (options.data / "game.db").is_file():
            raise UsageError("no game was played in this folder", found=str(options.data))
        book = Book(options.data / "game.db")
        try:
            options.act(book, options)
        finally:
            book.close()
    except QuotaryError as error:
        print(f"incidents: {error}", file=sys.stderr)
        return error.exit_code
    return 0


def _parser() -> argparse.ArgumentParser:
    parser = argparse.ArgumentParser(prog="python -m examples.game incidents", description=__doc__)
    parser.add_argument("--data", type=Path, default=FOLDER, help="the game's folder")
    acts = parser.add_subparsers(required=True, metavar="list|show|resolve")
    listing = acts.add_parser("list", help="incidents and late trades, oldest first")
    listing.set_defaults(act=_list)
    showing = acts.add_parser("show", help="everything that is known of a trade")
    showing.add_argument("trade")
    showing.set_defaults(act=_show)
    resolving = acts.add_parser("resolve", help="end an incident")
    resolving.add_argument("trade")
    ways = resolving.add_mutually_exclusive_group(required=True)
    ways.add_argument("--refund", action="store_true", help="give the stake back")
    ways.add_argument("--settle-as-proven", action="store_true", help="pay what a bundle proves")
    resolving.add_argument("--fee", action="store_true", help="with --refund: the policy's fee")
    resolving.add_argument("--bundle", type=Path, help="instead of the one that was kept")
    resolving.add_argument("--verifier", help="URL of your verify API, if not the game's")
    resolving.add_argument("--reason", required=True, help="why, for the book")
    resolving.add_argument("--by", default=getpass.getuser(), help="who resolves it")
    resolving.set_defaults(act=_resolve)
    return parser


def _list(book: Book, options: argparse.Namespace) -> None:
    found = book.bets_in(*UNRESOLVED)
    for bet in found:
        print(f"{bet.trade}  {bet.state}  {_time(bet.clicked_us)}")
        print(f"    {book.name_of(bet.player)!r}: {bet.side} {tokens(bet.stake)}; {_why(bet)}")
    print(f"{len(found)} to be resolved" if found else "nothing to be resolved")


def _show(book: Book, options: argparse.Namespace) -> None:
    bet = _bet(book, options.trade)
    shown = {name: value for name, value in asdict(bet).items() if value is not None}
    for name in ("promise", "house", "result"):
        if name in shown:
            shown[name] = json.loads(shown[name])
    bundle = options.data / "bundles" / f"{bet.trade}.json"
    notes = [asdict(note) for note in book.resolutions() if note.trade == bet.trade]
    document = {
        "name": book.name_of(bet.player),
        **shown,
        "states": [{"state": state, "at": _time(at)} for state, at in book.history(bet.trade)],
        "bundle": str(bundle) if bundle.is_file() else None,
        "resolutions": notes,
    }
    print(json.dumps(document, indent=2, ensure_ascii=False))


def _resolve(book: Book, options: argparse.Namespace) -> None:
    bet = _bet(book, options.trade)
    if bet.state not in UNRESOLVED:
        raise UsageError("the trade is no incident", rule="state", found=bet.state)
    if options.refund:
        _refund(book, bet, options)
    else:
        _settle_as_proven(book, bet, options)


def _refund(book: Book, bet: Bet, options: argparse.Namespace) -> None:
    if options.bundle or options.verifier:
        raise UsageError("a refund needs no proof", rule="refund")
    if bet.state == "late":
        if options.fee:
            raise UsageError("a late trade was refunded before", rule="fee")
        _end(book, bet, "refunded", None, options, "refunded before")
        return
    payout = bet.stake + (_terms(options).fee if options.fee else 0)
    _end(book, bet, "refunded", payout, options, "refund")


def _settle_as_proven(book: Book, bet: Bet, options: argparse.Namespace) -> None:
    if bet.state == "late":
        raise UsageError("the stake was refunded: the trade pays nothing more", rule="state")
    if options.fee:
        raise UsageError("what is proven says whether there is a fee", rule="fee")
    file: Path = options.bundle or options.data / "bundles" / f"{bet.trade}.json"
    try:
        bundle = file.read_bytes()
    except OSError as error:
        raise UsageError(f"no bundle: {error.strerror}", found=str(file)) from None
    terms, evidence = _terms(options), {"bundle": hash_string(bundle)}
    try:
        with VerifyClient(options.verifier or _settings(options)["verifier"]) as client:
            verdict = client.verify_settlement(bundle, expect=terms.expectation(bet), check=False)
    except UnavailableError:
        raise
    except QuotaryError as error:
        # Not even a bundle.
        verdict = rejected(error)
    if isinstance(verdict, Rejected):
        note = _note(bet, options, "not proven", {**evidence, "verdict": verdict.to_json()})
        book.note_resolution(note)
        raise InvalidProofError(f"not proven, nothing is paid: {verdict.detail}", rule=verdict.rule)
    if not is_about(verdict, bet):
        raise InvalidProofError("the verdict is on another trade", rule="verdict.trade")
    found = verdict.outcome
    payout = terms.payout(bet, found.outcome, fee=found.fee)
    evidence["settlement"] = verdict.settlement
    facts = proven_facts(verdict)
    if options.bundle:
        kept = options.data / "bundles" / f"{bet.trade}.json"
        kept.write_bytes(bundle)
    _end(book, bet, "settled", payout, options, "settled as proven", evidence, **facts)


def _end(
    book: Book,
    bet: Bet,
    state: str,
    payout: int | None,
    options: argparse.Namespace,
    action: str,
    evidence: dict[str, Any] | None = None,
    **facts: Any,
) -> None:
    """Moves the tokens and writes the resolution down, together; raises if somebody was first."""
    note = _note(bet, options, action, evidence)
    if not book.resolve(bet.trade, state, note.at_us, payout=payout, note=note, **facts):
        raise UsageError("somebody else resolved it", rule="state")
    name = book.name_of(bet.player)
    paid = "nothing moves" if payout is None else f"pays {tokens(payout)} to {name!r}"
    print(f"{bet.trade}: {action}; {paid}")


def _note(
    bet: Bet, options: argparse.Namespace, action: str, evidence: dict[str, Any] | None
) -> Resolution:
    return Resolution(
        number=0,
        trade=bet.trade,
        at_us=time.time_ns() // 1_000,
        by=options.by,
        action=action,
        reason=options.reason,
        evidence=None if evidence is None else json.dumps(evidence),
    )


def _bet(book: Book, trade: str) -> Bet:
    bet = book.bet(trade)
    if bet is None:
        raise UsageError("no such trade", rule="trade", found=trade)
    return bet


def _settings(options: argparse.Namespace) -> dict[str, Any]:
    file = options.data / SETTINGS
    try:
        found: dict[str, Any] = json.loads(file.read_text(encoding="utf-8"))
    except OSError as error:
        raise UsageError(f"cannot read it: {error.strerror}", found=str(file)) from None
    return found


def _terms(options: argparse.Namespace) -> Terms:
    settings = _settings(options)
    return Terms(
        policy=SettlementPolicy.from_json(settings["policy"]),
        win=Fraction(settings["win"]),
        operator=VerifyingKey.parse(settings["operator"]),
        development=settings["development"],
    )


def write_settings(folder: Path, terms: Terms, verifier: str) -> None:
    """Writes down what the game was started with, for ``resolve``."""
    settings = {
        "policy": terms.policy.to_json(),
        "win": str(terms.win),
        "operator": terms.operator.vkey,
        "development": terms.development,
        "verifier": verifier,
    }
    (folder / SETTINGS).write_text(json.dumps(settings), encoding="utf-8")


def _why(bet: Bet) -> str:
    return f"{bet.rule}: {bet.detail}" if bet.rule else str(bet.detail)


def _time(at_us: int) -> str:
    return datetime.fromtimestamp(at_us / 1e6, UTC).isoformat(timespec="milliseconds")
