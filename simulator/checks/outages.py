"""When a fault had killed a server, and how the other checks allow for that: what fell due in an outage may come later."""

from __future__ import annotations

import json
from typing import Any

import numpy as np

from simulator.model.events import KILLED, Kind
from simulator.trace.reader import Codes, Trace
from simulator.trace.targets import Mask

RETURN_US = 10_000_000  # until whoever lost a server has found it again

HEARING = ("broker", "replica")  # where one of them is down, nothing that is said over MQTT is heard


def outages(trace: Trace, servers: tuple[str, ...] = HEARING) -> list[tuple[int, int]]:
    """From when to when, in microseconds, one of these servers was killed by a fault; one that never came back is down
    to the end."""
    return trace.once(_outages, servers)


def _outages(trace: Trace, servers: tuple[str, ...]) -> list[tuple[int, int]]:
    turns = trace.kind(Kind.FAULT).where("status", "begin", "end")
    down, spans = {}, []
    for nth, status, detail, t_us in zip(
        turns["size"].tolist(), turns.texts("status"), turns.texts("detail"), turns["t_us"].tolist(), strict=True
    ):
        killed = KILLED.get(json.loads(detail).get("server", ""), ()) if detail else ()
        if not set(killed) & set(servers):
            continue
        if status == "begin":
            down[nth] = t_us
        elif nth in down:
            spans.append((down.pop(nth), t_us))
    last_us = int(trace.column("t_us")[-1]) if len(trace) else 0
    return sorted([*spans, *((begin, last_us) for begin in down.values())])


def met(trace: Trace, since_us: Codes, until_us: Codes) -> Mask:
    """Which of these spans of time meet an outage, or the time in which its server is found again."""
    was_down = np.zeros(len(since_us), bool)
    for begin, end in outages(trace):
        was_down |= (since_us <= end + RETURN_US) & (until_us >= begin)
    return was_down


def excused_us(trace: Trace, begin_us: Codes, end_us: Codes, longer_us: int) -> Codes:
    """How much of each span of time lies in outages of the broker, each of them taken as this much longer."""
    spent_us, past_us = np.zeros(len(begin_us), np.int64), 0
    for begin, end in outages(trace, ("broker",)):
        since, past_us = max(begin, past_us), max(end + longer_us, past_us)
        spent_us += np.maximum(0, np.minimum(end_us, past_us) - np.maximum(begin_us, since))
    return spent_us


def after(trace: Trace, due_us: Codes, bound_us: Any) -> Codes:
    """What is due within `bound_us` of `due_us` is due within it of the end of any outage that comes in between."""
    for begin, end in outages(trace):
        due_us = np.where((due_us < end) & (due_us + bound_us > begin), end, due_us)
    return due_us
