"""Makes ``verifier/samples``: ``python -m tests.make_samples`` writes them anew.

Deterministic: keys, salts and times are fixed in ``tests/verifier/forge.py``, so
that the shipped bytes can be made again by anyone.  File names hold the exit code.
"""

from __future__ import annotations

import base64
import dataclasses
import json
from collections.abc import Callable
from pathlib import Path
from typing import Any

from attestation.encoding import encode
from attestation.hashing import hash_string
from attestation.log.inclusion import Inclusion
from attestation.presentation import Presentation
from attestation.request import KeyOpening
from attestation.secrets import Evidence
from attestation.trust import Trust
from tests.settlement import samples as settlements
from tests.verifier import evidence as rechecked
from tests.verifier import forge, logged, slot_samples
from tests.verifier.forge import LyingNotary
from verifier.selftest import EVIDENCE, SAMPLES, SETTLEMENTS

ONE, TWO = LyingNotary(), LyingNotary(name="notary.two", operator="Two Ltd")
SISTER = LyingNotary(name="notary.sister", operator="Two Ltd")
CURVE = LyingNotary(name="notary.curve", operator="Curve Ltd", algorithm="ecdsa-secp256k1")
SPONGE = LyingNotary(name="notary.sponge", operator="Sponge Ltd", hash="sha3-256")
STRANGER = LyingNotary(name="notary.stranger", operator="Nobody")
IMPOSTOR = LyingNotary(name="notary.one", algorithm="ecdsa-secp256k1")
HOUR = 3_600_000_000

PURPOSE = 'purpose = "trade/t-1/open"\n'
EXPECT = f"""\
venues = ["binance", "coinbase", "kraken"]
market = "BTC/USD"
{PURPOSE}max_age_us = 60_000_000
"""
QUORUM = EXPECT + "[notaries]\ncount = 2\n"
SLOT = 'venues = ["coinbase"]\nmarket = "BTC/USD"\n'
SLOT_GAP = 'venues = ["kraken"]\nmarket = "BTC/USD"\n'
LOGGED = "[log]\nquorum = 3\nmax_delay_us = 5_000_000\n"
TRANSCRIPT = 'hosts = ["api.exchange.coinbase.com"]\n'

FIELDS = ("session", "connection", "server", "http")


def build() -> dict[str, bytes]:
    """Returns every file of the folder by its path there."""
    files = {
        "clock.json": encode({"now_us": forge.NOW}) + b"\n",
        "trust.toml": forge.trust(ONE, TWO, SISTER, CURVE, SPONGE).dump(),
        "expect.toml": EXPECT.encode(),
    }
    for make in (
        _accepted,
        _malformed,
        _tampered,
        _lies,
        _unknown,
        _wrong_time,
        _missing,
        _other,
        _logged,
    ):
        files.update(make())
    for folder, made in ((SETTLEMENTS, settlements.build()), (EVIDENCE, _evidence())):
        files |= {f"{folder}/{name}": data for name, data in made.items()}
    return files


def _evidence() -> dict[str, bytes]:
    """What `verifier recheck` is for: one session, attested as it was and otherwise."""
    captured = rechecked.stored()

    def shown(**changes: Any) -> Evidence:
        return rechecked.evidence(captured, quote=False, **{"notary": ONE} | changes)

    honest = shown()
    cut = bytearray(honest.received)
    cut[-40] ^= 1
    made = {
        "same.0": honest,
        "same_in_open_mode.0": shown(mode="open"),
        "another_answer.11": shown(lies={"response.body.digest": hash_string(b"")}),
        "another_request.11": shown(lies={"http.target": "/api/v3/ticker/price"}),
        "another_certificate.11": shown(lies={"server.leaf_spki": "00" * 32}),
        "another_record.11": dataclasses.replace(honest, received=bytes(cut)),
        "another_key.11": dataclasses.replace(
            honest, opening=KeyOpening(kind="ephemeral", private_key="11" * 32)
        ),
        "seal_of_other_bytes.11": shown(seal_lies={"sent": hash_string(b"")}),
        "seal_missing.10": dataclasses.replace(honest, seal=None),
        "signed_by_nobody_known.12": shown(notary=STRANGER),
    }
    files = {f"{name}.json": one.encode() for name, one in made.items()}
    return files | {
        "roots.pem": captured.roots_pem,
        "trust.toml": forge.trust(ONE, TWO).dump(),
    }


