"""A full rollout of an hour of fleet time in virtual time: CPU and memory of 10,000 or 100,000 devices.

To reach: 10,000 in 20 s of CPU; 100,000 in 200 s and 2 GiB. Usage: python -m tests.bench.virtual [DEVICES]
"""

import resource
import sys
import tempfile
import time
from pathlib import Path

from simulator.model.scenario import parse_scenario
from simulator.trace.recorder import StreamFile
from simulator.worlds import virtual

SCENARIO = """
world: virtual
fleet: {{devices: {devices}, ramp: 10m, profile: wifi}}
rollout: {{size: 16KiB, maximumPerMinute: {rate}}}
run_time: 3h
"""


def main() -> None:
    devices = int(sys.argv[1]) if len(sys.argv) > 1 else 10_000
    scenario = parse_scenario(SCENARIO.format(devices=devices, rate=devices / 45))
    with tempfile.TemporaryDirectory() as directory, StreamFile(Path(directory) / "v.arrow") as sink:
        events = 0

        def counted(batch: object) -> None:
            nonlocal events
            events += batch.num_rows
            sink(batch)

        cpu = time.process_time()
        outcome = virtual.run(scenario, counted)
        used = time.process_time() - cpu
    memory = resource.getrusage(resource.RUSAGE_SELF).ru_maxrss / 1024
    print(f"{devices:,} devices, {outcome}, {events:,} events")
    print(f"{used:.1f} s of CPU, {used / devices * 1e6:.0f} µs a device, {memory:,.0f} MiB")
    print(f"ratio to the goal (20 s for 10,000): {used / (20 * devices / 10_000):.2f}")


if __name__ == "__main__":
    main()
