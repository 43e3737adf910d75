"""Writes the shipped venue files as the fairness page holds them: canonical JSON, in one array.

Their hashes are those that policies name.
"""

from __future__ import annotations

import sys
import tomllib
from importlib import resources
from pathlib import Path

import orjson

from attestation.encoding import encode
from attestation.venues import shipped_venues


def texts() -> list[str]:
    """The canonical JSON of every shipped venue file, by name."""
    folder = resources.files("attestation.venues")
    return [
        encode(tomllib.loads(folder.joinpath(f"{name}.toml").read_text("utf-8"))).decode()
        for name in shipped_venues()
    ]


def written() -> bytes:
    return orjson.dumps(texts(), option=orjson.OPT_INDENT_2 | orjson.OPT_APPEND_NEWLINE)


if __name__ == "__main__":
    Path(sys.argv[1]).write_bytes(written())
