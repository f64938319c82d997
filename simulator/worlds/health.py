"""A process of the load generator watches itself: how late its loop runs, how much CPU and memory it takes."""

from __future__ import annotations

import asyncio
import os
import time

import orjson

from simulator.model.events import Kind
from simulator.trace.recorder import Record

_PROBE_S = 0.05
_INTERVAL_S = 1.0
_PAGE = os.sysconf("SC_PAGE_SIZE")


def resident_bytes(pid: int | str = "self") -> int:
    """Resident memory of a process; 0 when it is gone."""
    try:
        with open(f"/proc/{pid}/statm", encoding="ascii") as file:
            return int(file.read().split()[1]) * _PAGE
    except (OSError, IndexError):
        return 0


def cpu_s(pid: int) -> float:
    """CPU seconds that another process has used; 0 when it is gone."""
    try:
        with open(f"/proc/{pid}/stat", encoding="ascii") as file:
            fields = file.read().rpartition(")")[2].split()
        return (int(fields[11]) + int(fields[12])) / os.sysconf("SC_CLK_TCK")
    except (OSError, IndexError):
        return 0.0


class Health:
    """One process's own health, recorded each second."""

    def __init__(self, process: str, record: Record) -> None:
        self._process, self._record = process, record

    async def watch(self) -> None:
        """Until cancelled: probe the loop, and say once a second how it went."""
        loop = asyncio.get_running_loop()
        began, cpu, lags = time.monotonic(), time.process_time(), []
        while True:
            due = loop.time() + _PROBE_S
            await asyncio.sleep(_PROBE_S)
            lags.append(max(0, round((loop.time() - due) * 1e6)))
            now = time.monotonic()
            if now - began >= _INTERVAL_S:
                used = time.process_time()
                self._note(lags, (used - cpu) / (now - began))
                began, cpu, lags = now, used, []

    def _note(self, lags_us: list[int], cpu_share: float) -> None:
        facts = {
            "process": self._process,
            "loop_lag_us": lags_us,
            "cpu_share": round(cpu_share, 3),
            "rss_bytes": resident_bytes(),
        }
        self._record(Kind.HEALTH, detail=orjson.dumps(facts).decode())
