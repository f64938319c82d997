"""Many seeds of one scenario: what fails is found, grouped, kept and run first the next time; no worker outlives it."""

import io
import json
import os
import signal

import pytest
import yaml

from simulator.application.rollout import Rollout
from simulator.model.errors import ScenarioError
from simulator.worlds import virtual
from simulator.worlds.campaigns import explore as exploring
from simulator.worlds.campaigns.corpus import Corpus, CorpusEntry
from simulator.worlds.campaigns.explore import as_text, explore
from simulator.worlds.campaigns.workers import Result, SeedFailure, judge_seed
from simulator.worlds.progress import SeedLine
from tests.worlds.running import alive, children, fleetsim, start, wait_for
from tests.worlds.virtually import scenario

LIAR = {
    "name": "liar", "devices": 4, "profile": "liar", "profiles": {"liar": {"mishaps": {"install": {"lie": "5%"}}}},
}  # fmt: skip


def written(path, **changes):
    file = path / "case.yaml"
    fleet = {"devices": 4, "ramp": "10/s", "profile": "liar"}
    made = {"fleet": fleet, "profiles": LIAR["profiles"], "rollout": {"size": "4KiB"}, "run_time": "1h"}
    file.write_text(yaml.safe_dump({**made, **changes}))
    return file


def in_this_process(monkeypatch):
    """No workers: each seed is judged here. The seeds, in the order in which they were run."""
    ran = []

    def here(made, seeds, processes, hear):
        for seed in seeds:
            ran.append(seed)
            hear(judge_seed(made, seed))

    monkeypatch.setattr(exploring, "run_seeds", here)
    return ran


def explored(made, seeds, out):
    found = explore(made, "my scenario.yaml", seeds, 1, out, quiet=True)
    return found.summary(), json.loads((out / "corpus.json").read_text())["entries"]


def test_a_device_that_lies_in_some_seeds_is_found(tmp_path):
    made = scenario(**LIAR)
    said = explore(made, "liar.yaml", range(30), 2, tmp_path, quiet=True).summary()
    failing = {seed for seed in range(30) if judge_seed(made, seed).failures}
    assert 0 < len(failing) < 30
    assert (said["seeds"], said["failed"], said["exit_code"]) == (30, len(failing), 1)
    group = next(g for g in said["groups"] if g["check"] == "S11-true-success")
    assert (group["phase"], group["count"]) == ("report/reporting", len(failing))
    entries = json.loads((tmp_path / "corpus.json").read_text())["entries"]
    ours = [e for e in entries if e["check"] == "S11-true-success"]
    assert {e["seed"] for e in ours} == failing
    assert [e["seconds"] for e in ours] == sorted(e["seconds"] for e in ours)
    assert ours[0]["command"] == f"fleetsim run liar.yaml --world virtual --seed {ours[0]['seed']}"
    assert group["command"] == ours[0]["command"]
    assert group["command"] in as_text(said)


def test_nothing_fails(tmp_path, monkeypatch):
    in_this_process(monkeypatch)
    said, entries = explored(scenario(devices=2), range(1, 4), tmp_path)
    assert (said["seeds"], said["failed"], said["exit_code"], entries) == (3, 0, 0, [])


def test_a_run_that_proves_nothing_is_no_pass(tmp_path, monkeypatch):
    in_this_process(monkeypatch)
    made = scenario(devices=2, profile="slow", profiles={"slow": {"install": {"fixed": "1m"}}}, run_time="5s")
    said, _ = explored(made, range(2), tmp_path)
    assert said["exit_code"] == 2
    assert [one["seed"] for one in said["unsure"]] == [0, 1]
    assert "run_time 5 s" in as_text(said)


def test_known_seeds_come_first_and_the_corpus_grows(tmp_path, monkeypatch):
    ran = in_this_process(monkeypatch)
    made = scenario(**LIAR)
    _, before = explored(made, range(10), tmp_path)
    known = list(dict.fromkeys(e["seed"] for e in sorted(before, key=lambda e: e["seconds"])))
    assert known
    ran.clear()
    _, after = explored(made, range(5, 25), tmp_path)
    assert ran == [*known, *(s for s in range(5, 25) if s not in known)]
    assert {e["seed"] for e in after} > set(known)
    ran.clear()
    explored(made.model_copy(update={"name": "another"}), range(2), tmp_path)
    assert ran == [0, 1]


def test_a_failure_that_is_gone_stays_known_and_is_told(tmp_path, monkeypatch):
    ran = in_this_process(monkeypatch)
    made = scenario(**LIAR)
    _, before = explored(made, range(10), tmp_path)
    ran.clear()
    said, after = explored(made.model_copy(update={"profiles": {"liar": made.profile("perfect")}}), range(1), tmp_path)
    assert said["exit_code"] == 0
    assert len(said["mended"]) == len(after) == len(before)
    assert not any(e["fails"] for e in after)
    assert "known failures are gone" in as_text(said)
    ran.clear()
    explored(made, range(0), tmp_path)
    assert {e["seed"] for e in before} == set(ran)


def test_a_run_that_is_not_sure_mends_nothing(tmp_path, monkeypatch):
    in_this_process(monkeypatch)
    made = scenario(**LIAR)
    _, before = explored(made, range(10), tmp_path)
    _, after = explored(made.model_copy(update={"run_time": 0.001}), range(1), tmp_path)
    assert after == before


def test_a_party_that_raises_is_a_failure_of_its_own(monkeypatch):
    class Clumsy(Rollout):
        def observe(self, outcome, now):
            raise ZeroDivisionError("of my own")

    whole = virtual.Parties
    monkeypatch.setattr(virtual, "Parties", lambda: whole(rollout=Clumsy))
    (failure,) = judge_seed(scenario(devices=2), 1).failures
    assert failure[:2] == ("crash", "ZeroDivisionError in test_explore.py observe")
    assert "of my own" in failure.summary