def _accepted() -> dict[str, bytes]:
    one, two = forge.session(), forge.session(notary=TWO)
    slot = forge.slot()
    transcript = forge.session(quote=False)
    return {
        "valid_redacted.0.json": one.present().encode(),
        "valid_whole.0.json": one.whole().encode(),
        "valid_with_final_newline.0.json": one.present().encode() + b"\n",
        "valid_binance.0.json": forge.session("binance").present().encode(),
        "valid_kraken.0.json": forge.session("kraken").present().encode(),
        "valid_body_as_one.0.json": forge.session(body_scheme="hash")
        .present({"response.body": "whole"})
        .encode(),
        "valid_secp256k1.0.json": forge.session(notary=CURVE).present().encode(),
        "valid_sha3.0.json": forge.session(notary=SPONGE).present().encode(),
        "valid_quorum.0.1.json": one.present().encode(),
        "valid_quorum.0.2.json": two.present().encode(),
        "valid_quorum.0.expect.toml": QUORUM.encode(),
        "valid_slot.0.json": forge.show_fields(slot, [0, 2, 4]).encode(),
        "valid_slot.0.expect.toml": SLOT.encode(),
        **slot_samples.build(),
        "valid_transcript.0.json": transcript.present({"response.status": "whole"}).encode(),
        "valid_transcript.0.expect.toml": TRANSCRIPT.encode(),
    }


def _malformed() -> dict[str, bytes]:
    valid = forge.session().present()
    text = valid.encode()
    twice = forge.session(lies={"response.headers.name": "response.status"})
    return {
        "not_json.10.json": b"bid 96500.12",
        "not_canonical.10.json": json.dumps(json.loads(text), indent=1).encode(),
        "duplicate_key.10.json": text.replace(b'"index":0', b'"index":0,"index":0', 1),
        "float_index.10.json": text.replace(b'"index":0', b'"index":0.0', 1),
        "trailing_bytes.10.json": text + b"{}",
        "byte_order_mark.10.json": b"\xef\xbb\xbf" + text,
        "unknown_member.10.json": _edited(valid, lambda value: value.update(key="mine")),
        "fields_out_of_order.10.json": _edited(valid, lambda value: value["fields"].reverse()),
        "salt_and_seed.10.json": _edited(valid, lambda value: value.update(seed="00" * 32)),
        "two_sections_of_one_name.10.json": forge.show_fields(
            twice.attestation, range(11)
        ).encode(),
        "another_document.10.json": valid.header.encode(),
    }


