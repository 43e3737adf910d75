"""Forgeries for the demo, each from a genuine presentation."""

from __future__ import annotations

import dataclasses

from attestation.document import Header
from attestation.keys import SEED_SIZE, SigningKey
from attestation.presentation import Presentation


def change_digit(data: bytes) -> bytes:
    """Changes the last digit of the first shown price, and nothing else."""
    genuine = Presentation.decode(data)
    opening = genuine.openings[0]
    parts = list(opening.parts or ())
    place = next(
        index for index, shown in enumerate(parts) if shown.data.strip(b'"')[-1:].isdigit()
    )
    raw = bytearray(parts[place].data)
    last = max(index for index, byte in enumerate(raw) if chr(byte).isdigit())
    raw[last] = ord("0") + (raw[last] - ord("0") + 1) % 10
    parts[place] = dataclasses.replace(parts[place], data=bytes(raw))
    forged = dataclasses.replace(opening, parts=tuple(parts))
    return dataclasses.replace(genuine, openings=(forged, *genuine.openings[1:])).encode()


def another_key(data: bytes) -> bytes:
    """Signs the same header with a key of the forger's own."""
    genuine = Presentation.decode(data)
    name = genuine.header.key.rpartition("+")[0]
    key = SigningKey(name=name, algorithm="ed25519", seed=bytes(SEED_SIZE))
    header: Header = dataclasses.replace(genuine.header, key=key.verifying_key.short)
    signature = key.sign(header.encode()).hex()
    return dataclasses.replace(genuine, header=header, signature=signature).encode()
