"""Runs the command line as a user would, and opens what it left."""

from __future__ import annotations

import os
import subprocess
import sys
import time
from pathlib import Path

import yaml

from simulator.trace import rundir

ROOT = Path(__file__).resolve().parents[2]
SMALL = {
    "world": "live",
    "fleet": {"devices": 30, "ramp": "100/s", "profile": "quick"},
    "profiles": {"quick": {"install": {"uniform": ["50ms", "150ms"]}, "reboot": {"fixed": "100ms"}}},
    "rollout": {"version": "2.0.0", "size": "32KiB"},
    "run_time": "40s",
    "settle": "300ms",
    "limits": {"loop_lag_p99": "2s", "lateness_p99": "2s"},  # the machine may be busy with other tests
}


def scenario(path, **changes):
    """Write a small scenario, blocks replaced or merged, and return its path."""
    merged = {
        key: {**SMALL.get(key, {}), **changes[key]} if isinstance(changes.get(key), dict) else changes.get(key, value)
        for key, value in {**SMALL, **changes}.items()
    }
    file = path / "small.yaml"
    file.write_text(yaml.safe_dump(merged))
    return file


def start(*words, env=None, **options):
    """Start `fleetsim WORDS`."""
    return subprocess.Popen(
        [sys.executable, "-m", "simulator", *map(str, words)],
        stdout=subprocess.PIPE,
        stderr=subprocess.PIPE,
        text=True,
        env={**os.environ, "PYTHONPATH": str(ROOT), **(env or {})},
        **options,
    )


def fleetsim(*words, **options):
    """Run `fleetsim WORDS` to its end: (exit code, stdout, stderr)."""
    process = start(*words, **options)
    out, err = process.communicate(timeout=120)
    return process.returncode, out, err


def latest(out):
    """The latest run below a directory."""
    return rundir.open_run((out / "latest").resolve())


def wait_for(condition, seconds=20.0):
    """The condition's first true value. Fails when none comes."""
    deadline = time.monotonic() + seconds
    while time.monotonic() < deadline:
        value = condition()
        if value:
            return value
        time.sleep(0.02)
    raise AssertionError("it did not come")


def children(pid):
    """The process numbers of all descendants' first generation."""
    found = subprocess.run(["pgrep", "-P", str(pid)], capture_output=True, text=True, check=False)
    return [int(line) for line in found.stdout.split()]


def alive(pid):
    """Whether a process still is."""
    try:
        state = Path(f"/proc/{pid}/stat").read_text().rpartition(")")[2].split()[0]
    except OSError:
        return False
    return state != "Z"
