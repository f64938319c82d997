"""Locust drives live runs: alone, with workers, with one that dies; its statistics, its exit codes, its operators."""

import csv
import json
import os
import shutil
import signal
import socket
import subprocess
import sys
import time
import urllib.request
import warnings
from collections import Counter
from pathlib import Path

import pytest

from simulator.model.events import Kind
from tests.worlds.running import ROOT, alive, children, latest, scenario, start, wait_for

HOST = "10.231.7.1"
FILE = ROOT / "scenarios" / "locustfile.py"
SLOW = {"devices": 40, "ramp": "100/s", "profile": "slow"}
SLOW_PROFILE = {"slow": {"install": {"fixed": "20s"}, "reboot": {"fixed": "100ms"}}}


def locust(*words, wrap=(), scratch=None, **options):
    """Start `locust WORDS` without its web page; `scratch` is its /tmp."""
    return subprocess.Popen(
        [*wrap, sys.executable, "-m", "locust", "-f", str(FILE), "--headless", "--only-summary", *map(str, words)],
        stdin=subprocess.DEVNULL,
        stdout=subprocess.PIPE,
        stderr=subprocess.STDOUT,
        text=True,
        env={**os.environ, "PYTHONPATH": str(ROOT), **({"TMPDIR": str(scratch)} if scratch else {})},
        **options,
    )


def ended(process, seconds=120):
    """(exit code, what it printed)."""
    said, _ = process.communicate(timeout=seconds)
    return process.returncode, said


def free_port(host):
    with socket.socket() as probe:
        probe.bind((host, 0))
        return probe.getsockname()[1]


def recorded(out, shard):
    """Bytes of the shard's record that the master has."""
    file = out / "latest" / "parts" / f"{shard}.arrow"
    return file.stat().st_size if file.exists() else 0


def rows(path):
    """(type, name) -> row of one of Locust's CSV files."""
    with path.open() as file:
        return {(row["Type"], row["Name"]): row for row in csv.DictReader(file)}


def test_one_process_drives_a_run_and_its_statistics_count_what_the_trace_does(tmp_path):
    file = scenario(tmp_path, rollout={"marker": "boot-fails 30%"})
    files = ("--csv", tmp_path / "x", "--html", tmp_path / "x.html", "--json-file", tmp_path / "x")
    code, said = ended(locust("--scenario", file, "--out", tmp_path, *files))
    assert code == 0, said
    run = latest(tmp_path)
    trace = run.trace
    assert json.loads((run.path / "summary.json").read_text())["verdict"] == "PASS"
    assert str(run.path / "report.html") in said
    counted = Counter(zip(trace.kind(Kind.PHASE).texts("phase"), trace.kind(Kind.PHASE).texts("status"), strict=True))
    connects = trace.kind(Kind.CONNECT)
    failed = len(trace.kind(Kind.ROLLBACK))
    assert failed > 0
    stats = rows(tmp_path / "x_stats.csv")
    expected = {
        "connect": len(connects),
        "subscribe": len(connects.where("status", "new", "resumed")),
        "delta": 30,
        "download": counted["downloading", "verifying"],
        "verify": counted["verifying", "installing"],
        "install": counted["installing", "rebooting"],
        "reboot": counted["rebooting", "confirming"] + failed,
        "report": 30,
        "update": 30,
    }
    assert {name: int(stats["device", name]["Request Count"]) for name in expected} == expected
    assert int(stats["device", "reboot"]["Failure Count"]) == failed
    assert int(stats["device", "update"]["Failure Count"]) == failed
    with (tmp_path / "x_failures.csv").open() as reasons:
        assert {
            (r["Name"], r["Error"], r["Occurrences"]) for r in csv.DictReader(reasons) if r["Method"] == "device"
        } == {
            ("reboot", "boot failed", str(failed)),
            ("update", "FAILED: boot failed", str(failed)),
        }
    install_us = trace.kind(Kind.PHASE).where("phase", "installing")["span_us"]
    assert float(stats["device", "install"]["Average Response Time"]) == pytest.approx(
        install_us.mean() / 1000, rel=1e-3
    )
    assert float(stats["device", "install"]["Max Response Time"]) == pytest.approx(install_us.max() / 1000, rel=1e-3)
    assert int(stats["rollout", "time to convergence"]["Request Count"]) == 1
    assert (tmp_path / "x.html").stat().st_size > 10_000
    assert json.loads((tmp_path / "x.json").read_text())