def _tampered() -> dict[str, bytes]:
    """A presentation changed after it was signed."""
    valid = forge.session().present()

    def edit(change: Callable[[dict[str, Any]], object]) -> bytes:
        return _edited(valid, change)

    def field(value: dict[str, Any], name: str) -> dict[str, Any]:
        return next(item for item in value["fields"] if item["name"] == name)

    def swap(value: dict[str, Any]) -> None:
        names = [item["name"] for item in value["fields"]]
        one, other = (value["fields"][names.index(name)] for name in ("section", "extension"))
        for member in ("name", "value", "salt"):
            one[member], other[member] = other[member], one[member]

    def part(value: dict[str, Any]) -> dict[str, Any]:
        entry: dict[str, Any] = value["openings"][0]["parts"][1]
        return entry

    cheaper = forge.session(bid="96400.12").present()
    files = {
        "tampered_bid.11.json": edit(
            lambda value: field(value, "extension")["value"]["value"].update(bid="96400.12")
        ),
        "tampered_body.11.json": edit(lambda value: part(value).update(data="Ijk2NDAwLjEyIg")),
        "tampered_purpose.11.json": edit(
            lambda value: field(value, "session")["value"].update(purpose="trade/t-1/open ")
        ),
        "tampered_header.11.json": edit(
            lambda value: value["header"].update(issued_us=forge.NOW - 1)
        ),
        "tampered_signature.11.json": edit(
            lambda value: value.update(signature=value["signature"][:-2] + "00")
        ),
        "changed_field_salt.11.json": edit(
            lambda value: field(value, "http").update(salt="00" * 16)
        ),
        "changed_part_salt.11.json": edit(lambda value: part(value).update(salt="00" * 16)),
        "changed_pointer.11.json": edit(lambda value: part(value).update(at="/price")),
        "swapped_fields.11.json": edit(swap),
        "dropped_field_path.11.json": edit(lambda value: value["proof"].pop()),
        "added_field_path.11.json": edit(lambda value: value["proof"].append("00" * 32)),
        "dropped_part_path.11.json": edit(lambda value: value["openings"][0]["proof"].pop()),
        "header_of_another.11.json": edit(
            lambda value: value.update(header=cheaper.header.to_json(), signature=cheaper.signature)
        ),
    }
    for index in range(len(FIELDS)):
        other = cheaper.to_json()["fields"][index]  # type: ignore[index]
        files[f"{FIELDS[index]}_of_another.11.json"] = edit(
            lambda value, i=index, o=other: value["fields"].__setitem__(i, o)  # type: ignore[misc]
        )
    return files


def _lies() -> dict[str, bytes]:
    """Presentations that a lying notary signed as they are."""

    def signed(**lies: Any) -> bytes:
        named = {name.replace("__", "."): value for name, value in lies.items()}
        return forge.session(lies=named).present().encode()

    return {
        "lying_bid.11.json": signed(quote__bid="96500.13"),
        "lying_exchange_time.11.json": signed(quote__exchange_us=forge.T0 + 104_538),
        "lying_observed_time.11.json": signed(quote__observed_us=forge.T0),
        "lying_target.11.json": signed(http__target="/products/ETH-USD/ticker"),
        "lying_status.11.json": signed(http__status=201),
        "lying_host.11.json": signed(
            connection__host="api.exchange.coinbase.example",
            server__name="api.exchange.coinbase.example",
        ),
        "certificate_of_another.11.json": signed(server__name="evil.example"),
        "times_out_of_order.11.json": signed(connection__response_first_us=forge.T0),
        "opened_before_sealed.11.json": signed(connection__opened_us=forge.T0 + 91_500),
        "notary_of_another.11.json": signed(notary__vkey=TWO.key.verifying_key.vkey),
    }


def _unknown() -> dict[str, bytes]:
    valid = forge.session().present().encode()
    late = forge.T0 - forge.YEAR
    files = {
        "unknown_key.12.json": forge.session(notary=STRANGER).present().encode(),
        "known_name_other_key.12.json": forge.session(notary=IMPOSTOR).present().encode(),
        "other_venue_file.12.json": forge.session(lies={"quote.venue_file": hash_string(b"")})
        .present()
        .encode(),
        "expired_key.12.json": valid,
        "expired_key.12.trust.toml": _trust(valid_from_us=late, valid_until_us=forge.T0),
        "key_not_valid_yet.12.json": valid,
        "key_not_valid_yet.12.trust.toml": _trust(valid_from_us=forge.NOW),
        "revoked_key.12.json": valid,
        "revoked_key.12.trust.toml": _trust(revoked_at_us=forge.NOW),
        "key_of_a_log.12.json": valid,
        "key_of_a_log.12.trust.toml": _trust(role="log"),
        "small_order_key.2.json": valid,
        "small_order_key.2.trust.toml": _small_order(),
        "one_key_twice.2.json": valid,
        "one_key_twice.2.trust.toml": forge.trust(ONE).dump() + forge.trust(ONE).dump(),
        "expects_nothing.2.json": valid,
        "expects_nothing.2.expect.toml": b"max_age_us = 60_000_000\n",
    }
    return files


