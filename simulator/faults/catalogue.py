"""The catalogue of faults: each has a number and name, its settings, the checks that it may break, and what it does.

A new fault is an entry of the table CATALOGUE. What it does is a rule (rules.py has the kinds of rules), made from the
fault's settings when a scenario asks for it; the functions above the table make the rules that take more than a line."""

from __future__ import annotations

import difflib
from collections.abc import Callable
from typing import Any, NamedTuple

from simulator.dialects.meanings import Means
from simulator.faults.rules import (
    Fate,
    Nature,
    OnExchange,
    OnMessage,
    OnRoad,
    OnServer,
    OtherClient,
    Packet,
    ReplayCommand,
    Rule,
    Strike,
    Trouble,
)
from simulator.faults.settings import NAMED, SESSIONS, parsed
from simulator.model.errors import ScenarioError
from simulator.model.io import Purpose, Request, Response
from simulator.model.scenario import Backoff, Fault, Profile


class Entry(NamedTuple):
    """One fault: `make` turns its settings into a rule. `times` is how often it strikes a device at most, where the scenario
    does not say. `breaks` are the checks that it may legitimately fail."""

    name: str
    text: str
    make: Callable[..., Rule]
    settings: dict[str, Any]
    breaks: tuple[str, ...] = ()
    times: int | None = None


# ---- on the MQTT road


def _duplicate(name: str, after: float, packet_id: str) -> OnMessage:
    twice = Fate(again_s=(after,), same_id=packet_id == "same")

    def rule(packet: Packet) -> Fate | None:
        return twice if _comes(packet, name) else None

    return OnMessage(rule)


def _unacknowledged(name: str) -> OnMessage:
    def rule(packet: Packet) -> Fate | None:
        return Fate(unacknowledged=True, cut=True) if _comes(packet, name) else None

    return OnMessage(rule)


def _held(name: str, hold: float) -> OnMessage:
    def rule(packet: Packet) -> Fate | None:
        return Fate(delay_s=hold) if _comes(packet, name) else None

    return OnMessage(rule)


def _comes(packet: Packet, name: str) -> bool:
    """Whether it comes to the device and means what a scenario calls `name`; 1 in a swarm's draw is none of them."""
    return packet.incoming and packet.meaning.what is NAMED.get(name)


def _reports_an_end(packet: Packet) -> bool:
    return not packet.incoming and packet.meaning.of_end and packet.meaning.what is Means.REPORT


def _report_lost() -> OnMessage:
    def rule(packet: Packet) -> Fate | None:
        if not _reports_an_end(packet):
            return None
        # one that nobody answers would not be missed on a connection that goes on
        return Fate(lost=True, cut=not packet.meaning.answered)

    return OnMessage(rule)


def _answer_lost() -> OnMessage:
    def rule(packet: Packet) -> Fate | None:
        answers = packet.incoming and packet.meaning.of_end and packet.meaning.what is Means.ACCEPTED
        return Fate(lost=True) if answers else None

    return OnMessage(rule)


def _gathered(every: float, copies: float) -> OnMessage:
    fate = Fate(gathered_s=every, again_s=(0.0,) * int(copies))
    return OnMessage(lambda packet: fate if _reports_an_end(packet) else None)


# ---- on the HTTP road: what is downloaded; the exchanges of a device that polls pass


def _of_downloads(trouble: Callable[[Request], Trouble]) -> OnExchange:
    return OnExchange(lambda request: trouble(request) if request.purpose is Purpose.DOWNLOAD else None)


def _waits(wait: float) -> OnExchange:
    return _of_downloads(lambda request: Trouble(wait_s=wait))


def _refuses(status: float, retry_after: float) -> OnExchange:
    headers = (("retry-after", str(round(retry_after))),) if retry_after else ()
    answer = Response(int(status), (*headers, ("content-length", "0")))
    return _of_downloads(lambda request: Trouble(answer=answer))


def _cut(at: float) -> OnExchange:
    return _of_downloads(lambda request: Trouble(ends_at=at))


def _truncated(at: float) -> OnExchange:
    return _of_downloads(lambda request: Trouble(ends_at=at, silently=True, headers=(("content-length", None),)))


def _corrupt(at: float) -> OnExchange:
    return _of_downloads(lambda request: Trouble(flips_at=at))


def _resumed(later: Trouble, at: float) -> OnExchange:
    """The first response is cut, and what asks for the rest meets this trouble."""

    def rule(request: Request) -> Trouble:
        return later if any(name == "range" for name, _ in request.headers) else Trouble(ends_at=at)

    return _of_downloads(rule)


def _range_ignored(at: float) -> OnExchange:
    return _resumed(Trouble(without=frozenset({"range", "if-range"})), at)


def _wrong_range(at: float) -> OnExchange:
    return _resumed(Trouble(headers=(("content-range", "bytes 0-0/1"),)), at)


def _changed(at: float) -> OnExchange:
    return _resumed(Trouble(without=frozenset({"if-range"}), headers=(("etag", '"changed"'),), flips_at=0.5), at)


