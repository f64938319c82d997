"""The faults there are: each a number and name, its settings, the checks it may break, and what it does."""

from __future__ import annotations

import difflib
from collections.abc import Callable
from typing import Any, NamedTuple

from simulator.dialects.meanings import Means
from simulator.faults.rules import ExchangeRule, Fate, MessageRule, Packet, Trouble
from simulator.model.errors import ScenarioError
from simulator.model.io import Purpose, Request, Response
from simulator.model.quantity import duration, share, size
from simulator.model.scenario import Backoff, Fault, Profile


class SessionTerms(NamedTuple):
    """What a device asks of its session: to begin clean, and how long the broker shall keep it."""

    clean_start: bool
    session_expiry: float


class Rules(NamedTuple):
    """What a fault does while it lasts; a field that is not set does nothing.

    `road` is "down" (no connection can be had) or "dark" (it seems to be there, but nothing passes); with `idle_s` it
    darkens for a connection over which nothing has passed for that long. `act` is what befalls a device when the fault
    begins for it: "power-cut", "vanish", "rival" (another client takes its id) or "half-open" (it comes back while the
    broker still holds its old connection). `replays`: the last delta comes again, retained, at each connection.
    `session`: how it connects, from the start. The others are of the device's nature, from the start: a profile, a
    clock that is off by `skew_s`, `space_bytes` for what it downloads, an image whose own version carries `label`, a bad
    `habit` (of device/habits.py). Not on devices at all: a `server` that is killed, and started again when the fault
    ends (one of KILLED), or "rollout", which an operator aborts.
    """

    message: MessageRule | None = None
    exchange: ExchangeRule | None = None
    road: str = ""
    idle_s: float = 0.0
    act: str = ""
    replays: bool = False
    session: SessionTerms | None = None
    nature: Callable[[Profile], Profile] | None = None
    skew_s: float = 0.0
    space_bytes: int | None = None
    label: str = ""
    habit: str = ""
    server: str = ""

    @property
    def inborn(self) -> bool:
        """Whether it is of the device's nature: there from the start, or not at all."""
        return bool(self.nature or self.skew_s or self.label or self.habit) or self.space_bytes is not None


class Package(NamedTuple):
    """One fault: `make` turns its settings into rules. `breaks` are the checks that it may legitimately fail."""

    name: str
    text: str
    make: Callable[..., Rules]
    settings: dict[str, Any]
    breaks: tuple[str, ...] = ()
    times: int | None = None


# ---- on the MQTT road

_NAMED = {"delta": Means.DESIRED, "accepted": Means.ACCEPTED, "get_accepted": Means.CURRENT}


def _duplicate(name: str, after: float, packet_id: str) -> Rules:
    twice = Fate(again_s=(after,), same_id=packet_id == "same")

    def rule(packet: Packet) -> Fate | None:
        return twice if _comes(packet, name) else None

    return Rules(message=rule)


def _unacknowledged(name: str) -> Rules:
    def rule(packet: Packet) -> Fate | None:
        return Fate(unacknowledged=True, cut=True) if _comes(packet, name) else None

    return Rules(message=rule)


def _held(name: str, hold: float) -> Rules:
    def rule(packet: Packet) -> Fate | None:
        return Fate(delay_s=hold) if _comes(packet, name) else None

    return Rules(message=rule)


def _comes(packet: Packet, name: str) -> bool:
    """Whether it comes to the device and means what a scenario calls `name`; 1 in a swarm's draw is none of them."""
    return packet.incoming and packet.meaning.what is _NAMED.get(name)


def _reports_an_end(packet: Packet) -> bool:
    return not packet.incoming and packet.meaning.of_end and packet.meaning.what is Means.REPORT


def _report_lost() -> Rules:
    def rule(packet: Packet) -> Fate | None:
        if not _reports_an_end(packet):
            return None
        # one that nobody answers would not be missed on a connection that goes on
        return Fate(lost=True, cut=not packet.meaning.answered)

    return Rules(message=rule)


def _answer_lost() -> Rules:
    def rule(packet: Packet) -> Fate | None:
        answers = packet.incoming and packet.meaning.of_end and packet.meaning.what is Means.ACCEPTED
        return Fate(lost=True) if answers else None

    return Rules(message=rule)


def _gathered(every: float, copies: float) -> Rules:
    fate = Fate(gathered_s=every, again_s=(0.0,) * int(copies))
    return Rules(message=lambda packet: fate if _reports_an_end(packet) else None)