def _wrong_time() -> dict[str, bytes]:
    def at(time_us: int, **members: Any) -> bytes:
        return forge.session(at_us=time_us, **members).present().encode()

    return {
        "stale.13.json": at(forge.T0 - HOUR),
        "signed_in_the_future.13.json": at(forge.T0 + HOUR),
        "other_date.13.json": forge.session(
            lies={"http.server_date": "Thu, 15 Jan 2026 11:00:00 GMT"}
        )
        .present()
        .encode(),
        "stale_voice.13.1.json": at(forge.T0),
        "stale_voice.13.2.json": at(forge.T0 - HOUR, notary=TWO),
        "stale_voice.13.expect.toml": QUORUM.encode(),
        "voices_apart.13.1.json": at(forge.T0),
        "voices_apart.13.2.json": at(forge.T0 - 20_000_000, notary=TWO),
        "voices_apart.13.expect.toml": QUORUM.encode(),
        "before_the_window.13.json": at(forge.T0),
        "before_the_window.13.expect.toml": (
            EXPECT + f"not_before_us = {forge.T0 + 31_001}\n"
        ).encode(),
        "after_the_window.13.json": at(forge.T0),
        "after_the_window.13.expect.toml": (
            EXPECT + f"not_after_us = {forge.T0 + 90_999}\n"
        ).encode(),
    }


def _missing() -> dict[str, bytes]:
    one = forge.session()
    files: dict[str, bytes] = {}
    last = one.attestation.header.size - 1
    quote = last - 1
    shown = {0: "session", 1: "connection", 2: "server", 3: "http", quote: "quote", last: "notary"}
    for index, name in shown.items():
        kept = [other for other in sorted({*shown, 8}) if other != index]
        presentation = dataclasses.replace(
            forge.show_fields(one.attestation, kept), openings=one.present().openings
        )
        files[f"missing_{name}.15.json"] = presentation.encode()
    hidden = dataclasses.replace(
        forge.show_fields(one.attestation, sorted(shown)), openings=one.present().openings
    )
    for pointer in one.pointers:
        rest = [other for other in one.pointers if other != pointer]
        name = pointer.strip("/")
        files[f"missing_part_{name}.15.json"] = one.present({"response.body": rest}).encode()
    return files | {
        "missing_section.15.json": hidden.encode(),
        "missing_opening.15.json": dataclasses.replace(one.present(), openings=()).encode(),
        "missing_voice_of_three.15.1.json": one.present().encode(),
        "missing_voice_of_three.15.2.json": forge.session(notary=TWO).present().encode(),
        "missing_voice_of_three.15.expect.toml": QUORUM.replace("count = 2", "count = 3").encode(),
        "missing_voice.15.json": one.present().encode(),
        "missing_voice.15.expect.toml": QUORUM.encode(),
        "slot_gap.15.json": forge.show_fields(forge.slot(), [0, 3, 4]).encode(),
        "slot_gap.15.expect.toml": SLOT_GAP.encode(),
        "slot_venue_not_shown.15.json": forge.show_fields(forge.slot(), [0, 1, 4]).encode(),
        "slot_venue_not_shown.15.expect.toml": SLOT.encode(),
    }


