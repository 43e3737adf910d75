"""Attacks on presentations; the numbers are the rows of docs/threat-model.md's attack table."""

from __future__ import annotations

import dataclasses
import hashlib
import json
from typing import Any

import pytest

from attestation.document import SessionField
from attestation.encoding import encode
from attestation.errors import (
    ExpectationError,
    IncompleteError,
    InvalidProofError,
    MalformedError,
    QuotaryError,
    StaleError,
    UntrustedError,
    UsageError,
)
from attestation.keys import SigningKey, VerifyingKey
from attestation.presentation import Presentation
from attestation.trust import Trust
from tests.verifier import forge
from verifier import VerifiedQuote, verify

SMALL_ORDER = [
    # RFC 7748 / RFC 8032: the points whose order divides the cofactor 8, by their y.
    0,
    1,
    2**255 - 20,
    2707385501144840649318225287225658788936804267575313519463743609750303402022,
    55188659117513257062467267217118295137698188065244968500265048394206261417927,
]
GROUP_ORDER = 2**252 + 27742317777372353535851937790883648493


def check(presentation: Presentation | bytes, trust: Trust | None = None, **expect: Any) -> Any:
    return verify(
        presentation,
        trust=trust or forge.trust(),
        expect=forge.expect(**expect),
        now_us=forge.NOW,
    )


def refused(kind: type[QuotaryError], presentation: Presentation | bytes, **expect: Any) -> str:
    with pytest.raises(kind) as caught:
        check(presentation, **expect)
    assert type(caught.value) is kind
    return caught.value.rule or ""


class TestReplay:
    """Row 23: an old attestation for another trade, slot, instrument."""

    def test_attestation_of_another_trade_is_refused(self) -> None:
        old = forge.session(purpose="trade/t-1/open").present()
        assert refused(ExpectationError, old, purpose="trade/t-2/open") == "expect.purpose"

    def test_attestation_of_the_other_leg_is_refused(self) -> None:
        old = forge.session(purpose="trade/t-1/open").present()
        assert refused(ExpectationError, old, purpose="trade/t-1/close") == "expect.purpose"

    def test_attestation_of_another_instrument_is_refused(self) -> None:
        old = forge.session().present()
        assert refused(ExpectationError, old, market="ETH/USD") == "expect.market"

    def test_attestation_from_before_the_window_is_refused(self) -> None:
        old = forge.session().present()
        window = {"not_before_us": forge.T0 + 600_000_000, "not_after_us": forge.T0 + 700_000_000}
        assert refused(StaleError, old, **window) == "expect.not_before_us"

    @pytest.mark.parametrize(
        "purpose", ["", "trade/t-1", "trade/t-1/open\n", "trade/T/open", "slot/a/b/01", "x/y"]
    )
    def test_purpose_that_no_notary_builds_is_refused(self, purpose: str) -> None:
        refused(MalformedError, forge.session(purpose=purpose).present())


class TestStaleAnswer:
    """Row 24: request and response times, and the exchange's clock."""

    def test_interval_must_lie_inside_the_window_at_both_edges(self) -> None:
        presentation = forge.session().present()
        first, last = forge.T0 + 31_000, forge.T0 + 91_000
        check(presentation, not_before_us=first, not_after_us=last)
        assert refused(StaleError, presentation, not_before_us=first + 1) == "expect.not_before_us"
        assert refused(StaleError, presentation, not_after_us=last - 1) == "expect.not_after_us"

    def test_date_of_an_old_cached_answer_is_refused(self) -> None:
        old = forge.session(lies={"http.server_date": "Thu, 15 Jan 2026 11:50:00 GMT"})
        assert refused(StaleError, old.present()) == "expect.max_date_skew_us"

    @pytest.mark.parametrize("date", ["yesterday", "Thu, 32 Jan 2026 12:00:00 GMT", ""])
    def test_date_that_is_none_is_refused(self, date: str) -> None:
        lie = forge.session(lies={"http.server_date": date})
        assert refused(InvalidProofError, lie.present()) == "http.server_date"


