"""Seeds that one core explores in a second, judging included: 20 devices, a rollout of an hour, with faults and without.

To reach: 20 runs a second and core. Usage: python -m tests.bench.explore [SEEDS]
"""

import resource
import statistics
import sys
import time

from simulator.model.scenario import parse_scenario
from simulator.worlds import judgement as judging
from simulator.worlds.campaigns.workers import judge_seed, run_seeds
from simulator.worlds.reproduce.replay import again

SCENARIO = """
world: virtual
fleet: {{devices: 20, ramp: {ramp}, profile: {profile}}}
rollout: {{size: 16KiB, {pace}}}
run_time: 3h
swarm: {swarm}
"""
HOUR, AT_ONCE = {"ramp": "10m", "pace": "maximumPerMinute: 0.4444"}, {"ramp": "10/s", "pace": "name: now"}
GOAL = 20.0
ROUNDS = 5


def cpu(work, *words):
    began = time.process_time()
    result = work(*words)
    return time.process_time() - began, result


def one(name, scenario, seeds):
    """In this process, in rounds: the middle one counts, for the machine may be busy."""
    judge_seed(scenario, 0)  # what the first run alone pays: imports
    rates = [seeds / cpu(lambda: [judge_seed(scenario, seed) for seed in range(seeds)])[0] for _ in range(ROUNDS)]
    done = again(scenario)
    judged = min(cpu(judging.judged, done.trace, scenario, (), ())[0] for _ in range(ROUNDS))
    rate, events = statistics.median(rates), len(done.trace)
    run_us = (1 / rate - judged) / events * 1e6
    print(
        f"{name:<28} {rate:5.1f} runs/s/core ({min(rates):.1f} to {max(rates):.1f}), {rate / GOAL:.2f} of the goal; "
        f"{events:,} events a run, {run_us:.0f} µs each to simulate and record; judging {judged * 1e3:.1f} ms a run"
    )
    return rate


def children_cpu():
    used = resource.getrusage(resource.RUSAGE_CHILDREN)
    return used.ru_utime + used.ru_stime


def main() -> None:
    seeds = int(sys.argv[1]) if len(sys.argv) > 1 else 60
    for profile in ("wifi", "flaky"):
        for name, way in (("an hour", HOUR), ("at once", AT_ONCE)):
            one(f"{profile}, {name}", parse_scenario(SCENARIO.format(profile=profile, swarm=0, **way)), seeds)
    scenario = parse_scenario(SCENARIO.format(profile="wifi", swarm=3, **HOUR))
    one("wifi, an hour, three faults", scenario, seeds)
    before, began, many = children_cpu(), time.monotonic(), 10 * seeds
    run_seeds(scenario, range(many), 2, lambda result: None)
    used, wall = children_cpu() - before, time.monotonic() - began
    print(
        f"two workers                  {many / used:5.1f} runs/s/core, their start included; {many:,} seeds, {wall:.1f} s of wall time"
    )
    print("bound by the interpreter: the devices', the broker's and the backend's work on each event, in no one place")


if __name__ == "__main__":
    main()
