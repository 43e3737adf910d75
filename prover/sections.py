"""Which sections to ask for, and the request that asks for them.

Salts are drawn here, 16 bytes for ``hash`` and 32 for ``tree``; they stay with
the prover, inside the attestation request it keeps.
"""

from __future__ import annotations

import dataclasses
import re
import secrets
from collections.abc import Sequence

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
            raise UsageError("not a section", found=text[:120])
        start, end = match["start"], match["end"]
        return cls(
            name=match["name"],
            scheme=match["scheme"],
            direction=match["direction"],
            start=None if start is None else int(start),
            end=None if end is None else int(end),
        )

    def request(self, *, json_body: bool) -> SectionRequest:
        """Draws the salt and returns the member of an attestation request."""
        default = "tree/json" if self.name == BODY and json_body else "hash"
        kind, _, split = (self.scheme or default).partition("/")
        direction = self.direction or ("sent" if self.name.startswith("request.") else "received")
        salt = secrets.token_bytes(SALT_SIZE if kind == "hash" else SEED_SIZE)
        try:
            return SectionRequest.from_json(self._members(direction, kind, split, salt))
        except MalformedError as error:
            raise UsageError(f"section {self.name}: {error}", rule=error.rule) from None

    def _members(self, direction: str, kind: str, split: str, salt: bytes) -> JsonObject:
        members: JsonObject = {
            "name": self.name,
            "direction": direction,
            "scheme": kind,
            "salt": salt.hex(),
        }
        if split:
            members["split"] = split
        if self.start is not None:
            members["start"] = self.start
        if self.end is not None:
            members["end"] = self.end
        return members


DEFAULT_SECTIONS = (
    Section(name="request.line"),
    Section(name="request.headers"),
    Section(name="response.status"),
    Section(name="response.headers"),
    Section(name=BODY),
)


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
