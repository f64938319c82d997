"""The registry of trace events: every kind, what it means and which columns it fills.

The trace's schema and its documentation are both printed from here. A recorder refuses a kind that is
not registered, so that no reader ever meets one it cannot look up.
"""

from __future__ import annotations

from typing import Final, NamedTuple

SCHEMA_VERSION = 1

# name -> (Arrow type, meaning). Every event has the first five; the others are null unless its kind fills them.
COLUMNS: dict[str, tuple[str, str]] = {
    "t_us": ("int64", "microseconds since the run began; one clock for all processes of a host"),
    "shard": (
        "int16",
        "which recorder wrote it: 0 conductor, 1 application, 2 replica, 3 broker, 4 storage, from 10 the fleet's shards",
    ),
    "seq": ("int64", "the recorder's own count; (t_us, shard, seq) orders the whole trace"),
    "kind": ("string", "the event's kind, one of those below"),
    "thing": ("string", "the thing concerned; empty where there is none"),
    "job": ("string", "the execution's id, as on the wire"),
    "status": ("string", "how it went, or what it moved to"),
    "phase": ("string", "the device's phase, the stage of the run, or what a probe asked"),
    "version": ("string", "a software version"),
    "digest": ("string", "sha256 in hex of the software concerned"),
    "doc": ("int64", "version of the replica's document"),
    "size": ("int64", "bytes, or a count"),
    "span_us": ("int64", "how long it took, in microseconds, from when it was due; of a delta: how long yet"),
    "detail": ("string", "the reason, or JSON with what no column holds"),
    "token": ("string", "the request's client token: of a request, and of its answers"),
}


class Kind:
    """Names of trace event kinds (plain strings, for speed); `KINDS` says what each means."""

    RUN: Final = "run"
    STAGE: Final = "stage"
    HEALTH: Final = "health"
    CLOCK: Final = "clock"
    BOOT: Final = "boot"
    CONNECT: Final = "connect"
    LOST: Final = "lost"
    DELTA: Final = "delta"
    PHASE: Final = "phase"
    DOWNLOAD: Final = "download"
    COMMIT: Final = "commit"
    CONFIRM: Final = "confirm"
    ROLLBACK: Final = "rollback"
    REPORT: Final = "report"
    ANSWER: Final = "answer"
    MISHAP: Final = "mishap"
    RETIRED: Final = "retired"
    ROLLOUT: Final = "rollout"
    TARGET: Final = "target"
    OFFER: Final = "offer"
    EXECUTION: Final = "execution"
    COUNTERS: Final = "counters"
    PROBE: Final = "probe"
    LOADED: Final = "replica.loaded"
    ACCEPTED: Final = "replica.accepted"
    REJECTED: Final = "replica.rejected"
    SENT_DELTA: Final = "replica.delta"
    ACKNOWLEDGED: Final = "replica.acknowledged"
    CREDENTIAL: Final = "replica.credential"
    SERVED: Final = "storage.served"
    BROKER: Final = "broker"
    FAULT: Final = "fault"


class KindMeaning(NamedTuple):
    """What an event of one kind says; `fields` maps each column it fills to what stands there."""

    by: str
    text: str
    fields: dict[str, str]


KILLED: dict[str, tuple[str, ...]] = {
    "broker": ("broker",),
    "replica": ("replica",),
    "storage": ("storage",),
    "backend": ("replica", "storage"),
}
"""What is down when a fault kills a server, by the name that the fault and the record give it."""

_JOB = "the execution's id"
_TOKEN = "the request's client token"

