"""What faults cost that are switched off: a run without any, with six that befall nobody, with six that never come.

To reach: at most 1.03 of the CPU of a run without. Usage: python -m tests.bench.faults [DEVICES [ROUNDS]]
"""

import statistics
import sys
import time

from tests.worlds.virtually import run, scenario

SIX = ("F1-duplicate", "F3-offline", "F9-cut", "F14-power-cut", "F17-report-lost", "F24-blackhole")
WAYS = {
    "without": [],
    "of nobody": [{"fault": name, "count": 0, "at": "1m"} for name in SIX],
    "never come": [{"fault": name, "at": "50m"} for name in SIX],
}


def used_s(made):
    began = time.process_time()
    run(made)
    return time.process_time() - began


def main():
    devices, rounds = (int(sys.argv[n]) if len(sys.argv) > n else default for n, default in ((1, 500), (2, 9)))
    made = {way: scenario(devices=devices, profile="wifi", ramp="50/s", faults=faults) for way, faults in WAYS.items()}
    times = {way: [] for way in WAYS}
    for nth in range(rounds):
        for way in sorted(WAYS, key=lambda way: (list(WAYS).index(way) + nth) % len(WAYS)):  # each is first in turn
            times[way].append(used_s(made[way]))
    for way, taken in times.items():
        ratio = statistics.median(a / b for a, b in zip(taken, times["without"], strict=True))
        print(f"{way:<12} {min(taken) * 1e6 / devices:7.0f} µs of CPU a device, {ratio:.3f} of a run without faults")


if __name__ == "__main__":
    main()
