"""One target under atheris, in a process of its own: libFuzzer ends its process.

    python -m tests.fuzz.campaign TARGET -max_total_time=60 FOLDER...

Run by ``python -m tests.fuzz``; the arguments after the name are libFuzzer's.
"""

from __future__ import annotations

import random
import sys

import atheris

with atheris.instrument_imports(include=["attestation", "notary", "verifier", "prover"]):
    from tests.fuzz.registry import TARGETS


def main() -> None:
    """Fuzzes the target named first until libFuzzer's limits."""
    program, name, *options = sys.argv
    target = TARGETS[name]
    target.run(next(iter(target.seeds())))  # what is made once is not charged to an input

    def mutate(data: bytes, max_size: int, seed: int) -> bytes:
        assert target.mutate is not None
        # Half of the time by libFuzzer's own means: broken syntax must be tried as well.
        if random.Random(seed).random() < 0.5:
            return atheris.Mutate(data, max_size)  # type: ignore[no-any-return]
        return target.mutate(data, max_size, seed)

    custom = {} if target.mutate is None else {"custom_mutator": mutate}
    arguments = [program, f"-max_len={target.max_size}", *options]
    atheris.Setup(arguments, target.check, **custom)
    atheris.Fuzz()


if __name__ == "__main__":
    main()
