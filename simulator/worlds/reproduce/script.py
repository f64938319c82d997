"""A script is to a live run what a tape is to a virtual one: what others did to one device, as far as its own events tell.

A live run's record holds what reached the device, not all that was said to it. So a script is a list of *cues*: what came
over MQTT and when (it was connected, was refused, lost its connection, learned what is desired, had its report answered),
and a list of how each HTTP request ended. Where the record is silent, the others' parts are played by rule (a question
with no answer on record is answered "nothing differs"); where it speaks, they are played by the record (`actor.py`). What
faults did on the device's road is taken out of it again: the faults are there when the script is played, and do it anew.

A record holds little of what was said in the dialect's own words. The script reads and repeats that little in the form of
atlas; every other dialect than `atlas` and `atlas-example` is refused, with an error that names it.
"""

from __future__ import annotations

from collections.abc import Iterable
from dataclasses import dataclass, field
from typing import Any, NamedTuple

import orjson

from simulator.device.ramp import due
from simulator.dialects.atlas.documents import EXAMPLE
from simulator.model.errors import ScenarioError
from simulator.model.events import Kind
from simulator.model.scenario import Scenario
from simulator.worlds.reproduce.tape import ConnectRefused, Lost

_OWN_DOING = ("mishap: ", "no road", "no answer")  # attempts to connect that never left the device
_SPOKEN = ("atlas", EXAMPLE)


def must_be_spoken(dialect: str) -> None:
    """Raises ScenarioError for a dialect whose records make no script."""
    if dialect not in _SPOKEN:
        raise ScenarioError(
            f"a device of a live run is replayed alone in dialect {' or '.join(_SPOKEN)} only; this run spoke {dialect}"
        )


class Connected(NamedTuple):
    """The device was connected. `unanswered` is how many of its questions then brought nothing: it asked again."""

    resumed: bool
    unanswered: int = 0


class Wanted(NamedTuple):
    """It learned what is desired, by a delta or as the answer to a question."""

    by: str
    job: str
    version: str
    digest: str | None
    doc: int | None
    size_bytes: int | None
    granted_until_us: int | None


class Answer(NamedTuple):
    """Its report of this job's end was answered (of any job's, if none is named); `code` is 0 where it was accepted."""

    job: str
    doc: int | None
    code: int = 0
    message: str = ""


class Cue(NamedTuple):
    """What comes to the device over MQTT, and when."""

    t_us: int
    event: Connected | ConnectRefused | Lost | Wanted | Answer


class RecordedPiece(NamedTuple):
    """How one HTTP request ended, and how many bytes it had brought. `cut`: they were all that came, by the server's
    doing or the road's."""

    t_us: int
    status: int
    size: int
    etag: str
    error: str
    cut: bool


@dataclass(slots=True)
class Script:
    """All that came to one device, by its record."""

    began_us: int
    end_us: int = 0
    cues: list[Cue] = field(default_factory=list)
    pieces: list[RecordedPiece] = field(default_factory=list)
    turns: list[tuple[int, int, bool]] = field(default_factory=list)


# ---- from the record


def script_of(
    scenario: Scenario, ordinal: int, own: Iterable[dict[str, Any]], faults: Iterable[dict[str, Any]]
) -> Script:
    """The script that a device's own events make, which begin with its start; `faults` are the run's begins and ends."""
    reader: _Reader | None = None
    for event in own:
        if reader is None:
            ramp_s = due(scenario.fleet.ramp, scenario.fleet.devices, ordinal)
            reader = _Reader(max(0, event["t_us"] - event.get("span_us", 0) - round(ramp_s * 1e6)))
        reader.read(event)
    assert reader is not None
    script = reader.script
    script.cues.sort(key=lambda cue: cue.t_us)
    script.turns = [(f["t_us"], f.get("size", 0), f["status"] == "begin") for f in faults]
    return script


