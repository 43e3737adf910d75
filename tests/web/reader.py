"""What a reader of the page does: opens files, changed or not."""

from __future__ import annotations

from pathlib import Path

from attestation.encoding import decode_object
from examples.demo.browser import Tab
from verifier.selftest import SAMPLES, samples

SHOWN = "document.querySelector('.chart svg')"
REFUSED = "document.querySelector('.refusal')"


def opened(tab: Tab, files: list[Path]) -> str:
    """Opens files that must verify; returns all the text of the page."""
    tab.give(*files)
    tab.wait(f"{SHOWN} || {REFUSED}")
    assert tab.text(".refusal") == ""
    return tab.text()


def changed(files: list[Path], folder: Path, data: bytes) -> list[Path]:
    """The files with another bundle."""
    bundle = folder / "bundle.json"
    bundle.write_bytes(data)
    return [bundle, *files[1:]]


def show_quote(tab: Tab) -> None:
    """Opens a quote of two notaries, at the time of the samples."""
    now_us = decode_object((SAMPLES / "clock.json").read_bytes())["now_us"]
    tab.run(f"Date.now = () => {now_us} / 1000, true")
    sample = next(sample for sample in samples() if sample.name == "valid_quorum")
    tab.give(*sample.files, sample.trust, sample.expect)
