"""A live run of many devices over mosquitto on this machine: they connect, download 16 KiB each, and converge.

To reach: 10,000 devices in a valid run on 2 cores. Prints the verdict, the limits of validity, and of each process its
CPU and memory, in all and for each device.
Usage: python -m tests.bench.live [DEVICES [PROCESSES]]
"""

import json
import sys
import tempfile
from collections import defaultdict
from pathlib import Path

from simulator.checks.validity import validity
from simulator.model.events import Kind
from simulator.model.scenario import parse_scenario
from simulator.trace.rundir import open_run
from simulator.worlds import run as running
from simulator.worlds.live.options import Options

SCENARIO = """
name: live-bench
world: live
fleet: {{devices: {devices}, ramp: 300/s, profile: plain}}
profiles: {{plain: {{install: {{uniform: [1s, 3s]}}, reboot: {{uniform: [1s, 3s]}}, keep_alive: 5m}}}}
target: {{broker: mosquitto}}
rollout: {{size: 16KiB, maximumPerMinute: 12000}}
run_time: 10m
thresholds: {{converged: ">= 100%"}}
"""


def main():
    devices, processes = (int(word) for word in (*sys.argv[1:], *("10000", "1")[len(sys.argv) - 1 :]))
    scenario = parse_scenario(SCENARIO.format(devices=devices))
    with tempfile.TemporaryDirectory() as directory:
        path, judgement = running.run(scenario, Path(directory), "", Options(processes=processes))
        trace = open_run(path).trace
    print(f"{judgement.verdict}: {devices:,} devices in {processes} process(es), {len(trace):,} events")
    for finding in judgement.findings:
        print(f"  {finding.verdict:<8} {finding.check}: {finding.summary}")
    for limit in validity(trace, scenario).limits:
        print(f"  {limit.name}: {limit.value:.3g}, allowed {limit.allowed:.3g}")
    cpu, memory = defaultdict(float), defaultdict(int)
    for detail in trace.kind(Kind.HEALTH).texts("detail"):
        facts = json.loads(detail)
        cpu[facts["process"]] += facts["cpu_share"]  # of a core, for a second
        memory[facts["process"]] = max(memory[facts["process"]], facts["rss_bytes"])
    for name in cpu:
        each = f"{cpu[name] / devices * 1e6:7.0f} µs and {memory[name] / devices / 1024:5.1f} KiB a device"
        print(f"  {name:<12} {cpu[name]:6.1f} s of CPU, {memory[name] / 2**20:5.0f} MiB; {each}")


if __name__ == "__main__":
    main()
