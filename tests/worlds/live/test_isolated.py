"""A folder with a `simulator` and a `reports` of its own changes nothing about a run that is started in it."""

import os
import subprocess
import sys
from pathlib import Path

import pytest

from simulator.worlds.live.spawn import search_path
from tests.worlds.running import ROOT, latest, scenario


@pytest.fixture
def hostile(tmp_path):
    """A working directory whose packages have the names of ours, and fail."""
    for name in ("simulator", "reports"):
        (tmp_path / "here" / name).mkdir(parents=True)
        (tmp_path / "here" / name / "__init__.py").write_text(f"raise RuntimeError('the wrong {name}')\n")
    return tmp_path / "here"


def run(hostile, *words):
    """Run a module as its console script does, which adds no working directory; (exit code, what it printed)."""
    done = subprocess.run(
        [sys.executable, "-P", "-m", *map(str, words)],
        cwd=hostile,
        env={**os.environ, "PYTHONPATH": str(ROOT)},
        stdout=subprocess.PIPE,
        stderr=subprocess.STDOUT,
        text=True,
        timeout=120,
        check=False,
    )
    return done.returncode, done.stdout


def test_a_live_run(hostile, tmp_path):
    code, text = run(hostile, "simulator", "run", scenario(tmp_path), "-c", 5, "--out", tmp_path / "runs", "--quiet")
    assert code == 0, text
    assert (latest(tmp_path / "runs").path / "report.html").exists()


def test_an_exploration_in_worker_processes(hostile, tmp_path):
    file = scenario(tmp_path, world="virtual", fleet={"devices": 5})
    words = ("explore", file, "--seeds", 2, "--processes", 2, "--out", tmp_path / "runs")
    code, text = run(hostile, "simulator", *words)
    assert code == 0, text


@pytest.mark.parametrize("own", ["scenarios", "here"])
def test_a_run_that_locust_drives_by_the_shipped_locustfile_or_a_copy_of_it(hostile, tmp_path, own):
    file = ROOT / "scenarios" / "locustfile.py"
    if own == "here":
        file = Path(hostile / "locustfile.py")
        file.write_text((ROOT / "scenarios" / "locustfile.py").read_text())
    words = ("--headless", "--only-summary", "--scenario", scenario(tmp_path), "-c", 5, "--out", tmp_path / "runs")
    code, text = run(hostile, "locust", "-f", file, *words)
    assert code == 0, text
    assert "the wrong" not in text
    assert (latest(tmp_path / "runs").path / "report.html").exists()


def test_what_hides_our_packages_is_searched_last_and_no_entry_stands_for_the_working_directory(hostile, monkeypatch):
    beside = hostile / "beside"
    beside.mkdir()
    monkeypatch.chdir(beside)
    named = ["", str(hostile), str(beside), "/usr/lib/python3.11"]
    assert search_path([*named, str(ROOT)]) == ["/usr/lib/python3.11", str(ROOT), str(hostile), str(beside)]
    assert search_path(named) == ["/usr/lib/python3.11", str(ROOT), str(hostile), str(beside)]


def test_a_checkout_is_found_in_the_checkout_itself(monkeypatch):
    monkeypatch.chdir(ROOT)
    assert search_path(["", str(ROOT), "/usr/lib/python3.11"]) == [str(ROOT), "/usr/lib/python3.11"]
