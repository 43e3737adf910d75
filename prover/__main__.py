"""``python -m prover``."""

from __future__ import annotations

from prover.cli import main

if __name__ == "__main__":
    main()
