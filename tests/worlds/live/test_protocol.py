"""Lines between processes: what earlier versions wrote is read, and what is not understood is refused in a sentence."""

import asyncio
import json
import os
import subprocess
import sys

import pytest

from simulator.model.errors import ScenarioError
from simulator.model.scenario import Scenario
from simulator.worlds.live import leading, processes, protocol
from simulator.worlds.live.configs import Configs
from simulator.worlds.live.options import Options
from simulator.worlds.live.processes import LocalChild
from tests.worlds.running import ROOT

EVENTS = [
    ({"event": "ready"}, protocol.Ready()),
    ({"event": "ready", "port": 4711}, protocol.Ready(4711)),
    ({"event": "ready", "port": 4711, "broker": "m version 2"}, protocol.Ready(4711, "m version 2")),
    ({"event": "progress", "events": 3, "connects failed": 1}, protocol.ProgressCounts({"events": 3, "connects failed": 1})),
    (
        {"event": "health", "cpu_share": 0.5, "rss_bytes": 7, "wait_share": 0.1, "open_files": 0, "unsent": 2,
         "loop_lag_s_max": 0.25},
        protocol.ProcessHealth(0.5, 7, 0.1, 0, 2, 0.25),
    ),
    ({"event": "health", "cpu_share": 0.5, "rss_bytes": 7}, protocol.ProcessHealth(0.5, 7)),
    ({"event": "steps", "offers": [["j", 5]]}, protocol.StepsTaken(offers=[("j", 5)])),
    ({"event": "underway", "phases": {"verifying": 1}, "open": [["d", 5]]}, protocol.UpdatesOpen({"verifying": 1}, [("d", 5)])),
    ({"event": "where", "phases": {"d": "verifying"}}, protocol.Phases({"d": "verifying"})),
    ({"event": "warning", "text": "w"}, protocol.Warned("w")),
    ({"event": "last words", "text": "w"}, protocol.LastWords("w")),
    (
        {"event": "broker", "sessions": 1, "connected": 2, "connects": 3, "published": 4, "delivered": 5, "dropped": 6},
        protocol.BrokerCounts(1, 2, 3, 4, 5, 6),
    ),
    ({"event": "null", "due": 1, "sent": 2, "updates": 3, "offered": True}, protocol.NullCounts(1, 2, 3, True)),
]  # fmt: skip
COMMANDS = [
    ({"command": "go"}, protocol.Go()),
    ({"command": "fault", "nth": 1, "on": True}, protocol.SwitchFault(1, True)),
    ({"command": "where", "things": ["d"]}, protocol.AskPhases(["d"])),
    ({"command": "die"}, protocol.Die()),
]
COMMON = {
    "name": "n", "shard": 10, "trace": "t", "scenario": {}, "zero_ns": 5, "epoch": 1.5, "run": "r", "host": "127.0.0.1",
    "broker": {"scheme": "mqtt", "host": "h", "port": 1, "path": "/mqtt", "user": None, "password": None}, "token": "t",
    "steps": False, "tls": {"cafile": None, "cert": None, "key": None, "insecure": False},
}  # fmt: skip
CONFIGS = {
    "broker": {"port": 0},
    "storage": {"http_port": 0, "artifacts": "a"},
    "replica": {"http_port": 0, "database": "d", "artifacts": "a", "storage": "http://s"},
    "application": {"http_port": 0},
    "shard": {"index": 0, "count": 1, "link": "lean", "pooled": False, "sources": [None], "hosts": []},
    "null": {"rate": 1.0, "seconds": 2.0},
}
OF_THE_CONDUCTOR = [
    {"event": "begun", "path": "p", "targets": 1, "loop_lag_s": 0.5, "scenario": "s", "devices": 1, "seed": 1},
    {"event": "stage", "stage": "ramp"},
    {"event": "tick", "at_s": 1.0, "counts": {"events": 1}, "connected": 1, "health": {"shard-0": {"cpu_share": 0.5}},
     "phases": {}, "slowest": [{"thing": "d", "phase": "", "seconds": 1.5}], "rollouts": {"r": {"status": "begun"}}},
    {"event": "steps", "steps": [{"step": "connect", "second": 1, "count": 0}]},
    {"event": "operate", "url": "u", "token": "t", "name": "r", "after_s": 1.0, "deeds": [[1.5, "pause"]], "request": {}},
    {"event": "warning", "of": "broker", "text": "w"},
    {"event": "part", "part": "shard-0", "do": "spawn"},
    {"event": "part", "part": "shard-0", "do": "line", "line": {"command": "go"}},
    {"event": "ended", "verdict": "PASS", "exit_code": 0, "path": "p", "text": "t"},
]  # fmt: skip
TO_THE_CONDUCTOR = [
    {"stop": "interrupted"},
    {"part": "shard-0", "died": -9, "words": "its worker w is gone"},
    {"part": "shard-0", "clock": {"host": "h", "boot": "b", "ns": 1}},
    {"part": "shard-0", "said": {"event": "ready", "port": 1}},
]


