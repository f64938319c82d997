"""A device of a live run carried over into virtual time: its failure comes again, or it is said why not."""

import shutil

import pyarrow as pa
import pyarrow.compute as pc
import pytest

from simulator.device.profile import Draws
from simulator.dialects.registry import DIALECTS
from simulator.model.errors import ScenarioError
from simulator.model.events import Kind
from simulator.model.verdict import Finding, Judgement, Verdict
from simulator.trace import rundir
from simulator.trace.reader import write_parquet
from simulator.worlds import judgement as judging
from simulator.worlds import run as running
from simulator.worlds.reproduce.carry import Carrying, as_text, carry
from simulator.worlds.reproduce.one_device import own_events
from simulator.worlds.reproduce.script import Answer, Connected, Wanted, script_of
from simulator.worlds.reproduce.tape import ConnectRefused, Lost
from tests.worlds.running import SMALL, fleetsim, latest
from tests.worlds.running import scenario as written
from tests.worlds.virtually import scenario

HARM = [
    {"fault": "F16-early-success", "count": 3},
    {"fault": "F9-cut", "share": "30%", "times": 1},
    {"fault": "F1-duplicate", "share": "30%"},
    {"fault": "F8-storage-refuses", "share": "20%", "times": 1},
    {"fault": "F11-corrupt", "share": "20%"},
    {"fault": "F14-power-cut", "step": "verifying", "share": "20%"},
]
QUICK = SMALL["profiles"]["quick"]


@pytest.fixture(scope="module")
def lying(tmp_path_factory):
    """A live run in which three devices lie."""
    where = tmp_path_factory.mktemp("live")
    profiles = {"quick": {**QUICK, "latency": {"lognormal": ["10ms", 0.3]}, "mishaps": {"connect": {"error": "20%"}}}}
    code, out, err = fleetsim("run", written(where, faults=HARM, profiles=profiles), "--out", where / "r")
    assert code == 1, out + err
    return latest(where / "r")


@pytest.fixture
def run(lying, tmp_path):
    shutil.copytree(lying.path, tmp_path / "run")
    return rundir.open_run(tmp_path / "run")


def liars(run):
    (finding,) = (f for f in judging.judge_again(run, ()).failed if f.check == "S11-true-success")
    return finding.things


def doctored(run, **blocks):
    """The run with other blocks in its scenario."""
    made = run.manifest["scenario"]
    manifest = {
        **run.manifest,
        "scenario": {**made, **{k: v if k == "checks" else {**made.get(k, {}), **v} for k, v in blocks.items()}},
    }
    rundir.write_json(run.path / "manifest.json", manifest)
    return rundir.open_run(run.path)


def test_a_lie_is_reproduced_on_the_first_device_that_a_check_names(run):
    found = carry(run, None)
    assert found.exit_code == 1
    assert found.thing in liars(run)
    assert "S11-true-success" in {finding.check for finding in found.again}
    assert found.course.parts is None, as_text(found)
    answers = run.trace.thing(found.thing).where("kind", Kind.ANSWER)
    unawaited = int((answers["job"] < 0).sum())
    assert unawaited > 0
    assert found.course.alike == found.course.events == len(own_events(run.trace, found.thing)) - unawaited
    assert as_text(found).startswith(f"REPRODUCED  {run.path}  {found.thing} in virtual time")
    assert "first at" in as_text(found)


def test_each_liar_lies_again(run):
    assert len(liars(run)) == 3
    for thing in liars(run):
        assert [finding.things for finding in carry(run, thing).again if finding.check == "S11-true-success"] == [
            (thing,)
        ]


def test_what_befell_a_device_befalls_it_again(run):
    made = running.to_run_again(run)
    courses = [Carrying(run, made, ordinal).play([])[2] for ordinal in made.fleet.present]
    assert sum(course.parts is None for course in courses) >= 25  # of 30: what comes within one instant may differ
    assert all(course.alike > 10 for course in courses)


def test_a_device_that_lies_no_more_is_not_reproduced_and_its_course_parts(run, monkeypatch):
    monkeypatch.setattr(Draws, "mishap", lambda self, stage: None)
    found = carry(run, None)
    assert (found.again, found.exit_code) == ((), 2)
    assert "parts from the recorded one" in {f.check: why for f, why in found.not_again}["S11-true-success"]
    assert "lie" in found.course.parts[0] or "connect" in found.course.parts[0]
    assert as_text(found).startswith("NOT REPRODUCED")
    assert found.course.parts[1] in as_text(found)


