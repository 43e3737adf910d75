"""What both verifiers, Python's and the fairness page's, must agree on: questions and answers.

The answers are Python's own at the time of asking, so that no file of them grows old.
"""

from __future__ import annotations

import base64
import dataclasses
import inspect
from collections.abc import Callable, Iterator
from functools import cache
from typing import Any

import orjson

from attestation.errors import OutcomeMismatchError, QuotaryError
from attestation.settlement.bundle import BUNDLE_LIMIT, SettlementBundle
from attestation.settlement.expect import SettlementExpect
from attestation.settlement.ledger import LedgerLine
from attestation.settlement.policy import SettlementPolicy
from attestation.settlement.recompute import recompute
from attestation.trust import Trust
from attestation.venues import VenueFile, shipped_venues
from tests.adversaries import operator
from tests.fuzz.edits import mutate_json
from tests.settlement import cases, test_sessions, world
from tests.web.canonical import SPELLINGS
from verifier.selftest import SAMPLES, SETTLEMENTS, samples


@dataclasses.dataclass(frozen=True, kw_only=True)
class Answer:
    """A document, or the error and its rule."""

    document: str | None = None
    error: str | None = None
    rule: str | None = None

    @classmethod
    def of(cls, ask: Callable[[], bytes]) -> Answer:
        try:
            return cls(document=ask().decode())
        except QuotaryError as error:
            return cls(error=type(error).__name__, rule=error.rule)


@dataclasses.dataclass(frozen=True, kw_only=True)
class Vector:
    """A question, as the page's function ``call`` takes it, and Python's answer."""

    name: str
    call: str
    question: dict[str, Any]
    answer: Answer

    def asked(self) -> bytes:
        """The question as one line of JSON; bytes travel as base64."""
        return orjson.dumps({"call": self.call, "question": self.question})


def encoded(data: bytes) -> dict[str, str]:
    return {"base64": base64.b64encode(data).decode()}


def bundle_vector(
    name: str,
    data: bytes,
    policy: SettlementPolicy,
    *,
    trust: Trust | None = None,
    log_policy: bytes | None = None,
    files: dict[str, VenueFile] | None = None,
    line: LedgerLine | None = None,
    **expect: Any,
) -> Vector:
    """Asks about a bundle's bytes under the world's keys, log policy and venue files."""
    trust = world.trust(policy) if trust is None else trust
    log_policy = world.log_policy(len(policy.notaries)) if log_policy is None else log_policy
    files = world.venue_files(policy) if files is None else files
    wanted = {"policy_id": policy.policy_id, **expect}

    def ask() -> bytes:
        bundle = SettlementBundle.decode(data, limit=BUNDLE_LIMIT)
        outcome = recompute(
            bundle,
            trust=trust,
            log_policy=log_policy,
            expect=SettlementExpect.from_json(wanted),
            venue_files=files,
        )
        if line is not None:
            line.check(outcome)
            if line.leaf != bundle.trade.leaf:
                raise OutcomeMismatchError("the ledger's leaf is another", rule="ledger.leaf")
        return outcome.encode()

    question = {
        "bundle": encoded(data),
        "trust": trust.dump().decode(),
        "log_policy": log_policy.decode(),
        "expect": wanted,
        "venue_files": [venue_text(file) for file in files.values()],
        **({} if line is None else {"line": encoded(line.encode())}),
    }
    return Vector(name=name, call="judgeBundle", question=question, answer=Answer.of(ask))


def venue_text(file: VenueFile) -> str:
    """The canonical JSON of a venue file."""
    parts = file.to_json()
    del parts["hash"]
    return orjson.dumps(parts, option=orjson.OPT_SORT_KEYS).decode()


def honest_bundles() -> Iterator[Vector]:
    """Valid ones: every outcome, one notary and three, and random cases with all troubles."""
    for notaries in (1, 3):
        for close in (639_999, 640_000, 640_001):
            made = operator.honest(close, notaries)
            data = world.bundle(made).encode()
            yield bundle_vector(f"valid/{notaries}/{close}", data, made.policy)
    for seed in range(40):
        policy, terms, logged = cases.random_case(seed)
        policy = world.bound(policy)
        made = world.build(policy, terms, logged)
        yield bundle_vector(f"random/{seed}", world.bundle(made).encode(), policy)


def _cheats(module: Any, argument: str) -> Iterator[tuple[str, Callable[[Any], Any]]]:
    for name, value in vars(module).items():
        if (
            inspect.isfunction(value)
            and name.startswith("_")
            and value.__module__ == module.__name__
        ):
            if list(inspect.signature(value).parameters) == [argument]:
                yield name.strip("_"), value


