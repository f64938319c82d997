"""The table of flags: what is spelled from values is read back as the same values, by every command that has the flags."""

import shlex
from argparse import Namespace
from pathlib import Path

import configargparse
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st
from typer.main import get_command

from simulator.cli import app
from simulator.worlds.flags import FLAGS, OPTION_OF, flags_of, repeating, spelled
from simulator.worlds.locust import arguments as locust_arguments
from tests.worlds.running import fleetsim, latest

VERBS = ("run", "sweep", "explore", "serve", "mosquitto")
TEXT = st.text(st.characters(codec="utf-8", exclude_categories=("C",)), min_size=1, max_size=8)


def values_of(verb):
    """Values for all of a verb's flags, by parameter name."""
    kinds = {
        "text": lambda flag: TEXT,
        "number": lambda flag: st.integers(flag.least or 0, flag.most or 10**6),
        "path": lambda flag: st.sampled_from([Path("a"), Path("with space/b"), Path("-c")]),
        "switch": lambda flag: st.booleans(),
        "several": lambda flag: st.lists(TEXT, min_size=1, max_size=3),
    }
    each = {flag.dest: st.none() | kinds[flag.kind](flag) for flag in flags_of(verb) if not flag.hidden}
    return st.fixed_dictionaries(each)


def parsed(verb, words):
    """What the command line makes of the words, by parameter name."""
    positional = {"mosquitto": ["case.yaml", "where"], "serve": []}.get(verb, ["case.yaml"])
    command = get_command(app).commands[verb]
    return command.make_context(verb, [*positional, *shlex.split(shlex.join(words))]).params


@pytest.mark.parametrize("verb", VERBS)
@given(data=st.data())
@settings(max_examples=60)
def test_what_is_spelled_is_read_back_as_it_was(verb, data):
    values = data.draw(values_of(verb))
    read = parsed(verb, spelled(verb, values))
    defaults = parsed(verb, [])
    for flag in flags_of(verb):
        wanted = values.get(flag.dest)
        assert read[flag.dest] == (defaults[flag.dest] if wanted is None else wanted), flag.name


def test_what_is_as_by_default_is_not_spelled():
    for verb in VERBS:
        assert spelled(verb, parsed(verb, [])) == []


def test_each_flag_has_one_meaning_a_command_and_a_sentence():
    for verb in (*VERBS, "locust"):
        names = [flag.name for flag in flags_of(verb)]
        assert len(names) == len(set(names)), verb
    assert all(len(flag.help.split()) > 2 for flag in FLAGS)
    assert set(OPTION_OF) >= {"fleet.devices", "target.broker", "seed", "run_time"}


def test_the_command_to_repeat_holds_what_the_environment_set(tmp_path):
    env = {"FLEETSIM_DEVICES": "20", "FLEETSIM_FAULT": "F9-appends", "FLEETSIM_QUIET": "1"}
    assert fleetsim("run", "smoke", "--ramp", "100/s", "--out", tmp_path / "a", env=env)[0] in (0, 1)
    run = latest(tmp_path / "a")
    assert run.manifest["repeat"] == (
        f"fleetsim run smoke -c 20 --ramp 100/s --fault F9-appends --out {tmp_path / 'a'} --quiet --seed 1"
    )
    words = shlex.split(run.manifest["repeat"])[1:]
    words[words.index("--out") + 1] = str(tmp_path / "b")
    fleetsim(*words)
    again = latest(tmp_path / "b")
    assert again.trace.table.equals(run.trace.table)


SECRET = "mqtt://app:s3cret@127.0.0.1:1"


def test_a_password_from_the_environment_is_not_in_the_command_to_repeat_which_needs_none():
    env = {"FLEETSIM_BROKER": SECRET, "FLEETSIM_DEVICES": "5"}
    assert repeating("run", {"broker": SECRET, "devices": 5}, env) == ["-c", "5"]
    assert locust("", env, broker=SECRET, devices="5") == "locust -c 5"


def test_a_password_that_is_typed_over_that_of_the_environment_is_spelled_to_be_masked():
    env = {"FLEETSIM_BROKER": "mqtt://other:s3cret@127.0.0.1:1"}
    assert repeating("run", {"broker": SECRET, "devices": 5}, env) == ["-c", "5", "--broker", SECRET]


def locust(line, environment=None, before=None, **given):
    own = {"scenario": "quickstart", "health": None, "num_users": None, "run_time": None}
    ours = {flag.dest: "" if flag.form else None for flag in flags_of("locust")}
    options = Namespace(**(own | ours | given))
    before = Namespace(**{**vars(options), **(before or {})})
    parser = configargparse.ArgParser()  # what Locust's is made of; Locust itself changes the process that imports it
    parser.add_argument("-f", "--locustfile", env_var="LOCUST_LOCUSTFILE")
    parser.add_argument("-u", "--users", dest="num_users", type=int, env_var="LOCUST_USERS")
    parser.add_argument("--headless", action="store_true", env_var="LOCUST_HEADLESS")
    words = locust_arguments.command(shlex.split(line), options, before, parser, environment or {})
    return shlex.join(words)


def test_under_locust_our_flags_are_spelled_from_what_is_in_force():
    line = "-f x.py --devices=5 --headless --seed 3"
    words = locust(line, scenario="waves", devices="7", link="lean", fault=["F1-x", "F2-y"])
    assert words == "locust -f x.py --headless --scenario waves -c 7 --fault F1-x --fault F2-y"
    assert locust("--faul F1-x --dev=5 --see 1", devices="5", fault=["F1-x"]) == "locust -c 5 --fault F1-x"


def test_under_locust_its_own_flags_are_those_of_line_environment_and_form():
    words = locust("--headless", {"LOCUST_USERS": "4", "FLEETSIM_DEVICES": "9"}, devices="9")
    assert words == "locust --headless --users 4 -c 9"
    assert locust("-u 2", {"LOCUST_USERS": "4", "LOCUST_HEADLESS": "1"}) == "locust -u 2 --headless"
    assert locust("-f x.py", num_users=3, before={"num_users": None}) == "locust -f x.py --users 3"
    assert locust("", {"LOCUST_USERS": "4"}, num_users=3, before={"num_users": 4}) == "locust --users 3"


@pytest.mark.parametrize(("line", "words"), [("-u3", "-u3"), ("--users=3", "--users=3"), ("--use 3", "--users 3")])
def test_under_locust_a_flag_typed_over_the_environment_is_spelled_once(line, words):
    assert locust(line, {"LOCUST_USERS": "4", "LOCUST_HEADLESS": "false"}) == f"locust {words}"


def test_under_locust_a_default_typed_over_the_environment_is_spelled(tmp_path):
    environment = {"FLEETSIM_OUT": "elsewhere", "FLEETSIM_SCENARIO": "waves", "FLEETSIM_LINK": "library"}
    words = locust("--out runs", environment, out="runs", link="lean", pooled=False)
    assert words == "locust --scenario quickstart --link lean --out runs"


def test_a_default_typed_over_the_environment_is_in_the_command_to_repeat(tmp_path):
    env = {"FLEETSIM_LINK": "library", "FLEETSIM_POOLED": "1", "FLEETSIM_PROCESSES": "2", "FLEETSIM_INSECURE": ""}
    typed = ["--no-pooled", "--link", "lean", "--processes", "1", "--no-insecure"]
    fleetsim("run", "smoke", "-c", 5, *typed, "--out", tmp_path, env=env)
    words = f"fleetsim run smoke -c 5 --link lean --no-pooled --processes 1 --out {tmp_path} --seed 1"
    assert latest(tmp_path).manifest["repeat"] == words
