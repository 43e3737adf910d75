"""The notary's signing keys on disk and in memory."""

from __future__ import annotations

import os
import stat
from collections.abc import Iterable
from pathlib import Path

from attestation.errors import QuotaryError, UntrustedError, UsageError
from attestation.keys import DEFAULT_SIGNATURE, SigningKey

KEY_FILE = "attest.key"


class Signer:
    """The keys by algorithm; at most one of each, all of the notary's name.

    ``retired`` keys sign nothing new: they give the signature again of an
    attestation that was stored while they were in use.
    """

    __slots__ = ("_by_short", "_keys", "name")

    def __init__(
        self, name: str, keys: Iterable[SigningKey], retired: Iterable[SigningKey] = ()
    ) -> None:
        self.name = name
        self._keys: dict[str, SigningKey] = {}
        for key in keys:
            if key.name != name:
                raise UsageError("key is of another name", rule="keys", found=key.name, wanted=name)
            if key.algorithm in self._keys:
                raise UsageError("two keys of one algorithm", found=key.algorithm)
            self._keys[key.algorithm] = key
        if DEFAULT_SIGNATURE not in self._keys:
            raise UsageError(f"no {DEFAULT_SIGNATURE} key is configured", rule="keys")
        former = list(retired)
        for key in former:
            if key.name != name:
                raise UsageError(
                    "retired key is of another name", rule="retired", found=key.name, wanted=name
                )
            if key in self._keys.values():
                raise UsageError("a key in use is listed as retired", rule="retired")
        self._by_short = {key.verifying_key.short: key for key in [*former, *self._keys.values()]}

    def key(self, algorithm: str) -> SigningKey:
        """Raises UntrustedError for an algorithm without a key."""
        found = self._keys.get(algorithm)
        if found is None:
            raise UntrustedError(
                "this notary has no key of the algorithm",
                rule="signature",
                found=algorithm[:80],
                wanted=sorted(self._keys),
            )
        return found

    def key_named(self, short: str) -> SigningKey | None:
        """The key of ``<name>+<8 hex>``, in use or retired, if it is configured."""
        return self._by_short.get(short)

    @property
    def default(self) -> SigningKey:
        """The key that signs seals and default attestations."""
        return self._keys[DEFAULT_SIGNATURE]

    @property
    def algorithms(self) -> tuple[str, ...]:
        """Names of the algorithms, the default first."""
        others = sorted(self._keys.keys() - {DEFAULT_SIGNATURE})
        return (DEFAULT_SIGNATURE, *others)

    @property
    def vkeys(self) -> tuple[str, ...]:
        """The public keys, in the order of ``algorithms``."""
        return tuple(self._keys[name].verifying_key.vkey for name in self.algorithms)


def key_path(folder: Path, algorithm: str) -> Path:
    """Where ``notary keygen`` puts a key of the algorithm."""
    if algorithm == DEFAULT_SIGNATURE:
        return folder / KEY_FILE
    return folder / f"attest-{algorithm}.key"


def write_key(path: Path, key: SigningKey) -> None:
    """Writes a new key file, readable by its owner alone; never overwrites one."""
    path.parent.mkdir(parents=True, exist_ok=True, mode=0o700)
    try:
        descriptor = os.open(path, os.O_WRONLY | os.O_CREAT | os.O_EXCL, 0o600)
    except FileExistsError:
        raise UsageError("the key file exists already", rule="keys", found=str(path)) from None
    with os.fdopen(descriptor, "w", encoding="utf-8") as file:
        file.write(key.encode() + "\n")
        file.flush()
        os.fsync(file.fileno())


def read_key(path: Path) -> SigningKey:
    """Reads a key file; raises UsageError if others may read it or it is no key."""
    try:
        with path.open(encoding="utf-8") as file:
            status = os.fstat(file.fileno())
            if _others_may_use(status):
                raise UsageError(
                    "the key file is readable by others: chmod 600",
                    rule="keys",
                    found=f"{stat.S_IMODE(status.st_mode):04o} {path}",
                )
            text = file.read(4_096)
        return SigningKey.parse(text.removesuffix("\n"))
    except UsageError:
        raise
    except FileNotFoundError:
        raise UsageError(
            "no such key file: make it with `notary keygen`", rule="keys", found=str(path)
        ) from None
    except (OSError, UnicodeDecodeError, QuotaryError) as error:
        # The text is a secret: not even an error repeats a part of it.
        kind = type(error).__name__
        raise UsageError("cannot read a key from the file", found=f"{path}: {kind}") from None


def _others_may_use(status: os.stat_result) -> bool:
    """Whether more than the owner, and root, may read or write a file.

    systemd hands a credential over as root's, mode 0440, with an access list that
    names the service's user: the group's bits are then the list's mask.
    """
    mode = stat.S_IMODE(status.st_mode)
    if status.st_uid == status.st_gid == 0 and mode & 0o037 == 0:
        return False
    return bool(mode & 0o077)