@pytest.mark.parametrize(
    ("line", "event"), EVENTS, ids=lambda value: value.get("event") if isinstance(value, dict) else ""
)
def test_an_event_is_read_and_written_as_it_always_was(line, event):
    assert protocol.event_of(json.dumps(line).encode(), "broker") == event
    assert json.loads(protocol.line(event)) == line


@pytest.mark.parametrize(("line", "command"), COMMANDS)
def test_a_command_is_read_and_written_as_it_always_was(line, command):
    assert protocol.command_of(json.dumps(line).encode()) == command
    assert json.loads(protocol.line(command)) == line


@pytest.mark.parametrize("role", CONFIGS)
def test_a_configuration_is_read_and_written_as_it_always_was(role):
    line = {"role": role, **COMMON, **CONFIGS[role]}
    assert json.loads(protocol.line(protocol.config_of(json.dumps(line).encode()))) == line


@pytest.mark.parametrize("line", OF_THE_CONDUCTOR, ids=lambda line: line["event"])
def test_a_line_of_the_conductor_is_read_and_written_as_it_always_was(line):
    assert json.loads(protocol.line(leading.event_of(json.dumps(line).encode()))) == line


@pytest.mark.parametrize("line", TO_THE_CONDUCTOR)
def test_a_line_to_the_conductor_is_read_and_written_as_it_always_was(line):
    assert json.loads(protocol.line(leading.leader_line_of(json.dumps(line).encode()))) == line


def test_what_travels_through_locusts_channel_comes_out_as_it_went_in():
    news = leading.PartNews("shard-0", 1, record=b"\x00\xff")
    assert leading.plain(news) == {"part": "shard-0", "run": 1, "record": b"\x00\xff"}
    assert leading.news_of(leading.plain(news)) == news
    order = leading.PartOrder("shard-0", "line", {"command": "go"}, 2)
    assert leading.to_worker_of(leading.plain(order)) == order
    with pytest.raises(protocol.NotUnderstood, match="news of a worker is not understood"):
        leading.news_of({"part": "shard-0", "run": 1, "sayings": []})


def part(*lines):
    """(exit code, stderr, last event) of a part that is written these lines, whose stdin stays open."""
    process = subprocess.Popen(
        [sys.executable, "-m", "simulator.worlds.live.process"],
        stdin=subprocess.PIPE, stdout=subprocess.PIPE, stderr=subprocess.PIPE, cwd=ROOT, env={**os.environ},
    )  # fmt: skip
    with process:
        process.stdin.write(b"".join(lines))
        process.stdin.flush()
        code = process.wait(timeout=30)
        return code, process.stderr.read().decode(), json.loads(process.stdout.read().splitlines()[-1])


@pytest.mark.parametrize("which", ["configuration", "command"])
def test_a_part_of_another_version_refuses_in_a_sentence_and_3(tmp_path, which):
    config = Configs(Scenario(), Options(token="t"), tmp_path, 0, 0.0, False, False).server("broker")
    if which == "configuration":
        lines = [json.dumps({**json.loads(protocol.line(config)), "colour": "red"}).encode() + b"\n"]
        why = "a part's configuration is not understood (Object contains unknown field `colour`)"
    else:
        lines = [protocol.line(config), b'{"command":"sing"}\n']
        why = "a command of the conductor is not understood (Invalid value 'sing' - at `$.command`)"
    code, err, last = part(*lines)
    words = f"{why}; are all processes of the same version of fleetsim?"
    assert (code, err, last) == (3, f"{words}\n", {"event": "last words", "text": words})


def test_a_part_whose_lines_are_not_understood_is_ended_and_the_start_refused_in_a_sentence(tmp_path, monkeypatch):
    song = [sys.executable, "-c", 'import time; print(\'{"event":"song"}\', flush=True); time.sleep(60)']
    monkeypatch.setattr(processes.spawn, "command", lambda module: song)
    config = Configs(Scenario(), Options(token="t"), tmp_path, 0, 0.0, False, False).server("broker")

    async def main():
        child = LocalChild("broker", tmp_path / "log", lambda name, event: None)
        await child.spawn()
        try:
            await child.start(config)
        finally:
            assert child.ended.done()
            await child.stop()

    with pytest.raises(ScenarioError, match=r"a line of broker is not understood \(Invalid value 'song'.*same version"):
        asyncio.run(main())


def test_a_part_that_is_killed_in_the_midst_of_a_line_died_by_the_signal(tmp_path, monkeypatch):
    song = 'import os; os.write(1, b\'{"event":"prog\'); os.kill(os.getpid(), 9)'
    monkeypatch.setattr(processes.spawn, "command", lambda module: [sys.executable, "-c", song])

    async def main():
        child = LocalChild("broker", tmp_path / "log", lambda name, event: None)
        await child.spawn()
        await child.ended
        return child.epitaph()

    assert asyncio.run(main()) == "broker died: killed by signal 9"