# ---- on the HTTP road: what is downloaded; the exchanges of a device that polls pass


def _of_downloads(trouble: Callable[[Request], Trouble]) -> Rules:
    return Rules(exchange=lambda request: trouble(request) if request.purpose is Purpose.DOWNLOAD else None)


def _waits(wait: float) -> Rules:
    return _of_downloads(lambda request: Trouble(wait_s=wait))


def _refuses(status: float, retry_after: float) -> Rules:
    headers = (("retry-after", str(round(retry_after))),) if retry_after else ()
    answer = Response(int(status), (*headers, ("content-length", "0")))
    return _of_downloads(lambda request: Trouble(answer=answer))


def _cut(at: float) -> Rules:
    return _of_downloads(lambda request: Trouble(ends_at=at))


def _truncated(at: float) -> Rules:
    return _of_downloads(lambda request: Trouble(ends_at=at, silently=True, headers=(("content-length", None),)))


def _corrupt(at: float) -> Rules:
    return _of_downloads(lambda request: Trouble(flips_at=at))


def _resumed(later: Trouble, at: float) -> Rules:
    """The first response is cut, and what asks for the rest meets this trouble."""

    def rule(request: Request) -> Trouble:
        return later if any(name == "range" for name, _ in request.headers) else Trouble(ends_at=at)

    return _of_downloads(rule)


def _range_ignored(at: float) -> Rules:
    return _resumed(Trouble(without=frozenset({"range", "if-range"})), at)


def _wrong_range(at: float) -> Rules:
    return _resumed(Trouble(headers=(("content-range", "bytes 0-0/1"),)), at)


def _changed(at: float) -> Rules:
    return _resumed(Trouble(without=frozenset({"if-range"}), headers=(("etag", '"changed"'),), flips_at=0.5), at)


# ---- of the device's nature


def _goes_wrong(**mishaps: dict[str, float]) -> Rules:
    def nature(profile: Profile) -> Profile:
        return profile.model_copy(update={"mishaps": {**profile.mishaps, **mishaps}})

    return Rules(nature=nature)


def _hasty(backoff: Backoff, gap: float) -> Backoff:
    """Each time this gap; where the back-off is shorter, that: who is hasty is never later than who is not."""
    return backoff.model_copy(update={"base": min(gap, backoff.base), "cap": min(gap, backoff.cap), "jitter": 0.0})


def _storm(gap: float) -> Rules:
    """Tries again at once, however often it failed."""

    def nature(profile: Profile) -> Profile:
        own = {name: getattr(profile, name) for name in ("reconnect", "resend", "download_retry")}
        return profile.model_copy(update={name: _hasty(backoff, gap) for name, backoff in own.items()})

    return Rules(nature=nature)


def _herd(gap: float, policy: str) -> Rules:
    """Comes back as all others do, at the same moment; or takes a TCP connection for a success."""
    if policy == "reset-on-connect":
        return Rules(habit="takes-tcp-for-success")

    def nature(profile: Profile) -> Profile:
        return profile.model_copy(update={"reconnect": _hasty(profile.reconnect, gap)})

    return Rules(nature=nature)


def _habit(name: str) -> Callable[[], Rules]:
    return lambda: Rules(habit=name)


_SESSIONS = {
    "clean": SessionTerms(True, 0.0),
    "persistent": SessionTerms(False, 3600.0),
    "expired": SessionTerms(False, 1.0),  # resumed, as the device thinks: no outage worth the name is shorter
}
_CHOICES = {
    "name": tuple(_NAMED),
    "packet_id": ("new", "same"),
    "session": ("as-is", *_SESSIONS),
    "policy": ("no-jitter", "reset-on-connect"),
}
_PATIENCE = ("L8-return", "L9-backoff")  # L8 where the scenario caps connections
_TRUE_SUCCESS = ("S11-true-success", "L2-convergence")
_LEARNS = ("L2-convergence", "L3-learns")