def test_each_operator_has_a_rollout_and_does_with_it_what_the_scenario_says(tmp_path):
    operators = [
        {"part": "1/2", "pauseAfter": "300ms", "pauseFor": "1s"},
        {"part": "2/2", "after": "500ms", "abortAfter": "1500ms"},
    ]
    file = scenario(tmp_path, rollout={"maximumPerMinute": 300}, operators=operators, thresholds={})
    code, said = ended(locust("--scenario", file, "--out", tmp_path, "--csv", tmp_path / "x"))
    assert code == 0, said
    moves = latest(tmp_path).trace.kind(Kind.ROLLOUT)
    told = [
        (job, status)
        for job, status in zip(moves.texts("job"), moves.texts("status"), strict=True)
        if status in ("begin", "pause", "resume", "abort")
    ]
    assert sorted(told) == [
        ("rollout-1-1", "begin"),
        ("rollout-1-1", "pause"),
        ("rollout-1-1", "resume"),
        ("rollout-1-2", "abort"),
        ("rollout-1-2", "begin"),
    ]
    stats = rows(tmp_path / "x_stats.csv")
    assert int(stats["POST", "begin rollout"]["Request Count"]) == 2
    assert int(stats["rollout", "time to convergence"]["Request Count"]) == 2
    assert int(stats["rollout", "time to convergence"]["Failure Count"]) == 1  # what was aborted did not converge


def test_so_many_users_are_operators_each_of_a_part(tmp_path):
    code, said = ended(locust("--scenario", scenario(tmp_path), "--out", tmp_path, "-u", "3"))
    assert code == 0, said
    targets = latest(tmp_path).trace.kind(Kind.TARGET)
    assert Counter(targets.texts("job")) == {"rollout-1-1": 10, "rollout-1-2": 10, "rollout-1-3": 10}
    assert len(set(targets.texts("thing"))) == 30


def test_a_promise_that_is_broken_and_a_scenario_that_is_none_end_in_their_codes(tmp_path):
    broken = scenario(tmp_path, rollout={"marker": "boot-fails"}, thresholds={"converged": ">= 100%"})
    code, said = ended(locust("--scenario", broken, "--out", tmp_path))
    assert code == 1, said
    code, said = ended(locust("--scenario", "quikstart", "--out", tmp_path))
    assert code == 3, said
    assert "did you mean quickstart" in said.replace("'", "")
    assert "Traceback" not in said


@pytest.mark.parametrize("how", ["SIGINT", "SIGTERM", "run-time"])
def test_a_run_that_is_ended_early_leaves_its_record(tmp_path, how):
    file = scenario(tmp_path, fleet=SLOW, profiles=SLOW_PROFILE)

    def ignored():  # as a script's background job inherits it
        signal.signal(signal.SIGINT, signal.SIG_IGN)

    words = ("--run-time", "7s") if how == "run-time" else ()
    process = locust("--scenario", file, "--out", tmp_path, *words, preexec_fn=ignored)
    if how != "run-time":
        wait_for(lambda: recorded(tmp_path, "shard-0") > 8000, seconds=60)
        for _ in range(2):  # who is impatient
            process.send_signal(signal.Signals[how])
            time.sleep(0.2)
    code, said = ended(process)
    assert code == 2, said
    assert "Traceback" not in said
    run = latest(tmp_path)
    assert len(run.trace.kind(Kind.BOOT)) > 0
    assert json.loads((run.path / "summary.json").read_text())["verdict"] != "PASS"
    assert not children(process.pid)


