"""What a second worker costs: CPU of the shards for each update, with so many devices a process in one process and in
two, by the self-test's own measurement against the null backend.

To reach: two workers carry twice the devices of one, at 1.1 times the CPU an update. Medians, and the ratios of the pairs.
Usage: python -m tests.bench.workers [DEVICES_EACH [PAIRS]]
"""

import sys
from statistics import median

from simulator.model.scenario import parse_scenario
from simulator.worlds.limits import raise_open_files
from simulator.worlds.selftest import Load, measure
from simulator.worlds.stack import Options

SCENARIO = """
name: workers
fleet: {{devices: {devices}, ramp: {ramp}/s, profile: plain}}
profiles: {{plain: {{install: 300ms, reboot: 500ms, keep_alive: 5m}}}}
rollout: {{size: 16KiB}}
"""
EVERY_S = 5  # each device is updated so often
LEAD_S, HOLD_S = 4, 10


def measured(each, processes):
    devices = each * processes
    scenario = parse_scenario(SCENARIO.format(devices=devices, ramp=300 * processes))
    return measure(scenario, Options(processes=processes), Load(devices / EVERY_S, LEAD_S, HOLD_S))


def main():
    each, pairs = (int(word) for word in (*sys.argv[1:], *("1000", "5")[len(sys.argv) - 1 :]))
    raise_open_files()
    costs = {1: [], 2: []}
    for _ in range(pairs):
        for processes, found in costs.items():
            step = measured(each, processes)
            found.append(step.cpu_us_per_update)
            used = " ".join(f"{name} {share:.0%}" for name, share in step.cores.items())
            print(
                f"{processes} x {each:,} devices: {step.updates_per_s:6.1f} updates/s, {found[-1]:6.0f} µs an update, "
                f"{step.kib_per_device:.1f} KiB a device; {used}; {'INVALID: ' * bool(step.reasons)}{'; '.join(step.reasons)}",
                flush=True,
            )
    ratios = [two / one for one, two in zip(costs[1], costs[2], strict=True)]
    for processes, found in costs.items():
        print(f"{processes} process(es)  {median(found):6.0f} µs an update ({min(found):.0f} to {max(found):.0f})")
    print(f"ratio of medians {median(costs[2]) / median(costs[1]):.3f}; of pairs {median(ratios):.3f} (goal 1.1)")


if __name__ == "__main__":
    main()
