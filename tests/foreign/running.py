"""A run of fleetsim against the backend of this directory, with a broker of its own: for the tests and for the table by hand."""

from __future__ import annotations

import contextlib
import json
import subprocess
import sys
from collections.abc import Iterator
from pathlib import Path
from typing import Any

from simulator.broker.mosquitto import find_mosquitto, free_port
from tests.worlds.running import fleetsim, scenario

PROGRAM = Path(__file__).with_name("backend.py")


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
    command = [PROGRAM, "--broker", f"mqtt://127.0.0.1:{broker}", "--http-port", free_port(), *words]
    process = subprocess.Popen([sys.executable, *map(str, command)], stdout=subprocess.PIPE, text=True)
    try:
        ready, _, url = process.stdout.readline().strip().partition(" ")
        assert ready == "ready", "the backend did not start"
        yield url
        assert process.poll() is None, "the backend died"
    finally:
        process.terminate()
        process.communicate()


def run(directory: Path, *bugs: str, ttl: float = 3600, **changes: Any) -> tuple[int, str]:
    """Run fleetsim against a backend with these bugs: (exit code, what it printed)."""
    file = scenario(
        directory,
        **{"fleet": {"devices": 10, "profile": "perfect"}, "target": {"kind": "external", "probe": True}, **changes},
    )
    with mosquitto(directory) as broker:
        words = [word for bug in bugs for word in ("--bug", bug)]
        with backend(broker, "--ttl", ttl, *words) as url:
            code, out, err = fleetsim(
                "run", file, "--broker", f"mqtt://127.0.0.1:{broker}", "--storage", url, "--out", directory / "runs"
            )
    return code, out + err
