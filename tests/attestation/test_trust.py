"""Trust files: every refusal by name, and the same bytes back."""

from __future__ import annotations

import contextlib
import dataclasses
import tomllib
from typing import Any

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from attestation.encoding import MAX_INTEGER
from attestation.errors import MalformedError, UntrustedError, UsageError
from attestation.keys import SigningKey, VerifyingKey
from attestation.log.cosignature import WitnessKey
from attestation.trust import MAX_FILE_SIZE, MAX_TEXT, Trust, TrustedKey, parse_time

PROPERTY = settings(derandomize=True, deadline=None, max_examples=150)
DAY_US = 86_400_000_000
FROM_US = 1_735_689_600_000_000  # 2025-01-01T00:00:00Z
UNTIL_US = 1_767_225_600_000_000  # 2026-01-01T00:00:00Z


def key(name: str = "one.example", seed: int = 1, algorithm: str = "ed25519") -> VerifyingKey:
    return SigningKey(name=name, algorithm=algorithm, seed=bytes([seed]) * 32).verifying_key


def entry(verifying: VerifyingKey | None = None, **changes: Any) -> TrustedKey:
    verifying = verifying or key()
    members: dict[str, Any] = {
        "name": verifying.name,
        "operator": "Example Ltd",
        "key": verifying,
        "role": "attest",
        "valid_from_us": FROM_US,
        "valid_until_us": UNTIL_US,
    }
    return TrustedKey(**{**members, **changes})


def table(verifying: VerifyingKey | None = None, **changes: str | None) -> str:
    """One [[notary]] table; a member given as None is left out."""
    verifying = verifying or key()
    members: dict[str, str | None] = {
        "name": f'"{verifying.name}"',
        "operator": '"Example Ltd"',
        "vkey": f'"{verifying.vkey}"',
        "role": '"attest"',
        "valid_from": "2025-01-01T00:00:00Z",
        "valid_until": "2026-01-01T00:00:00Z",
    }
    lines = [f"{name} = {value}" for name, value in {**members, **changes}.items() if value]
    return "\n".join(["[[notary]]", *lines, ""])


def refusal(text: str) -> UsageError:
    with pytest.raises(UsageError) as caught:
        Trust.parse(text.encode())
    return caught.value


# Reading


def test_trust_file_is_read() -> None:
    other = key("two.example", 2, "ecdsa-secp256k1")
    text = table(revoked_at="2025-06-01T12:00:00.5Z") + table(other) + '[log_policy]\nfile = "p"\n'
    trust = Trust.parse(text.encode())
    assert trust == Trust(
        keys=(entry(revoked_at_us=1_748_779_200_500_000), entry(other)), log_policy_file="p"
    )


def test_empty_file_trusts_nobody() -> None:
    assert Trust.parse(b"") == Trust()
    assert Trust.parse(b"# nobody\n[log_policy]\n") == Trust()


def test_times_may_be_strings() -> None:
    text = table(valid_from='"2025-01-01T00:00:00Z"', valid_until='"2026-01-01T00:00:00.000000Z"')
    assert Trust.parse(text.encode()).keys == (entry(),)


@pytest.mark.parametrize(
    "text",
    [
        "[[notary",
        "notary = 1",
        "notary = [1]",
        "[notary]\nname = 'x'",
        "log_policy = 'file'",
        "[log_policy]\nfile = 1",
        "[log_policy]\nfile = ''",
        "[log_policy]\nfile = 'a'\nquorum = 1",
        "[[witness]]",
        "a = 1\na = 2",
        "x = " + "[" * 5000,
        "x = " + "9" * 5000,
        "\x00",
    ],
)
def test_file_of_another_shape_is_a_usage_error(text: str) -> None:
    refusal(text)


def test_bytes_that_are_no_utf8_or_too_many_are_a_usage_error() -> None:
    with pytest.raises(UsageError):
        Trust.parse(b"\xff\xfe")
    with pytest.raises(UsageError, match="larger"):
        Trust.parse(b"#" * (MAX_FILE_SIZE + 1))


@pytest.mark.parametrize(
    "member", ["name", "operator", "vkey", "role", "valid_from", "valid_until"]
)
def test_missing_member_is_a_usage_error(member: str) -> None:
    assert refusal(table(**{member: None})).rule == member


@pytest.mark.parametrize(
    "member", ["name", "operator", "vkey", "role", "valid_from", "valid_until", "revoked_at"]
)
@pytest.mark.parametrize("value", ["1", "true", "[]", "''", "'nothing'", "1979-05-27", "07:32:00"])
def test_member_of_another_kind_is_a_usage_error(member: str, value: str) -> None:
    if member == "operator" and value == "'nothing'":
        return  # An operator is any text.
    assert refusal(table(**{member: value})).rule in (member, "vkey")