class _Reader:
    """Reads a device's events in their order."""

    def __init__(self, began_us: int) -> None:
        self.script = Script(began_us)
        self._copies: list[tuple[int, str]] = []  # what a fault will bring once more, and from when on
        self._held: list[tuple[int, str, int]] = []  # until when a fault holds what, and since when
        self._troubles: list[dict[str, Any]] = []  # of the exchange under way
        self._connected: int | None = None  # the cue of this connection

    def read(self, event: dict[str, Any]) -> None:
        self.script.end_us = event["t_us"]
        reading = {
            Kind.CONNECT: self._connect,
            Kind.LOST: self._lost,
            Kind.REPORT: self._report,
            Kind.DELTA: self._delta,
            Kind.ANSWER: self._answer,
            Kind.DOWNLOAD: self._download,
            Kind.FAULT: self._fault,
        }.get(event["kind"])
        if reading is not None:
            reading(event, event["t_us"])

    def _cue(self, t_us: int, event: Connected | ConnectRefused | Lost | Wanted | Answer) -> None:
        self.script.cues.append(Cue(t_us, event))

    def _connect(self, event: dict[str, Any], t_us: int) -> None:
        detail = event.get("detail", "")
        if event["status"] != "failed":
            self._connected = None  # its first question
            self._cue(t_us, Connected(event["status"] == "resumed"))
        elif not detail.startswith(_OWN_DOING):
            self._cue(t_us, ConnectRefused(detail))

    def _lost(self, event: dict[str, Any], t_us: int) -> None:
        self._copies, self._held = [], []  # what a fault holds back is lost with the connection
        if event["status"] == "lost":
            self._cue(t_us, Lost(event.get("detail", "")))

    def _report(self, event: dict[str, Any], t_us: int) -> None:
        if event["status"] != "initial":
            return
        if self._connected is None:
            self._connected = max(n for n, cue in enumerate(self.script.cues) if isinstance(cue.event, Connected))
            return
        at, connected = self.script.cues[self._connected]
        assert isinstance(connected, Connected)
        self.script.cues[self._connected] = Cue(at, connected._replace(unanswered=connected.unanswered + 1))

    def _delta(self, event: dict[str, Any], t_us: int) -> None:
        by = event.get("detail", "delta")
        for copy in self._copies:
            if copy[0] <= t_us and copy[1] == by:
                self._copies.remove(copy)
                return
        came_us = t_us
        for waiting in self._held:
            if waiting[0] <= t_us and waiting[1] == by:
                self._held.remove(waiting)
                came_us = waiting[2]
                break
        grant_us = event.get("span_us")
        until_us = None if grant_us is None else t_us + grant_us
        job, version = event.get("job", ""), event.get("version", "")
        digest, doc, size = event.get("digest"), event.get("doc"), event.get("size")
        self._cue(came_us, Wanted(by, job, version, digest, doc, size, until_us))

    def _answer(self, event: dict[str, Any], t_us: int) -> None:
        if "job" not in event:
            return  # nobody waited for it: it changed nothing
        if event["status"] == "accepted":
            self._cue(t_us, Answer(event["job"], event.get("doc")))
        elif event["status"] == "rejected":
            code, _, message = event.get("detail", "").partition(" ")
            self._cue(t_us, Answer(event["job"], None, int(code), message))

    def _download(self, event: dict[str, Any], t_us: int) -> None:
        troubles, self._troubles = self._troubles, []
        detail = orjson.loads(event.get("detail", "{}"))
        status, error = int(event["status"]), detail.get("error", "")
        if any("answer" in trouble for trouble in troubles) or (status == 0 and error in ("offline", "")):
            return  # no server's doing
        harmed = any(trouble.keys() - {"request", "wait_s"} for trouble in troubles)
        cut = not harmed and status in (200, 206) and error not in ("", "offline")
        etag = "" if harmed else detail.get("etag", "")
        self.script.pieces.append(RecordedPiece(t_us, status, event.get("size", 0), etag, error, cut))

    def _fault(self, event: dict[str, Any], t_us: int) -> None:
        did = orjson.loads(event.get("detail", "{}"))
        if "request" in did:
            self._troubles.append(did)
        elif "retained" in did:
            self._copies.append((t_us, "delta"))
        elif did.get("message") == "accepted" and did.get("lost"):
            self._cue(t_us, Answer("", None))
        elif by := {"delta": "delta", "get_accepted": "get"}.get(did.get("message", "")):
            self._copies += [(t_us + round(after_s * 1e6), by) for after_s in did.get("again_s", ())]
            if "delay_s" in did:
                self._held.append((t_us + round(did["delay_s"] * 1e6), by, t_us))