# ---- of the device's nature


def _goes_wrong(**mishaps: dict[str, float]) -> Nature:
    def nature(profile: Profile) -> Profile:
        return profile.model_copy(update={"mishaps": {**profile.mishaps, **mishaps}})

    return Nature(profile=nature)


def _hasty(backoff: Backoff, gap: float) -> Backoff:
    """Each time this gap; where the back-off is shorter, that: who is hasty is never later than who is not."""
    return backoff.model_copy(update={"base": min(gap, backoff.base), "cap": min(gap, backoff.cap), "jitter": 0.0})


def _storm(gap: float) -> Nature:
    """Tries again at once, however often it failed."""

    def nature(profile: Profile) -> Profile:
        own = {name: getattr(profile, name) for name in ("reconnect", "resend", "download_retry")}
        return profile.model_copy(update={name: _hasty(backoff, gap) for name, backoff in own.items()})

    return Nature(profile=nature)


def _herd(gap: float, policy: str) -> Nature:
    """Comes back as all others do, at the same moment; or takes a TCP connection for a success."""
    if policy == "reset-on-connect":
        return Nature(habit="takes-tcp-for-success")

    def nature(profile: Profile) -> Profile:
        return profile.model_copy(update={"reconnect": _hasty(profile.reconnect, gap)})

    return Nature(profile=nature)


def _habit(name: str) -> Callable[[], Nature]:
    return lambda: Nature(habit=name)


_PATIENCE = ("L8-return", "L9-backoff")  # L8 where the scenario caps connections
_TRUE_SUCCESS = ("S11-true-success", "L2-convergence")
_LEARNS = ("L2-convergence", "L3-learns")

CATALOGUE: dict[str, Entry] = {
    entry.name: entry
    for entry in (
        Entry("F1-duplicate", "a message comes twice; the second copy has no DUP flag, and a new packet id or the same one",
                _duplicate, {"name": "delta", "after": "1s", "packet_id": "new"}),
        Entry("F1-puback-lost", "the PUBACK of a message is lost with the connection: the broker sends it again",
                _unacknowledged, {"name": "delta"}, times=1),
        Entry("F2-held", "a message is held back, and later ones pass it", _held, {"name": "delta", "hold": "1m"},
                ("L3-learns",)),
        Entry("F2-single-gate", "after an `accepted`, the device takes the delta of the same version for an old one",
                _habit("single-gate"), {}, _LEARNS),
        Entry("F3-offline", "the device cannot connect; `session` says which session it has asked for from the start",
                lambda session: OnRoad("down", session=SESSIONS.get(session)), {"session": "as-is"}),
        Entry("F3-never-asks", "when it is connected again, the device sends nothing and waits for a delta",
                _habit("never-asks"), {}, _LEARNS),
        Entry("F4-broker-killed", "the broker is killed, with its sessions and queues, and started again",
                lambda: OnServer("broker"), {}),
        Entry("F4-replica-killed", "the replica is killed, and started again with what was committed",
                lambda: OnServer("replica"), {}),
        Entry("F5-herd", "the device reconnects at once, without jitter, or restarts its back-off whenever TCP connects",
                _herd, {"gap": "1s", "policy": "no-jitter"}, _PATIENCE),
        Entry("F6-late-download", "the device waits before it downloads, longer than its URL is valid",
                _waits, {"wait": "2h"}, times=1),
        Entry("F6-keeps-url", "the device keeps downloading from the first URL that it was given, even if that is refused",
                _habit("keeps-url"), {}, ("S14-url",)),
        Entry("F7-clock-skew", "the device's clock is wrong", lambda by: Nature(skew_s=by), {"by": "15m"}),
        Entry("F8-storage-refuses", "the storage refuses", _refuses,
                {"status": 503, "retry_after": "0s"}, times=3),
        Entry("F8-backend-killed", "replica and storage are killed, and started again with what was committed",
                lambda: OnServer("backend"), {}),
        Entry("F8-storage-killed", "the storage is killed, and started again with its artifacts",
                lambda: OnServer("storage"), {}),
        Entry("F9-cut", "a download breaks off", _cut, {"at": 0.5}, times=3),
        Entry("F9-range-ignored", "a download breaks off; asked for the rest, the storage sends the whole file",
                _range_ignored, {"at": 0.5}, times=2),
        Entry("F9-wrong-range", "a download breaks off; the response with the rest names a wrong range",
                _wrong_range, {"at": 0.5}, ("S15-range",), times=2),
        Entry("F9-changed", "a download breaks off; the rest is of another file, under another ETag",
                _changed, {"at": 0.5}, ("S15-range",), times=2),
        Entry("F9-appends", "when the device has asked for the rest of a download, it appends whatever comes",
                _habit("appends"), {}, ("S15-range",)),
        Entry("F10-truncated", "a response without a length ends early, as if it were complete",
                _truncated, {"at": 0.5}, times=1),
        Entry("F11-corrupt", "a byte is flipped on the way", _corrupt, {"at": 0.5}, times=1),
        Entry("F13-disk-full", "there is no room for what is downloaded",
                lambda space: Nature(space_bytes=int(space)), {"space": "1KiB"}),
        Entry("F14-power-cut", "the power fails", lambda: Strike("power-cut"), {}, times=1),
        Entry("F14-marks-early", "the device notes a job as done when it starts it", _habit("marks-early"), {},
                ("L2-convergence",)),
        Entry("F15-boot-fails", "the new software does not boot", lambda: _goes_wrong(reboot={"error": 1.0}), {}),
        Entry("F16-early-success", "the device reports success before it runs the new software",
                lambda: _goes_wrong(install={"lie": 1.0}), {}, _TRUE_SUCCESS),
        Entry("F17-report-lost", "the final report of an update is lost", _report_lost, {}, times=1),
        Entry("F17-answer-lost", "the answer to the final report of an update is lost", _answer_lost, {}, times=1),
        Entry("F17-says-once", "the device sends its report only once, even if nobody answers", _habit("says-once"), {},
                ("L2-convergence",)),
        Entry("F17-parks", "the device waits for the answer to its report, and does nothing else",
                _habit("parks"), {}, ("L1-terminal", *_LEARNS)),
        Entry("F17-fails-late", "the device runs the new software, but reports failure if its success was not answered",
                _habit("fails-late"), {}),
        Entry("F18-label-mismatch", "the image names another version than the rollout does",
                lambda label: Nature(label=label), {"label": "-rc"}),
        Entry("F18-redoes", "the device carries out a job again whenever it hears of it", _habit("redoes"), {},
                ("S7-idempotence", "S13-at-most-once", "S21-no-replay")),
        Entry("F19-vanish", "the device is switched off for good", lambda: Strike("vanish"), {}, times=1),
        Entry("F20-cancel", "an operator aborts the rollout", lambda: OnServer("rollout"), {}),
        Entry("F21-retry-storm", "the device tries again at once, however often it failed", _storm, {"gap": "100ms"},
                _PATIENCE),
        Entry("F22-poisoned-build", "the new software does not boot, sometimes",
                lambda odds: _goes_wrong(reboot={"error": odds}), {"odds": 0.5}),
        Entry("F23-at-once", "final reports wait for a common moment, and are then all sent, more than once",
                _gathered, {"every": "10s", "copies": 2}),
        Entry("F24-blackhole", "the connection seems to be up, but nothing passes until the keep-alive notices",
                lambda idle: OnRoad("dark", idle_s=idle), {"idle": "0s"}, ("L3-learns",)),
        Entry("F25-duplicate-client-id", "another client takes the device's id", lambda: OtherClient("rival"), {}),
        Entry("F25-half-open", "the device comes back while the broker still holds its old connection",
                lambda: OtherClient("half-open"), {}),
        Entry("F26-stale-command", "the last command comes again at each connection, like a retained message",
                ReplayCommand, {}),
    )
}  # fmt: skip


