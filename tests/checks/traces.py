"""Hand-written traces: a compact list of events becomes a Trace."""

import pyarrow as pa

from simulator.model.events import KINDS
from simulator.trace.reader import Trace, in_order
from simulator.trace.recorder import SCHEMA

NEW, OLD = "n" * 64, "o" * 64


def trace(*events):
    """Events as (kind, thing, {column: value}), one microsecond apart."""
    rows = []
    for seq, (kind, thing, fields) in enumerate(events, 1):
        assert kind in KINDS, kind
        rows.append({"t_us": seq, "shard": 0, "seq": seq, "kind": kind, "thing": thing, **fields})
    return Trace(in_order([pa.RecordBatch.from_pylist(rows, schema=SCHEMA)]))


def update(thing="d-0", job="r.d-0.0", rollout="rollout-1", version="2", digest=NEW, doc=2, **changed):
    """The events of one good update, by name; `changed` replaces one's columns, None leaves it out."""
    soft = {"version": version, "digest": digest}
    events = {
        "target": ("target", thing, {"job": rollout, **soft}),
        "started": ("rollout", "", {"job": rollout, "status": "begin", "size": 1, **soft}),
        "wave": ("rollout", "", {"job": rollout, "status": "wave", "size": 1, "detail": "wave 1", **soft}),
        "boot": ("boot", thing, {"status": "cold", "version": "1", "digest": OLD}),
        "connect": ("connect", thing, {"status": "new"}),
        "initial": ("report", thing, {"status": "initial", "version": "1", "digest": OLD}),
        "begun": ("execution", thing, {"job": job, "status": "IN_PROGRESS", **soft}),
        "offer": ("offer", thing, {"job": job, "status": "sent", **soft}),
        "delta": ("delta", thing, {"job": job, "status": "start", "doc": doc, **soft}),
        "served": ("storage.served", thing, {"status": "200", "size": 9, "digest": digest}),
        "download": ("download", thing, {"job": job, "status": "200", "size": 9, "detail": '{"offset":0,"etag":"e"}'}),
        "commit": ("commit", thing, {"job": job, "size": 9, "detail": digest, **soft}),
        "reboot": ("boot", thing, {"status": "reboot", **soft}),
        "confirm": ("confirm", thing, {"job": job, **soft}),
        "report": ("report", thing, {"job": job, "status": "SUCCESS", **soft}),
        "accepted": ("replica.accepted", thing, {"job": job, "status": "reported", "doc": doc + 1, "version": version}),
        "answer": ("answer", thing, {"job": job, "status": "accepted", "doc": doc + 1}),
        "ended": ("execution", thing, {"job": job, "status": "SUCCEEDED", **soft}),
        "counters": ("counters", "", {"job": rollout, "status": "final", "size": 1, "detail": '{"SUCCEEDED":1,"FAILED":0}'}),
        "end": ("rollout", "", {"job": rollout, "status": "end", "size": 1, **soft}),
        "retired": ("retired", thing, {"status": "idle", **soft}),
    }  # fmt: skip
    for name, fields in changed.items():
        if fields is None:
            del events[name]
        else:
            kind, at, had = events[name]
            events[name] = (kind, fields.pop("thing", at), {**had, **fields})
    return list(events.values())


def failure(thing="d-0", job="r.d-0.0", **changed):
    """The events of an update whose software did not boot, and which was reported as a failure."""
    old = {"version": "1", "digest": OLD}
    changed = {
        "reboot": old,
        "confirm": None,
        "report": {"status": "FAILURE", **old},
        "accepted": {"version": "1"},
        "ended": {"status": "FAILED"},
        "counters": {"detail": '{"SUCCEEDED":0,"FAILED":1}'},
        "retired": old,
        **changed,
    }
    return with_after(update(thing, job, **changed), "reboot", ("rollback", thing, {"job": job, **old}))


def with_after(events, kind, *more):
    """The events, with more of them behind the first of this kind, or with this status."""
    at = next(i for i, event in enumerate(events) if kind in (event[0], event[2].get("status"))) + 1
    return [*events[:at], *more, *events[at:]]


def backed(thing="d-0", job="r.d-0.0", made=update, **changed):
    """The events of one update with all that the backend records of it, its documents 1 to 3, and the client tokens."""
    changed = {"accepted": {"detail": "u2"}, "delta": {"size": 9, "span_us": 3_600_000_000}, **changed}
    events = made(thing, job, **changed)
    initial = ("replica.accepted", thing, {"doc": 1, "status": "reported", "version": "1", "detail": "u1"})
    desired = ("replica.accepted", thing, {"doc": 2, "job": job, "status": "desired", "version": "2", "detail": "u2"})
    command = ("replica.delta", thing, {"doc": 2, "job": job, "version": "2"})
    answered = ("offer", thing, {"job": job, "status": "accepted", "version": "2", "digest": NEW, "doc": 2})
    events = with_after(events, "sent", desired, command, answered)
    return [_tokened(*event) for event in with_after(events, "initial", initial)]


def _tokened(kind, thing, fields):
    """The event with its request's client token, and a document with its size."""
    token = None
    if kind in ("report", "answer", "replica.accepted"):
        token = f"offer:{fields['job']}" if fields.get("status") == "desired" else "r2" if fields.get("job") else "r1"
    elif kind == "offer":
        token = f"offer:{fields['job']}"
    sized = {"size": 80} if kind == "replica.accepted" else {}
    return (kind, thing, {**fields, **sized, "token": token} if token else fields)


def without(events, *what):
    """The events, without those whose kind and status are these."""
    return [event for event in events if (event[0], event[2].get("status")) not in what]


def altered(events, kind, status, **fields):
    """The events, with these columns in those of this kind and status."""
    return [(k, at, {**had, **fields}) if (k, had.get("status")) == (kind, status) else (k, at, had)
            for k, at, had in events]  # fmt: skip


def apart(*events):
    """The events, recorded by replica, storage and fleet each in a process of its own."""
    shards = {"replica": 2, "storage": 4}
    return [(kind, thing, {"shard": shards.get(kind.partition(".")[0], 10), **had}) for kind, thing, had in events]
