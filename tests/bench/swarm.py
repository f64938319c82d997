"""Two swarms over a thousand seeds: what breaks nothing raises no alarm; what breaks something fails exactly that.

Usage: python -m tests.bench.swarm [SEEDS [FIRST]]   (prints what is not so, then how many runs a second of CPU)
"""

import sys
import time

from simulator.checks.judge import judge
from simulator.faults.swarm import with_swarm
from simulator.model.verdict import Verdict
from tests.worlds.test_faults import accused, condemned, swarming
from tests.worlds.virtually import run


def harmless(seed):
    """What is wrong: under three faults that break nothing no check may fail; of a device that vanished one may doubt."""
    made = with_swarm(swarming(seed))
    found = [f for f in judge(run(made), made) if f.verdict is Verdict.FAIL]
    faults = ", ".join(fault.fault for fault in made.faults)
    return [f"{finding.check}: {finding.summary} ({faults})" for finding in found]


def harmful(seed):
    """What is wrong: the declared checks fail, on those who are harmed."""
    made = condemned(seed)
    declared, found = accused(made)
    return [] if found == declared else [f"{made.faults[-1].fault}: declared {declared}, found {found}"]


def main():
    seeds, first = (int(sys.argv[n]) if len(sys.argv) > n else default for n, default in ((1, 1000), (2, 0)))
    for swarm in (harmless, harmful):
        began, wrong = time.process_time(), 0
        for seed in range(first, first + seeds):
            said = swarm(seed)
            wrong += bool(said)
            for line in said:
                print(f"  seed {seed}: {line}")
        rate = seeds / (time.process_time() - began)
        print(f"{swarm.__name__}: {seeds:,} seeds, {wrong} wrong; {rate:.1f} runs a second and core")


if __name__ == "__main__":
    main()
