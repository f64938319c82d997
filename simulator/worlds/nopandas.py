"""Hides pandas from a process: pyarrow loads it with its first conversion if it can, half a second and 40 MB."""

from __future__ import annotations

import sys
from importlib.abc import MetaPathFinder


class _Hidden(MetaPathFinder):
    def find_spec(self, fullname: str, path: object, target: object = None) -> None:
        """There is no pandas here."""
        if fullname == "pandas":
            raise ModuleNotFoundError("no part of a run needs pandas", name=fullname)


def hide_pandas() -> None:
    """From now on an import of pandas fails."""
    sys.meta_path.insert(0, _Hidden())
