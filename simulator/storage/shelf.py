"""Artifacts on disk: a storage that starts anew finds them again, and a replica what it signs for."""

from __future__ import annotations

import hashlib
import os
import tempfile
from pathlib import Path
from urllib.parse import quote, unquote

from simulator.model.errors import ScenarioError
from simulator.storage.core import Known, Signer, Storage, path_of


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
        file = self._file(name, version)
        file.parent.mkdir(parents=True, exist_ok=True)
        with tempfile.NamedTemporaryFile(dir=self._directory, prefix="part-", delete=False) as part:
            part.write(content)
            part.flush()
            os.fsync(part.fileno())
        Path(part.name).replace(file)

    def look(self, path: str) -> Known | None:
        """What is kept under this path of a URL, if it is spelled as `path_of` does; None for nothing."""
        name, version = map(unquote, path.split("/")[-2:]) if "/" in path else ("", "")
        try:
            if path_of(name, version) != path:
                return None
            with self._file(name, version).open("rb") as file:
                digest = hashlib.file_digest(file, "sha256")
                return Known(path, file.tell(), digest.hexdigest())
        except (ScenarioError, OSError):
            return None

    def _file(self, name: str, version: str) -> Path:
        return self._directory / quote(name, safe="") / quote(version, safe="")


class Catalogue(Signer):
    """What a replica knows of a storage that is a process of its own, up or down: what is on its shelf, looked at once,
    for it is immutable. Whatever was uploaded is there before its uploader hears so."""

    def __init__(self, base: str, key: bytes, shelf: Shelf) -> None:
        super().__init__(base, key)
        self._shelf = shelf
        self._seen: dict[str, Known] = {}

    def known(self, url: str) -> Known | None:
        """What the artifact with this stable URL is; None for a URL that is not this storage's."""
        if url in self._seen or not url.startswith(self.base):
            return self._seen.get(url)
        known = self._shelf.look(url.removeprefix(self.base))
        if known is not None:
            self._seen[url] = known
        return known
