"""``make deploy-check``: does docs/deploy do what docs/operations.md says of it?

    python -m tests.deploy                 the container, then the units
    python -m tests.deploy container
    python -m tests.deploy units

Root on Debian 12, and a package index that pip reaches; some minutes.  What it makes is
under /var/tmp/quotary-deploy-check, which may be removed.  It takes the ports 7047, 7048,
7049 and 7051 while it runs, and changes nothing else of the machine.  docs/operations.md,
"What was run", says what this shows, and what not.
"""

from __future__ import annotations

import argparse
import os
import socket
import sys
import time

from tests.deploy import container, units
from tests.deploy.machine import BUILD, Failure, make_tree, missing_tools, say

CHECKS = {"container": container.check, "units": units.check}


def main() -> int:
    parser = argparse.ArgumentParser(prog="python -m tests.deploy", description=__doc__)
    parser.add_argument("what", nargs="*", help=f"{' or '.join(CHECKS)}; default: all")
    parser.add_argument("--mirror", help="of Debian's packages; default: debootstrap's own")
    options = parser.parse_args()
    if unknown := set(options.what) - set(CHECKS):
        parser.error(f"no such check: {', '.join(sorted(unknown))}")
    if os.geteuid() != 0:
        print("deploy-check: needs root: it makes containers", file=sys.stderr)
        return 2
    if packages := missing_tools():
        print(f"deploy-check: apt-get install {' '.join(packages)}", file=sys.stderr)
        return 2
    BUILD.mkdir(mode=0o700, exist_ok=True)
    began = time.monotonic()
    try:
        _ports_are_free()
        for name in options.what or CHECKS:
            say(name)
            tree = make_tree(options.mirror)
            CHECKS[name](tree)
    except Failure as failure:
        print(f"deploy-check: {failure}", file=sys.stderr)
        return 1
    say(f"deploy-check ok ({time.monotonic() - began:.0f} s)")
    return 0


def _ports_are_free() -> None:
    for port in (7047, 7048, 7049, 7051):
        with socket.socket() as listener:
            listener.setsockopt(socket.SOL_SOCKET, socket.SO_REUSEADDR, 1)
            try:
                listener.bind(("127.0.0.1", port))
            except OSError as error:
                raise Failure(f"port {port}: {error.strerror}") from None


if __name__ == "__main__":
    sys.exit(main())
