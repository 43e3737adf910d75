"""docs/formats.md is true: every example recomputes, every table equals the code.

What is hashed and signed is recomputed here with ``hashlib`` and the signing
libraries from the page alone; only parsing and refusing is left to the code.
"""

from __future__ import annotations

import base64
import hashlib
import json
import re
import tomllib
from collections.abc import Callable, Sequence
from typing import Any

import nacl.signing
import pytest

from attestation import errors, merkle
from attestation.commitment import SectionField
from attestation.document import Attestation, Field, Header
from attestation.encoding import base64url_decode, decode, encode
from attestation.expect import Expect
from attestation.feed_request import SignedFeedRequest
from attestation.keys import SigningKey, VerifyingKey
from attestation.log.inclusion import Inclusion
from attestation.presentation import Presentation
from attestation.price import fraction
from attestation.request import (
    AttestationRequest,
    KeylogCommitment,
    KeylogOpened,
    KeyOpening,
    SessionRequest,
    check_purpose,
)
from attestation.rotation import RotationStatement, rotated
from attestation.schema import Document
from attestation.seal import SignedSeal
from attestation.secrets import Secrets
from attestation.trust import Trust
from attestation.venues import load_venue, parse_venue
from attestation.verdict import Accepted, Rejected
from tests.docs import logged_example
from tests.docs.worked_example import ENTRIES, FENCE, PAGE, SIGNED, blocks, rewrite
from verifier import VerifiedQuote, verify
from verifier.decide import decide, judge

TEXT = PAGE.read_text(encoding="utf-8")
PAIRS = [(match[1], match[2]) for match in FENCE.finditer(TEXT)]
BLOCKS = dict(PAIRS)
BY_HAND = {
    "text types",
    "hex canonical_accepted",
    "hex canonical_refused",
    "text prices_accepted",
    "text prices_refused",
    "text base64url_accepted",
    "text base64url_refused",
    "text vkeys_refused",
    "text purposes_accepted",
    "text purposes_refused",
    "text presentation_refused",
    "text expect_refused",
    "text slot_refused",
}
DOCUMENTS: dict[str, type[Document]] = {
    "session_request": SessionRequest,
    "feed_request": SignedFeedRequest,
    "seal": SignedSeal,
    "opening": KeyOpening,
    "keylog_opening": KeylogOpened,
    "keylog_commitment": KeylogCommitment,
    "request": AttestationRequest,
    "header": Header,
    "attestation": Attestation,
    "section_values": SectionField,
    "secrets": Secrets,
    "presentation": Presentation,
    "slot_presentation": Presentation,
    "slot_accepted": Accepted,
    "accepted": Accepted,
    "rejected": Rejected,
    "rotation": RotationStatement,
    "logged": Inclusion,
    "logged_accepted": Accepted,
}


def lines(info: str) -> list[str]:
    """The lines of a block."""
    return BLOCKS[info].splitlines()


def loaded(name: str) -> dict[str, Any]:
    """The one JSON object of a block, as the standard library reads it."""
    value: dict[str, Any] = json.loads(BLOCKS[f"json {name}"])
    return value


def sha256(data: bytes) -> bytes:
    return hashlib.sha256(data).digest()


def root_of(leaves: Sequence[bytes]) -> bytes:
    """RFC 9162 section 2.1.1, as it is written there."""
    if len(leaves) == 1:
        return leaves[0]
    split = 1 << (len(leaves) - 1).bit_length() - 1
    return sha256(b"\1" + root_of(leaves[:split]) + root_of(leaves[split:]))


def believed() -> Trust:
    return Trust.parse(BLOCKS["toml trust"].encode())


def expected(**changes: Any) -> Expect:
    return Expect.from_json({**tomllib.loads(BLOCKS["toml expect"]), **changes})


def now() -> int:
    return int(BLOCKS["text now"])


