"""The live world, run as a user runs it: real broker, real downloads, real processes."""

import contextlib
import json
import os
import signal
import socket
import subprocess
import sys
from pathlib import Path

import pytest

from simulator.model.events import Kind
from tests.worlds.running import ROOT, alive, children, fleetsim, latest, scenario, start, wait_for
from tests.worlds.virtually import own_topics


@pytest.fixture(scope="module")
def both(tmp_path_factory):
    """One scenario in both worlds: (live run, virtual run)."""
    where = tmp_path_factory.mktemp("both")
    file = scenario(where)
    runs = []
    for world in ("live", "virtual"):
        out = where / world
        code, text, err = fleetsim("run", file, "--world", world, "--out", out)
        assert code == 0, text + err
        runs.append(latest(out))
    return runs


def phases(run):
    """thing -> the phases its update went through, in order."""
    moves = run.trace.kind(Kind.PHASE)
    order = {}
    for thing, phase in zip(moves.texts("thing"), moves.texts("status"), strict=True):
        order.setdefault(thing, []).append(phase)
    return order


def outcomes(run):
    ends = run.trace.kind(Kind.EXECUTION)
    return dict(zip(ends.texts("thing"), ends.texts("status"), strict=True))


def running(run):
    facts = run.trace.kind(Kind.RETIRED)
    return dict(zip(facts.texts("thing"), facts.texts("digest"), strict=True))


def test_both_worlds_agree_on_outcomes_software_and_the_order_of_phases(both):
    live, virtual = both
    assert len(phases(live)) == 30
    assert phases(live) == phases(virtual)
    assert outcomes(live) == outcomes(virtual)
    assert running(live) == running(virtual)


def test_both_worlds_ask_the_replica_the_same_and_hear_the_same(both):
    told = [sorted(zip(*(probes.texts(name) for name in ("phase", "status")), strict=True))
            for probes in (run.trace.kind(Kind.PROBE) for run in both)]  # fmt: skip
    assert told[0] == told[1]
    assert len(told[0]) == 26


def test_both_worlds_record_the_same_kinds(both):
    live, _ = both
    kinds = [set(run.trace.table["kind"].to_pylist()) for run in both]
    assert kinds[0] - {Kind.HEALTH} == kinds[1]
    assert live.manifest["broker"]["name"] == "embedded"


def test_mosquitto_and_the_library_link_carry_a_whole_rollout(tmp_path):
    file = scenario(tmp_path)
    code, text, err = fleetsim(
        "run", file, "--broker", "mosquitto", "--link", "library", "--processes", "2", "--out", tmp_path / "runs"
    )
    assert code == 0, text + err
    run = latest(tmp_path / "runs")
    broker = run.manifest["broker"]  # as it said of itself before it was stopped
    assert broker["name"] == "mosquitto"
    assert broker["version"].startswith("2.")
    assert (broker["dropped"], broker["published"] >= 3 * 30) == (0, True)
    assert outcomes(run) == {f"device-{i}": "SUCCEEDED" for i in range(30)}
    assert not (run.path / "mosquitto").exists()


@pytest.mark.parametrize(
    "target",
    [
        {"dialect": "atlas-example"},
        {"access": "credential"},
        {"bind_address": True},
        *({"topics": own_topics(template)} for template in ("fleet/{thing}", "fleet/v1/{thing}")),
        {"topics": own_topics("a/b/c/{thing}"), "broker": "mosquitto"},
    ],
    ids=["atlas-example", "credential", "bound to the address", "topics", "deep topics", "deep topics, mosquitto"],
)
def test_other_ways_to_speak(tmp_path, target):
    file = scenario(tmp_path, target=target, fleet={"devices": 8})
    code, text, err = fleetsim("run", file, "--out", tmp_path / "runs", "--first-index", "100")
    assert code == 0, text + err
    assert set(outcomes(latest(tmp_path / "runs"))) == {f"device-{i}" for i in range(100, 108)}


def ignored():
    """As a script's background job inherits it."""
    signal.signal(signal.SIGINT, signal.SIG_IGN)


def heeds(pid, number):
    """Whether the process has a handler for this signal."""
    status = dict(line.split(":", 1) for line in Path(f"/proc/{pid}/status").read_text().splitlines())
    return int(status["SigCgt"], 16) >> (number - 1) & 1


