"""The update agent by table: what it makes of every order, every move, and what a boot and a power cut leave."""

import itertools

import pytest
from msgspec.structs import replace

from simulator.device.agent import Flash, Partial, Reaction, Software, UpdateAgent
from simulator.dialects.base import UpdateRequested
from simulator.model.update import MOVES, Artifact, Download, Execution, Phase, Progress, Status

OLD, NEW = Software("1", "u1", "d1"), Software("2", "u2", "d2")


def agent(phase=Phase.IDLE, **flash):
    made = UpdateAgent(Flash(OLD, **flash))
    made.phase = phase
    return made


def order(job="j2", doc=5, version="2", url="u2", sha256="d2"):
    return UpdateRequested(Execution(job, "d", Artifact(version, url, 9, sha256)), Download(url), doc, "delta")


REACTIONS = [
    # phase, what the flash knows, the order, the reaction
    (Phase.IDLE, {}, order(), Reaction.START),
    (Phase.IDLE, {}, order(doc=None), Reaction.START),
    (Phase.IDLE, {"job": "j2"}, order(), Reaction.START),  # a power cut had interrupted it
    (Phase.DOWNLOADING, {"job": "j2"}, order(), Reaction.RUNNING),
    (Phase.REPORTING, {"job": "j2", "doc": 9}, order(), Reaction.RUNNING),
    (Phase.DOWNLOADING, {"job": "j1"}, order(), Reaction.SUPERSEDE),
    (Phase.REPORTING, {"job": "j1"}, order(doc=None), Reaction.SUPERSEDE),
    (Phase.IDLE, {"job": "j2", "ended": ("j2",)}, order(), Reaction.DUPLICATE),
    (Phase.DOWNLOADING, {"job": "j3", "ended": ("j1", "j2")}, order(doc=99), Reaction.DUPLICATE),
    (Phase.IDLE, {"doc": 6}, order(), Reaction.STALE),
    (Phase.INSTALLING, {"job": "j1", "doc": 6}, order(), Reaction.STALE),
    (Phase.IDLE, {"doc": 5}, order(), Reaction.START),
    (Phase.IDLE, {"doc": 6}, order(sha256="d1"), Reaction.STALE),
    (Phase.IDLE, {}, order(sha256="d1"), Reaction.INSTALLED),
    (Phase.DOWNLOADING, {"job": "j1"}, order(sha256="d1"), Reaction.INSTALLED),
    (Phase.IDLE, {}, order(version="1", url="u1", sha256="d2"), Reaction.START),
    (Phase.IDLE, {}, order(version="1", url="u1?signed", sha256=None), Reaction.INSTALLED),
    (Phase.IDLE, {}, order(version="2", url="u1?signed", sha256=None), Reaction.START),
    (Phase.IDLE, {}, order(version="1", url="u2", sha256=None), Reaction.START),
]


@pytest.mark.parametrize(("phase", "flash", "request_", "reaction"), REACTIONS)
def test_what_it_makes_of_an_order(phase, flash, request_, reaction):
    assert agent(phase, **flash).consider(request_) is reaction


@pytest.mark.parametrize(("known", "doc", "then"), [(-1, 5, 5), (4, 5, 5), (6, 5, 6), (6, None, 6)])
@pytest.mark.parametrize("ended", [(), ("j2",)])
def test_the_highest_document_is_remembered_whatever_came_with_it(known, doc, then, ended):
    made = agent(doc=known, ended=ended)
    made.consider(order(doc=doc))
    assert made.flash.doc == then


def test_an_order_without_a_version_means_the_one_that_runs():
    assert agent().completed(order(version="")) == order(version="1")
    assert agent().completed(order()) == order()


@pytest.mark.parametrize(("before", "after"), [*itertools.product(Phase, Phase)])
def test_every_move_is_in_the_table_or_refused(before, after):
    made = agent(before)
    if after in MOVES[before]:
        assert (made.move(after), made.phase) == (before, after)
    else:
        with pytest.raises(ValueError, match=f"illegal move: {before} -> {after}"):
            made.move(after)
        assert made.phase is before


def test_the_last_eight_ended_jobs_are_remembered_once_each():
    made = agent()
    for job in ["", "a", "a", *"bcdefghi"]:
        made.end(job)
    assert made.flash.ended == tuple("bcdefghi")


@pytest.mark.parametrize(
    ("candidate", "boots", "runs"), [(NEW, True, NEW), (NEW, False, OLD), (None, True, OLD), (None, False, OLD)]
)
def test_a_boot_tries_the_candidate_once(candidate, boots, runs):
    made = agent(candidate=candidate)
    assert made.try_candidate(boots) is (runs is NEW)
    assert (made.flash.active, made.flash.candidate) == (runs, None)


PENDING = Progress("1", "u1", "j", Status.FAILURE)


@pytest.mark.parametrize(
    ("flash", "phase"),
    [({}, Phase.IDLE), ({"pending": PENDING}, Phase.REPORTING), ({"candidate": NEW}, Phase.REBOOTING)],
)
@pytest.mark.parametrize("before", Phase)
def test_a_power_cut_leaves_what_is_in_flash(before, flash, phase):
    made = agent(before, job="j", ended=("i",), **flash)
    made.execution = order().execution
    kept = made.flash
    made.power_lost()
    assert (made.phase, made.execution) == (phase, None)
    assert made.flash is kept
    assert (kept.active, kept.job, kept.ended) == (OLD, "j", ("i",))


def test_a_commit_fills_the_inactive_slot_and_ends_the_download():
    made = agent(partial=Partial(order().execution.artifact, "", 9, None))
    made.commit(NEW)
    assert made.flash == Flash(OLD, candidate=NEW)


def test_what_runs_is_known_by_the_url_that_it_is_desired_by():
    made = agent()
    made.adopt("u1?signed")
    assert made.flash.active == replace(OLD, url="u1?signed")


def test_reports_name_what_runs_under_tokens_of_their_own():
    made = agent(Phase.REPORTING, job="j", reports=7)
    assert made.initial() == Progress("1", "u1", token="r8")
    assert made.progress(Status.FAILURE, "why") == Progress("1", "u1", "j", Status.FAILURE, "reporting", "why", "r9")
    claim = made.progress(Status.SUCCESS, claimed=NEW)
    assert (claim.version, claim.url) == ("2", "u2")
