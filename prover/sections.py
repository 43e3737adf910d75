"""Which sections to ask for, and the request that asks for them.

Salts are drawn here, 16 bytes for ``hash`` and 32 for ``tree``; they stay with
the prover, inside the attestation request it keeps.
"""

from __future__ import annotations

import dataclasses
import re
import secrets
from collections.abc import Sequence
from functools import lru_cache

from attestation.commitment import SALT_SIZE, SEED_SIZE, SectionRequest
from attestation.encoding import JsonObject
from attestation.errors import MalformedError, UsageError
from attestation.extension import QUOTE
from attestation.request import AttestationRequest, ExtensionRequest

BODY = "response.body"
_TEXT = re.compile(
    r"(?P<name>[a-z0-9._-]+)"
    r"(?:@(?P<direction>sent|received)\[(?P<start>[0-9]{1,9}):(?P<end>[0-9]{1,9})\])?"
    r"(?:=(?P<scheme>hash|tree/(?:json|fixed:[1-9][0-9]{0,6})))?",
    re.ASCII,
)
_FORMS = "NAME, or NAME=hash, NAME=tree/json, NAME=tree/fixed:BYTES"


@dataclasses.dataclass(frozen=True, slots=True, kw_only=True)
class Section:
    """One section to ask for.

    ``scheme`` is ``hash``, ``tree/json``, ``tree/fixed:<n>``, or None: a body is
    then committed by JSON value where it is known to be JSON, all else whole.
    The prover's own ``x.`` ranges need ``direction``, ``start`` and ``end``.
    """

    name: str
    scheme: str | None = None
    direction: str | None = None
    start: int | None = None
    end: int | None = None

    @classmethod
    def parse(cls, text: str) -> Section:
        """Reads ``name[=scheme]`` or ``x.name@direction[start:end][=scheme]``."""
        match = _TEXT.fullmatch(text)
        if match is None:
            raise UsageError("not a section", rule="section", found=text[:120], wanted=_FORMS)
        start, end = match["start"], match["end"]
        return cls(
            name=match["name"],
            scheme=match["scheme"],
            direction=match["direction"],
            start=None if start is None else int(start),
            end=None if end is None else int(end),
        )

    def request(self, *, json_body: bool) -> SectionRequest:
        """Draws the salt and returns the member of an attestation request.

        Raises UsageError for a name or range that cannot be asked for.
        """
        prototype = _prototype(self, json_body)
        size = SALT_SIZE if prototype.scheme == "hash" else SEED_SIZE
        return dataclasses.replace(prototype, salt=secrets.token_hex(size))


@lru_cache(maxsize=256)
def _prototype(section: Section, json_body: bool) -> SectionRequest:
    """Returns the section's request with a salt of zeros, checked."""
    default = "tree/json" if section.name == BODY and json_body else "hash"
    kind, _, split = (section.scheme or default).partition("/")
    own = "sent" if section.name.startswith("request.") else "received"
    members: JsonObject = {
        "name": section.name,
        "direction": section.direction or own,
        "scheme": kind,
        "salt": "00" * (SALT_SIZE if kind == "hash" else SEED_SIZE),
    }
    optional = {"split": split or None, "start": section.start, "end": section.end}
    members |= {name: value for name, value in optional.items() if value is not None}
    try:
        return SectionRequest.from_json(members)
    except MalformedError as error:
        raise UsageError(f"section {section.name}: {error}", rule=error.rule) from None


DEFAULT_SECTIONS = (
    Section(name="request.headers"),
    Section(name="response.headers"),
    Section(name=BODY),
)
"""What the http field does not tell already: method, target and status stand there."""


def attestation_request(
    session: str,
    sections: Sequence[Section],
    *,
    json_body: bool,
    quote: bool,
    hash_algorithm: str,
    signature_algorithm: str,
) -> AttestationRequest:
    """Builds the request for one session, with fresh salts.

    ``json_body``: whether the body is JSON, or the venue's word that it will
    be.  ``quote`` asks for the extension ``quote/v1``, which the notary derives.
    """
    return AttestationRequest(
        session=session,
        hash=hash_algorithm,
        signature=signature_algorithm,
        sections=tuple(section.request(json_body=json_body) for section in sections),
        extensions=(ExtensionRequest(id=QUOTE),) if quote else (),
    )
