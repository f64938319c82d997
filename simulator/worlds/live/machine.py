"""Looks, before a run starts, whether this machine has enough open files, source addresses and memory for it. Where not, a
ScenarioError says what to change."""

from __future__ import annotations

import contextlib
import resource
from pathlib import Path

from simulator.model.errors import ScenarioError

_SPARE = 64  # files that a process opens beside its connections
_IN_FLIGHT = 2  # files of one device: its broker connection and its download
_KIB_EACH = {"live": 120, "virtual": 16}  # memory of one device in all processes, and of its events once judged
_KIB_PART = 100 * 1024  # memory of a process that holds no device yet
_MEMORY_SPARED = 0.1


def raise_open_files() -> int:
    """Lift this process's soft limit of open files, and with it its children's, to the hard one; the limit."""
    soft, hard = resource.getrlimit(resource.RLIMIT_NOFILE)
    if soft < hard:
        resource.setrlimit(resource.RLIMIT_NOFILE, (hard, hard))
    return hard


def most_devices(processes: int, limit: int) -> int:
    """How many devices the open files and the memory of this machine allow."""
    files = min(processes * ((limit - _SPARE) // _IN_FLIGHT), limit - _SPARE)
    free = available_bytes() * (1 - _MEMORY_SPARED) - (processes + 1) * _KIB_PART * 1024
    return max(1, min(files, int(free / (_KIB_EACH["live"] * 1024))))


def check_files(devices: int, processes: int, *, embedded: bool, limit: int) -> None:
    """Raise ScenarioError when a shard, the broker or the storage could not hold its connections."""
    mine = -(-devices // processes)
    needs = {"a shard": mine * _IN_FLIGHT + _SPARE, "the storage": devices + _SPARE}
    if embedded:
        needs["the embedded broker"] = devices + _SPARE
    for who, need in needs.items():
        if need > limit:
            more = " or more --processes" if who == "a shard" else ""
            raise ScenarioError(
                f"{devices} devices: {who} needs {need} open files, and this machine allows {limit} a process; "
                f"raise the limit (ulimit -n {need}){more}, or ask for fewer devices"
            )


def ephemeral_ports() -> int:
    """How many local ports one source address has for one destination."""
    try:
        low, high = Path("/proc/sys/net/ipv4/ip_local_port_range").read_text().split()
        return int(high) - int(low) + 1
    except (OSError, ValueError):
        return 28_232


def sources(devices: int, given: list[str], *, loopback: bool, ports: int) -> list[str | None]:
    """The source addresses to bind, enough for all devices: those given, or several of loopback's.

    A port stays in use for a minute after each download, so a source carries at most half its ports in devices.
    Raises ScenarioError when those given are too few.
    """
    each = max(1, ports // 2)
    need = -(-devices // each)
    if given:
        if len(given) < need:
            raise ScenarioError(
                f"{devices} devices need {need} source addresses of {each} ports each: give --ifaddr {need} times "
                "or widen net.ipv4.ip_local_port_range"
            )
        return list(given)
    if need <= 1:
        return [None]
    if not loopback:
        raise ScenarioError(
            f"{devices} devices need {need} source addresses of {each} ports each: name them with --ifaddr"
        )
    return [f"127.0.0.{i + 2}" for i in range(need)]


def check_memory(devices: int, parts: int, world: str, available: int | None = None) -> None:
    """Raise ScenarioError when so many devices in so many processes would hardly fit into what is free (bytes; None:
    as this machine says)."""
    free = available_bytes() if available is None else available
    need = (devices * _KIB_EACH[world] + parts * _KIB_PART) * 1024
    if need > free * (1 - _MEMORY_SPARED):
        raise ScenarioError(
            f"{devices} devices need about {need / 2**30:.1f} GiB of memory, and {free / 2**30:.1f} GiB are free; "
            "end what else runs here, use a larger machine, or ask for fewer devices"
        )


def available_bytes() -> int:
    """Memory that programs may still take, of the machine and within this process's control group."""
    limits = [_meminfo()]
    group = Path("/sys/fs/cgroup")
    with contextlib.suppress(OSError, ValueError):  # no such limit
        limit = int((group / "memory.max").read_text())
        limits.append(limit - int((group / "memory.current").read_text()))
    return max(0, min(limits))


def _meminfo() -> int:
    try:
        lines = Path("/proc/meminfo").read_text().splitlines()
        return next(int(line.split()[1]) * 1024 for line in lines if line.startswith("MemAvailable:"))
    except (OSError, StopIteration, ValueError):
        return 1 << 62
