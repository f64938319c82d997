"""Drives a live run with Locust: `locust -f scenarios/locustfile.py --scenario quickstart`."""

from simulator.worlds.locust import Operator, Schedule

__all__ = ["Operator", "Schedule"]