def test_the_page_holds_what_the_generator_makes() -> None:
    assert rewrite(TEXT) == TEXT, "run: python -m tests.docs.worked_example"


def test_the_token_of_a_feed_request_is_its_canonical_envelope() -> None:
    (token,) = lines("text feed_token")
    assert base64url_decode(token) == BLOCKS["json feed_request"].rstrip().encode()
    signed = loaded("feed_request")
    key = VerifyingKey.parse(signed["request"]["prover"])
    nacl.signing.VerifyKey(key.public).verify(
        json.dumps(signed["request"], separators=(",", ":"), sort_keys=True).encode(),
        bytes.fromhex(signed["signature"]),
    )


def test_every_block_has_a_name_of_its_own_and_a_test() -> None:
    assert len(BLOCKS) == len(PAIRS) == TEXT.count("\n```") // 2
    assert BLOCKS.keys() == blocks().keys() | BY_HAND


@pytest.mark.parametrize("info", [info for info in BLOCKS if info.startswith("json ")])
def test_every_json_line_is_canonical(info: str) -> None:
    name = info.removeprefix("json ")
    kind = Field if name.endswith("_field") else DOCUMENTS.get(name)
    for line in lines(info):
        assert encode(decode(line.encode())) == line.encode()
        if kind is not None:
            assert kind.decode(line.encode()).encode() == line.encode()


def test_canonical_examples_are_accepted() -> None:
    for line in lines("hex canonical_accepted"):
        data = bytes.fromhex(line.split("  ")[0])
        assert encode(decode(data)) == data.removesuffix(b"\n")


@pytest.mark.parametrize("line", lines("hex canonical_refused"))
def test_other_spellings_are_refused(line: str) -> None:
    with pytest.raises(errors.MalformedError):
        decode(bytes.fromhex(line.split("  ")[0]))


def _base64url(line: str) -> None:
    base64url_decode(line)


@pytest.mark.parametrize(
    ("name", "read"),
    [("prices", fraction), ("purposes", check_purpose), ("base64url", _base64url)],
)
def test_texts_are_accepted_and_refused_as_shown(name: str, read: Callable[[str], object]) -> None:
    for line in lines(f"text {name}_accepted"):
        data, _, text = line.rpartition("  ")
        read(text)
        assert not data or base64url_decode(text).hex() == data
    for line in lines(f"text {name}_refused"):
        with pytest.raises(errors.MalformedError):
            read(line)


def test_hash_strings_recompute() -> None:
    shown = re.findall(r"`(sha256|sha3-256):([0-9a-f]{64})`", TEXT.split("## Merkle trees")[0])
    wanted = [
        (name, hashlib.new(name.replace("sha3-", "sha3_"), data).hexdigest())
        for data in (b"", b"quotary")
        for name in ("sha256", "sha3-256")
    ]
    assert shown == wanted


def test_the_small_tree_and_its_proofs_recompute() -> None:
    tree = {line.split("  ")[1]: bytes.fromhex(line.split("  ")[0]) for line in lines("text tree")}
    leaves = [sha256(b"\0" + entry) for entry in ENTRIES]
    for name, node in tree.items():
        assert node == root_of([leaves["abcde".index(letter)] for letter in name])
    proofs = {
        name: [bytes.fromhex(line) for line in lines(f"text tree_{name}")]
        for name in ("inclusion", "multiproof", "consistency")
    }
    root = tree["abcde"]
    assert proofs["inclusion"] == [tree["d"], tree["ab"], tree["e"]]
    assert proofs["multiproof"] == [tree["a"], tree["cd"]]
    assert proofs["consistency"] == [tree["c"], tree["d"], tree["ab"], tree["e"]]
    merkle.verify_inclusion(leaf=tree["c"], index=2, size=5, proof=proofs["inclusion"], root=root)
    shown = {1: tree["b"], 4: tree["e"]}
    assert merkle.root_from_multiproof(size=5, leaves=shown, proof=proofs["multiproof"]) == root
    merkle.verify_consistency(
        old_size=3,
        new_size=5,
        old_root=sha256(b"\1" + tree["ab"] + tree["c"]),
        new_root=root,
        proof=proofs["consistency"],
    )


