"""Runs fleetsim against the backend of this directory, with a broker of its own: for the tests and for the table by hand."""

from __future__ import annotations

import contextlib
import json
import subprocess
import sys
from collections.abc import Iterator
from pathlib import Path
from typing import Any

from simulator.broker.mosquitto import find_mosquitto, free_port
from tests.worlds.running import ROOT, fleetsim, scenario

PROGRAM = "tests.foreign.backend"
QUICK = {"install": 0, "reboot": 0, "resend": {"base": "1s", "jitter": 0}, "answer_timeout": "3s"}
BASE: dict[str, Any] = {
    "fleet": {"devices": 10, "profile": "quick"},
    "profiles": {"quick": QUICK},
    "target": {"kind": "external", "probe": True},
    "rollout": {"size": "32KiB", "timeoutConfig": {"inProgressTimeout": "15s"}},
    "run_time": "20s",
}


def faults(name: str, **more: Any) -> dict[str, Any]:
    """A fault on all devices, as a change of the scenario."""
    return {"faults": [{"fault": name, "share": "100%", **more}]}


OCCASIONS: dict[
    str, tuple[float, dict[str, Any]]
] = {  # name -> (how many seconds a URL is valid, what differs from BASE)
    "plain": (3600, {}),
    "long": (3600, {"profiles": {"quick": {**QUICK, "install": "900ms", "running_interval": "200ms"}}}),
    "parts": (3600, faults("F9-cut", times=1)),
    "late": (2, faults("F6-late-download", times=1, **{"with": {"wait": "4s"}})),
    "late parts": (
        2,
        {
            "profiles": {"quick": {**QUICK, "download_retry": {"base": "3.5s", "cap": "3.5s", "jitter": 0}}},
            **faults("F9-cut", times=1),
        },
    ),
    "in time": (8, faults("F6-late-download", times=1, **{"with": {"wait": "5s"}})),
    "unheard": (3600, faults("F17-answer-lost", times=1)),
    "asleep": (3600, faults("F3-offline", at=0, **{"for": "2s"})),
    "again": (
        3600,
        {
            **faults("F15-boot-fails"),
            "rollout": {**BASE["rollout"], "retryConfig": {"failed": 1}},
        },
    ),
}
SHOWN_ON = {
    "long": ("same-version", "delta-missing-later"),
    "parts": (
        "wrong-range", "wrong-place", "range-without-total", "ignores-if-range", "ignores-range", "etag-changes", "etag-weak"
    ),
    "late": ("refuses-fresh", "signs-once", "milliseconds"),
    "late parts": ("serves-expired",),
    "in time": ("refuses-early",),
    "unheard": ("repeats-count",),
    "asleep": ("get-of-other-thing", "forgets-desired", "get-without-delta", "get-old-version"),
    "again": ("delta-stale",),
}  # fmt: skip


def occasion_of(bug: str) -> str:
    """The occasion on which this bug can show itself."""
    return next((occasion for occasion, bugs in SHOWN_ON.items() if bug in bugs), "plain")


@contextlib.contextmanager
def mosquitto(directory: Path) -> Iterator[int]:
    """Somebody's broker on loopback, open to all: its port."""
    port = free_port()
    (directory / "m.conf").write_text(
        f"allow_anonymous true\nmax_queued_messages 0\nset_tcp_nodelay true\nlistener {port} 127.0.0.1\n"
    )
    process = subprocess.Popen([find_mosquitto(), "-c", directory / "m.conf"], stderr=subprocess.DEVNULL)
    try:
        yield port
    finally:
        process.terminate()
        process.wait()


@contextlib.contextmanager
def backend(broker: int, *words: object) -> Iterator[str]:
    """The backend on that broker: the URL of its artifact, once it has subscribed."""
    command = ["-m", PROGRAM, "--broker", f"mqtt://127.0.0.1:{broker}", "--http-port", free_port(), *words]
    process = subprocess.Popen([sys.executable, *map(str, command)], stdout=subprocess.PIPE, text=True, cwd=ROOT)
    try:
        ready, _, url = process.stdout.readline().strip().partition(" ")
        assert ready == "ready", "the backend did not start"
        yield url
        assert process.poll() is None, "the backend died"
    finally:
        process.terminate()
        process.communicate()


def run(directory: Path, *bugs: str, occasion: str = "plain") -> tuple[int, list[str], str]:
    """Run fleetsim against a backend with these bugs: (exit code, names of the checks that failed, what it printed)."""
    ttl, changes = OCCASIONS[occasion]
    file = scenario(directory, **{**BASE, **changes})
    with mosquitto(directory) as broker:
        words = [word for bug in bugs for word in ("--bug", bug)]
        with backend(broker, "--ttl", ttl, *words) as url:
            code, out, err = fleetsim(
                "run", file, "--broker", f"mqtt://127.0.0.1:{broker}", "--storage", url, "--out", directory / "runs"
            )
    summary = directory / "runs" / "latest" / "summary.json"
    findings = json.loads(summary.read_text())["findings"] if summary.exists() else []
    return code, [finding["check"] for finding in findings if finding["verdict"] == "FAIL"], out + err
