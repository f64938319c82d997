"""Drives a live run with Locust: `locust -f scenarios/locustfile.py --scenario quickstart`."""

import sys
from pathlib import Path

# Locust has put the working directory and this file's first on `sys.path`. A package `simulator` that happens to be there is
# not meant: for this import both come last, so that an installed fleetsim is found first, and a checkout all the same.
_before, _here = sys.path[:], (Path.cwd(), Path(__file__).resolve().parent)
sys.path.sort(key=lambda entry: Path(entry).resolve() in _here)
try:
    from simulator.worlds.locust import Operator, Schedule
finally:
    sys.path[:] = _before

__all__ = ["Operator", "Schedule"]
