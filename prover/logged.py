"""Where the notary's log has an attestation, as the prover checks, keeps and shows it.

The proof that comes with an attestation is as fresh as the checkpoint it is under:
no witness has cosigned that yet.  ``renew_inclusion`` fetches one under the log's
published checkpoint, which is what a reader with ``expect.log`` asks for.
"""

from __future__ import annotations

import dataclasses
import time

from attestation.document import Attestation, Header
from attestation.encoding import Json
from attestation.errors import (
    InvalidProofError,
    MalformedError,
    UnavailableError,
    UntrustedError,
    naming,
)
from attestation.keys import VerifyingKey
from attestation.log.checkpoint import open_note
from attestation.log.inclusion import Folded, Inclusion
from attestation.log.note import MAX_NOTE_SIZE
from attestation.log.proof import MAX_PROOF_SIZE
from attestation.log.tiles import CHECKPOINT_PATH
from attestation.trust import Trust
from prover.session import read_member

TIMEOUT_S = 10.0
"""How long a log may be silent."""
TOTAL_S = 60.0
"""How long an answer may take in all: a server is not trusted to end."""


@dataclasses.dataclass(frozen=True, slots=True, kw_only=True)
class LogReceipt:
    """Where a log says it has an attestation, its entry and path having been checked.

    ``trusted`` tells whether a log key of the trust file signed the checkpoint; if
    not, the log is one that the trust file does not name.  ``cosigners`` are the
    other names under the checkpoint, whose signatures are the reader's to check.
    """

    origin: str
    index: int
    size: int
    logged_us: int
    trusted: bool
    cosigners: tuple[str, ...]


def read_inclusion(answer: dict[str, Json]) -> Inclusion | None:
    """Reads the proof that comes with an attestation of a notary that keeps a log."""
    if "log" not in answer:
        return None
    with naming("log"):
        return Inclusion.from_json(read_member(answer, "log", dict, "log"))


def check_inclusion(
    inclusion: Inclusion, attestation: Attestation, trust: Trust | VerifyingKey | None
) -> LogReceipt:
    """Checks that the entry is this attestation's and is where its proof says.

    The log's signature is checked where the trust file has a key of that log, which
    must be run by the notary's operator.  Raises InvalidProofError, MalformedError,
    UntrustedError.
    """
    folded, receipt = check_logged(inclusion, attestation.header, trust)
    folded.check_session(attestation.session().id)
    return receipt


def check_logged(
    inclusion: Inclusion, header: Header, trust: Trust | VerifyingKey | None
) -> tuple[Folded, LogReceipt]:
    """Checks that the entry logs a header, and the log's signature as ``check_inclusion``.

    Whether it is the entry of the header's session, or slot, is the caller's to check.
    """
    folded = inclusion.fold()
    entry = folded.check_header(header)
    trusted = check_log(folded, trust, notary=header.key.rpartition("+")[0])
    names = [line.name for line in folded.note.signatures if line.name != folded.checkpoint.origin]
    return folded, LogReceipt(
        origin=folded.checkpoint.origin,
        index=folded.index,
        size=folded.checkpoint.size,
        logged_us=entry.logged_us,
        trusted=trusted,
        cosigners=tuple(sorted(set(names))),
    )


def check_log(folded: Folded, trust: Trust | VerifyingKey | None, *, notary: str) -> bool:
    """Checks the log's signature if the trust file has a key of that log; tells if it has.

    The log must be run by the operator of ``notary``.  Raises UntrustedError and
    InvalidProofError.
    """
    known = trust.logs_of(folded.checkpoint.origin) if isinstance(trust, Trust) else {}
    if not known or not isinstance(trust, Trust):
        return False
    valid = {key: entry for key, entry in known.items() if entry.revoked_at_us is None}
    with naming("log"):
        log = valid[open_note(folded.note, logs=valid).log]
    operator = trust.operator_of(notary)
    if log.operator != operator:
        raise UntrustedError(
            "the log is another operator's",
            rule="log.operator",
            found=log.operator,
            wanted=operator,
        )
    return True


def renew_inclusion(
    inclusion: Inclusion,
    attestation: Attestation,
    url: str,
    *,
    trust: Trust | None = None,
    timeout_s: float = TIMEOUT_S,
) -> Inclusion:
    """Returns the same entry's proof under the checkpoint that the notary's log shows now.

    Raises UnavailableError where the notary is away, keeps no log, or has not published
    the entry yet; InvalidProofError for a proof of something else, of an older tree or of
    another tree of the same size.
    """
    old = inclusion.fold()
    data = _get(f"{url.rstrip('/')}/v1/log/proofs/{old.index}", MAX_PROOF_SIZE, timeout_s)
    try:
        renewed = Inclusion(entry=inclusion.entry, proof=data.decode("utf-8"))
    except UnicodeDecodeError:
        raise MalformedError("the log's proof is not UTF-8", rule="log") from None
    receipt = check_inclusion(renewed, attestation, trust)
    for member, found, wanted in (
        ("index", receipt.index, old.index),
        ("origin", receipt.origin, old.checkpoint.origin),
        ("size", receipt.size, max(receipt.size, old.checkpoint.size)),
    ):
        if found != wanted:
            raise InvalidProofError(
                f"the renewed proof has another {member}",
                rule=f"log.{member}",
                found=found,
                wanted=wanted,
            )
    new = renewed.fold().checkpoint
    if new.size == old.checkpoint.size and new.root != old.checkpoint.root:
        raise InvalidProofError(
            "the log has forked: two trees of one size",
            rule="log.root",
            found=new.root.hex(),
            wanted=old.checkpoint.root.hex(),
        )
    return renewed


def read_origin(url: str, *, timeout_s: float = TIMEOUT_S) -> str:
    """Asks a notary which log it keeps; nothing of the answer is verified."""
    data = _get(f"{url.rstrip('/')}/{CHECKPOINT_PATH}", MAX_NOTE_SIZE, timeout_s)
    return data.partition(b"\n")[0].decode("utf-8", "replace")


def _get(url: str, limit: int, timeout_s: float) -> bytes:
    # Loaded here: a fetch asks for none of this.
    import httpx

    try:
        with httpx.stream("GET", url, timeout=timeout_s, trust_env=False) as response:
            if response.status_code == 404:
                raise UnavailableError(
                    "the notary keeps no log, or has not published the entry yet",
                    rule="log",
                    found=url,
                )
            if response.status_code != 200:
                raise UnavailableError(
                    f"the log answers with status {response.status_code}", rule="log", found=url
                )
            data, deadline = b"", time.monotonic() + TOTAL_S
            for chunk in response.iter_bytes():
                data += chunk
                if len(data) > limit:
                    raise MalformedError("the log's answer is too large", rule="log", found=url)
                if time.monotonic() > deadline:
                    raise UnavailableError("the log's answer does not end", rule="log", found=url)
            return data
    except (httpx.HTTPError, httpx.InvalidURL) as error:
        raise UnavailableError(f"cannot ask the log: {error}", rule="log", found=url) from error
