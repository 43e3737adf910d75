"""``python -m tests.interop``: writes docs/interoperation.md anew, with this machine's versions."""

from __future__ import annotations

from tests.interop.document import PAGE, blocks, versions_of, written
from tests.interop.versions import client_versions, versions

if __name__ == "__main__":
    parts = {"versions": versions_of(versions(), client_versions()), **blocks()}
    PAGE.write_text(written(PAGE.read_text("utf-8"), parts), encoding="utf-8")