@pytest.mark.parametrize("number", [signal.SIGINT, signal.SIGTERM])
def test_an_interrupt_while_it_is_loaded_ends_in_2_with_a_word_and_leaves_nothing(tmp_path, number):
    process = start("run", "quickstart", "--out", tmp_path / "runs", preexec_fn=ignored)
    wait_for(lambda: heeds(process.pid, number))
    process.send_signal(number)
    out, err = process.communicate(timeout=30)
    assert (process.returncode, out, err) == (2, "", "fleetsim: interrupted\n")
    assert not (tmp_path / "runs").exists()


@pytest.mark.parametrize(("number", "begun"), [(signal.SIGINT, 0), (signal.SIGTERM, 0), (signal.SIGINT, 1)])
def test_an_interrupt_while_parts_are_started_leaves_a_readable_record_and_no_child(tmp_path, number, begun):
    process = start("run", "quickstart", "--out", tmp_path / "runs")
    run = tmp_path / "runs" / "latest"
    wait_for(lambda: run.exists() and len(children(process.pid)) >= begun)
    below = children(process.pid)
    process.send_signal(number)
    out, err = process.communicate(timeout=60)
    assert process.returncode == 2, out + err
    assert "interrupted" in out + err
    assert "Traceback" not in err
    assert not any(alive(pid) for pid in below)
    for verb in ("report", "check"):
        code, out, err = fleetsim(verb, run)
        assert (code, err) == (2, "")
        assert "not complete: " in out


@pytest.mark.parametrize("number", [signal.SIGINT, signal.SIGTERM])
def test_an_interrupt_ends_in_2_with_a_readable_record_and_no_child(tmp_path, number):
    file = scenario(tmp_path, fleet={"devices": 50, "ramp": "2/s"})
    process = start("run", file, "--out", tmp_path / "runs", preexec_fn=ignored)
    parts = tmp_path / "runs" / "latest" / "parts"
    wait_for(lambda: (parts / "shard-0.arrow").exists() and (parts / "shard-0.arrow").stat().st_size > 3000)
    below = children(process.pid)
    assert len(below) == 5
    process.send_signal(number)
    out, err = process.communicate(timeout=30)
    assert process.returncode == 2, out + err
    assert "interrupted" in out
    assert "Traceback" not in err
    assert not any(alive(pid) for pid in below)
    run = latest(tmp_path / "runs")
    assert len(run.trace.kind(Kind.CONNECT)) > 0
    assert not run.manifest["complete"]
    code, text, _ = fleetsim("report", tmp_path / "runs" / "latest")
    assert code == 2
    assert "interrupted" in text


@pytest.mark.parametrize("victim", ["shard-0", "broker", "replica", "storage"])
def test_the_death_of_a_part_ends_in_4_and_is_said(tmp_path, victim):
    file = scenario(tmp_path, fleet={"devices": 50, "ramp": "2/s"})
    process = start("run", file, "--out", tmp_path / "runs")
    parts = tmp_path / "runs" / "latest" / "parts"
    wait_for(lambda: (parts / "shard-0.arrow").exists() and (parts / "shard-0.arrow").stat().st_size > 3000)
    log = (parts / f"{victim}.log").resolve()
    pid = next(p for p in children(process.pid) if os.readlink(f"/proc/{p}/fd/2") == str(log))
    os.kill(pid, signal.SIGKILL)
    out, err = process.communicate(timeout=30)
    assert process.returncode == 4, out + err
    assert f"{victim} died: killed by signal 9" in out
    assert "Traceback" not in err
    assert len(latest(tmp_path / "runs").trace.kind(Kind.CONNECT)) > 0


def test_no_child_outlives_a_killed_conductor(tmp_path):
    process = start("run", scenario(tmp_path, fleet={"devices": 50, "ramp": "2/s"}), "--out", tmp_path / "runs")
    below = wait_for(lambda: len(found := children(process.pid)) == 5 and found)
    process.kill()
    process.communicate()
    wait_for(lambda: not any(alive(pid) for pid in below))