PACKAGES: dict[str, Package] = {
    package.name: package
    for package in (
        Package("F1-duplicate", "a message comes twice, the second time without DUP, under a new packet id or the same",
                _duplicate, {"name": "delta", "after": "1s", "packet_id": "new"}),
        Package("F1-puback-lost", "the PUBACK of a message is lost with the connection: the broker sends it again",
                _unacknowledged, {"name": "delta"}, times=1),
        Package("F2-held", "a message is held back, and others pass it", _held, {"name": "delta", "hold": "1m"}, ("L3-learns",)),
        Package("F2-single-gate", "the device takes a delta for an old one that comes after an `accepted` of its version",
                _habit("single-gate"), {}, _LEARNS),
        Package("F3-offline", "no connection can be had; the session is then as the device had asked for from the start",
                lambda session: Rules(road="down", session=_SESSIONS.get(session)), {"session": "as-is"}),
        Package("F3-never-asks", "the device says and asks nothing when it is connected again, and waits for a delta",
                _habit("never-asks"), {}, _LEARNS),
        Package("F4-broker-killed", "the broker is killed, with its sessions and queues, and started again",
                lambda: Rules(server="broker"), {}),
        Package("F4-replica-killed", "the replica is killed, and started again with what was committed",
                lambda: Rules(server="replica"), {}),
        Package("F5-herd", "the device comes back at once and without jitter, or whenever TCP connects begins its back-off anew",
                _herd, {"gap": "1s", "policy": "no-jitter"}, _PATIENCE),
        Package("F6-late-download", "the device waits before it downloads, longer than its URL lives",
                _waits, {"wait": "2h"}, times=1),
        Package("F6-keeps-url", "the device downloads from the URL that it was given first, however often that is refused",
                _habit("keeps-url"), {}, ("S14-url",)),
        Package("F7-clock-skew", "the device's clock is wrong", lambda by: Rules(skew_s=by), {"by": "15m"}),
        Package("F8-storage-refuses", "the storage refuses", _refuses,
                {"status": 503, "retry_after": "0s"}, times=3),
        Package("F8-backend-killed", "replica and storage are killed, and started again with what was committed",
                lambda: Rules(server="backend"), {}),
        Package("F8-storage-killed", "the storage is killed, and started again with its artifacts",
                lambda: Rules(server="storage"), {}),
        Package("F9-cut", "a download breaks off", _cut, {"at": 0.5}, times=3),
        Package("F9-range-ignored", "a download breaks off; asked for the rest, the storage sends it all",
                _range_ignored, {"at": 0.5}, times=2),
        Package("F9-wrong-range", "a download breaks off; the rest is said to be of another place",
                _wrong_range, {"at": 0.5}, ("S15-range",), times=2),
        Package("F9-changed", "a download breaks off; the rest is of other bytes, under another ETag",
                _changed, {"at": 0.5}, ("S15-range",), times=2),
        Package("F9-appends", "the device takes whatever comes for the rest of a download that it asked for",
                _habit("appends"), {}, ("S15-range",)),
        Package("F10-truncated", "a response without a length ends early, as though it were whole",
                _truncated, {"at": 0.5}, times=1),
        Package("F11-corrupt", "a byte is flipped on the way", _corrupt, {"at": 0.5}, times=1),
        Package("F13-disk-full", "there is no room for what is downloaded",
                lambda space: Rules(space_bytes=int(space)), {"space": "1KiB"}),
        Package("F14-power-cut", "the power fails", lambda: Rules(act="power-cut"), {}, times=1),
        Package("F14-marks-early", "the device notes a job as done when it begins with it", _habit("marks-early"), {},
                ("L2-convergence",)),
        Package("F15-boot-fails", "the new software does not boot", lambda: _goes_wrong(reboot={"error": 1.0}), {}),
        Package("F16-early-success", "the device reports success before it runs the new software",
                lambda: _goes_wrong(install={"lie": 1.0}), {}, _TRUE_SUCCESS),
        Package("F17-report-lost", "the report of an end is lost", _report_lost, {}, times=1),
        Package("F17-answer-lost", "the answer to the report of an end is lost", _answer_lost, {}, times=1),
        Package("F17-says-once", "the device says its report once, whether it is heard or not", _habit("says-once"), {},
                ("L2-convergence",)),
        Package("F17-parks", "the device waits for the answer to its report, and for nothing else",
                _habit("parks"), {}, ("L1-terminal", *_LEARNS)),
        Package("F17-fails-late", "the device calls a job failed whose success was not answered, and runs the new software",
                _habit("fails-late"), {}),
        Package("F18-label-mismatch", "the image calls itself by another version",
                lambda label: Rules(label=label), {"label": "-rc"}),
        Package("F18-redoes", "the device carries a job out again whenever it hears of it", _habit("redoes"), {},
                ("S7-idempotence", "S13-at-most-once", "S21-no-replay")),
        Package("F19-vanish", "the device is switched off for good", lambda: Rules(act="vanish"), {}, times=1),
        Package("F20-cancel", "an operator aborts the rollout", lambda: Rules(server="rollout"), {}),
        Package("F21-retry-storm", "the device tries again at once, however often it failed", _storm, {"gap": "100ms"},
                _PATIENCE),
        Package("F22-poisoned-build", "the new software does not boot, sometimes",
                lambda odds: _goes_wrong(reboot={"error": odds}), {"odds": 0.5}),
        Package("F23-at-once", "reports of an end wait for a common moment, and are all said then, more than once",
                _gathered, {"every": "10s", "copies": 2}),
        Package("F24-blackhole", "the connection seems to be there, but nothing passes, until the keep-alive tells",
                lambda idle: Rules(road="dark", idle_s=idle), {"idle": "0s"}, ("L3-learns",)),
        Package("F25-duplicate-client-id", "another client takes the device's id", lambda: Rules(act="rival"), {}),
        Package("F25-half-open", "the device comes back while the broker still holds its old connection",
                lambda: Rules(act="half-open"), {}),
        Package("F26-stale-command", "the last command comes again at each connection, as a retained one would",
                lambda: Rules(replays=True), {}),
    )
}  # fmt: skip