@pytest.mark.parametrize("whom", ["conductor", "Locust"])
def test_nothing_is_left_of_a_run_one_of_whose_processes_is_killed(tmp_path, whom):
    (tmp_path / "scratch").mkdir()
    file = scenario(tmp_path, fleet=SLOW, profiles=SLOW_PROFILE)
    process = locust("--scenario", file, "--out", tmp_path, scratch=tmp_path / "scratch")
    wait_for(lambda: recorded(tmp_path, "shard-0") > 8000, seconds=60)
    own = children(process.pid)
    parts = [pid for child in own for pid in children(child)]
    if whom == "Locust":
        process.kill()
    else:
        os.kill(next(pid for pid in own if children(pid)), signal.SIGKILL)
    code, said = ended(process)
    assert code == (-signal.SIGKILL if whom == "Locust" else 4), said
    wait_for(lambda: not any(map(alive, (*own, *parts))), seconds=60)
    assert not list((tmp_path / "scratch").iterdir())
    if whom == "Locust":
        assert json.loads((latest(tmp_path).path / "manifest.json").read_text())["incomplete"] == ["interrupted"]


def test_a_conductor_that_cannot_hear_any_more_ends_its_run(tmp_path):
    conductor = start("run", scenario(tmp_path), "--out", tmp_path, "--led", 1, stdin=subprocess.PIPE)
    assert json.loads(conductor.stdout.readline())["event"] == "begun"
    conductor.stdin.write("no JSON\n")
    conductor.stdin.flush()
    assert conductor.wait(60) in (2, 4)
    for pipe in (conductor.stdin, conductor.stdout, conductor.stderr):
        pipe.close()


def test_a_port_that_is_taken_ends_it_in_a_line(tmp_path):
    with socket.create_server(("127.0.0.1", 0)) as taken:
        port = taken.getsockname()[1]
        code, said = ended(locust("--scenario", scenario(tmp_path), "--out", tmp_path, "--health", port))
    assert code == 3, said
    assert f"--health {port}: Address already in use" in said
    assert "Traceback" not in said


class Cluster:
    """A master and two workers, and some that carry servers, with flags of their own."""

    def __init__(self, tmp_path, file, *words, host="127.0.0.1", wraps=((), ()), carriers=(), expected=0):
        port = free_port(host)
        self.master = locust(
            *("--master", "--master-bind-host", host, "--master-bind-port", port),
            *("--expect-workers", expected or len(wraps) + len(carriers)),
            *("--scenario", file, "--out", tmp_path, *words),
        )
        self.reach = ("--worker", "--master-host", host, "--master-port", port)
        self.workers = [locust(*self.reach, wrap=wrap) for wrap in wraps]
        self.workers += [locust(*self.reach, *flags) for flags in carriers]

    def one_more(self):
        """A worker comes."""
        self.workers.append(locust(*self.reach))

    def ended(self):
        """Exit codes and words, the master's first."""
        return [ended(process) for process in (self.master, *self.workers)]


CARRIERS = (("--carry", "backend", "--bind", "127.0.0.5"), ("--carry", "application", "--bind", "127.0.0.6"))


def test_servers_that_workers_carry_are_started_there_recorded_and_judged_with_the_rest(tmp_path):
    faults = [{"fault": "F8-backend-killed", "converged": "30%", "for": "500ms"}]
    file = scenario(tmp_path, rollout={"maximumPerMinute": 600}, faults=faults)
    codes = Cluster(tmp_path, file, carriers=CARRIERS).ended()
    assert [code for code, _ in codes] == [0] * 5, codes
    run = latest(tmp_path)
    parts = {path.stem for path in (run.path / "parts").glob("*.arrow")}
    assert parts >= {"storage", "storage-2", "replica", "replica-2", "application", "shard-0", "shard-1"}
    assert any("http://127.0.0.5:" in text for text in run.trace.kind(Kind.ACCEPTED).texts("detail"))
    cold = run.trace.kind(Kind.BOOT).where("status", "cold")
    assert Counter(cold["shard"].tolist()) == {10: 15, 11: 15}


