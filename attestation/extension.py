"""Extensions by id.  Unknown ids are refused: what is signed has a known meaning."""

from __future__ import annotations

from collections.abc import Mapping
from types import MappingProxyType

from attestation.document import ExtensionField
from attestation.errors import MalformedError
from attestation.quote import QuoteClaim
from attestation.schema import Document

QUOTE = "quote/v1"

EXTENSIONS: Mapping[str, type[Document]] = MappingProxyType({QUOTE: QuoteClaim})
"""The type of each registered extension's value."""


def read_extension(field: ExtensionField) -> Document:
    """Returns the typed value; raises MalformedError for an unknown id or shape."""
    kind = EXTENSIONS.get(field.id)
    if kind is None:
        raise MalformedError(
            "unknown extension", rule="extension.id", found=field.id, wanted=sorted(EXTENSIONS)
        )
    return kind.from_json(field.value)
