"""A process of the load generator watches itself: how late its loop runs, how much CPU and memory it takes."""

from __future__ import annotations

import asyncio
import contextlib
import os
import time
from collections.abc import Callable
from typing import Any

import orjson

from simulator.model.events import Kind
from simulator.trace.recorder import Record
from simulator.worlds.live.protocol import ProcessHealth

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


def open_files() -> int:
    """How many files this process has open, sockets among them; 0 where the kernel does not tell."""
    with contextlib.suppress(OSError):
        return os.stat("/proc/self/fd").st_size or len(os.listdir("/proc/self/fd"))
    return 0


def cpu_s(pid: int) -> float:
    """CPU seconds that another process has used; 0 when it is gone."""
    try:
        with open(f"/proc/{pid}/stat", encoding="ascii") as file:
            fields = file.read().rpartition(")")[2].split()
        return (int(fields[11]) + int(fields[12])) / os.sysconf("SC_CLK_TCK")
    except (OSError, IndexError):
        return 0.0


def waited_s(pid: int | str = "self") -> float | None:
    """Seconds for which a process's main thread was ready to run and had no core; None where the kernel does not tell."""
    try:
        with open(f"/proc/{pid}/schedstat", encoding="ascii") as file:
            return int(file.read().split()[1]) / 1e9
    except (OSError, IndexError, ValueError):
        return None


def wait_share(before: float | None, after: float | None, span_s: float) -> dict[str, float]:
    """What a health event says of the time between two looks at `waited_s`; nothing where it is not known."""
    return {} if before is None or after is None else {"wait_share": round(max(0.0, after - before) / span_s, 3)}


def busy_cores(span_s: float) -> float:
    """How many of this machine's cores all programs together keep busy, over so many seconds from now; 0 where it does
    not tell."""
    began = _ticks()
    time.sleep(span_s)
    spent = [after - before for before, after in zip(began, _ticks(), strict=True)]
    idle = sum(spent[3:5])  # idle, iowait
    return (os.cpu_count() or 1) * (1 - idle / sum(spent)) if sum(spent) else 0.0


def _ticks() -> list[int]:
    """user, nice, system, idle, iowait, irq, softirq, steal."""
    try:
        with open("/proc/stat", encoding="ascii") as file:
            return [int(word) for word in file.readline().split()[1:9]]
    except OSError:
        return [0] * 8


class Health:
    """A process's own health, recorded each second, and in short handed to `tell`."""

    def __init__(self, process: str, record: Record, tell: Callable[[ProcessHealth], None]) -> None:
        self._process, self._record, self._tell = process, record, tell
        self._unsent: Callable[[], int] | None = None

    def count_unsent(self, unsent: Callable[[], int]) -> None:
        """From now on also record what this returns: how much is due to be sent and has not been."""
        self._unsent = unsent

    async def watch(self) -> None:
        """Until cancelled: probe the loop, and say once a second how it went."""
        loop = asyncio.get_running_loop()
        began, cpu, waited, lags = time.monotonic(), time.process_time(), waited_s(), []
        while True:
            due = loop.time() + _PROBE_S
            await asyncio.sleep(_PROBE_S)
            lags.append(max(0, round((loop.time() - due) * 1e6)))
            now = time.monotonic()
            if now - began >= _INTERVAL_S:
                used, stood = time.process_time(), waited_s()
                self._note(lags, (used - cpu) / (now - began), wait_share(waited, stood, now - began))
                began, cpu, waited, lags = now, used, stood, []

    def _note(self, lags_us: list[int], cpu_share: float, waited: dict[str, float]) -> None:
        facts: dict[str, Any] = {
            "cpu_share": round(cpu_share, 3),
            **waited,
            "rss_bytes": resident_bytes(),
            "open_files": open_files(),
        }
        if self._unsent is not None:
            facts["unsent"] = self._unsent()
        detail = {"process": self._process, "loop_lag_us": lags_us, **facts}
        self._record(Kind.HEALTH, detail=orjson.dumps(detail).decode())
        self._tell(ProcessHealth(loop_lag_s_max=max(lags_us) / 1e6, **facts))


class OtherProcess:
    """The health of a process that does not watch itself, looked at once a second."""

    def __init__(self, name: str, record: Record) -> None:
        self._name, self._record = name, record
        self._cpu_s: float | None = None
        self._waited_s: float | None = None

    def look(self, pid: int) -> ProcessHealth:
        """Record how it was since the last look, a second ago, and return it."""
        used_s, stood_s = cpu_s(pid), waited_s(pid)
        share = used_s - (used_s if self._cpu_s is None else self._cpu_s)
        waiting = wait_share(stood_s if self._cpu_s is None else self._waited_s, stood_s, 1.0)
        self._cpu_s, self._waited_s = used_s, stood_s
        facts: dict[str, Any] = {"cpu_share": round(share, 3), **waiting, "rss_bytes": resident_bytes(pid)}
        self._record(Kind.HEALTH, detail=orjson.dumps({"process": self._name, **facts}).decode())
        return ProcessHealth(**facts)
