"""The run directory: where a run leaves its record, readable whatever ended it.

While a run goes on, each recorder writes a stream of its own below parts/. When the run ends, the streams are merged into
trace.parquet. A run that was killed has only its parts: these are merged when it is opened, and the run counts as not
complete.
"""

from __future__ import annotations

import contextlib
import json
import os
import re
import shutil
from collections.abc import Mapping
from dataclasses import dataclass
from datetime import UTC, datetime
from pathlib import Path
from typing import Any

from simulator.model.errors import ScenarioError
from simulator.trace.reader import Trace, encoded, merged, read_parquet, read_stream, write_parquet


@dataclass(frozen=True, slots=True)
class Run:
    """A run as it was left: `complete` is False where only the recorders' parts were found."""

    path: Path
    manifest: dict[str, Any]
    trace: Trace
    complete: bool


def folder(scenario: str) -> str:
    """A scenario's name as that of a directory."""
    return re.sub(r"[^\w.-]+", "-", scenario).strip("-.") or "unnamed"


def create(root: Path, scenario: str) -> Path:
    """A fresh directory root/scenario/<UTC time>, its parts/ within, and root/latest pointing to it. Raises
    ScenarioError where none can be made."""
    path = fresh(root / folder(scenario))
    (path / "parts").mkdir()
    _point(root / "latest", path)
    return path


def latest(root: Path) -> Path | None:
    """The run directory to which root/latest points; None where there is none."""
    link = root / "latest"
    return root / link.readlink() if link.is_symlink() else None


def discard(root: Path, path: Path, before: Path | None) -> None:
    """Take away the directory of a run that did not start, and what was made for it above; root/latest points to `before`
    again."""
    shutil.rmtree(path, ignore_errors=True)
    with contextlib.suppress(OSError):  # other runs are there
        path.parent.rmdir()
    if before is None:
        (root / "latest").unlink(missing_ok=True)
        with contextlib.suppress(OSError):
            root.rmdir()
    else:
        _point(root / "latest", before)


def fresh(below: Path) -> Path:
    """A fresh directory below/<UTC time>. Raises ScenarioError where none can be made."""
    stamp = datetime.now(UTC).strftime("%Y%m%dT%H%M%SZ")
    for nth in range(1000):
        path = below / (stamp if nth == 0 else f"{stamp}-{nth}")
        try:
            path.mkdir(parents=True)
        except FileExistsError:
            continue
        except OSError as error:
            raise ScenarioError(f"{path}: cannot be made: {error.strerror}; name another place with --out") from None
        return path
    raise ScenarioError(f"{below}: too many runs within one second")


def _point(latest: Path, path: Path) -> None:
    link = latest.with_name(f".latest-{os.getpid()}")
    link.unlink(missing_ok=True)
    link.symlink_to(path.relative_to(latest.parent))
    try:
        link.replace(latest)
    except OSError as error:
        link.unlink()
        raise ScenarioError(f"{latest}: is in the way: {error.strerror}; name another place with --out") from None


def write_json(path: Path, value: Mapping[str, Any]) -> None:
    """Write whole or not at all."""
    part = path.with_name(path.name + ".part")
    part.write_text(json.dumps(value, indent=2, ensure_ascii=False, default=str) + "\n", encoding="utf-8")
    part.replace(path)


def collect(path: Path) -> tuple[Trace, bool]:
    """Merge the recorders' parts into trace.parquet; False where a part ends in the middle."""
    trace, whole = _merged(path)
    write_parquet(trace.table, path / "trace.parquet")
    return trace, whole


def _merged(path: Path) -> tuple[Trace, bool]:
    tables, whole = [], True
    for part in sorted((path / "parts").glob("*.arrow")):
        batches, ended = read_stream(part)
        tables.append(encoded(batches))
        whole = whole and ended
    return Trace(merged(tables)), whole


def open_run(path: Path) -> Run:
    """Open a run directory; a run that was killed is read from its parts. Raises ScenarioError where it is none, or
    is damaged."""
    manifest = path / "manifest.json"
    if not manifest.is_file():
        raise ScenarioError(f"{path}: not a run directory: there is no manifest.json")
    try:
        content = json.loads(manifest.read_text(encoding="utf-8"))
    except (ValueError, OSError) as error:
        raise ScenarioError(f"{manifest}: cannot be read: {error}") from None
    if not isinstance(content, dict) or not isinstance(content.get("scenario"), dict):
        raise ScenarioError(f"{manifest}: not a run's manifest: it names no scenario")
    trace = path / "trace.parquet"
    if not trace.is_file():
        return Run(path, content, _merged(path)[0], False)
    try:
        return Run(path, content, Trace(read_parquet(trace)), True)
    except ScenarioError as error:
        hint = "; remove it to have the run read from its parts" if any((path / "parts").glob("*.arrow")) else ""
        raise ScenarioError(f"{error}{hint}") from None