class TestWeakSignatures:
    """Row 31: small-order keys and second signatures."""

    @pytest.mark.parametrize("y", SMALL_ORDER)
    @pytest.mark.parametrize("sign", [0, 1])
    def test_small_order_key_is_refused_in_a_trust_file(self, y: int, sign: int) -> None:
        public = (y | sign << 255).to_bytes(32, "little")
        with pytest.raises(MalformedError):
            VerifyingKey(name="notary.one", algorithm="ed25519", public=public)

    def test_signature_with_s_plus_the_group_order_is_refused(self) -> None:
        presentation = forge.session().present()
        raw = bytes.fromhex(presentation.signature)
        scalar = int.from_bytes(raw[32:], "little") + GROUP_ORDER
        other = raw[:32] + scalar.to_bytes(32, "little")
        refused(InvalidProofError, dataclasses.replace(presentation, signature=other.hex()))

    @pytest.mark.parametrize("y", SMALL_ORDER)
    def test_signature_with_a_small_order_point_is_refused(self, y: int) -> None:
        presentation = forge.session().present()
        forged = y.to_bytes(32, "little") + bytes(32)
        refused(InvalidProofError, dataclasses.replace(presentation, signature=forged.hex()))

    def test_high_s_of_secp256k1_is_refused(self) -> None:
        notary = forge.LyingNotary(algorithm="ecdsa-secp256k1")
        presentation = forge.session(notary=notary).present()
        order = 0xFFFFFFFFFFFFFFFFFFFFFFFFFFFFFFFEBAAEDCE6AF48A03BBFD25E8CD0364141
        raw = bytes.fromhex(presentation.signature)
        high = order - int.from_bytes(raw[32:], "big")
        other = raw[:32] + high.to_bytes(32, "big")
        check(presentation, forge.trust(notary))
        with pytest.raises(InvalidProofError):
            check(dataclasses.replace(presentation, signature=other.hex()), forge.trust(notary))

    @pytest.mark.parametrize("signature", ["", "00", "00" * 63, "00" * 65])
    def test_signature_of_another_size_is_refused(self, signature: str) -> None:
        presentation = forge.session().present()
        refused(InvalidProofError, dataclasses.replace(presentation, signature=signature))


class TestNonCanonical:
    """Row 32: any other spelling of the same document."""

    @pytest.mark.parametrize(
        ("old", "new"),
        [
            (b'{"fields"', b'{ "fields"'),
            (b'"index":0', b'"index": 0'),
            (b'"index":0', b'"index":0.0'),
            (b'"index":0', b'"index":-0'),
            (b'"index":0', b'"index":0e0'),
            (b'"index":0', b'"index":00'),
            (b'"index":0', b'"index":false'),
            (b'"index":0', b'"index":null'),
            (b'"index":0', b'"index":"0"'),
            (b'"index":0', b'"index":NaN'),
            (b'"port":443', b'"port":443,"port":443'),
            (b"coinbase", b"coin\\u0062ase"),
            (b"BTC/USD", b"BTC\\/USD"),
            (b'"proof":[', b'"proof":[],"proof":['),
            (b'"trade/t-1/open"', b'"trade/t-1/open\\ud800"'),
            (b'"type":"quotary/presentation/v1"', b'"type":"quotary/presentation/v2"'),
        ],
    )
    def test_other_spelling_is_refused(self, old: bytes, new: bytes) -> None:
        text = forge.session().present().encode()
        assert old in text
        refused(MalformedError, text.replace(old, new, 1))

    def test_key_order_is_refused(self) -> None:
        value = json.loads(forge.session().present().encode())
        turned = json.dumps(dict(reversed(value.items())), separators=(",", ":")).encode()
        refused(MalformedError, turned)

    @pytest.mark.parametrize("tail", [b" ", b"\n\n", b"\x00", b"{}", b"\r\n", b","])
    def test_trailing_bytes_are_refused(self, tail: bytes) -> None:
        refused(MalformedError, forge.session().present().encode() + tail)

    def test_base64_with_stray_bits_is_refused(self) -> None:
        value = json.loads(forge.session().present().encode())
        part = value["openings"][0]["parts"][0]
        assert part["data"].endswith("g")  # the last character carries two spare bits
        part["data"] = part["data"][:-1] + "h"
        refused(MalformedError, encode(value))

    @pytest.mark.parametrize("member", ["signature", "proof"])
    def test_upper_case_hex_is_refused(self, member: str) -> None:
        value = json.loads(forge.session().present().encode())
        text = value[member]
        value[member] = text.upper() if isinstance(text, str) else [text[0].upper(), *text[1:]]
        refused(MalformedError, encode(value))