def entry_of(fault: Fault, nth: int) -> Entry:
    """The entry that a scenario's nth fault names. Raises ScenarioError."""
    entry = CATALOGUE.get(fault.fault)
    if entry is None:
        near = difflib.get_close_matches(fault.fault, CATALOGUE, 1)
        hint = f"did you mean {near[0]!r}?" if near else f"there are {', '.join(CATALOGUE)}"
        raise ScenarioError(f"faults.{nth}.fault: no such fault: {fault.fault!r}; {hint}")
    return entry


def rule_of(fault: Fault, nth: int) -> Rule:
    """What a scenario's nth fault does. Raises ScenarioError for settings that it does not have, and for a time that does
    not go with it."""
    entry = entry_of(fault, nth)
    if unknown := [name for name in fault.options if name not in entry.settings]:
        known = f"its settings are {', '.join(entry.settings)}" if entry.settings else "it has none"
        raise ScenarioError(f"faults.{nth}.with.{unknown[0]}: {entry.name} has no such setting; {known}")
    rule = entry.make(**{name: parsed(name, value, nth) for name, value in (entry.settings | fault.options).items()})
    if isinstance(rule, Strike | OtherClient | OnServer) and fault.from_the_start:
        when = "at or converged" if isinstance(rule, OnServer) else "at, converged or step"
        raise ScenarioError(f"faults.{nth}: {entry.name} needs {when}: when it happens")
    if isinstance(rule, Nature) and (not fault.from_the_start or fault.lasts is not None):
        raise ScenarioError(f"faults.{nth}: {entry.name} is of a device's nature: without at, converged, step or for")
    of_devices = fault.step is not None or fault.count is not None or fault.share != 1.0 or fault.times
    if isinstance(rule, OnServer) and of_devices:
        raise ScenarioError(f"faults.{nth}: {entry.name} befalls no device: without step, share, count or times")
    return rule
