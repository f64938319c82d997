"""How one process of ours starts another, so that the other finds the same modules.

`python -m` alone looks for modules in the working directory first, and Locust puts that directory on `sys.path` too. Users
run fleetsim in folders of their own, where a `simulator` or `reports` package of theirs would be loaded in place of ours.
So a process of ours is started by `python -P`, which adds no directory by itself, and is told by PYTHONPATH where this
process finds its modules: the working directory, and what else holds a `simulator` or `reports` that is not ours, come last.
"""

from __future__ import annotations

import os
import sys
from collections.abc import Iterable
from pathlib import Path

_OWN = Path(__file__).resolve().parents[3]  # the directory that holds our packages: site-packages, or a checkout
_PACKAGES = ("simulator", "reports")


def command(module: str, *words: str) -> list[str]:
    """The command line that runs a module of ours with these words."""
    return [sys.executable, "-P", "-m", module, *words]


def environment() -> dict[str, str]:
    """This process's environment variables, with the PYTHONPATH for a process of ours."""
    return {**os.environ, "PYTHONPATH": os.pathsep.join(search_path(sys.path))}


def search_path(entries: Iterable[str]) -> list[str]:
    """The entries of `sys.path` for a process of ours: in their order, but what would hide our packages is last. Our own
    directory is added if it is not among them, as where an import hook finds an editable install."""
    named = [entry for entry in entries if entry]
    if not any(Path(entry).resolve() == _OWN for entry in named):
        named.append(str(_OWN))
    return sorted(named, key=_hides_ours)


def _hides_ours(entry: str) -> bool:
    path = Path(entry).resolve()
    if path == _OWN:
        return False
    return path == Path.cwd() or any((path / name).is_dir() or (path / f"{name}.py").exists() for name in _PACKAGES)
