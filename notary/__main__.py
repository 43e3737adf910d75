"""``python -m notary``."""

from notary.cli import main

if __name__ == "__main__":
    main()
