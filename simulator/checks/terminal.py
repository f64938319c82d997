"""A check that devices bring their updates to an end: none stays in a phase for longer than its profile explains."""

from __future__ import annotations

from typing import NamedTuple

import numpy as np

from simulator.checks.arrays import carried, follows, grouped, shifted, streak, taken
from simulator.checks.base import Draft, link_events, torn
from simulator.checks.device import asked_us, places
from simulator.checks.profiles import Numbers, Profiles, least, longest
from simulator.checks.strikes import strikes
from simulator.model.events import Kind
from simulator.model.quantity import many
from simulator.model.scenario import Profile, Scenario, Stage
from simulator.model.update import Phase
from simulator.model.verdict import Finding
from simulator.trace.reader import Codes, Trace, View
from simulator.trace.targets import Mask

LEEWAY_S = 30.0  # beside what the profile says: to turn from one thing to the next, on a busy machine too
_IDLE, _LEARNED = -10, -11  # beside the codes of the phases: there is no update; there is one, not begun yet
_KEPT = (Phase.REBOOTING, Phase.REPORTING)  # what a power cut does not make a device forget


def terminal(trace: Trace, scenario: Scenario) -> Finding:
    """L1: each update that a device learns of comes to its end on the device: a report that is answered or given up.

    A device offends that stays in a phase for longer than its profile explains, and, of a download, that asks more
    often in a row without getting anything new than `download_retry.attempts`. Only the time counts in which it was
    connected: one that is off, away, rebooting or vanished is not judged, nor one that still has time when it retires.
    A server that is down excuses nobody: a device gives up a download, and a report. A mishap that makes it hang does,
    and a fault that makes it wait; a storage that asks to be left alone gives it that time. And what the application has
    ended, or aborted, a device must end all the same.
    """
    draft = Draft(
        "L1-terminal",
        "a device that is up and connected finishes its update: it stays in no phase longer than its profile explains",
        trace,
        safety=False,
    )
    if not len(trace.kind(Kind.BOOT)):
        return draft.unknown("the trace holds nothing of the devices")
    stays = trace.once(Stays, scenario)
    strange = np.unique(stays.thing[np.isnan(stays.most_us)])
    if len(strange):
        draft.doubt(f"the scenario names no profile of {many(len(strange), 'device')}")
    draft.offend(stays.too_long())
    draft.offend(stays.insistent())
    hidden = torn(trace)[stays.thing[stays.open]]
    if hidden.any():
        draft.doubt(f"the records of {many(int(hidden.sum()), 'device')} break off in an update")
    return draft.decide(
        f"{many(stays.learned, 'update')}, none stuck",
        "update",
        "stayed in one phase for too long",
        seen=stays.learned,
        unseen="no device learned of an update",
    )


class _Story(NamedTuple):
    """What tells where devices' updates stand: the events of a thing side by side, with, for each, whether it is a piece of
    a `download`, the place of the last event of its connection (`link`), the phase after it (`state`), and the place of the
    event since which that lasts (`since`)."""

    events: View
    download: Mask
    link: Codes
    state: Codes
    since: Codes


