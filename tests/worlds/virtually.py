"""Runs scenarios in virtual time, with parties of the test's own."""

import yaml

from simulator.checks.judge import judge
from simulator.dialects.atlas.topics import AtlasTopics
from simulator.model.scenario import parse_scenario
from simulator.model.verdict import Verdict
from simulator.trace.reader import Trace, in_order
from simulator.worlds import virtual


def scenario(devices=10, profile="perfect", ramp="10/s", **blocks):
    """A small virtual scenario; `blocks` are laid over it."""
    made = {
        "world": "virtual",
        "fleet": {"devices": devices, "profile": profile, "ramp": ramp},
        "run_time": "1h",
        **blocks,
    }
    made["rollout"] = {"size": "4KiB", **blocks.get("rollout", {})}
    return parse_scenario(yaml.safe_dump(made))


def own_topics(before):
    """`target.topics` in which all begin so, such as `fleet/{thing}`."""
    return {name: f"{before}/{name}" for name in AtlasTopics.names()}


def run(made, **parts):
    """The trace of a run with these Parties."""
    batches = []
    virtual.run(made, batches.append, virtual.Parties(**parts))
    return Trace(in_order(batches))


def judged(made, **parts):
    """(trace, check -> finding of those that failed)."""
    trace = run(made, **parts)
    return trace, {f.check: f for f in judge(trace, made) if f.verdict is Verdict.FAIL}
