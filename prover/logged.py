"""Where the notary's log has an attestation, as the prover keeps and shows it.

The proof that comes with an attestation is as fresh as the checkpoint it is under:
no witness has cosigned that yet.  ``renew_inclusion`` fetches one under the log's
present checkpoint, which is what a reader with ``expect.log`` asks for.
"""

from __future__ import annotations

from attestation.document import Attestation
from attestation.encoding import Json, encode
from attestation.errors import InvalidProofError, MalformedError, UnavailableError, naming
from attestation.hashing import hash_string
from attestation.keys import VerifyingKey
from attestation.log.checkpoint import Checkpoint
from attestation.log.entry import AttestedEntry, read_entry
from attestation.log.inclusion import Inclusion
from attestation.log.note import Note
from attestation.log.policy import LogPolicy
from attestation.log.proof import MAX_PROOF_SIZE, LogProof
from attestation.merkle import leaf_hash, verify_inclusion
from attestation.trust import Trust
from prover.session import read_member

TIMEOUT_S = 10.0


def read_inclusion(answer: dict[str, Json]) -> Inclusion | None:
    """Reads the proof that comes with an attestation of a notary that keeps a log."""
    if "log" not in answer:
        return None
    with naming("log"):
        return Inclusion.from_json(read_member(answer, "log", dict, "log"))


def check_inclusion(
    inclusion: Inclusion, attestation: Attestation, trust: Trust | VerifyingKey
) -> None:
    """Checks that the entry is this attestation's and is where its proof says.

    The log's signature is checked where the trust file has a log of the notary's
    operator.  Raises InvalidProofError, MalformedError, UntrustedError.
    """
    data = encode(inclusion.entry)
    entry = read_entry(data)
    session = attestation.session().id
    if not isinstance(entry, AttestedEntry) or (entry.session, entry.header) != (
        session,
        hash_string(attestation.header.encode()),
    ):
        raise InvalidProofError("the log's entry is of another attestation", rule="log.entry")
    proof = LogProof.parse(inclusion.proof.encode("utf-8"))
    head = Checkpoint.parse(Note.parse(proof.note).text)
    verify_inclusion(
        leaf=leaf_hash(data), index=proof.index, size=head.size, proof=proof.path, root=head.root
    )
    logs = _logs(attestation, trust)
    if logs:
        LogPolicy.threshold(logs, [], 0).open(proof.note)


def renew_inclusion(inclusion: Inclusion, url: str, *, timeout_s: float = TIMEOUT_S) -> Inclusion:
    """Returns the same entry's proof under the checkpoint that the notary's log shows now.

    Raises UnavailableError, and InvalidProofError for a proof of something else.
    """
    import httpx

    index = LogProof.parse(inclusion.proof.encode("utf-8")).index
    try:
        with httpx.stream(
            "GET", f"{url.rstrip('/')}/v1/log/proofs/{index}", timeout=timeout_s
        ) as response:
            if response.status_code == 404:
                raise UnavailableError("the log has not published the entry yet", rule="log")
            if response.status_code != 200:
                raise UnavailableError(
                    f"the log answers with status {response.status_code}", rule="log"
                )
            data = b""
            for chunk in response.iter_bytes():
                data += chunk
                if len(data) > MAX_PROOF_SIZE:
                    raise MalformedError("the log's proof is too large", rule="log")
    except (httpx.HTTPError, httpx.InvalidURL) as error:
        raise UnavailableError(f"cannot ask the log: {error}", rule="log") from error
    proof = LogProof.parse(data)
    head = Checkpoint.parse(Note.parse(proof.note).text)
    if proof.index != index:
        raise InvalidProofError("the log proves another entry", found=proof.index, wanted=index)
    verify_inclusion(
        leaf=leaf_hash(encode(inclusion.entry)),
        index=index,
        size=head.size,
        proof=proof.path,
        root=head.root,
    )
    return Inclusion(entry=inclusion.entry, proof=data.decode("utf-8"))


def _logs(attestation: Attestation, trust: Trust | VerifyingKey) -> list[VerifyingKey]:
    if isinstance(trust, VerifyingKey):
        return []
    notary = trust.get(attestation.header.key)
    return [
        entry.key
        for entry in trust.keys
        if notary is not None
        and entry.role == "log"
        and entry.operator == notary.operator
        and entry.revoked_at_us is None
        and isinstance(entry.key, VerifyingKey)
    ]
