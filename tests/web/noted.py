"""Questions about checkpoints under log policies: cosigned by too few, spelled otherwise."""

from __future__ import annotations

import json
from collections.abc import Iterator

from attestation.keys import SigningKey
from attestation.log.checkpoint import Checkpoint, sign_checkpoint
from attestation.log.cosignature import WitnessKey, cosign
from attestation.log.entry import TickEntry, logged_at, write_entry
from attestation.log.lines import base64_encode
from attestation.log.note import sign_note
from attestation.log.policy import LogPolicy
from tests.settlement import cases, world
from tests.web.vectors import Answer, Vector


def checkpoint_vector(name: str, policy: bytes, note: bytes) -> Vector:
    """Asks to open a checkpoint under a log policy; both are text."""

    def ask() -> bytes:
        found = LogPolicy.parse(policy).open(note)
        head = found.signed.checkpoint
        return json.dumps(
            [head.origin, head.size, found.quorum_time], separators=(",", ":")
        ).encode()

    return Vector(
        name=f"checkpoint/{name}",
        call="judgeCheckpoint",
        question={"log_policy": policy.decode(), "checkpoint": note.decode()},
        answer=Answer.of(ask),
    )


def checkpoints() -> Iterator[Vector]:
    """Notes and log policies: cosigned by too few, spelled otherwise, made up."""
    policy = world.log_policy(1)
    entries = [write_entry(logged_at(TickEntry(), at)) for at in range(5)]
    note = world.checkpoint("n0/log", entries, cases.START).encode()
    for witnesses in range(4):
        made = world.checkpoint("n0/log", entries, cases.START, witnesses=witnesses)
        yield checkpoint_vector(f"{witnesses} witnesses", policy, made.encode())
    yield checkpoint_vector("another log", policy, note.replace(b"n0/log", b"n1/log"))
    for name, changed in _notes(note).items():
        yield checkpoint_vector(f"note/{name}", policy, changed)
    for name, changed in _log_policies(policy).items():
        yield checkpoint_vector(f"policy/{name}", changed, note)


def _notes(note: bytes) -> dict[str, bytes]:
    text, _, lines = note.partition(b"\n\n")
    origin, size, root = text.split(b"\n")
    log = world.log_key("n0/log")
    first = lines.splitlines(keepends=True)[0]
    stranger = world.log_key("stranger")

    def again(*rows: bytes) -> bytes:
        body = b"\n".join(rows) + b"\n"
        line = log.sign(body)
        key_id = bytes.fromhex(log.verifying_key.short[-8:])
        return body + b"\n\xe2\x80\x94 n0/log " + base64_encode(key_id + line).encode() + b"\n"

    whole = Checkpoint(origin="n0/log", size=3, root=bytes(32))
    witness = world.WITNESSES[0]
    signed = sign_checkpoint(whole, log)
    twice = signed.add(
        *[cosign(signed.text, witness, at) for at in (50, 40)],
        cosign(signed.text, world.WITNESSES[1], 60),
    )
    return {
        "signed by a stranger": sign_note(whole.encode(), stranger).encode(),
        "cosigned twice by one": twice.encode(),
        "strangers beside": note
        + b"\xe2\x80\x94 x AAAAAAAA\n" * 60,
        "65 signatures": note + b"\xe2\x80\x94 x AAAAAAAA\n" * 65,
        "empty signature": note + b"\xe2\x80\x94 x AAAAAA==\n",
        "no base64": note + b"\xe2\x80\x94 x !!\n",
        "no dash": note + b"- x AAAAAAAA\n",
        "two blanks": note + b"\xe2\x80\x94 x  AAAAAAAA\n",
        "name with a plus": note + b"\xe2\x80\x94 x+y AAAAAAAA\n",
        "name with a space of another kind": note + "\u2014 x\u00a0y AAAAAAAA\n".encode(),
        "no newline at the end": note[:-1],
        "no signature": text + b"\n\n",
        "no blank line": text + b"\n",
        "control character": note.replace(b"n0/log\n", b"n0\x01log\n", 1),
        "tab": note.replace(b"n0/log\n", b"n0\tlog\n", 1),
        "bad signature of the log": note.replace(first, first[:-8] + b"AAAA" + first[-4:]),
        "too large": note + b"\xe2\x80\x94 x AAAAAAAA\n" + b"x" * 256 * 1024,
        "size with a zero": again(origin, b"0" + size, root),
        "size with a sign": again(origin, b"+" + size, root),
        "size too large": again(origin, b"9007199254740992", root),
        "size of nothing": again(origin, b"", root),
        "root too short": again(origin, size, root[:-4]),
        "root with stray bits": again(origin, size, root[:-2] + b"B="),
        "two lines": again(origin, size),
        "a fourth line": again(origin, size, root, b"more"),
        "an empty fourth line": again(origin, size, root, b""),
        "empty tree of another root": again(origin, b"0", root),
        "empty tree": again(
            origin, b"0", b"47DEQpj8HBSa+/TImW+5JCeuQeRkm5NMpJWZG3hSuFU="
        ),
        "another origin": again(b"n9/log", size, root),
    }  # fmt: skip


