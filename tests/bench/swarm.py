"""A thousand seeds, each with three faults of its own drawn from those that break nothing: no check may fail.

Usage: python -m tests.bench.swarm [SEEDS [FIRST]]   (prints each alarm, then how many runs a second of CPU)
"""

import sys
import time

from simulator.checks.judge import judge
from simulator.faults.swarm import with_swarm
from simulator.model.verdict import Verdict
from tests.worlds.test_faults import swarming
from tests.worlds.virtually import run


def main():
    seeds, first = (int(sys.argv[n]) if len(sys.argv) > n else default for n, default in ((1, 1000), (2, 0)))
    began, alarms, unsure = time.process_time(), 0, 0
    for seed in range(first, first + seeds):
        made = with_swarm(swarming(seed))
        findings = judge(run(made), made)
        failed = [finding for finding in findings if finding.verdict is Verdict.FAIL]
        unsure += any(finding.verdict is Verdict.UNKNOWN for finding in findings)
        alarms += bool(failed)
        for finding in failed:
            print(f"seed {seed}: {finding.check}: {finding.summary}")
            print(f"  {', '.join(fault.fault for fault in made.faults)}")
    used = time.process_time() - began
    print(f"{seeds:,} seeds, {alarms} with an alarm, {unsure} with a doubt; {seeds / used:.1f} runs a second and core")


if __name__ == "__main__":
    main()
