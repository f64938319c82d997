"""What a second worker costs: CPU of the shards for each update, with so many devices a process in one process and in
two, by the self-test's own measurement against the null backend.

To reach: two workers carry twice the devices of one, at 1.1 times the CPU an update. One and two are measured in turn; a
pair counts if both are within the limits of validity, and the median of the pairs' ratios is told.
Usage: python -m tests.bench.workers [DEVICES_EACH [PAIRS]]
"""

import sys
from statistics import median

from simulator.model.scenario import parse_scenario
from simulator.worlds.campaigns.selftest import Load, measure
from simulator.worlds.live.machine import raise_open_files
from simulator.worlds.live.options import Options

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
    counted, tried = [], 0
    while len(counted) < pairs and tried < 3 * pairs:
        tried += 1
        one, two = measured(each, 1), measured(each, 2)
        for processes, step in ((1, one), (2, two)):
            used = " ".join(f"{name} {share:.0%}" for name, share in step.cores.items())
            print(
                f"{processes} x {each:,} devices: {step.updates_per_s:6.1f} updates/s, {step.cpu_us_per_update:6.0f} µs"
                f" an update; {used}{'; INVALID: ' * bool(step.reasons)}{'; '.join(step.reasons)}",
                flush=True,
            )
        if not one.reasons and not two.reasons:
            counted.append((one.cpu_us_per_update, two.cpu_us_per_update))
    print(f"{len(counted)} of {tried} pairs count")
    if counted:
        ones, twos = zip(*counted, strict=True)
        for processes, found in ((1, ones), (2, twos)):
            print(f"{processes} process(es)  {median(found):6.0f} µs an update ({min(found):.0f} to {max(found):.0f})")
        ratios = [two / one for one, two in counted]
        print(f"two / one        {median(ratios):.3f} ({min(ratios):.3f} to {max(ratios):.3f}; goal 1.1)")


if __name__ == "__main__":
    main()