class Stays:
    """Where each device's update stood, and for how long: one value for each event that moves it on.

    `rows`, `thing`: of the event. `connected_us`: how long the device was connected until the next one, or until the
    end of its record. `most_us`: how long its profile explains; infinite without an update. `open`: the last of a
    device, in an update. `learned`: how many updates were begun.
    """

    def __init__(self, trace: Trace, scenario: Scenario) -> None:
        self._trace, self._profiles = trace, trace.once(Profiles, scenario)
        events = _story(trace)
        kind, thing, t_us = events["kind"], events["thing"], events["t_us"]
        joined = follows(events, "thing")
        download = kind == trace.code("kind", Kind.DOWNLOAD)
        link = carried(joined, trace.among("kind", kind, (Kind.CONNECT, Kind.LOST, Kind.BOOT)))
        self._story = story = _Story(events, download, link, *self._states(events, joined))
        self._marks = marks = np.flatnonzero(download | trace.among("kind", kind, (Kind.PHASE, Kind.DELTA, Kind.BOOT)))
        self.rows, self.thing, state = events.rows[marks], thing[marks], story.state[marks]
        follow = np.append(joined[1:], False)[: len(joined)]
        up = follow & (taken(kind, link) == trace.code("kind", Kind.CONNECT))
        spent = np.append(0, np.cumsum(np.where(up, np.append(np.diff(t_us), 0), 0)))
        last = _last_of(joined)[marks]
        newest = np.append(self.thing[1:] != self.thing[:-1], True)[: len(marks)]
        self._until = np.where(newest, last, np.append(marks[1:], 0)[: len(marks)])
        self.connected_us = spent[self._until] - spent[marks]
        self.most_us = self._most_us(state, scenario) + self._asked_us(marks)
        self.open = newest & (state != _IDLE)
        self.learned = int((kind == trace.code("kind", Kind.DELTA)).sum())

    def _states(self, story: View, joined: Mask) -> tuple[Codes, Codes]:
        """For each event of the story the phase after it, and the place of the event since which it lasts."""
        trace = self._trace
        kind, status = story["kind"], story["status"]
        turns = np.flatnonzero(trace.among("kind", kind, (Kind.PHASE, Kind.DELTA)))
        learns = kind[turns] == trace.code("kind", Kind.DELTA)
        idle = ~learns & (status[turns] == trace.code("status", Phase.IDLE))
        thing = story["thing"][turns]
        taken_up = shifted(learns, False) & (thing == shifted(thing, -1))  # it drops the one that it had for this one
        entered = np.where(learns | (idle & taken_up), _LEARNED, np.where(idle, _IDLE, status[turns]))
        states, given = np.full(len(story), _IDLE), np.zeros(len(story), bool)
        states[turns], given[turns] = entered, True
        since = carried(joined, given)
        state = taken(states, since, _IDLE)
        booted = carried(joined, kind == trace.code("kind", Kind.BOOT))
        forgot = (booted > since) & ~trace.among("status", state, _KEPT)
        return np.where(forgot, _IDLE, state), since

    def _most_us(self, state: Codes, scenario: Scenario) -> Numbers:
        """The longest that each stay may last."""
        size = int(self._trace.kind(Kind.DELTA)["size"].max(initial=scenario.rollout.size))
        most_us = np.full(len(state), np.inf)
        most_us[state == _LEARNED] = LEEWAY_S * 1e6
        for phase in Phase:
            so = state == self._trace.code("status", phase)
            most_us[so] = self._profiles.numbers(
                self.thing[so],
                lambda profile, phase=phase: _longest_s(phase, profile, size) * 1e6,  # type: ignore[misc]
            )
        return most_us

    def _asked_us(self, marks: Codes) -> Codes:
        """How much longer it may be, for the storage has asked for it."""
        longer_us, pieces = np.zeros(len(marks), np.int64), self._story.download[marks]
        longer_us[pieces] = asked_us(self._trace, View(self._trace, self.rows[pieces]))
        return longer_us

    # ---- what is wrong

    def too_long(self) -> Codes:
        """The rows since which a phase lasts longer than the profile explains, and nothing else does either."""
        late = np.flatnonzero(self.connected_us > self.most_us)
        ends = View(self._trace, self._story.events.rows[self._until[late]])
        hindrances = _hindrances(self._trace)
        waits = taken(hindrances.rows, ends.latest(hindrances, "thing"))
        return np.asarray(self.rows[late[waits < self.rows[late]]])

    def insistent(self) -> Codes:
        """The rows of requests that go beyond the failures in a row that a download may have."""
        trace, (story, download, link, state, since) = self._trace, self._story
        away = taken(story["status"], link) == trace.code("status", "offline")
        downloading = state == trace.code("status", Phase.DOWNLOADING)
        at = np.flatnonzero(download & downloading & ~away)
        pieces = View(trace, story.rows[at])
        stay, brought = since[at], trace.among("status", pieces["status"], ("200", "206"))
        end = np.where(brought, places(trace, pieces)[0] + pieces["size"], 0)
        span = np.int64(end.max(initial=0) + 1)
        reached = np.maximum.accumulate(stay * span + end)
        same = stay == shifted(stay, -1)
        vain = same & (reached == shifted(reached, -1))
        most = self._profiles.numbers(pieces["thing"], lambda profile: profile.download_retry.attempts or np.inf)
        return np.asarray(pieces.rows[streak(vain) + 1 > most])

    def busy(self) -> Codes:
        """By the code of a thing: the job with which it was busy when it retired, if that still had time left; else -2."""
        retired = self._trace.kind(Kind.RETIRED)
        midst, jobs = np.zeros(len(self._trace.words("thing")), bool), np.full(len(self._trace.words("thing")), -2)
        midst[retired["thing"]] = retired["status"] != self._trace.code("status", Phase.IDLE)
        left = self.open & (self.connected_us <= self.most_us) & midst[self.thing]
        jobs[self.thing[left]] = self._story.events["job"][self._story.since[self._marks[left]]]
        return jobs


