"""One update as a sequence of messages between application, replica, device and storage, as SVG."""

from __future__ import annotations

from collections.abc import Iterator
from html import escape
from typing import Any, NamedTuple

import numpy as np

from simulator.model.events import Kind
from simulator.trace.reader import Trace

_LANES = ("application", "replica", "device", "storage")
_X = dict(zip(_LANES, (190, 400, 610, 820), strict=True))
_ROW, _TOP, _WIDTH = 22, 44, 920
_ROWS_MAX = 60


class Arrow(NamedTuple):
    """Something said from one lane to another, or done in one lane (`to` is the same)."""

    t_us: int
    lane: str
    to: str
    text: str
    harm: bool = False


def sequence(trace: Trace, job: str) -> str:
    """The picture of one job's update; empty where the trace holds nothing of it."""
    lines = list(_lines(trace, job))
    if not lines:
        return ""
    shown, left = lines[:_ROWS_MAX], len(lines) - _ROWS_MAX
    rows = [_row(nth, line, lines[0].t_us) for nth, line in enumerate(shown)]
    height = _TOP + _ROW * (len(shown) + (2 if left > 0 else 1))
    more = f'<text x="0" y="{height - 8}">and {left:,} more</text>' if left > 0 else ""
    lanes = "".join(
        f'<text class="lane" x="{x}" y="16">{name}</text><path class="life" d="M{x} 24V{height - _ROW}"/>'
        for name, x in _X.items()
    )
    style = (
        "text{font:12px system-ui,sans-serif;fill:#222}.lane{font-weight:600;text-anchor:middle}.said{text-anchor:middle}"
        ".life{stroke:#bbb}.way{stroke:#0072B2;fill:none}.head{fill:#0072B2}.did{fill:#555}.harm{fill:#a83b00}"
    )
    return (
        f'<svg class="sequence" viewBox="0 0 {_WIDTH} {height}" role="img" aria-label="{escape(job)}">'
        f"<style>{_scoped(style)}</style>{lanes}{''.join(rows)}{more}</svg>"
    )


def _scoped(style: str) -> str:
    """The rules, for this picture alone."""
    return "".join(f".sequence {rule}}}" for rule in style.split("}") if rule)


def _row(nth: int, line: Arrow, zero_us: int) -> str:
    y, text = _TOP + _ROW * nth, escape(line.text)
    at = f'<text x="0" y="{y}">{(line.t_us - zero_us) / 1e6:.3f} s</text>'
    x, to = _X[line.lane], _X[line.to]
    if x == to:
        return f'{at}<text class="{"harm" if line.harm else "did"}" x="{x + 6}" y="{y}">{text}</text>'
    side = 1 if to > x else -1
    head = f'<path class="head" d="M{to} {y + 4}l{-7 * side} -4v8z"/>'
    way = f'<path class="way" d="M{x} {y + 4}H{to - 6 * side}"/>{head}'
    return f'{at}{way}<text class="said" x="{(x + to) / 2}" y="{y}">{text}</text>'


def _lines(trace: Trace, job: str) -> Iterator[Arrow]:
    """The job's events, and those of its device in between that name no job."""
    events = trace.execution(job)
    if not len(events):
        return
    thing = next(iter(events.distinct("thing")), "")
    between = trace.thing(thing).where("kind", Kind.BOOT, Kind.CONNECT, Kind.LOST, Kind.FAULT)
    first, last = int(events.rows[0]), int(events.rows[-1])
    rows = np.union1d(events.rows, between.rows[(between.rows > first) & (between.rows < last)])
    for row in rows.tolist():
        event = trace.row(row)
        line = _line(event)
        if line is not None:
            yield line


def _line(event: dict[str, Any]) -> Arrow | None:
    kind, status, at = event["kind"], event.get("status", ""), event["t_us"]
    version, doc = event.get("version", ""), event.get("doc")
    if kind == Kind.OFFER and status in ("sent", "resent"):
        return Arrow(at, "application", "replica", f"desired {version}" + (" again" if status == "resent" else ""))
    if kind == Kind.ACCEPTED:
        to = "device" if status == "reported" else "application"
        return Arrow(at, "replica", to, f"accepted, document {doc}")
    if kind == Kind.SENT_DELTA:
        return Arrow(at, "replica", "device", f"delta {version}")
    if kind == Kind.DELTA:
        return Arrow(at, "device", "device", f"hears of it: {status}")
    if kind == Kind.DOWNLOAD:
        return Arrow(at, "device", "storage", f"GET: {status}, {event.get('size', 0):,} B")
    if kind == Kind.REPORT:
        return Arrow(at, "device", "replica", f"{status} {version}")
    if kind == Kind.EXECUTION:
        return Arrow(at, "application", "application", status)
    if kind == Kind.FAULT:
        return Arrow(at, "device", "device", event.get("phase", ""), harm=True)
    if kind == Kind.MISHAP:
        return Arrow(at, "device", "device", f"{event.get('phase', '')}: {status}", harm=True)
    if kind in (Kind.PHASE, Kind.BOOT, Kind.CONNECT, Kind.LOST):
        labels = {Kind.PHASE: status, Kind.BOOT: f"boots {version}", Kind.CONNECT: f"connects: {status}"}
        return Arrow(at, "device", "device", labels.get(kind, f"connection ends: {status}"))
    if kind in (Kind.COMMIT, Kind.CONFIRM, Kind.ROLLBACK):
        labels = {Kind.COMMIT: "slot written", Kind.CONFIRM: f"runs {version}", Kind.ROLLBACK: f"back to {version}"}
        return Arrow(at, "device", "device", labels[kind])
    return None
