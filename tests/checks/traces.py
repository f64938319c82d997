"""Hand-written traces: a compact list of events becomes a Trace."""

from simulator.model.events import COLUMNS
from simulator.trace.reader import Trace, in_order
from simulator.trace.recorder import columns

NEW, OLD = "n" * 64, "o" * 64


def trace(*events):
    """Events as (kind, thing, {column: value}), one microsecond apart."""
    rows = []
    for seq, (kind, thing, fields) in enumerate(events, 1):
        row = {"t_us": seq, "shard": 0, "seq": seq, "kind": kind, "thing": thing, **fields}
        rows.append(tuple(row.get(name) for name in COLUMNS))
    return Trace(in_order([columns(rows)]) if rows else in_order([]))


def update(thing="d-0", job="r.d-0.0", **changed):
    """The events of one good update, by name; `changed` replaces one's columns, None leaves it out."""
    events = {
        "target": ("target", thing, {"job": "r", "digest": NEW, "version": "2"}),
        "boot": ("boot", thing, {"status": "cold", "version": "1", "digest": OLD}),
        "offer": ("offer", thing, {"job": job, "status": "sent", "digest": NEW}),
        "begun": ("execution", thing, {"job": job, "status": "IN_PROGRESS"}),
        "delta": ("delta", thing, {"job": job, "status": "start", "digest": NEW, "doc": 2}),
        "download": ("download", thing, {"job": job, "status": "200", "size": 9, "detail": '{"offset":0,"etag":"e"}'}),
        "commit": ("commit", thing, {"job": job, "version": "2", "digest": NEW, "size": 9, "detail": NEW}),
        "confirm": ("confirm", thing, {"job": job, "version": "2", "digest": NEW}),
        "report": ("report", thing, {"job": job, "status": "SUCCESS", "version": "2", "digest": NEW}),
        "ended": ("execution", thing, {"job": job, "status": "SUCCEEDED"}),
        "counters": (
            "counters",
            "",
            {"job": "r", "status": "final", "size": 1, "detail": '{"SUCCEEDED":1,"FAILED":0}'},
        ),
    }
    for name, fields in changed.items():
        if fields is None:
            del events[name]
        else:
            kind, at, had = events[name]
            events[name] = (kind, fields.pop("thing", at), {**had, **fields})
    return list(events.values())