def test_a_run_ends_when_who_carries_its_backend_is_gone(tmp_path):
    file = scenario(tmp_path, fleet=SLOW, profiles=SLOW_PROFILE)
    cluster = Cluster(tmp_path, file, carriers=CARRIERS)
    wait_for(lambda: recorded(tmp_path, "shard-0") > 8000, seconds=60)
    cluster.workers[2].kill()
    (code, said), *_ = cluster.ended()
    assert code == 4, said
    assert "and replica with it" in said


def test_a_process_answers_that_it_is_well(tmp_path):
    port = free_port("127.0.0.1")
    process = locust("--scenario", scenario(tmp_path), "--out", tmp_path, "--health", port)
    assert wait_for(lambda: asked(f"http://127.0.0.1:{port}/health"), seconds=60) == b"well\n"
    assert ended(process)[0] == 0


def asked(url):
    """What is answered; nothing where nobody does."""
    try:
        with urllib.request.urlopen(url, timeout=5) as response:
            return response.read()
    except OSError:
        return b""


def test_workers_that_all_carry_servers_leave_nobody_for_the_devices(tmp_path):
    cluster = Cluster(tmp_path, scenario(tmp_path), wraps=(), carriers=CARRIERS)
    (code, said), *_ = cluster.ended()
    assert code == 3, said
    assert "no worker is there for the devices" in said


def test_two_workers_carry_half_of_the_fleet_each(tmp_path):
    cluster = Cluster(tmp_path, scenario(tmp_path), "-u", "2")
    codes = cluster.ended()
    assert [code for code, _ in codes] == [0, 0, 0], codes
    trace = latest(tmp_path).trace
    cold = trace.kind(Kind.BOOT).where("status", "cold")
    assert Counter(cold["shard"].tolist()) == {10: 15, 11: 15}
    assert not len(trace.kind(Kind.CLOCK))


def test_shards_are_numbered_without_gaps_after_a_worker_was_replaced(tmp_path):
    cluster = Cluster(tmp_path, scenario(tmp_path), wraps=(), expected=3)
    ports = [free_port("127.0.0.1") for _ in range(2)]
    first, second = (locust(*cluster.reach, "--health", port) for port in ports)
    for port in ports:
        wait_for(lambda port=port: asked(f"http://127.0.0.1:{port}/health"), seconds=60)  # it has found its master
    first.terminate()
    ended(first)
    cluster.workers = [second, *(locust(*cluster.reach) for _ in range(2))]
    codes = cluster.ended()
    assert [code for code, _ in codes] == [0, 0, 0, 0], codes
    cold = latest(tmp_path).trace.kind(Kind.BOOT).where("status", "cold")
    assert Counter(cold["shard"].tolist()) == {10: 10, 11: 10, 12: 10}


def test_a_shard_that_dies_ends_the_run_in_a_word(tmp_path):
    process = locust("--scenario", scenario(tmp_path, fleet=SLOW, profiles=SLOW_PROFILE), "--out", tmp_path)
    wait_for(lambda: recorded(tmp_path, "shard-0") > 8000, seconds=60)
    (shard,) = [
        pid for pid in children(process.pid) if b"worlds.live.process" in Path(f"/proc/{pid}/cmdline").read_bytes()
    ]
    os.kill(shard, signal.SIGKILL)
    code, said = ended(process)
    assert code == 4, said
    assert "shard-0 died: killed by signal 9" in said
    assert len(latest(tmp_path).trace.kind(Kind.BOOT)) > 0


def can(*words):
    """Whether this machine lets us."""
    return (
        shutil.which(words[0]) is not None and subprocess.run(words, capture_output=True, check=False).returncode == 0
    )


