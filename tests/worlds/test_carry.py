"""Servers that Locust's workers carry, each at an address of its own: one record and one verdict all the same."""

from __future__ import annotations

import os
import socket
import subprocess
import sys
import urllib.request

import pytest

from tests.worlds.running import ROOT, latest, scenario, wait_for

pytest.importorskip("locust")
BACKEND, APPLICATION = "127.0.0.5", "127.0.0.6"


def free_port():
    with socket.socket() as probe:
        probe.bind(("127.0.0.1", 0))
        return probe.getsockname()[1]


@pytest.fixture
def locust():
    """Starts Locust processes that know the same master; what is left of them is ended."""
    started, port = [], free_port()

    def start(role, *words):
        where = ("--master-bind-port", port) if role == "--master" else ("--master-port", port)
        command = [sys.executable, "-m", "locust", "-f", ROOT / "scenarios" / "locustfile.py", role, *where, *words]
        started.append(
            subprocess.Popen(
                list(map(str, command)),
                stdout=subprocess.PIPE,
                stderr=subprocess.STDOUT,
                text=True,
                env={**os.environ, "PYTHONPATH": str(ROOT)},
            )
        )
        return started[-1]

    yield start
    for process in started:
        process.kill()
        process.communicate()


def begin(locust, tmp_path, **changes):
    """Master and workers: (master, who carries the backend, its health port)."""
    file, health = scenario(tmp_path, **changes), free_port()
    backend = locust("--worker", "--carry", "backend", "--bind", BACKEND, "--health", health)
    locust("--worker", "--carry", "application", "--bind", APPLICATION)
    locust("--worker")
    options = ("--headless", "--expect-workers", 3, "--scenario", file, "--out", tmp_path / "runs")
    return locust("--master", *options), backend, health


def test_what_workers_carry_is_started_there_and_judged_with_the_rest(locust, tmp_path):
    faults = [{"fault": "F4-replica-killed", "converged": "30%", "for": "500ms"}]
    master, _, health = begin(locust, tmp_path, faults=faults, rollout={"maximumPerMinute": 600})
    wait_for(lambda: _answers(f"http://127.0.0.1:{health}/health"))
    said, _ = master.communicate(timeout=120)
    assert master.returncode == 0, said
    run = latest(tmp_path / "runs")
    parts = {path.stem for path in (run.path / "parts").glob("*.arrow")}
    assert {"storage", "replica", "replica-2", "application", "shard-0"} <= parts
    assert any(f"http://{BACKEND}:" in text for text in run.trace.kind("replica.accepted").texts("detail"))


def test_a_run_ends_when_who_carries_its_backend_is_gone(locust, tmp_path):
    master, backend, _ = begin(locust, tmp_path, fleet={"devices": 30, "ramp": "2/s"})
    wait_for(lambda: list((tmp_path / "runs").glob("*/*/parts/shard-0.arrow")), 60)
    backend.kill()
    said, _ = master.communicate(timeout=60)
    assert master.returncode == 4, said
    assert "its worker" in said


def _answers(url):
    try:
        with urllib.request.urlopen(url) as response:
            return response.read() == b"well\n"
    except OSError:
        return False