KINDS: dict[str, KindMeaning] = {
    Kind.RUN: KindMeaning(
        "conductor",
        "The run began or ended.",
        {"status": "begin or end", "detail": "JSON: seed, devices, world; at the end: complete or why not"},
    ),
    Kind.STAGE: KindMeaning(
        "conductor", "A stage of the run began: ramp, rollout, heal, settle, judge.", {"phase": "the stage"}
    ),
    Kind.HEALTH: KindMeaning(
        "conductor or shard",
        "The load generator's own health over the last interval.",
        {
            "detail": "JSON: process, cpu_share of one core, wait_share: how long its main thread was ready and had "
            "none, rss_bytes; of our own, loop_lag_us: samples of 50 ms sleeps, open_files, and unsent: how many offers, "
            "or a shard's attempts to connect, are due and not sent"
        },
    ),
    Kind.CLOCK: KindMeaning(
        "conductor",
        "A part on another host records by that host's clock, less what it is ahead.",
        {"span_us": "by how much that may be wrong", "detail": "JSON: process, host, offset_us: ahead by so much"},
    ),
    Kind.BOOT: KindMeaning(
        "device",
        "The device started.",
        {
            "status": "cold, reboot or power-cut",
            "version": "the version that started",
            "digest": "hash of the active slot",
            "span_us": "reboot time; of a cold start, its lateness against the ramp",
        },
    ),
    Kind.CONNECT: KindMeaning(
        "device",
        "The device is connected, or an attempt failed.",
        {
            "status": "new, resumed or failed",
            "span_us": "from when the attempt was due",
            "size": "attempts so far",
            "detail": "why it failed",
        },
    ),
    Kind.LOST: KindMeaning(
        "device",
        "The connection ended.",
        {"status": "reboot, offline, lost, power-cut, vanish or closed", "detail": "why"},
    ),
    Kind.DELTA: KindMeaning(
        "device",
        "The device learned a desired state that differs from what it runs.",
        {
            "job": _JOB,
            "status": "start, supersede, running, duplicate, again, stale or installed: what the device made of it",
            "version": "the version desired",
            "digest": "the hash announced",
            "doc": "the document's version",
            "size": "the size announced",
            "span_us": "how long the permission to download is still good, as announced",
            "detail": "delta or get: how it learned it",
        },
    ),
    Kind.PHASE: KindMeaning(
        "device",
        "The update moved to another phase.",
        {
            "job": _JOB,
            "phase": "the phase left",
            "status": "the phase entered",
            "span_us": "time spent in the phase left",
        },
    ),
    Kind.DOWNLOAD: KindMeaning(
        "device",
        "One HTTP request of a download ended.",
        {
            "job": _JOB,
            "status": "HTTP status, or 0 where none came",
            "size": "bytes received by this request",
            "span_us": "its duration",
            "detail": "JSON: offset, etag; error: why it was not enough; retry_after_s: for how long it was busy",
        },
    ),
    Kind.COMMIT: KindMeaning(
        "device",
        "The inactive slot was written whole and marked to be tried at the next boot.",
        {
            "job": _JOB,
            "version": "the version written",
            "digest": "hash of the bytes in the slot",
            "size": "bytes in the slot",
            "detail": "the hash announced",
        },
    ),
    Kind.CONFIRM: KindMeaning(
        "device",
        "The new slot booted, passed its self-test, and is active from now on.",
        {"job": _JOB, "version": "the version now running", "digest": "hash of the active slot"},
    ),
    Kind.ROLLBACK: KindMeaning(
        "device",
        "The old slot runs again.",
        {"job": _JOB, "version": "the version running again", "digest": "hash of the active slot", "detail": "why"},
    ),
    Kind.REPORT: KindMeaning(
        "device",
        "A report was sent. `digest` is the ground truth: what the device runs at this moment, whatever it says.",
        {
            "job": _JOB,
            "status": "initial, RUNNING, SUCCESS or FAILURE",
            "version": "the version it claims to run",
            "digest": "hash of the slot that really runs",
            "phase": "the update's phase",
            "size": "how often it was sent, from 1",
            "span_us": "initial: how long the broker took to grant the subscriptions before it",
            "detail": "the reason it gives",
            "token": f"{_TOKEN}; the same each time it is sent",
        },
    ),
    Kind.ANSWER: KindMeaning(
        "device or application",
        "An answer of the replica reached the device, or the device gave up waiting. To the application: one more, to "
        "an offer that had its answer.",
        {
            "job": f"{_JOB}, where it is the answer that the report of an update's end waited for",
            "status": "accepted, rejected or given-up",
            "doc": "the document's version",
            "span_us": "with a job: from the report's first sending",
            "detail": "code and message of a rejection",
            "token": _TOKEN,
        },
    ),
    Kind.MISHAP: KindMeaning(
        "device",
        "The device's profile, or a marker in the software, made a stage go wrong.",
        {
            "job": _JOB,
            "phase": "connect, download, verify, install, reboot or report",
            "status": "error, hang, crash, slow, lie or vanish; ignored, of a marker that nobody knows",
            "detail": "the marker, where it was one",
        },
    ),
    Kind.RETIRED: KindMeaning(
        "device",
        "The device was switched off for good: the run is over.",
        {"version": "what it runs", "digest": "hash of the active slot", "status": "the phase it was in"},
    ),
    Kind.ROLLOUT: KindMeaning(
        "application",
        "The rollout moved on.",
        {
            "status": "begin, wave, pause, resume, abort or end",
            "job": "the rollout's name",
            "version": "the version rolled out",
            "digest": "its hash",
            "size": "number of targets, or the wave's",
            "detail": "the reason",
        },
    ),
    Kind.TARGET: KindMeaning(
        "application",
        "This thing is a target of the rollout.",
        {"job": "the rollout's name", "version": "the version it shall run", "digest": "its hash", "detail": "cohort"},
    ),
    Kind.OFFER: KindMeaning(
        "application",
        "A desired state was published, answered or given up.",
        {
            "job": _JOB,
            "status": "sent, resent, accepted, rejected or unanswered",
            "version": "the version desired",
            "digest": "its hash",
            "doc": "accepted: the document's version",
            "span_us": "sent: lateness against the schedule, less what the broker made us wait; else since the first sending",
            "detail": "code and message of a rejection",
            "token": f"{_TOKEN}; none where a report alone told that it was accepted",
        },
    ),
    Kind.EXECUTION: KindMeaning(
        "application",
        "An execution changed its state.",
        {
            "job": _JOB,
            "status": "the new state",
            "version": "the version desired",
            "digest": "its hash",
            "span_us": "since it was offered",
            "detail": "the reason",
        },
    ),
    Kind.COUNTERS: KindMeaning(
        "application",
        "The application's own counts at this moment.",
        {
            "job": "the rollout's name",
            "status": "moving or final",
            "size": "number of targets",
            "detail": "JSON: state -> count",
        },
    ),
    Kind.PROBE: KindMeaning(
        "application",
        "Somebody who is no device asked the replica, about a thing of its own, what must be refused or what must be "
        "honoured; or heard an answer.",
        {
            "status": "sent, accepted or rejected",
            "phase": "what was asked",
            "doc": "sent: the version that it requires; accepted: the document's version",
            "size": "the request's number, from 1; its answer's too",
            "detail": "sent: what must come of it, accepted or the code of a rejection; rejected: code and message",
            "token": _TOKEN,
        },
    ),
    Kind.LOADED: KindMeaning(
        "replica",
        "The replica started and found this document in its database.",
        {"doc": "the document's version", "job": _JOB, "version": "the software version desired"},
    ),
    Kind.ACCEPTED: KindMeaning(
        "replica",
        "The replica committed an update and answered accepted.",
        {
            "doc": "the document's version",
            "job": _JOB,
            "status": "desired, reported, both or none: which section it changed",
            "version": "the software version it carried",
            "size": "bytes of the document's two sections",
            "detail": "the URL of the software that this section then names; desired's of both",
            "token": _TOKEN,
        },
    ),
    Kind.REJECTED: KindMeaning(
        "replica",
        "The replica refused a request.",
        {"status": "the code", "detail": "the message", "token": _TOKEN},
    ),
    Kind.SENT_DELTA: KindMeaning(
        "replica",
        "The replica published a delta.",
        {"doc": "the document's version", "job": _JOB, "version": "the version desired"},
    ),
    Kind.ACKNOWLEDGED: KindMeaning(
        "replica",
        "What became of the deltas that the replica published since the last such event; at most one a second.",
        {"status": "all: each has its PUBACK; lost: some may never have reached the broker, or it refused them"},
    ),
    Kind.CREDENTIAL: KindMeaning(
        "replica",
        "A temporary credential was asked for.",
        {"job": _JOB, "status": "granted or the code of the refusal"},
    ),
    Kind.SERVED: KindMeaning(
        "storage",
        "The storage answered a request for an artifact.",
        {
            "thing": "whom the signature or the credential names",
            "status": "HTTP status",
            "size": "bytes sent",
            "digest": "hash of the whole artifact",
            "detail": "the artifact, and the reason of a refusal",
        },
    ),
    Kind.FAULT: KindMeaning(
        "conductor or device",
        "A fault began or ended; or it befell a device: then what it changed stands here, and what its own connections of"
        " the same client id saw.",
        {
            "status": "begin, end, did or saw",
            "phase": "the fault's number and name",
            "size": "its place in the scenario, from 0",
            "job": _JOB,
            "detail": "JSON: of a device, what it did as sent and as delivered; of a server, which; saw: rival connected,"
            " failed or gone; half-open heard (and which message) or closed",
        },
    ),
    Kind.BROKER: KindMeaning(
        "conductor", "The broker's own counts at the end.", {"detail": "JSON: name, version, dropped messages"}
    ),
}
