"""The simulated venues beside a deployment, and the configuration that reaches them."""

from __future__ import annotations

import contextlib
import json
import subprocess
import sys
from collections.abc import Iterator
from pathlib import Path

from examples.demo.configure import places
from tests.deploy.machine import BUILD, Failure, environment


@contextlib.contextmanager
def venues() -> Iterator[int]:
    """Runs the simulated venues; yields their port.  Their CA is BUILD/venues-ca.pem."""
    command = [sys.executable, "-m", "examples.venues", "--dir", str(BUILD)]
    with subprocess.Popen(command, stdout=subprocess.PIPE, env=environment()) as process:
        try:
            assert process.stdout is not None
            line = process.stdout.readline()
            if not line:
                raise Failure("the simulated venues did not start")
            yield int(json.loads(line)["port"])
        finally:
            process.terminate()


def development(port: int, folder: Path) -> str:
    """The section of a notary's configuration; ``folder`` gets the venues' CA."""
    (folder / "venues-ca.pem").write_bytes((BUILD / "venues-ca.pem").read_bytes())
    (folder / "venues-ca.pem").chmod(0o644)
    hosts = "\n".join(
        f'    {{ host = "{host}", port = {at}, to = "127.0.0.1:{port}" }},'
        for host, at in dict.fromkeys(places())
    )
    return f'\n[development]\nroots = ["venues-ca.pem"]\nconnect_to = [\n{hosts}\n]\n'
