"""Artifacts on disk: what was uploaded is there again when a storage starts anew."""

from __future__ import annotations

import os
import tempfile
from pathlib import Path
from urllib.parse import quote, unquote

from simulator.backend.storage import Storage


class Shelf:
    """A directory with a file for each artifact: NAME/VERSION, spelled as in its URL."""

    def __init__(self, directory: Path) -> None:
        self._directory = directory

    def load(self, storage: Storage) -> None:
        """Put all that is kept into the storage. Raises OSError."""
        for file in sorted(self._directory.glob("*/*")):
            storage.put(unquote(file.parent.name), unquote(file.name), file.read_bytes())

    def keep(self, name: str, version: str, content: bytes) -> None:
        """On the disk when this returns, whole or not at all. Raises OSError."""
        file = self._directory / quote(name, safe="") / quote(version, safe="")
        file.parent.mkdir(parents=True, exist_ok=True)
        with tempfile.NamedTemporaryFile(dir=self._directory, prefix="part-", delete=False) as part:
            part.write(content)
            part.flush()
            os.fsync(part.fileno())
        Path(part.name).replace(file)
