"""What Locust's own processes are made of, each in a process that gevent has patched."""

import os
import subprocess
import sys

from tests.worlds.running import ROOT


def patched(script):
    """What the script prints, in a process of Locust's kind."""
    done = subprocess.run(
        [sys.executable, "-c", script],
        capture_output=True,
        text=True,
        timeout=60,
        env={**os.environ, "PYTHONPATH": str(ROOT)},
        check=False,
    )
    assert not done.stderr, done.stderr
    return done.stdout


def test_lines_to_a_process_that_does_not_read_yet_keep_nobody_waiting_and_come_whole_in_their_order():
    said = patched("""
import sys, time
from simulator.worlds.locust.lines import Lines
from gevent import spawn, joinall, subprocess
reader = "import sys, time; time.sleep(1); print([(line[:1], len(line)) for line in sys.stdin])"
process = subprocess.Popen([sys.executable, "-c", reader], stdin=subprocess.PIPE)
lines, began = Lines(process.stdin), time.monotonic()
joinall([spawn(lines.put, word * size + b"\\n") for word, size in ((b"a", 300_000), (b"b", 9), (b"c", 100_000))])
print(time.monotonic() - began < 0.5, flush=True)
lines.close()
process.wait()
""")
    assert said == "True\n[('a', 300001), ('b', 10), ('c', 100001)]\n"


def test_lines_to_a_process_that_is_gone_are_let_go():
    said = patched("""
import gevent
from simulator.worlds.locust.lines import Lines
from gevent import subprocess
process = subprocess.Popen(["true"], stdin=subprocess.PIPE)
process.wait()
lines = Lines(process.stdin)
lines.put(b"a\\n")
gevent.sleep(0.1)
lines.put(b"b\\n")
lines.close()
gevent.sleep(0.1)
print(process.stdin.closed)
""")
    assert said == "True\n"


def test_a_rollout_that_is_due_is_taken_before_one_that_was_told_earlier_and_is_not():
    said = patched("""
import time
import gevent
from simulator.worlds.live.leading import Operate
from simulator.worlds.locust.waiting import WaitingRollouts
waiting, began = WaitingRollouts(), time.monotonic()
gevent.spawn_later(0.2, waiting.offer, Operate("", "", "now", 0.0, [], {}))
waiting.offer(Operate("", "", "late", 30.0, [], {}))
waiting.offer(Operate("", "", "soon", 0.6, [], {}))
print([waiting.claim().rollout.name for _ in range(2)], 0.6 <= time.monotonic() - began < 5)
waiting.end()
print(waiting.claim())
""")
    assert said == "['now', 'soon'] True\nNone\n"


def test_a_workers_own_source_addresses_are_its_shards():
    said = patched("""
from simulator.worlds.locust.parts import here
told = {"name": "shard-0", "sources": [None]}
print(here(told, ["192.0.2.2"]), here(told, []), here({"command": "go"}, ["192.0.2.2"]))
""")
    assert said == (
        "{'name': 'shard-0', 'sources': ['192.0.2.2']} {'name': 'shard-0', 'sources': [None]} {'command': 'go'}\n"
    )