def test_unknown_member_is_a_usage_error() -> None:
    assert refusal(table(valid_form="2025-01-01T00:00:00Z")).rule == "valid_form"


def test_key_id_that_does_not_recompute_is_a_usage_error() -> None:
    good = key()
    other_id = good.vkey.replace(good.key_id.hex(), "00000000")
    assert "recompute" in refusal(table(vkey=f'"{other_id}"')).detail


def test_name_other_than_the_vkeys_is_a_usage_error() -> None:
    assert refusal(table(name='"two.example"')).rule == "name"


def test_key_of_unknown_type_or_small_order_is_a_usage_error() -> None:
    refusal(table(vkey='"one.example+00000000+BAAA"'))
    neutral = "AQ" + "EA" + "A" * 40
    assert "small order" in refusal(table(vkey=f'"one.example+00000000+{neutral}"')).detail


def test_unknown_role_is_a_usage_error() -> None:
    assert refusal(table(role='"Attest"')).rule == "role"


@pytest.mark.parametrize("role", ["log", "witness"])
def test_secp256k1_is_no_key_for_logs_and_witnesses(role: str) -> None:
    ecdsa = key(algorithm="ecdsa-secp256k1")
    assert refusal(table(ecdsa, role=f'"{role}"')).rule == "vkey"
    assert Trust.parse(table(role=f'"{role}"').encode()).keys[0].role == role


@pytest.mark.parametrize("role", ["attest", "log"])
def test_cosigners_key_is_no_key_for_attestations_and_logs(role: str) -> None:
    cosigner = WitnessKey.of(key()).vkey
    assert refusal(table(vkey=f'"{cosigner}"', role=f'"{role}"')).rule == "vkey"
    trust = Trust.parse(table(vkey=f'"{cosigner}"', role='"witness"').encode())
    assert [found.key for found in trust.keys] == [WitnessKey.of(key())]


def test_key_of_a_witness_in_both_spellings_is_a_usage_error() -> None:
    both = table(role='"witness"') + table(vkey=f'"{WitnessKey.of(key()).vkey}"', role='"witness"')
    assert refusal(both).rule == "vkey"


@pytest.mark.parametrize(
    "operator", ['""', '"a\\nb"', '"a\\u001b[2Jb"', '"a\\u2028b"', '"' + "a" * 257 + '"']
)
def test_operator_of_several_lines_or_with_controls_is_a_usage_error(operator: str) -> None:
    assert refusal(table(operator=operator)).rule == "operator"


def test_equal_name_and_id_are_a_usage_error() -> None:
    assert "same name and key id" in refusal(table() + table()).detail
    # Neither in two roles: the attestation key and the log key differ.
    refusal(table() + table(role='"log"'))


def test_one_key_under_two_names_is_a_usage_error() -> None:
    # It would count twice in a quorum of names.
    assert "two names" in refusal(table() + table(key("two.example"))).detail


def test_one_name_of_two_operators_is_a_usage_error() -> None:
    assert refusal(table() + table(key(seed=2), operator='"Other"')).rule == "operator"


@pytest.mark.parametrize("member", ["valid_from", "valid_until", "revoked_at"])
@pytest.mark.parametrize(
    "time",
    [
        "2025-01-01T00:00:00",
        "2025-01-01T00:00:00+01:00",
        "1969-12-31T23:59:59Z",
        "2255-06-06T00:00:00Z",
        "9999-12-31T23:59:59Z",
        "'2025-01-01T00:00:00'",
        "'2025-01-01T00:00:00+00:00'",
        "'2025-01-01 00:00:00Z'",
        "'2025-01-01t00:00:00z'",
        "'2025-01-01T00:00Z'",
        "'2025-1-01T00:00:00Z'",
        "'2025-02-29T00:00:00Z'",
        "'2025-01-01T24:00:00Z'",
        "'2025-01-01T00:00:60Z'",
        "'2025-01-01T00:00:00.Z'",
        "'2025-01-01T00:00:00.1234567Z'",
        "'2025-01-01T00:00:00,5Z'",
        "'٢025-01-01T00:00:00Z'",
        "'2025-01-01T00:00:00Z\\n'",
        "'9999-12-31T23:59:59Z'",
    ],
)
def test_time_that_is_not_rfc3339_in_utc_is_a_usage_error(member: str, time: str) -> None:
    assert refusal(table(**{member: time})).rule == member