def test_a_device_that_no_check_names_has_nothing_to_reproduce(run):
    other = next(f"device-{n}" for n in range(30) if f"device-{n}" not in liars(run))
    found = carry(run, other)
    assert (found.again, found.course, found.exit_code) == ((), None, 2)
    assert all(why.startswith("it names other devices: ") for _, why in found.not_again)


def test_what_the_backend_got_wrong_is_not_the_devices_to_show(run):
    def older(trace):
        doc, kind = trace.table["doc"], trace.table["kind"].cast(pa.string())
        return pc.if_else(pc.and_(pc.equal(kind, Kind.ACCEPTED), pc.equal(doc, 3)), 1, doc)

    table = run.trace.table
    write_parquet(
        table.set_column(table.schema.get_field_index("doc"), "doc", older(run.trace)), run.path / "trace.parquet"
    )
    found = carry(doctored(run, checks=["S1-version"]), None)
    assert (found.again, found.course, found.exit_code) == ((), None, 2)
    assert "S1-version           not reproduced: the device's own events do not show it" in as_text(found)


def test_what_the_application_got_wrong_no_device_reproduces(run):
    first = int(run.trace.kind(Kind.EXECUTION).rows[0])
    doubled = run.trace.table.slice(first, 1)
    write_parquet(pa.concat_tables([run.trace.table, doubled]), run.path / "trace.parquet")
    thing = run.trace.row(first)["thing"]
    found = carry(doctored(run, checks=["S6-states"]), thing)
    assert found.again == ()
    assert "the application's own events fail it" in as_text(found)


# ---- what cannot be carried over


def test_a_run_without_a_failure_is_refused(run):
    with pytest.raises(ScenarioError, match="no check failed in it"):
        carry(doctored(run, checks=["S12-no-regress"]), None)


def test_a_run_in_another_dialect_than_atlas_is_refused_by_name(run, monkeypatch):
    monkeypatch.setitem(DIALECTS, "standin", DIALECTS["atlas"])
    with pytest.raises(ScenarioError, match=r"replayed alone in dialect atlas or atlas-example only.* spoke standin"):
        carry(doctored(run, target={"dialect": "standin"}), None)


def test_a_threshold_is_not_one_devices(run):
    run = doctored(run, checks=["S12-no-regress"], thresholds={"failed": "> 50%"})
    assert "threshold-failed     not reproduced: it is about the whole fleet" in as_text(carry(run, None))


def test_what_names_no_device_needs_one_named(run, monkeypatch):
    nameless = Finding("S8-counters", "counters add up", Verdict.FAIL, "they do not")
    monkeypatch.setattr(judging, "judge_again", lambda run, checks: Judgement((nameless,)))
    with pytest.raises(ScenarioError, match=r"what failed \(S8-counters\) names no device; name one with --device"):
        carry(run, None)
    assert "S8-counters          not reproduced: the device's own events do not show it" in as_text(carry(run, "0"))


@pytest.mark.parametrize(
    ("blocks", "why"),
    [
        ({"rollout": {"size": 1000}}, "their hash is not that of the scenario's artifact"),
        ({"target": {"artifact_url": "http://cdn.example/a"}}, "bytes, which came from http://cdn.example/a"),
    ],
)
def test_what_the_record_lacks_is_told(run, blocks, why):
    found = carry(doctored(run, **blocks), liars(run)[0])
    assert (found.again, found.exit_code) == ((), 2)
    assert why in as_text(found)


def test_a_record_without_the_devices_start_lacks_it(run):
    kinds = run.trace.table["kind"].cast(pa.string())
    write_parquet(run.trace.table.filter(pc.not_equal(kinds, Kind.BOOT)), run.path / "trace.parquet")
    assert "lacks the device's start" in as_text(carry(rundir.open_run(run.path), liars(run)[0]))


# ---- the command


