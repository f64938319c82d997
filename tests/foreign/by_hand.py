"""Runs fleetsim against the backend with each of its bugs, and prints what it found: too long for every test run.

    python -m tests.foreign.by_hand [--occasion NAME ...] [BUG ...]

Without names all bugs are run, two at a time, each on the occasion on which it can show itself; that takes 8 minutes on two
cores. `none` is the backend without a bug. A line tells the bug, the occasion, the exit code and the checks that failed.
"""

from __future__ import annotations

import argparse
import tempfile
from concurrent.futures import ThreadPoolExecutor
from pathlib import Path

from tests.foreign.bugs import BUGS
from tests.foreign.running import OCCASIONS, occasion_of, run


def line(bug: str, occasion: str) -> str:
    """One run as a line of the table."""
    with tempfile.TemporaryDirectory() as directory:
        code, failed, _ = run(Path(directory), *(() if bug == "none" else (bug,)), occasion=occasion)
    return f"{bug:30} {occasion:8} {code}  {', '.join(failed) or '-'}"


if __name__ == "__main__":
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("bugs", nargs="*", metavar="BUG", default=["none", *BUGS])
    parser.add_argument("--occasion", action="append", choices=sorted(OCCASIONS))
    words = parser.parse_args()
    pairs = [(bug, occasion) for bug in words.bugs for occasion in words.occasion or [occasion_of(bug)]]
    with ThreadPoolExecutor(2) as pool:
        for text in pool.map(line, *zip(*pairs, strict=True)):
            print(text, flush=True)