def test_keys_and_signatures_follow_from_the_seeds() -> None:
    rows = zip(
        *(lines(f"text {name}") for name in ("seeds", "vkeys", "key_files", "signatures")),
        strict=True,
    )
    for seed_line, vkey, key_file, signature in rows:
        name, algorithm, seed = seed_line.split("  ")
        shown_name, key_id, encoded = vkey.split("+", 2)
        tagged = base64.b64decode(encoded)
        tag = b"\1" if algorithm == "ed25519" else b"\xffecdsa-secp256k1"
        assert shown_name == name
        assert tagged.startswith(tag)
        assert key_id == sha256(name.encode() + b"\n" + tagged)[:4].hex()
        private = base64.b64encode(tag + bytes.fromhex(seed)).decode()
        assert key_file == f"PRIVATE+KEY+{name}+{key_id}+{private}"
        assert SigningKey.parse(key_file).verifying_key == VerifyingKey.parse(vkey)
        VerifyingKey.parse(vkey).verify(bytes.fromhex(signature), SIGNED)
        if algorithm == "ed25519":
            signer = nacl.signing.SigningKey(bytes.fromhex(seed))
            assert signer.sign(SIGNED).signature.hex() == signature
            assert bytes(signer.verify_key) == tagged[1:]


@pytest.mark.parametrize("line", lines("text vkeys_refused"))
def test_bad_vkeys_are_refused(line: str) -> None:
    kind, vkey, _ = line.split("  ")
    with pytest.raises(errors.QuotaryError) as caught:
        VerifyingKey.parse(vkey)
    assert type(caught.value).__name__ == kind


def test_signatures_are_over_the_shown_bytes() -> None:
    notary, _, prover = (VerifyingKey.parse(vkey) for vkey in lines("text vkeys"))
    seal, body = loaded("seal"), loaded("attestation")
    header = lines("json header")[0].encode()
    assert header.hex() == BLOCKS["hex header"].strip()
    assert encode(body["header"]) == header
    for key, signature, signed in (
        (prover, BLOCKS["text session_signature"].strip(), lines("json session_request")[0]),
        (notary, seal["signature"], encode(seal["seal"]).decode()),
        (notary, body["signature"], header.decode()),
    ):
        nacl.signing.VerifyKey(key.public).verify(signed.encode(), bytes.fromhex(signature))
    assert body["header"]["key"] == seal["seal"]["key"] == notary.short


def test_the_commitment_is_the_hash_of_the_shown_bytes() -> None:
    opened, committed = loaded("keylog_opening"), loaded("keylog_commitment")
    session = loaded("attestation")["fields"][0]["value"]
    bound = {"type": "quotary/commit/v1", "session": session["id"], "nonce": session["nonce"]}
    assert opened.pop("kind") == "keylog"
    assert committed == opened | bound
    digest = sha256(lines("json keylog_commitment")[0].encode()).hex()
    assert BLOCKS["text commitment"].strip() == f"sha256:{digest}"


def test_both_keys_signed_the_rotation_and_trust_follows() -> None:
    shown = loaded("rotation")
    for key, signature in (("old", "old_signature"), ("new", "new_signature")):
        vkey = VerifyingKey.parse(shown["rotation"][key])
        nacl.signing.VerifyKey(vkey.public).verify(
            encode(shown["rotation"]), bytes.fromhex(shown[signature])
        )
    assert shown["rotation"]["old"] == lines("text vkeys")[0]
    statement = RotationStatement.decode(lines("json rotation")[0].encode())
    assert len(rotated(believed(), statement, now_us=now()).keys) == len(believed().keys) + 1