@pytest.fixture
def hosts():
    """(the master's address, what puts a worker on a host of its own: twice, whether those have clocks of their own).

    A host is a network namespace behind a bridge, with a time namespace; where the machine allows none, it is this one,
    and the master's address is another of loopback's.
    """
    made = ["ip link add fleetsim0 type bridge", f"ip addr add {HOST}/24 dev fleetsim0", "ip link set fleetsim0 up"]
    for nth in (1, 2):
        made += [
            f"ip netns add fleetsim{nth}",
            f"ip link add fleet-v{nth} type veth peer name eth0 netns fleetsim{nth}",
            f"ip link set fleet-v{nth} master fleetsim0 up",
            f"ip -n fleetsim{nth} addr add 10.231.7.{nth + 1}/24 dev eth0",
            f"ip -n fleetsim{nth} link set eth0 up",
        ]
    ahead = ("unshare", "--time", "--monotonic", "1000", "--fork", "--kill-child")
    try:
        if all(can(*line.split()) for line in made) and can(*ahead, "true"):
            yield HOST, [("ip", "netns", "exec", f"fleetsim{nth}", *ahead) for nth in (1, 2)], True
        else:
            warnings.warn("this machine allows no network or time namespaces: the workers share its own", stacklevel=1)
            yield "127.0.0.9", [(), ()], False
    finally:
        for nth in (1, 2):  # a namespace's links go some time after it, and the next test makes them anew
            can("ip", "link", "del", f"fleet-v{nth}")
            can("ip", "netns", "del", f"fleetsim{nth}")
        can("ip", "link", "del", "fleetsim0")


def test_workers_on_other_hosts_reach_the_masters_servers_and_record_by_their_own_clocks(tmp_path, hosts):
    host, wraps, apart = hosts
    cluster = Cluster(tmp_path, scenario(tmp_path), "--bind", host, host=host, wraps=wraps)
    codes = cluster.ended()
    assert [code for code, _ in codes] == [0, 0, 0], codes
    trace = latest(tmp_path).trace
    clocks = [json.loads(detail) for detail in trace.kind(Kind.CLOCK).texts("detail")]
    assert sorted(clock["process"] for clock in clocks) == (["shard-0", "shard-1"] if apart else [])
    for clock in clocks:
        assert clock["offset_us"] == pytest.approx(1e9, abs=5e6)
        assert f"{clock['process']} recorded on {clock['host']}: its times are right to" in codes[0][1]
    cold = trace.kind(Kind.BOOT).where("status", "cold")
    assert Counter(cold["shard"].tolist()) == {10: 15, 11: 15}
    assert 0 < cold["t_us"].min() < cold["t_us"].max() < 60e6


def test_a_worker_that_is_killed_is_missed_and_the_rest_of_the_record_kept(tmp_path, hosts):
    host, wraps, _ = hosts
    file = scenario(tmp_path, fleet=SLOW, profiles=SLOW_PROFILE)
    cluster = Cluster(tmp_path, file, "--bind", host, host=host, wraps=wraps)
    for shard in ("shard-0", "shard-1"):
        wait_for(lambda shard=shard: recorded(tmp_path, shard) > 8000, seconds=60)
    cluster.workers[1].kill()
    (code, said), (other, _), (killed, _) = cluster.ended()
    assert (code, other, killed) == (4, 4, -signal.SIGKILL), said
    assert "is gone" in said
    run = latest(tmp_path)
    assert "is gone" in json.loads((run.path / "manifest.json").read_text())["died"][0]
    cold = run.trace.kind(Kind.BOOT).where("status", "cold")
    assert set(cold["shard"].tolist()) == {10, 11}


def test_a_worker_that_comes_late_takes_no_operator_from_his_rollout(tmp_path):
    profiles = {"slow": {"install": {"fixed": "12s"}, "reboot": {"fixed": "100ms"}}}
    operators = [{"part": f"{nth}/2", "pauseAfter": "8s", "pauseFor": "1s"} for nth in (1, 2)]
    cluster = Cluster(tmp_path, scenario(tmp_path, fleet=SLOW, profiles=profiles, operators=operators), wraps=[()])
    wait_for(lambda: recorded(tmp_path, "shard-0") > 8000, seconds=60)
    cluster.one_more()
    codes = cluster.ended()
    assert [code for code, _ in codes] == [0, 0, 0], codes
    assert "(index 1) reported as ready" in codes[0][1]
    told = Counter(latest(tmp_path).trace.kind(Kind.ROLLOUT).texts("status"))
    assert (told["begin"], told["pause"], told["resume"]) == (2, 2, 2)