def _other() -> dict[str, bytes]:
    one = forge.session()

    def with_lies(**lies: Any) -> bytes:
        named = {name.replace("__", "."): value for name, value in lies.items()}
        return forge.session(lies=named).present().encode()

    return {
        "wrong_purpose.17.json": forge.session(purpose="trade/t-2/open").present().encode(),
        "wrong_leg.17.json": forge.session(purpose="trade/t-1/close").present().encode(),
        "wrong_mode.17.json": forge.session(mode="open").present().encode(),
        "wrong_binding.17.json": with_lies(session__binding="template"),
        "private_address.17.json": with_lies(connection__address="10.0.0.1"),
        "wrong_venue.17.json": one.present().encode(),
        "wrong_venue.17.expect.toml": EXPECT.replace('"coinbase", ', "").encode(),
        "wrong_market.17.json": one.present().encode(),
        "wrong_market.17.expect.toml": EXPECT.replace("BTC/", "ETH/").encode(),
        "wrong_operator.17.json": one.present().encode(),
        "wrong_operator.17.expect.toml": (
            EXPECT + '[notaries]\ncount = 1\noperators = ["Two Ltd"]\n'
        ).encode(),
        "one_notary_twice.17.1.json": one.present().encode(),
        "one_notary_twice.17.2.json": forge.session(label="again").present().encode(),
        "one_notary_twice.17.3.json": forge.session(notary=TWO).present().encode(),
        "one_notary_twice.17.expect.toml": QUORUM.encode(),
        "one_operator_twice.17.1.json": forge.session(notary=TWO).present().encode(),
        "one_operator_twice.17.2.json": forge.session(notary=SISTER).present().encode(),
        "one_operator_twice.17.expect.toml": QUORUM.encode(),
        "quorum_of_two_venues.17.1.json": one.present().encode(),
        "quorum_of_two_venues.17.2.json": forge.session("binance", notary=TWO).present().encode(),
        "quorum_of_two_venues.17.expect.toml": QUORUM.encode(),
        "quorum_of_two_purposes.17.1.json": one.present().encode(),
        "quorum_of_two_purposes.17.2.json": (
            forge.session(notary=TWO, purpose="trade/t-1/close").present().encode()
        ),
        "quorum_of_two_purposes.17.expect.toml": QUORUM.replace(PURPOSE, "").encode(),
        "notaries_disagree.17.1.json": one.present().encode(),
        "notaries_disagree.17.2.json": forge.session(notary=TWO, bid="90000", ask="90001")
        .present()
        .encode(),
        "notaries_disagree.17.expect.toml": QUORUM.encode(),
    }