def cheating_bundles() -> Iterator[Vector]:
    """Every cheat that the tests of bundles and sessions know."""
    for cheat in operator.CHEATS:
        made = operator.honest(notaries=cheat.notaries)
        yield bundle_vector(f"cheat/{cheat}", cheat.play(made).encode(), made.policy)
    small = operator.honest(policy=cases.policy(venues=3))
    for name, change in _cheats(test_sessions, "bundle"):
        data = change(world.bundle(small)).encode()
        yield bundle_vector(f"session/{name}", data, small.policy)
    for mark in test_sessions.test_session_that_is_not_the_venues_settles_nothing.pytestmark:
        for changes, _, rule in mark.args[1]:
            lying = test_sessions.with_session(changes)
            try:
                data = world.bundle(lying).encode()
            except QuotaryError:
                continue  # the world itself takes no part in it
            name = f"session/{','.join(changes)}/{rule}"
            yield bundle_vector(name, data, lying.policy)


def expectations() -> Iterator[Vector]:
    """One bundle under other keys, other expectations, other venue files."""
    made = operator.honest(policy=cases.policy(venues=3))
    policy = made.policy
    data = world.bundle(made).encode()
    known = world.trust(policy)
    leaf = made.opening.leaf
    for name, expect in {
        "trade": {"trade": leaf.trade, "side": leaf.side, "stake": leaf.stake},
        "other trade": {"trade": "0f" * 32},
        "other policy": {"policy_id": "0f" * 32},
        "other market": {"market": "ETH/USD"},
        "other side": {"side": "down"},
        "other stake": {"stake": "26"},
        "promised": {
            "trade": leaf.trade,
            "digest": made.opening.commitment().digest,
            "logged_by_us": made.terms.logged_us,
        },
        "promised otherwise": {"digest": "sha256:" + "0f" * 32},
        "promised of another": {"trade": "0f" * 32, "digest": "sha256:" + "0f" * 32},
        "logged late": {"logged_by_us": made.terms.logged_us - 1},
        "operator": {"operators": [entry.operator for entry in known.keys]},
        "other operator": {"operators": ["Somebody"]},
    }.items():
        yield bundle_vector(f"expect/{name}", data, policy, **expect)
    yield bundle_vector("trust/nobody", data, policy, trust=Trust())
    other = world.log_policy(1) + b"# mine\n"
    yield bundle_vector("log policy/other", data, policy, log_policy=other)
    yield bundle_vector("venue files/none", data, policy, files={})
    wrong = {**world.venue_files(policy), "v01": cases.venue_file("v02")}
    del wrong["v02"]
    yield bundle_vector("venue files/missing", data, policy, files=wrong)
    (key,) = known.keys
    for name, changes in {
        "revoked": {"revoked_at_us": cases.START - 1},
        "revoked after the quorum": {"revoked_at_us": cases.START + 20_000_000},
        "another role": {"role": "log"},
        "expired": {"valid_until_us": cases.START - 1},
        "not valid yet": {"valid_from_us": cases.START + 60_000_000},
    }.items():
        trust = Trust(keys=(dataclasses.replace(key, **changes),))  # type: ignore[arg-type]
        yield bundle_vector(f"trust/{name}", data, policy, trust=trust)


def changed_bundles() -> Iterator[Vector]:
    """A valid bundle changed at random places, and spelled in other ways."""
    made = operator.honest(policy=cases.policy(venues=3))
    data = world.bundle(made).encode()
    for seed in range(200):
        changed = mutate_json(data, 2 * len(data), seed)
        yield bundle_vector(f"changed/{seed}", changed, made.policy)
    for name, spell in SPELLINGS.items():
        yield bundle_vector(f"spelled/{name}", spell(data), made.policy)


def sample_bundles() -> Iterator[Vector]:
    """The bundles that ``verifier selftest`` runs, under the page's own venue files."""
    folder = SAMPLES / SETTLEMENTS
    log_policy = (folder / "log_policy.txt").read_text()
    for sample in samples(folder):
        data = sample.files[0].read_bytes()
        trust, expect = sample.trust.read_text(), sample.expect.read_text()

        def ask(data: bytes = data, trust: str = trust, expect: str = expect) -> bytes:
            return recompute(
                SettlementBundle.decode(data, limit=BUNDLE_LIMIT),
                trust=Trust.parse(trust.encode()),
                log_policy=log_policy.encode(),
                expect=SettlementExpect.parse(expect.encode()),
                venue_files=shipped_venues(),
            ).encode()

        question = {
            "bundle": encoded(data),
            "trust": trust,
            "log_policy": log_policy,
            "expect": expect,
        }
        name = f"sample/{sample.name}.{sample.code}"
        yield Vector(name=name, call="judgeBundle", question=question, answer=Answer.of(ask))


@cache
def bundles() -> list[Vector]:
    """All questions about bundles; asked in Node and in a browser, made once."""
    return [
        *sample_bundles(),
        *honest_bundles(),
        *cheating_bundles(),
        *expectations(),
        *changed_bundles(),
    ]