def test_the_command_says_what_came_again_and_what_else_to_look_at(run):
    code, out, err = fleetsim("replay", "--world", "virtual", run.path, "--device", liars(run)[0])
    assert (code, err) == (1, "")
    assert out.startswith("REPRODUCED")
    assert out.splitlines()[-1].split() == ["timeline", "fleetsim", "trace", str(run.path), liars(run)[0]]
    code, _, err = fleetsim("replay", run.path)
    assert code == 3
    assert "fleetsim replay --world virtual" in err
    code, _, err = fleetsim("replay", "--world", "live", run.path)
    assert (code, err) == (3, "fleetsim: --world live: a run is replayed in the virtual world\n")


# ---- the script of a record


def script(*events):
    """What comes of these events, a second apart, behind a start."""
    own = [{"kind": Kind.BOOT, "status": "cold", "t_us": 0}]
    own += [{"t_us": n * 1_000_000, **event} for n, event in enumerate(events, 1)]
    return script_of(scenario(devices=1), 0, own, ())


CONNECT = {"kind": Kind.CONNECT, "status": "new"}
INITIAL = {"kind": Kind.REPORT, "status": "initial"}
DELTA = {"kind": Kind.DELTA, "job": "j", "version": "2", "doc": 1, "detail": "delta"}
COPY = {"kind": Kind.FAULT, "detail": '{"message":"delta","again_s":[1.5]}'}
LOST = {"kind": Kind.LOST, "status": "lost", "detail": "gone"}


def came(*events):
    return [(cue.t_us // 1_000_000, type(cue.event)) for cue in script(*events).cues]


def test_what_comes_to_the_device_is_cued_when_it_came():
    answer = {"kind": Kind.ANSWER, "job": "j", "status": "rejected", "detail": "409 version conflict"}
    made = script(CONNECT, INITIAL, DELTA, answer, LOST)
    assert [cue.event for cue in made.cues] == [
        Connected(False),
        Wanted("delta", "j", "2", None, 1, None, None),
        Answer("j", None, 409, "version conflict"),
        Lost("gone"),
    ]
    assert made.end_us == 5_000_000


def test_a_question_that_is_asked_again_was_not_answered():
    made = script(CONNECT, INITIAL, INITIAL, LOST, CONNECT, INITIAL)
    assert [cue.event.unanswered for cue in made.cues if isinstance(cue.event, Connected)] == [1, 0]


def test_an_attempt_that_never_left_the_device_is_its_own():
    failed = {"kind": Kind.CONNECT, "status": "failed"}
    made = script(
        {**failed, "detail": "mishap: connect error"}, {**failed, "detail": "no road"}, {**failed, "detail": "refused"}
    )
    assert [cue.event for cue in made.cues] == [ConnectRefused("refused")]


def test_what_a_fault_brought_again_is_not_cued():
    assert came(CONNECT, COPY, DELTA, DELTA) == [(1, Connected), (3, Wanted)]
    assert came(CONNECT, COPY, DELTA, LOST, CONNECT, DELTA)[-1] == (6, Wanted)  # the copy was lost


def test_what_a_fault_held_back_is_cued_when_it_came():
    held = {"kind": Kind.FAULT, "detail": '{"message":"delta","delay_s":2.0}'}
    assert came(CONNECT, held, INITIAL, DELTA) == [(1, Connected), (2, Wanted)]


def test_an_answer_that_a_fault_lost_is_cued():
    assert came(CONNECT, {"kind": Kind.FAULT, "detail": '{"message":"accepted","lost":true}'}) == [
        (1, Connected),
        (2, Answer),
    ]


def test_a_response_that_a_fault_gave_or_spoiled_is_not_the_servers():
    cut = {"kind": Kind.DOWNLOAD, "status": "200", "size": 7, "detail": '{"offset":0,"etag":"e","error":"cut"}'}
    refused = {"kind": Kind.DOWNLOAD, "status": "503", "detail": '{"offset":0,"etag":"","error":"http 503"}'}
    gave = {"kind": Kind.FAULT, "detail": '{"request":"GET","answer":503}'}
    spoiled = {"kind": Kind.FAULT, "detail": '{"request":"GET","ends_at":0.5}'}
    pieces = script(gave, refused, spoiled, cut, refused, cut).pieces
    assert [(piece.t_us // 1_000_000, piece.status, piece.etag, piece.cut) for piece in pieces] == [
        (4, 200, "", False),
        (5, 503, "", False),
        (6, 200, "e", True),
    ]