def _story(trace: Trace) -> View:
    """What tells where a device's update stands, and whether it is connected; the events of a thing side by side."""
    begun = trace.kind(Kind.DELTA).where("status", "start", "supersede", "installed")
    others = trace.kind(Kind.PHASE, Kind.DOWNLOAD, Kind.BOOT, Kind.RETIRED)
    rows = np.concatenate([begun.rows, link_events(trace).rows, others.rows])
    return grouped(View(trace, np.sort(rows)), "thing")


def _last_of(joined: Mask) -> Codes:
    """For each place the last one of its group."""
    begins = np.flatnonzero(~joined)
    return np.repeat(np.append(begins[1:], len(joined)) - 1, np.diff(np.append(begins, len(joined))))


def _hindrances(trace: Trace) -> View:
    """The events that keep a device where it is: mishaps that make it hang, and faults that make it wait."""
    hangs = trace.kind(Kind.MISHAP).where("status", "hang")
    waits = strikes(trace, lambda what: "wait_s" in what)
    return View(trace, np.sort(np.concatenate([hangs.rows, waits.rows])))


# ---- what a profile explains


def _longest_s(phase: Phase, profile: Profile, size: int) -> float:
    """How long a connected device may be in a phase; of a download, until its next request is over."""
    if phase is Phase.IDLE:
        return np.inf
    own_s = 0.0
    if phase is Phase.DOWNLOADING:
        own_s = _request_s(profile, size)
    elif phase is Phase.VERIFYING:
        own_s = longest(profile.verify) * _slowed(profile, "verify")
    elif phase is Phase.INSTALLING:
        own_s = longest(profile.install) * _slowed(profile, "install")
    elif phase is Phase.REPORTING:
        own_s = _report_s(profile)
    return own_s + 4 * longest(profile.latency) + LEEWAY_S


def _slowed(profile: Profile, stage: Stage) -> float:
    return profile.slow_factor if "slow" in profile.mishaps.get(stage, ()) else 1.0


def _request_s(profile: Profile, size: int) -> float:
    """A request at the least bandwidth and until its timeout, the pause before it, and a new grant asked for."""
    slowest = least(profile.bandwidth)
    transfer_s = np.inf if slowest == 0 else size * _slowed(profile, "download") / slowest
    if profile.bandwidth.fixed == 0:  # there is no limit
        transfer_s = 0.0
    return transfer_s + profile.download_timeout + profile.download_retry.cap + profile.answer_timeout


def _report_s(profile: Profile) -> float:
    """All the pauses of a report that nobody answers, each after a connection of its own."""
    resend = profile.resend
    if resend.attempts is None:
        return np.inf
    pauses_s = sum(resend.delay(nth, 0.0) for nth in range(resend.attempts))
    return pauses_s + resend.attempts * 4 * longest(profile.latency) + profile.slow_factor