def _log_policies(policy: bytes) -> dict[str, bytes]:
    log, one, two, three, group, quorum = policy.splitlines(keepends=True)
    secp = SigningKey(name="n0/log", algorithm="ecdsa-secp256k1", seed=bytes(range(32)))
    extra = b"".join(
        b"witness w%d %s\n"
        % (
            number,
            WitnessKey.of(
                SigningKey(
                    name=f"w{number}", algorithm="ed25519", seed=world.seeded(f"w{number}")
                ).verifying_key
            ).vkey.encode(),
        )
        for number in range(64)
    )
    return {
        "comments and blanks": b"# mine\n\n \t" + policy.replace(b" ", b"\t "),
        "urls": log[:-1] + b" https://log.example/\n" + one[:-1] + b" https://w.example/\n"
        + two + three + group + quorum,
        "no quorum": policy.replace(quorum, b""),
        "quorum none": policy.replace(quorum, b"quorum none\n"),
        "two quorums": policy + quorum,
        "quorum of an unknown": policy.replace(quorum, b"quorum nobody\n"),
        "quorum of one witness": policy.replace(quorum, b"quorum a\n"),
        "quorum of an absent witness": policy.replace(quorum, b"quorum c\n"),
        "all": policy.replace(b"two 2 ", b"two all "),
        "any": policy.replace(b"two 2 ", b"two any "),
        "three": policy.replace(b"two 2 ", b"two 3 "),
        "four of three": policy.replace(b"two 2 ", b"two 4 "),
        "none of three": policy.replace(b"two 2 ", b"two 0 "),
        "02 of three": policy.replace(b"two 2 ", b"two 02 "),
        "member twice": policy.replace(b"a b c", b"a b b"),
        "member of two groups": policy.replace(quorum, b"group more any a\n" + quorum),
        "group of groups": policy.replace(
            b"group two 2 a b c\n", b"group ab any a b\ngroup two 2 ab c\n"
        ),
        "group of an unknown": policy.replace(b"a b c", b"a b d"),
        "name twice": policy.replace(group, group + group),
        "group named as a witness": policy.replace(b"group two", b"group a"),
        "named none": policy.replace(b"group two", b"group none"),
        "witness twice": policy.replace(two, two + two.replace(b"witness b", b"witness d")),
        "log twice": log + policy,
        "no log": policy.replace(log, b""),
        "another word": policy + b"trust me\n",
        "too few words": policy + b"group x\n",
        "too many words": policy + quorum[:-1] + b" more\n",
        "a log of secp256k1": policy.replace(
            log, b"log " + secp.verifying_key.vkey.encode() + b"\n"
        ),
        "a log of a witness's key": policy.replace(log, b"log " + one.split(b" ")[2]),
        "a witness of a log's key": policy.replace(
            one, b"witness a " + log.split(b" ")[1]
        ),
        "vkey spoiled": policy.replace(log, log[:-3] + b"AA\n"),
        "no newline at the end": policy[:-1],
        "control character": policy + b"# \x01\n",
        "carriage returns": policy.replace(b"\n", b"\r\n"),
        "too large": policy + b"#" * 65_536 + b"\n",
        "64 witnesses more": policy.replace(group, extra + group),
        "61 witnesses more": policy.replace(
            group, b"".join(extra.splitlines(keepends=True)[:61]) + group
        ),
        "empty": b"",
    }  # fmt: skip
