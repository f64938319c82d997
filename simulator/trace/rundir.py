"""The run directory: where a run leaves its record, readable whatever ended it."""

from __future__ import annotations

import json
import os
from collections.abc import Mapping
from dataclasses import dataclass
from datetime import UTC, datetime
from pathlib import Path
from typing import Any

from simulator.model.errors import ScenarioError
from simulator.trace.reader import Trace, in_order, read_parquet, read_stream, write_parquet


@dataclass(frozen=True, slots=True)
class Run:
    """A run as it was left: `complete` is False where only the recorders' parts were found."""

    path: Path
    manifest: dict[str, Any]
    trace: Trace
    complete: bool


def create(root: Path, scenario: str) -> Path:
    """A fresh directory root/scenario/<UTC time>, its parts/ within, and root/latest pointing to it."""
    stamp = datetime.now(UTC).strftime("%Y%m%dT%H%M%SZ")
    for nth in range(1000):
        path = root / scenario / (stamp if nth == 0 else f"{stamp}-{nth}")
        try:
            (path / "parts").mkdir(parents=True)
        except FileExistsError:
            continue
        except OSError as error:
            raise ScenarioError(f"{path}: cannot be made: {error.strerror}; name another place with --out") from None
        link = root / f".latest-{os.getpid()}"
        link.unlink(missing_ok=True)
        link.symlink_to(path.relative_to(root))
        link.replace(root / "latest")
        return path
    raise ScenarioError(f"{root / scenario}: too many runs within one second")


def write_json(path: Path, value: Mapping[str, Any]) -> None:
    """Write whole or not at all."""
    part = path.with_name(path.name + ".part")
    part.write_text(json.dumps(value, indent=2, ensure_ascii=False, default=str) + "\n", encoding="utf-8")
    part.replace(path)


def collect(path: Path) -> tuple[Trace, bool]:
    """Merge the recorders' parts into trace.parquet; False where a part ends in the middle."""
    batches, whole = [], True
    for part in sorted((path / "parts").glob("*.arrow")):
        found, ended = read_stream(part)
        batches += found
        whole = whole and ended
    table = in_order(batches)
    write_parquet(table, path / "trace.parquet")
    return Trace(table), whole


def open_run(path: Path) -> Run:
    """Open a run directory. Raises ScenarioError where it is none."""
    manifest = path / "manifest.json"
    if not manifest.is_file():
        raise ScenarioError(f"{path}: not a run directory: there is no manifest.json")
    try:
        said = json.loads(manifest.read_text(encoding="utf-8"))
    except ValueError as error:
        raise ScenarioError(f"{manifest}: not JSON: {error}") from None
    if (path / "trace.parquet").is_file():
        return Run(path, said, Trace(read_parquet(path / "trace.parquet")), True)
    trace, _ = collect(path)
    return Run(path, said, trace, False)