def test_a_group_keeps_its_fastest_example(tmp_path, monkeypatch):
    def here(made, seeds, processes, hear):
        for seed, seconds in ((1, 0.3), (2, 0.1), (3, 0.2)):
            hear(Result(seed, seconds, (SeedFailure("S11", "report/idle", "why"), SeedFailure("L2", "", "why"))))

    monkeypatch.setattr(exploring, "run_seeds", here)
    said, entries = explored(scenario(), range(3), tmp_path)
    assert said["failed"] == 3
    assert [(g["count"], g["seconds"]) for g in said["groups"]] == [(3, 0.1), (3, 0.1)]
    assert [(e["check"], e["seed"]) for e in entries] == [(c, s) for c in ("L2", "S11") for s in (2, 3, 1)]
    assert "'my scenario.yaml'" in entries[0]["command"]


@pytest.mark.parametrize("content", ["[]", "{", '{"entries": [{"seed": 1}]}', "\xff"])
def test_a_damaged_corpus_is_refused_and_kept(tmp_path, content):
    (tmp_path / "corpus.json").write_text(content, encoding="latin-1")
    with pytest.raises(ScenarioError, match="not a corpus"):
        Corpus(tmp_path)
    assert (tmp_path / "corpus.json").read_text(encoding="latin-1") == content


def test_a_corpus_reads_what_it_wrote(tmp_path):
    one = Corpus(tmp_path)
    entry = CorpusEntry("1", "s", 7, "S11", "report/idle", 0.5, "fleetsim run s")
    assert one.learn("s", 7, [entry]) == []
    one.write()
    assert Corpus(tmp_path).entries() == [entry]
    assert Corpus(tmp_path).seeds("s") == [7]
    assert Corpus(tmp_path).seeds("t") == []


def test_the_line_is_drawn_on_a_terminal_alone():
    drawn, silent = io.StringIO(), io.StringIO()
    for stream in (drawn, silent):
        line = SeedLine(200, stream, on=stream is drawn)
        line.show(2.0, 100, 3)
        line.show(2.01, 101, 3)
        line.clear()
    assert "100 of 200 seeds, 3 failed, 50.0 seeds/s" in drawn.getvalue()
    assert "101" not in drawn.getvalue()
    assert silent.getvalue() == ""


# ---- the command


def test_the_command_and_the_one_that_repeats(tmp_path):
    file = written(tmp_path)
    code, out, err = fleetsim("explore", file, "--seeds", "24", "--processes", "2", "--out", tmp_path / "e")
    assert (code, err) == (1, "")
    words = next(line for line in out.splitlines() if "S11-true-success" in line).partition("fleetsim ")[2].split()
    code, out, _ = fleetsim(*words, "--out", tmp_path / "r")
    assert code == 1
    assert "✗ S11-true-success" in out
    env = {
        "FLEETSIM_SEEDS": "2",
        "FLEETSIM_FIRST_SEED": "70",
        "FLEETSIM_OUT": str(tmp_path / "f"),
        "FLEETSIM_JSON": "1",
    }
    code, out, err = fleetsim("explore", written(tmp_path, world="live", profiles={"liar": {}}), env=env)
    assert (code, err) == (0, "")
    assert json.loads(out)["seeds"] == 2


@pytest.mark.parametrize(
    ("words", "said"), [(("--out", "/proc/none"), "--out"), (("--seeds", "0"), "--seeds")], ids=["out", "seeds"]
)
def test_bad_usage_ends_in_3(words, said):
    code, _, err = fleetsim("explore", "smoke", *words)
    assert code == 3
    assert said in err
    assert "Traceback" not in err


def endless(tmp_path, out, **options):
    """An exploration at work: its process, once both workers are there."""
    process = start("explore", written(tmp_path), "--seeds", "1000000", "--processes", "2", "--out", out, **options)
    wait_for(lambda: len(workers(process.pid)) == 2, 60)
    return process


def workers(pid):
    def command(child):
        try:
            with open(f"/proc/{child}/cmdline") as file:
                return file.read()
        except OSError:
            return ""

    return [child for child in children(pid) if "spawn_main" in command(child)]


@pytest.mark.parametrize("late", [False, True], ids=["while workers start", "with failures found"])
def test_ctrl_c_ends_it_cleanly_with_what_was_found(tmp_path, late):
    process = endless(tmp_path, tmp_path / "e", start_new_session=True)
    left = children(process.pid)
    if late:
        wait_for((tmp_path / "e" / "corpus.json").exists, 60)
    os.killpg(process.pid, signal.SIGINT)  # as a terminal does: to all
    out, err = process.communicate(timeout=60)
    assert err == ""
    assert "interrupted" in out
    entries = json.loads((tmp_path / "e" / "corpus.json").read_text())["entries"]
    assert process.returncode == (1 if entries else 2)
    assert entries or not late
    wait_for(lambda: not any(map(alive, left)))


def test_no_worker_outlives_a_killed_conductor(tmp_path):
    process = endless(tmp_path, tmp_path / "e")
    left = children(process.pid)
    process.kill()
    process.communicate(timeout=60)
    wait_for(lambda: not any(map(alive, left)), 60)


def test_a_worker_that_dies_ends_it_in_4(tmp_path):
    process = endless(tmp_path, tmp_path / "e")
    os.kill(workers(process.pid)[0], signal.SIGKILL)
    _, err = process.communicate(timeout=60)
    assert process.returncode == 4
    assert "a worker ended unasked" in err
    assert "Traceback" not in err
    assert (tmp_path / "e" / "corpus.json").exists()