def _status(value: Any) -> float:
    if not isinstance(value, int | float) or not 400 <= value <= 599 or value % 1:
        said = f"{value:g}" if isinstance(value, int | float) else repr(value)
        raise ValueError(f"{said} is not the status of a refusal; write 403, 429 or 503")
    return value


def _copies(value: Any) -> float:
    if not isinstance(value, int | float) or not 0 <= value <= 10 or value % 1:
        raise ValueError(f"{value!r} is not a number of copies; write a whole number from 0 to 10")
    return value


def _period(value: Any) -> float:
    if duration(value) == 0:
        raise ValueError("it must be more than 0")
    return duration(value)


def _label(value: Any) -> str:
    if not value or not isinstance(value, str):
        raise ValueError(f"{value!r} is no addition to a version; write a text such as -rc")
    return value


_PARSED: dict[str, Callable[[Any], Any]] = {
    **dict.fromkeys(("after", "hold", "wait", "retry_after", "gap", "idle"), duration),
    "every": _period,
    "label": _label,
    "copies": _copies,
    **dict.fromkeys(("at", "odds"), share),
    "by": lambda value: -duration(value[1:]) if isinstance(value, str) and value.startswith("-") else duration(value),
    "space": size,
    "status": _status,
}


def package_of(fault: Fault, nth: int) -> Package:
    """The package that a scenario's nth fault names. Raises ScenarioError."""
    found = PACKAGES.get(fault.fault)
    if found is None:
        near = difflib.get_close_matches(fault.fault, PACKAGES, 1)
        hint = f"did you mean {near[0]!r}?" if near else f"there are {', '.join(PACKAGES)}"
        raise ScenarioError(f"faults.{nth}.fault: no such fault: {fault.fault!r}; {hint}")
    return found


def rules_of(fault: Fault, nth: int) -> Rules:
    """What a scenario's nth fault does. Raises ScenarioError for settings that it does not have."""
    package = package_of(fault, nth)
    if unknown := [name for name in fault.options if name not in package.settings]:
        known = f"its settings are {', '.join(package.settings)}" if package.settings else "it has none"
        raise ScenarioError(f"faults.{nth}.with.{unknown[0]}: {package.name} has no such setting; {known}")
    settings = {name: _parsed(name, value, nth) for name, value in (package.settings | fault.options).items()}
    rules = package.make(**settings)
    if (rules.act or rules.server) and fault.from_the_start:
        when = "at or converged" if rules.server else "at, converged or step"
        raise ScenarioError(f"faults.{nth}: {package.name} needs {when}: when it happens")
    if rules.inborn and (not fault.from_the_start or fault.lasts is not None):
        raise ScenarioError(f"faults.{nth}: {package.name} is of a device's nature: without at, converged, step or for")
    if rules.server and (fault.step is not None or fault.count is not None or fault.share != 1.0 or fault.times):
        raise ScenarioError(f"faults.{nth}: {package.name} befalls no device: without step, share, count or times")
    return rules


def _parsed(name: str, value: Any, nth: int) -> Any:
    if name in _CHOICES and value not in _CHOICES[name]:
        raise ScenarioError(f"faults.{nth}.with.{name}: {value!r} is none of {', '.join(_CHOICES[name])}")
    parse = _PARSED.get(name, str)
    try:
        return parse(value)
    except ValueError as error:
        raise ScenarioError(f"faults.{nth}.with.{name}: {error}") from None
