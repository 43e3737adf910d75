"""The files that hold a prover's secrets: their owner's alone."""

from __future__ import annotations

import os
import re
import stat
from pathlib import Path

from attestation.errors import MalformedError, UsageError
from attestation.keys import SigningKey

MAX_FILE = 4_096

_TOKEN = re.compile(r"[A-Za-z0-9._~+/-]{16,1024}=*")


def read_key_file(path: Path) -> SigningKey:
    """Reads the file of `prover keygen`; raises UsageError with the cure, never with its text."""
    try:
        return SigningKey.parse(_read_private(path, "key").decode("ascii").strip())
    except FileNotFoundError:
        raise UsageError(f"no key at {path}: make one with `prover keygen`", rule="key") from None
    except OSError as error:
        raise UsageError(f"cannot read the key {path}: {error.strerror}", rule="key") from None
    except (UnicodeDecodeError, MalformedError):
        raise UsageError(f"{path} is no key of `prover keygen`", rule="key") from None


def read_token_file(path: Path) -> str:
    """Reads the token that those name who may place orders; raises UsageError with the cure.

    At least 16 characters that a header may carry (RFC 6750 section 2.1).
    """
    try:
        token = _read_private(path, "token").decode("ascii").strip()
    except OSError as error:
        raise UsageError(f"cannot read the token {path}: {error.strerror}", rule="token") from None
    except UnicodeDecodeError:
        token = ""
    if not _TOKEN.fullmatch(token):
        raise UsageError(f"{path} is no token: openssl rand -hex 16 > {path}", rule="token")
    return token


def _read_private(path: Path, rule: str) -> bytes:
    with path.open("rb") as file:
        if _others_may_use(os.fstat(file.fileno())):
            raise UsageError(f"others can read {path}: chmod 600 {path}", rule=rule)
        return file.read(MAX_FILE)


def _others_may_use(status: os.stat_result) -> bool:
    """Whether more than the owner, and root, may read or write a regular file.

    systemd hands a credential over as root's, mode 0440, with an access list that names
    the service's user: the group's bits are then the list's mask.
    """
    mode = stat.S_IMODE(status.st_mode)
    if not stat.S_ISREG(status.st_mode):
        return False
    if status.st_uid == status.st_gid == 0 and mode & 0o037 == 0:
        return False
    return bool(mode & 0o077)