class TestKeyInside:
    """Row 33: the key that a document brings along is never believed."""

    def test_valid_presentation_under_an_unknown_key_is_untrusted(self) -> None:
        stranger = forge.LyingNotary(name="notary.stranger")
        presentation = forge.session(notary=stranger).present()
        assert refused(UntrustedError, presentation) == "trust.unknown"
        assert check(presentation, forge.trust(stranger)).notary.name == "notary.stranger"

    def test_same_name_with_another_key_is_untrusted(self) -> None:
        impostor = forge.LyingNotary(algorithm="ecdsa-secp256k1")
        assert refused(UntrustedError, forge.session(notary=impostor).present()) == "trust.unknown"

    def test_header_that_names_a_trusted_key_is_checked_under_it(self) -> None:
        stranger = forge.LyingNotary(name="notary.stranger")
        honest = forge.session().attestation
        claimed = stranger.sign(
            honest.fields, label="x", issued_us=honest.header.issued_us, key=honest.header.key
        )
        refused(InvalidProofError, forge.show_fields(claimed, range(11)))


class TestLeftOut:
    """Row 34: drop each field, each opening, each part, each path."""

    @pytest.mark.parametrize("index", [0, 1, 2, 3, 9, 10])
    def test_mandatory_field_left_out_is_incomplete(self, index: int) -> None:
        forged = forge.session()
        rest = [other for other in (0, 1, 2, 3, 8, 9, 10) if other != index]
        presentation = dataclasses.replace(
            forge.show_fields(forged.attestation, rest), openings=forged.present().openings
        )
        refused(IncompleteError, presentation)

    def test_section_field_left_out_is_incomplete(self) -> None:
        forged = forge.session()
        presentation = dataclasses.replace(
            forge.show_fields(forged.attestation, [0, 1, 2, 3, 9, 10]),
            openings=forged.present().openings,
        )
        assert refused(IncompleteError, presentation) == "openings"

    def test_opening_left_out_is_incomplete(self) -> None:
        presentation = dataclasses.replace(forge.session().present(), openings=())
        assert refused(IncompleteError, presentation) == "quote.section"

    @pytest.mark.parametrize("pointer", ["/ask", "/bid", "/price", "/time"])
    def test_part_left_out_is_incomplete(self, pointer: str) -> None:
        forged = forge.session()
        rest = [other for other in forged.pointers if other != pointer]
        assert refused(IncompleteError, forged.present({"response.body": rest})) == "W11"

    def test_any_field_removed_without_its_proof_is_refused(self) -> None:
        presentation = forge.session().whole()
        presentation = forge.show_fields(forge.session().attestation, range(11))
        for index in range(len(presentation.fields)):
            fields = presentation.fields[:index] + presentation.fields[index + 1 :]
            with pytest.raises((InvalidProofError, IncompleteError)):
                check(dataclasses.replace(presentation, fields=fields))

    def test_every_path_node_dropped_is_refused(self) -> None:
        presentation = forge.session().present()
        for index in range(len(presentation.proof)):
            proof = presentation.proof[:index] + presentation.proof[index + 1 :]
            refused(InvalidProofError, dataclasses.replace(presentation, proof=proof))
        opening = presentation.openings[0]
        assert opening.proof is not None
        for index in range(len(opening.proof)):
            proof = opening.proof[:index] + opening.proof[index + 1 :]
            short = dataclasses.replace(opening, proof=proof)
            refused(InvalidProofError, dataclasses.replace(presentation, openings=(short,)))

    @pytest.mark.parametrize("name", ["session", "connection", "server", "http", "notary"])
    def test_field_that_was_never_signed_is_refused(self, name: str) -> None:
        notary, forged = forge.LyingNotary(), forge.session()
        fields = [field for field in forged.attestation.fields if field.name != name]
        lie = forged.refielded(fields, notary)
        with pytest.raises((MalformedError, IncompleteError)):
            check(forge.show_fields(lie.attestation, range(len(fields))))

    @pytest.mark.parametrize("member", [field.name for field in dataclasses.fields(SessionField)])
    def test_member_that_was_never_signed_is_refused(self, member: str) -> None:
        presentation = forge.session(lies={f"session.{member}": None}).present()
        if member == "conn":  # absent in the honest session as well
            check(presentation)
        else:
            refused(MalformedError, presentation)