def test_what_this_machine_cannot_do_is_refused_before_the_start(tmp_path):
    file = scenario(tmp_path)
    limit = "import resource;resource.setrlimit(resource.RLIMIT_NOFILE,(300,300));"
    done = subprocess.run(
        [sys.executable, "-c", f"{limit}import sys;sys.argv=['x','run','{file}','-c','500'];"
         "from simulator.cli import main;main()"],
        capture_output=True, text=True, cwd=tmp_path, env={**os.environ, "PYTHONPATH": str(ROOT)}, check=False,
    )  # fmt: skip
    assert done.returncode == 3
    assert "a shard needs 1064 open files, and this machine allows 300" in done.stderr
    assert "ulimit -n 1064" in done.stderr
    assert not (tmp_path / "runs").exists()


@pytest.mark.parametrize(
    ("words", "said"),
    [
        (("--broker", "mqtt://broker.example"), "--allow-remote broker.example"),
        (("--broker", "http://127.0.0.1"), "none of embedded, mosquitto, mqtt://HOST"),
        (("--broker", "mqtt://127.0.0.1:99999"), "no valid port"),
        (("--link", "fast"), "there are lean, library"),
        (("--link", "library", "--fault", "F24-blackhole"), "faults.0: F24-blackhole: the library link cannot stall"),
        (("--processes", "31"), "more than the 30 devices"),
    ],
)
def test_a_bad_target_is_refused_in_3(tmp_path, words, said):
    code, _, err = fleetsim("run", scenario(tmp_path), "--out", tmp_path / "runs", *words)
    assert code == 3
    assert said in err
    assert "Traceback" not in err


def test_a_broker_that_refuses_the_connection_is_said(tmp_path):
    with socket.socket() as free:
        free.bind(("127.0.0.1", 0))
        port = free.getsockname()[1]
    file = scenario(tmp_path, target={"kind": "external", "artifact_url": "http://127.0.0.1:1/a"})
    code, out, err = fleetsim("run", file, "--broker", f"mqtt://127.0.0.1:{port}", "--out", tmp_path / "runs")
    assert code == 3, out + err
    assert f"127.0.0.1:{port}" in err
    assert "Traceback" not in err


@pytest.mark.parametrize(
    ("url", "said"),
    [("http://cdn.example/a", "--allow-remote cdn.example"), ("ftp://127.0.0.1/a", "no http:// or https:// URL")],
)
def test_a_storage_beyond_this_machine_is_refused_unless_it_is_meant(tmp_path, url, said):
    file = scenario(tmp_path, target={"kind": "external"})
    code, _, err = fleetsim(
        "run", file, "--broker", "mqtt://127.0.0.1", "--storage", url, "--out", tmp_path / "runs"
    )  # fmt: skip
    assert code == 3
    assert "target.artifact_url" in err
    assert said in err


@pytest.mark.parametrize("log", [subprocess.PIPE, "/dev/full"])
def test_a_full_disk_ends_a_part_in_4_and_is_told_wherever_its_log_is(log):
    with socket.socket() as free:
        free.bind(("127.0.0.1", 0))
        port = free.getsockname()[1]
    config = {
        "name": "broker", "role": "broker", "shard": 3, "trace": "/dev/full", "scenario": {}, "zero_ns": 0,
        "epoch": 0.0, "host": "127.0.0.1", "port": port, "run": "r", "broker": {}, "token": "t", "steps": False, "tls": {},
    }  # fmt: skip
    with contextlib.nullcontext(log) if log == subprocess.PIPE else open(log, "wb") as stderr:
        process = subprocess.Popen(
            [sys.executable, "-m", "simulator.worlds.live.process"],
            stdin=subprocess.PIPE, stdout=subprocess.PIPE, stderr=stderr, cwd=ROOT,
        )  # fmt: skip
    process.stdin.write(json.dumps(config).encode() + b"\n")
    process.stdin.flush()
    assert process.wait(timeout=20) == 4
    last = json.loads(process.stdout.read().splitlines()[-1])
    assert last == {"event": "last words", "text": "No space left on device: the record cannot be written"}
    if log == subprocess.PIPE:
        err = process.stderr.read().decode()
        assert "No space left on device" in err
        assert "Traceback" not in err


def test_a_port_in_use_is_said(tmp_path):
    with socket.socket() as taken:
        taken.bind(("127.0.0.1", 0))
        taken.listen()
        port = taken.getsockname()[1]
        code, _, err = fleetsim(
            "serve", "--broker-port", port, "--backend-port", 0, "--storage-port", 0, "--application-port", 0
        )
    assert code == 3
    assert f"127.0.0.1:{port}" in err
    assert "Traceback" not in err