def test_fields_fold_to_the_signed_root() -> None:
    body = loaded("attestation")
    seed = bytes.fromhex(body["seed"])
    leaves = []
    for index, field in enumerate(body["fields"]):
        salt = sha256(b"quotary/salt/v1" + seed + index.to_bytes(4, "big"))[:16].hex()
        salted = json.dumps(
            {**field, "salt": salt}, sort_keys=True, separators=(",", ":"), ensure_ascii=False
        )
        leaves.append(sha256(b"\0" + salted.encode()))
        assert lines("text field_salts")[index] == salt
        if field["name"] != "section":
            assert BLOCKS[f"json {field['name']}_field"] == salted + "\n"
    assert [leaf.hex() for leaf in leaves] == lines("text field_leaves")
    assert body["header"]["root"] == f"sha256:{root_of(leaves).hex()}"
    assert body["header"]["size"] == len(leaves)
    for shown in loaded("presentation")["fields"]:
        entry = {name: shown[name] for name in ("name", "salt", "value")}
        entry["type"] = "quotary/field/v1"
        assert sha256(b"\0" + encode(entry)) == leaves[shown["index"]]


def test_sections_commit_to_the_shown_plaintext() -> None:
    secrets, asked = loaded("secrets"), loaded("request")["sections"]
    plain = {name: base64url_decode(secrets[name]) for name in ("sent", "received")}
    for name, data in plain.items():
        shown = "".join(f"{line}\r\n" for line in lines(f"text {name}")) + "\r\n"
        assert data.decode() == shown
    line, _, body, own = (json.loads(text) for text in lines("json section_values"))
    salted = bytes.fromhex(asked[0]["salt"]) + plain["sent"][line["start"] : line["end"]]
    assert BLOCKS["hex hash_input"].strip() == salted.hex()
    assert line["digest"] == f"sha256:{sha256(salted).hex()}"

    seed, leaves = bytes.fromhex(asked[3]["salt"]), []
    piece = plain["sent"][own["start"] : own["end"]]
    assert piece == b"symbol=BTCUSDT"
    for index, text in enumerate(lines("json parts")):
        part = json.loads(text)
        salt = sha256(b"quotary/part_salt/v1" + seed + index.to_bytes(4, "big"))[:16]
        assert part["salt"] == salt.hex()
        assert base64url_decode(part["data"]) == piece[int(part["at"]) : int(part["at"]) + 5]
        leaves.append(sha256(b"\0" + text.encode()))
    assert [leaf.hex() for leaf in leaves] == lines("text part_leaves")
    assert own["digest"] == f"sha256:{root_of(leaves).hex()}"

    framed = plain["received"][body["start"] : body["end"]]
    sizes = framed.split(b"\r\n")
    value = json.loads(b"".join(sizes[1:-3:2]))
    pairs = [tuple(text.split("  ")[1:]) for text in lines("text body_parts")]
    assert pairs == [(f"/{name}", json.dumps(raw)) for name, raw in value.items()]
    assert body["parts"] == len(pairs)


def test_the_venue_file_has_the_shown_hash() -> None:
    toml, canonical = BLOCKS["toml venue_file"], lines("json venue_file")[0]
    assert json.loads(canonical) == tomllib.loads(toml)
    assert BLOCKS["text venue_hash"].strip() == f"sha256:{sha256(canonical.encode()).hex()}"
    assert parse_venue(toml.encode()) == load_venue("binance")
    assert loaded("extension_field")["value"]["value"]["venue_file"] == load_venue("binance").hash