def _logged() -> dict[str, bytes]:
    """Presentations with a log proof; their trust files name the log and its witnesses."""
    one, slot = forge.session(), forge.slot()
    entry = logged.entry_of(one.attestation)
    proof = logged.prove(entry)
    trust = logged.trust().dump()
    revoked = {"revoked_at_us": (logged.COSIGNED_S + 1) * 1_000_000}
    own_log = dataclasses.replace(logged.LOG, operator="Two Ltd")
    of_session, of_slot = f"{EXPECT}{LOGGED}".encode(), f"{SLOT}{LOGGED}".encode()
    files: dict[str, bytes] = {}

    def add(
        name: str, log: Inclusion | None, believed: bytes = trust, expect: bytes = of_session
    ) -> None:
        files[f"{name}.json"] = dataclasses.replace(one.present(), log=log).encode()
        files[f"{name}.trust.toml"] = believed
        files[f"{name}.expect.toml"] = expect

    add("valid_logged.0", proof)
    add("valid_log_not_demanded.0", logged.prove(entry, witnesses=()), expect=EXPECT.encode())
    add("valid_log_unknown.0", proof, forge.trust(ONE).dump(), EXPECT.encode())
    add("valid_revoked_since.0", proof, logged.trust(notary=ONE.trusted(**revoked)).dump())
    files["valid_logged_slot.0.json"] = dataclasses.replace(
        forge.show_fields(slot, [0, 2, 4]), log=logged.prove(logged.slot_entry_of(slot))
    ).encode()
    files["valid_logged_slot.0.trust.toml"] = trust
    files["valid_logged_slot.0.expect.toml"] = of_slot

    text = proof.proof
    other = forge.session(label="another").attestation
    add("log_no_proof.10", dataclasses.replace(proof, proof="nothing\n"))
    add("log_unknown_member.10", dataclasses.replace(proof, entry={**proof.entry, "by": "me"}))
    add("log_of_another.11", logged.prove(logged.entry_of(other)))
    add(
        "log_of_another_not_demanded.11",
        logged.prove(logged.entry_of(other)),
        expect=EXPECT.encode(),
    )
    add(
        "log_of_another_session.11",
        logged.prove(dataclasses.replace(entry, session=other.session().id)),
    )
    add("log_other_index.11", dataclasses.replace(proof, proof=text.replace("index 7", "index 6")))
    fork = logged.prove(entry, label="fork").proof.partition("\n\n")[2]
    add(
        "log_checkpoint_of_a_fork.11",
        dataclasses.replace(proof, proof=f"{text.partition(_BLANK)[0]}{_BLANK}{fork}"),
    )
    add("log_tampered_time.11", dataclasses.replace(proof, proof=_edited_cosignature(text)))
    add("log_logged_before_issued.11", logged.prove(dataclasses.replace(entry, logged_us=forge.T0)))
    add("log_cosigned_before_logged.11", logged.prove(entry, times=[logged.COSIGNED_S - 9] * 4))
    add("log_unknown.12", proof, forge.trust(ONE).dump())
    add("log_other_key.12", logged.prove(entry, log=logged.Signer(seed="another")))
    add("log_of_another_operator.12", proof, logged.trust(own_log, *logged.WITNESSES).dump())
    add(
        "revoked_before_the_quorum.12",
        logged.prove(entry, times=[logged.COSIGNED_S + 1] * 4),
        logged.trust(notary=ONE.trusted(**revoked)).dump(),
    )
    add("revoked_without_log.12", None, logged.trust(notary=ONE.trusted(**revoked)).dump())
    add("log_witnessed_late.13", logged.prove(entry, times=[logged.COSIGNED_S + 9] * 4))
    add("log_missing.15", None)
    add("log_too_few_witnesses.15", logged.prove(entry, witnesses=logged.WITNESSES[:2]))
    return files


_BLANK = "\n\n"


def _edited_cosignature(proof: str) -> str:
    """Sets back the time of the last cosignature, which its witness has not signed."""
    head, _, encoded = proof.rstrip("\n").rpartition(" ")
    raw = bytearray(base64.b64decode(encoded))
    raw[11] -= 1
    return f"{head} {base64.b64encode(raw).decode()}\n"


def _all_fields(forged: forge.Forged) -> Presentation:
    attestation = forged.attestation
    return forge.show_fields(attestation, range(attestation.header.size))


def _edited(presentation: Presentation, change: Callable[[dict[str, Any]], object]) -> bytes:
    """Changes the document and writes it canonically again."""
    value: dict[str, Any] = json.loads(presentation.encode())
    change(value)
    return encode(value)


def _trust(**changes: Any) -> bytes:
    return Trust(keys=(ONE.trusted(**changes),)).dump()


def _small_order() -> bytes:
    """A trust file with the Ed25519 key y = 1, under which forged signatures would verify."""
    import hashlib

    tagged = b"\x01" + (1).to_bytes(32, "little")
    identity = hashlib.sha256(b"notary.one\n" + tagged).digest()[:4].hex()
    vkey = f"notary.one+{identity}+{base64.b64encode(tagged).decode()}"
    text = forge.trust(ONE).dump().decode()
    return text.replace(ONE.key.verifying_key.vkey, vkey).encode()


def main() -> None:
    """Writes the folder, removing what is no longer made."""
    for folder in (SETTLEMENTS, EVIDENCE):
        (SAMPLES / folder).mkdir(parents=True, exist_ok=True)
    files = build()
    for path in shipped():
        if path.relative_to(SAMPLES).as_posix() not in files:
            path.unlink()
    for name, data in files.items():
        (SAMPLES / name).write_bytes(data)


def shipped() -> list[Path]:
    """The files of the folder."""
    return [path for path in SAMPLES.rglob("*") if path.is_file()]


if __name__ == "__main__":
    main()