class TestDecoys:
    """Row 37: section names that mean something else."""

    def test_two_sections_of_one_name_are_refused(self) -> None:
        lie = forge.session(lies={"response.headers.name": "response.body"})
        refused(MalformedError, forge.show_fields(lie.attestation, range(11)))

    def test_own_range_never_makes_a_quote(self) -> None:
        lie = forge.session(
            lies={"response.body.name": "x.body", "quote.section": "x.body"}
        ).attestation
        honest = forge.session()
        presentation = dataclasses.replace(
            forge.show_fields(lie, [0, 1, 2, 3, 8, 9, 10]), openings=honest.present().openings
        )
        assert refused(IncompleteError, presentation) == "quote.section"

    def test_headers_named_as_body_make_no_quote(self) -> None:
        lie = forge.session(
            lies={"response.headers.name": "response.body", "response.body.name": "x.body"}
        )
        opening = forge.session().present({"response.headers": "whole"}).openings
        presentation = dataclasses.replace(
            forge.show_fields(lie.attestation, range(11)), openings=opening
        )
        assert refused(InvalidProofError, presentation) == "quote.section"

    def test_price_inside_a_string_is_no_price(self) -> None:
        decoy = '{"note":"{\\"bid\\":\\"1\\",\\"ask\\":\\"2\\"}","price":"1","time":"x"}'
        forged = forge.session(body=decoy)
        presentation = forged.present({"response.body": "whole"})
        assert refused(IncompleteError, presentation) == "W11"

    def test_opening_of_a_field_that_is_no_section_is_refused(self) -> None:
        presentation = forge.session().present()
        moved = dataclasses.replace(presentation.openings[0], index=3)
        assert (
            refused(IncompleteError, dataclasses.replace(presentation, openings=(moved,)))
            == "openings"
        )

    def test_opened_bytes_longer_than_their_range_are_refused(self) -> None:
        presentation = forge.session(body_scheme="hash", lies={"response.body.end": 200}).present(
            {"response.body": "whole"}
        )
        refused(InvalidProofError, presentation)

    def test_overlapping_sections_must_agree(self) -> None:
        start, end = forge.session().exchange.request.headers_span
        lie = forge.session(
            lies={"request.headers.start": 0, "request.headers.end": end - start},
        )
        whole = lie.present({"request.line": "whole", "request.headers": "whole"})
        with pytest.raises(InvalidProofError, match="disagree"):
            check(whole)

    def test_opened_request_line_must_be_the_attested_target(self) -> None:
        lie = forge.session(quote=False, lies={"http.method": "POST"})
        refused(InvalidProofError, lie.present({"request.line": "whole"}))


class TestCollidingId:
    """Row 40: a key with the same four-byte id, ground under another name."""

    def test_key_is_found_by_name_and_id(self) -> None:
        one = forge.LyingNotary()
        wanted = one.key.verifying_key
        tag = b"\x01" + wanted.public
        # The id covers the name: the same key under another name has another id.
        other = SigningKey(name="notary.two", algorithm="ed25519", seed=one.key.seed)
        assert other.verifying_key.key_id == hashlib.sha256(b"notary.two\n" + tag).digest()[:4]
        assert other.verifying_key.key_id != wanted.key_id
        presentation = forge.session().present()
        header = dataclasses.replace(presentation.header, key=f"notary.two+{wanted.key_id.hex()}")
        renamed = dataclasses.replace(
            presentation, header=header, signature=one.key.sign(header.encode()).hex()
        )
        two = forge.LyingNotary(name="notary.two", operator="Two Ltd")
        with pytest.raises(UntrustedError):
            check(renamed, forge.trust(one, two))

    def test_id_that_does_not_recompute_is_a_usage_error(self) -> None:
        key = forge.LyingNotary().key.verifying_key
        text = forge.trust().dump().decode()
        with pytest.raises(UsageError):
            Trust.parse(text.replace(key.key_id.hex(), "00000000").encode())

    def test_equal_name_and_id_twice_is_a_usage_error(self) -> None:
        with pytest.raises(UsageError):
            Trust.parse(forge.trust().dump() * 2)


def test_hash_algorithm_comes_from_the_signed_root() -> None:
    sponge = forge.LyingNotary(hash="sha3-256")
    presentation = forge.session(notary=sponge).present()
    assert isinstance(check(presentation), VerifiedQuote)
    unknown = forge.session(lies={"response.body.digest": "md5:" + "0" * 64}).attestation
    presentation = dataclasses.replace(
        forge.show_fields(unknown, range(11)), openings=forge.session().present().openings
    )
    refused(UntrustedError, presentation)