def test_the_worked_presentation_verifies() -> None:
    data = lines("json presentation")[0].encode()
    quote = verify(data, trust=believed(), expect=expected(), now_us=now())
    assert isinstance(quote, VerifiedQuote)
    claim = loaded("extension_field")["value"]["value"]
    assert (quote.bid, quote.ask) == (claim["bid"], claim["ask"]) == ("96500.1", "96500.98")
    hidden = set(range(quote.header.size)) - {
        item["index"] for item in loaded("presentation")["fields"]
    }
    assert hidden == {4, 7}
    for name, expect in (
        ("accepted", expected()),
        ("rejected", expected(purpose="trade/t-1/close")),
    ):
        verdict = judge([data], trust=believed(), expect=expect, now_us=now())
        assert verdict.encode().decode() == lines(f"json {name}")[0]
    hosts = Expect(hosts=(loaded("connection_field")["value"]["host"],))
    assert not decide([data], trust=believed(), expect=hosts, now_us=now()).quotes


def test_the_slot_verifies_for_the_venue_it_observed() -> None:
    data = lines("json slot_presentation")[0].encode()
    shown = loaded("slot_presentation")
    assert [base64url_decode(item).decode() for item in shown["messages"]] == lines(
        "text slot_message"
    )
    wanted = Expect.parse(BLOCKS["toml slot_expect"].encode())
    verdict = judge([data], trust=believed(), expect=wanted, now_us=now())
    assert verdict.encode().decode() == lines("json slot_accepted")[0]
    expect = Expect(venues=("binance",), market="BTC/USD")
    assert isinstance(verify(data, trust=believed(), expect=expect, now_us=now()), VerifiedQuote)
    gap = Expect(venues=("kraken",), market="BTC/USD")
    with pytest.raises(errors.IncompleteError):
        verify(data, trust=believed(), expect=gap, now_us=now())


@pytest.mark.parametrize("line", lines("text presentation_refused"))
def test_a_changed_presentation_is_refused_as_shown(line: str) -> None:
    refused_when_changed(loaded("presentation"), expected(), line)


@pytest.mark.parametrize("line", lines("text slot_refused"))
def test_a_changed_slot_is_refused_as_shown(line: str) -> None:
    expect = Expect.parse(BLOCKS["toml slot_expect"].encode())
    refused_when_changed(loaded("slot_presentation"), expect, line)


def refused_when_changed(document: Any, expect: Expect, line: str) -> None:
    """A line of the page: error, rule, pointer into the document, and what is put there."""
    kind, rule, pointer, value = line.split("  ")
    *path, last = pointer.split("/")[1:]
    place = document
    for step in path:
        place = place[int(step)] if isinstance(place, list) else place[step]
    key: Any = int(last) if isinstance(place, list) else last
    if value == "absent":
        del place[key]
    else:
        place[key] = json.loads(value)
    with pytest.raises(errors.QuotaryError) as caught:
        verify(encode(document), trust=believed(), expect=expect, now_us=now())
    assert (type(caught.value).__name__, caught.value.rule or "-") == (kind, rule)


def test_the_log_proof_meets_what_the_page_demands() -> None:
    document = {**loaded("presentation"), "log": loaded("logged")}
    trust = Trust.parse((BLOCKS["toml trust"] + "\n" + BLOCKS["toml logged_trust"]).encode())
    assert trust == logged_example.believed()
    expect = Expect.parse((BLOCKS["toml expect"] + "\n" + BLOCKS["toml logged_expect"]).encode())
    found = decide([encode(document)], trust=trust, expect=expect, now_us=now())
    assert found.encode().decode() == BLOCKS["json logged_accepted"].rstrip()
    # Without the log's keys the same proof shows nothing.
    with pytest.raises(errors.UntrustedError):
        decide([encode(document)], trust=believed(), expect=expect, now_us=now())


@pytest.mark.parametrize("line", lines("text expect_refused"))
def test_another_expectation_refuses_as_shown(line: str) -> None:
    kind, rule, member, value = line.split("  ")
    expect = expected(**{member: json.loads(value)})
    with pytest.raises(errors.QuotaryError) as caught:
        verify(BLOCKS["json presentation"].encode(), trust=believed(), expect=expect, now_us=now())
    assert (type(caught.value).__name__, caught.value.rule) == (kind, rule)