def test_key_that_is_never_valid_is_a_usage_error() -> None:
    for until in ("2025-01-01T00:00:00Z", "2024-01-01T00:00:00Z"):
        assert refusal(table(valid_until=until)).rule == "valid_until"


def test_errors_name_the_entry() -> None:
    assert "entry 2" in refusal(table() + table(key(seed=2), role='"x"')).detail


@PROPERTY
@given(st.binary(max_size=200))
def test_any_bytes_are_trust_or_a_usage_error(data: bytes) -> None:
    with contextlib.suppress(UsageError):
        Trust.parse(data)


@PROPERTY
@given(st.integers(0, len(table()) - 1), st.characters(codec="utf-8"))
def test_any_changed_character_gives_trust_or_a_usage_error(place: int, character: str) -> None:
    text = table()
    with contextlib.suppress(UsageError):
        Trust.parse((text[:place] + character + text[place + 1 :]).encode())


@PROPERTY
@given(st.text(max_size=40))
def test_any_text_is_a_time_or_malformed(text: str) -> None:
    with contextlib.suppress(MalformedError):
        assert parse_time(text) >= 0


def test_times_are_exact_to_the_microsecond() -> None:
    assert parse_time("1970-01-01T00:00:00Z") == 0
    assert parse_time("2025-01-01T00:00:00Z") == FROM_US
    assert parse_time("2025-01-01T00:00:00.000001Z") == FROM_US + 1
    assert parse_time("2254-12-31T23:59:59.999999Z") == 8_993_721_599_999_999
    with pytest.raises(MalformedError):
        parse_time("1969-12-31T23:59:59Z")


# Writing


def test_dump_is_a_readable_trust_file() -> None:
    trust = Trust(keys=(entry(revoked_at_us=FROM_US + 1),), log_policy_file="log.toml")
    assert trust.dump().decode() == (
        "[[notary]]\n"
        'name = "one.example"\n'
        'operator = "Example Ltd"\n'
        f'vkey = "{key().vkey}"\n'
        'role = "attest"\n'
        "valid_from = 2025-01-01T00:00:00Z\n"
        "valid_until = 2026-01-01T00:00:00Z\n"
        "revoked_at = 2025-01-01T00:00:00.000001Z\n"
        "\n"
        "[log_policy]\n"
        'file = "log.toml"\n'
    )


LINE = st.text(
    st.characters(codec="utf-8", exclude_categories=("Cc", "Cs", "Zl", "Zp")),
    min_size=1,
    max_size=30,
)
TIMES = st.lists(st.integers(0, MAX_INTEGER), min_size=2, max_size=2, unique=True).map(sorted)


@PROPERTY
@given(
    st.lists(
        st.tuples(LINE, st.sampled_from(["attest", "log", "witness"]), TIMES, st.booleans()),
        max_size=4,
    ),
    st.none() | LINE,
)
def test_dump_and_parse_round_trip(
    members: list[tuple[str, str, list[int], bool]], policy: str | None
) -> None:
    trust = Trust(
        keys=tuple(
            entry(
                key(f"n{number}.example", number + 1),
                operator=operator,
                role=role,
                valid_from_us=times[0],
                valid_until_us=times[1],
                revoked_at_us=times[1] if revoked else None,
            )
            for number, (operator, role, times, revoked) in enumerate(members)
        ),
        log_policy_file=policy,
    )
    data = trust.dump()
    assert Trust.parse(data) == trust
    assert Trust.parse(data).dump() == data
    tomllib.loads(data.decode())


@pytest.mark.parametrize(
    "change",
    [
        {"role": "judge"},
        {"operator": ""},
        {"operator": "a\x7fb"},
        {"operator": "a\u2028b"},
        {"operator": "a\u2029b"},
        {"operator": "a\ud800b"},
        {"name": "two.example"},
        {"valid_from_us": -1},
        {"valid_until_us": MAX_INTEGER + 1},
        {"valid_until_us": FROM_US},
        {"revoked_at_us": -1},
    ],
)
def test_entry_that_no_file_may_hold_cannot_be_built(change: dict[str, Any]) -> None:
    with pytest.raises(UsageError):
        entry(**change)


def test_adding_a_key_checks_it_against_the_others() -> None:
    trust = Trust().adding(entry()).adding(entry(key("two.example", 2)))
    assert [item.name for item in trust.keys] == ["one.example", "two.example"]
    with pytest.raises(UsageError):
        trust.adding(entry())
    assert trust.find(key("two.example", 2).short, "attest", FROM_US).name == "two.example"


