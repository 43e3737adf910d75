"""Keys, texts and published values that the tests of the log share."""

from __future__ import annotations

import hashlib

from attestation.keys import SigningKey
from attestation.log.cosignature import WitnessKey

ORIGIN = "log.example/2026"
TIME = 1_768_478_400
"""Noon UTC of 2026-01-15, in seconds."""
NOW = TIME * 1_000_000


def signing_key(name: str, seed: int) -> SigningKey:
    return SigningKey(name=name, algorithm="ed25519", seed=bytes([seed]) * 32)


LOG = signing_key(ORIGIN, 10)
OTHER_LOG = signing_key("log.example/other", 11)
WITNESSES = tuple(signing_key(f"witness.example/w{number}", 20 + number) for number in range(6))
WITNESS_KEYS = tuple(WitnessKey.of(key.verifying_key) for key in WITNESSES)
PROVER = signing_key("prover.example", 40).verifying_key.vkey
OTHER_PROVER = signing_key("other.example", 41).verifying_key.vkey

# The example of c2sp.org/signed-note.
SPEC_VKEY = "example.com/foo+530d903a+AekyeRrm56hApGFkyQR4ZCbV54Id2LKaANYcrnKv3U2k"
SPEC_NOTE = (
    "This is an example message.\n\n— example.com/foo "
    "Uw2QOkn8srV1yJGh2VYRlL1Tnagv1YEq6TfXppzi2ONncAlTgK7Ztg1ERYNZXsYjOBH3mFXmRKuwHjG1Yu72IneyaQM=\n"
).encode()
# The examples of golang.org/x/mod/sumdb/note.
PETER = "PeterNeumann+c74f20a3+ARpc2QcUPDhMQegwxbzhKqiBfsVkmqq/LDE4izWy10TW"
PETER_SEED = "PRIVATE+KEY+PeterNeumann+c74f20a3+AYEKFALVFGyNhPJEMzD1QIDr+Y7hfZx09iUvxdXHKDFz"
ENOCH = "EnochRoot+af0cfe78+ATtqJ7zOtqQtYqOo0CpvDXNlMhV3HeJDpjrASKGLWdop"
QUOTE = (
    "If you think cryptography is the answer to your problem,\n"
    "then you don't know what your problem is.\n"
)
PETER_LINE = (
    "— PeterNeumann "
    "x08go/ZJkuBS9UG/SffcvIAQxVBtiFupLLr8pAcElZInNIuGUgYN1FFYC2pZSNXgKvqfqdngotpRZb6KE6RyyBwJnAM=\n"
)
ENOCH_LINE = (
    "— EnochRoot "
    "rwz+eBzmZa0SO3NbfRGzPCpDckykFXSdeX+MNtCOXm2/5n2tiOHp+vAF1aGrQ5ovTG01oOTGwnWLox33WWd1RvMc+QQ=\n"
)
# The example of c2sp.org/tlog-checkpoint and c2sp.org/tlog-cosignature; its keys are nobody's.
SPEC_CHECKPOINT = (
    "example.com/behind-the-sofa\n20852163\nCsUYapGGPo4dkMgIAUqom/Xajj7h2fB2MPA3j2jxq2I=\n\n"
    "— example.com/behind-the-sofa "
    "Az3grlgtzPICa5OS8npVmf1Myq/5IZniMp+ZJurmRDeOoRDe4URYN7u5/Zhcyv2q1gGzGku9nTo+zyWE+xeMcTOAYQ8=\n"
    "— witness.example.com/w1 jWbPPwAAAABkGFDLEZMHwSRaJNiIDoe9DYn/zXcrtPHeolMI5OWXEhZCB9dlrDJsX3b2"
    "oyin1nPZqhf5nNo0xUe+mbIUBkBIfZ+qnA==\n"
).encode()
# Keys of deployed witnesses, as the implementations of tlog-cosignature test with them.
SPEC_WITNESS_VKEY = "remora.n621.de+da77ade7+BOvN63jn/bLvkieywe8R6UYAtVtNbZpXh34x7onlmtw2"


def leaves(count: int, label: str = "leaf") -> list[bytes]:
    """Distinct leaf hashes."""
    return [hashlib.sha256(f"{label} {number}".encode()).digest() for number in range(count)]