# Asking


def test_key_is_found_from_its_start_until_just_before_its_end() -> None:
    trust = Trust(keys=(entry(),))
    for at_us in (FROM_US, FROM_US + DAY_US, UNTIL_US - 1):
        assert trust.find(key().short, "attest", at_us) == entry()


@pytest.mark.parametrize(
    ("short", "role", "at_us", "rule"),
    [
        ("two.example+" + key().key_id.hex(), "attest", FROM_US, "trust.unknown"),
        ("one.example+00000000", "attest", FROM_US, "trust.unknown"),
        ("one.example", "attest", FROM_US, "trust.unknown"),
        ("", "attest", FROM_US, "trust.unknown"),
        (key().vkey, "attest", FROM_US, "trust.unknown"),
        (key().short.upper(), "attest", FROM_US, "trust.unknown"),
        (key().short, "log", FROM_US, "trust.role"),
        (key().short, "witness", FROM_US, "trust.role"),
        (key().short, "attest", FROM_US - 1, "trust.valid_from"),
        (key().short, "attest", UNTIL_US, "trust.valid_until"),
    ],
)
def test_key_is_untrusted_for_a_reason_of_its_own(
    short: str, role: str, at_us: int, rule: str
) -> None:
    with pytest.raises(UntrustedError) as caught:
        Trust(keys=(entry(),)).find(short, role, at_us)
    assert caught.value.rule == rule


@pytest.mark.parametrize("at_us", [FROM_US, FROM_US + DAY_US - 1, FROM_US + DAY_US, UNTIL_US - 1])
def test_revoked_key_is_untrusted_also_before_its_revocation(at_us: int) -> None:
    # Its holder chooses the time it signs.
    trust = Trust(keys=(entry(revoked_at_us=FROM_US + DAY_US),))
    with pytest.raises(UntrustedError) as caught:
        trust.find(key().short, "attest", at_us)
    assert caught.value.rule == "trust.revoked_at"


def test_rotated_keys_of_one_name_are_told_apart_by_id() -> None:
    old, new = entry(), entry(key(seed=2), valid_from_us=UNTIL_US, valid_until_us=UNTIL_US + DAY_US)
    trust = Trust(keys=(old, new))
    assert trust.find(new.key.short, "attest", UNTIL_US) == new
    with pytest.raises(UntrustedError):
        trust.find(old.key.short, "attest", UNTIL_US)


def test_operator_is_told_by_name() -> None:
    trust = Trust(keys=(entry(), entry(key("two.example", 2), operator="Other")))
    assert trust.operator_of("two.example") == "Other"
    with pytest.raises(UntrustedError):
        trust.operator_of("three.example")


def test_keys_of_a_log_are_those_of_its_origin_and_role() -> None:
    log, other = key("log.example", 3), key("other.example", 4)
    trust = Trust(
        keys=(entry(), entry(log, role="log"), entry(other, role="log"), entry(key(seed=5)))
    )
    assert list(trust.logs_of("log.example")) == [log]
    assert list(trust.logs_of("other.example")) == [other]
    assert trust.logs_of("one.example") == {}
    assert trust.logs_of("nobody.example") == {}


def test_revoked_key_is_trusted_for_what_witnesses_saw_up_to_its_revocation() -> None:
    trust = Trust(keys=(entry(revoked_at_us=FROM_US + DAY_US),))
    for seen_us in (FROM_US, FROM_US + DAY_US):
        assert trust.find(key().short, "attest", FROM_US, witnessed_us=seen_us) == trust.keys[0]
    with pytest.raises(UntrustedError) as caught:
        trust.find(key().short, "attest", FROM_US, witnessed_us=FROM_US + DAY_US + 1)
    assert caught.value.rule == "trust.revoked_at"


def test_widest_window_and_longest_texts_are_taken() -> None:
    widest = entry(valid_from_us=0, valid_until_us=MAX_INTEGER, revoked_at_us=MAX_INTEGER)
    assert Trust.parse(Trust(keys=(widest,)).dump()).keys == (widest,)
    for operator in ("a" * MAX_TEXT, "Bourse \u00e9toil\u00e9e \U0001f4c8"):
        named = Trust(keys=(entry(operator=operator),))
        assert Trust.parse(named.dump()) == named
    padded = table().encode()
    padded += b"#" * (MAX_FILE_SIZE - len(padded))
    assert Trust.parse(padded).keys == (entry(),)


def test_trust_is_frozen() -> None:
    with pytest.raises(dataclasses.FrozenInstanceError):
        Trust().keys = (entry(),)  # type: ignore[misc]
