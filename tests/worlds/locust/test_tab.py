"""The Fleet tab of Locust's web page: what it is told, and what a browser shows of it."""

import contextlib
import itertools
import json
import os
import re
import shutil
import signal
import socket
import subprocess
import sys
import time
import urllib.error
import urllib.parse
import urllib.request
from types import SimpleNamespace

import pytest

from simulator.model.events import Kind
from simulator.model.update import Phase
from simulator.worlds.locust.history import History
from tests.worlds.running import ROOT, latest, scenario, wait_for

WAIT_S = 120.0


@contextlib.contextmanager
def locust(where, *words, ready="/fleet/state"):
    """Locust with its web page, below `where`; it is there when it answers on the path `ready`."""
    with socket.create_server(("127.0.0.1", 0)) as free:
        port = free.getsockname()[1]
    page = f"http://127.0.0.1:{port}"
    log = (where / "locust.log").open("wb")
    process = subprocess.Popen(
        [sys.executable, "-m", "locust", "--web-host", "127.0.0.1", "--web-port", str(port), *map(str, words)],
        cwd=where, env={**os.environ, "PYTHONPATH": str(ROOT)}, stdout=log, stderr=log,
    )  # fmt: skip
    try:
        wait_for(lambda: answers(f"{page}{ready}"), WAIT_S)
        yield page
    finally:
        process.send_signal(signal.SIGTERM)
        process.wait(60)
        log.close()


def answers(url):
    with contextlib.suppress(urllib.error.URLError, ConnectionError):
        return get(url)
    return None


def get(url):
    with urllib.request.urlopen(url, timeout=30) as answer:
        return answer.read().decode()


def state(page, query=""):
    return json.loads(get(f"{page}/fleet/state{query}"))


def begin(page, **form):
    """As the start form does, once Locust offers it."""
    wait_for(lambda: json.loads(get(f"{page}/stats/requests"))["state"] in ("ready", "stopped"))
    data = urllib.parse.urlencode({"user_count": 1, "spawn_rate": 1, "devices": "", "ramp": "", "seed": "", **form})
    with urllib.request.urlopen(f"{page}/swarm", data.encode(), timeout=30) as answer:
        assert json.load(answer)["success"]


def ended(page, nth):
    """What is known of the nth run when it has ended."""
    return wait_for(lambda: (known := state(page))["run"] == nth and not known["running"] and known, WAIT_S)


def drawn(url, *words, seconds=3):
    """The DOM of a page, after its scripts have run for so long, as Chromium has it."""
    browser = shutil.which("chromium")
    assert browser, "no chromium: apt-get install chromium"
    command = [browser, "--headless", "--no-sandbox", "--disable-gpu", f"--virtual-time-budget={1000 * seconds}"]
    done = subprocess.run(
        [*command, *words, "--dump-dom", url], capture_output=True, text=True, timeout=120, check=True
    )
    return done.stdout


@pytest.fixture(scope="module")
def session(tmp_path_factory):
    """One Locust: a run to its end, one that is stopped, one that cannot start; each as its state was then."""
    where = tmp_path_factory.mktemp("tab")
    (where / "first").mkdir()
    (where / "second").mkdir()
    first = scenario(where / "first", settle="2s")  # long enough for each part to tell its health
    second = scenario(where / "second", name="second", profiles={"quick": {"install": {"fixed": "30s"}}})
    found = SimpleNamespace(going=[])
    with locust(where, "-f", ROOT / "scenarios" / "locustfile.py", "--scenario", first) as found.page:
        found.idle = state(found.page)
        found.form = drawn(found.page)
        begin(found.page, devices=30, seed=7)
        while not found.going or found.going[-1]["running"]:
            found.going.append(wait_for(lambda: (known := state(found.page))["run"] == 1 and known))
            time.sleep(0.2)
        found.first = state(found.page)
        found.run = latest(where / "runs")
        found.summary = json.loads((found.run.path / "summary.json").read_text())
        found.report = get(f"{found.page}/fleet/report")
        found.dom = drawn(f"{found.page}/fleet")
        found.tab = drawn(f"{found.page}/?tab=fleet")
        begin(found.page, scenario=second, devices=40)
        found.slow = wait_for(lambda: (known := state(found.page)).get("slowest") and known, WAIT_S)
        with urllib.request.urlopen(f"{found.page}/stop", b"", timeout=WAIT_S):
            found.stopped = ended(found.page, 2)
        begin(found.page, scenario="nosuch")
        found.refused = ended(found.page, 3)
        found.refused_dom = drawn(f"{found.page}/fleet")
        yield found


def test_before_any_run_nothing_is_known(session):
    assert session.idle == {"run": 0, "running": False, "points": []}


def test_the_start_form_shows_the_fleets_parameters_open(session):
    fields = re.findall(r'<input[^>]* name="(\w+)"', session.form)
    assert [name for name in fields if name in ("scenario", "devices", "ramp", "seed")] == [
        "scenario", "devices", "ramp", "seed"]  # fmt: skip
    assert 'aria-expanded="true"' in session.form


def test_the_curve_reaches_all_targets(session):
    known = session.first
    assert (known["verdict"], known["exit_code"], known["targets"]) == ("PASS", 0, 30)
    times = [point[0] for point in known["points"]]
    succeeded = [point[1] for point in known["points"]]
    assert times == sorted(times)
    assert succeeded == sorted(succeeded)
    assert succeeded[-1] == 30


def test_the_last_counts_are_the_records(session):
    counts, trace = session.first["counts"], session.run.trace
    connects = trace.kind(Kind.CONNECT).where("status", "new", "resumed")
    downloads = trace.kind(Kind.DOWNLOAD)
    assert counts["connected"] == len(connects)
    assert counts["deltas"] == len(trace.kind(Kind.DELTA))
    assert counts["downloads ended"] == len(downloads)
    assert counts["bytes"] == int(downloads["size"].sum())
    assert counts["confirmed"] == len(trace.kind(Kind.CONFIRM))
    assert session.first["points"][-1][4:] == [counts["deltas"], counts["bytes"]]


def test_the_last_outcomes_are_the_summarys(session):
    (rollout,) = session.first["rollouts"].values()
    assert rollout["states"] == {"SUCCEEDED": session.summary["outcomes"]["SUCCEEDED"]} == {"SUCCEEDED": 30}
    assert session.first["text"].startswith(f"PASS  {session.summary['scenario']}  seed 7")
    assert session.first["seed"] == session.summary["seed"] == 7


def test_while_it_goes_on_the_stages_come_one_after_the_other_and_devices_are_in_phases(session):
    stages = list(dict.fromkeys(known["stage"] for known in session.going if "stage" in known))
    assert stages == [name for name in ("ramp", "rollout", "settle", "judge") if name in stages]
    phases = [known["phases"] for known in session.going if "phases" in known]
    assert all(sum(each.values()) <= 30 for each in phases)
    assert phases[-1] == {}


def test_each_process_tells_its_health(session):
    assert set(session.first["health"]) == {"broker", "storage", "replica", "application", "shard-0"}
    assert all(facts["rss_bytes"] > 1e7 and facts["cpu_share"] >= 0 for facts in session.first["health"].values())


def test_the_report_is_the_runs(session):
    assert session.report == (session.run.path / "report.html").read_text()


def test_before_a_run_has_ended_there_is_no_report(session):
    with pytest.raises(urllib.error.HTTPError) as refused:
        get(f"{session.page}/fleet/report")
    assert refused.value.code == 404


def test_chromium_shows_the_verdict_and_the_counts(session):
    assert 'id="verdict" class="card PASS"' in session.dom
    assert 'href="fleet/report"' in session.dom
    assert "small: 30 devices, seed 7" in session.dom
    tiles = re.findall(r"<b>(.*?)</b>", session.dom)
    assert tiles[:3] == ["100.0 %", "0", "30"]
    assert session.dom.count("<path ") == 3  # the curve and two rates


def test_locusts_page_has_the_tab_and_shows_the_page_in_it(session):
    assert re.search(r'aria-selected="true"[^>]*>(<[^>]*>)*Fleet<', session.tab)
    assert re.search(r'<iframe[^>]* src="./fleet"', session.tab)


def test_a_second_run_begins_anew_and_stop_ends_it_with_its_verdict(session):
    known = session.stopped
    assert (known["scenario"], known["devices"], known["verdict"]) == ("second", 40, "UNKNOWN")
    assert known["points"][-1][1] < 40
    assert "interrupted" in known["text"]
    assert known["path"] != session.first["path"]


def test_the_command_that_repeats_a_run_says_what_the_start_form_did(session):
    repeat = session.run.manifest["repeat"]
    assert repeat.startswith("locust ")
    assert re.search(r" --users 1 --scenario \S+/first/small\.yaml -c 30 --seed 7$", repeat)


def test_the_slowest_are_those_that_have_been_open_for_longest(session):
    slowest = session.slow["slowest"]
    assert 1 <= len(slowest) <= 10
    assert [one["seconds"] for one in slowest] == sorted((one["seconds"] for one in slowest), reverse=True)
    assert {one["phase"] for one in slowest} <= {"", *Phase}


def test_a_scenario_that_does_not_exist_says_so(session):
    assert session.refused["complaint"].startswith("fleetsim: no such scenario: 'nosuch'")
    assert "There is no verdict" in session.refused_dom
    assert "no such scenario: 'nosuch'" in session.refused_dom


def test_with_a_login_nothing_is_shown_before_it(tmp_path):
    file = tmp_path / "locustfile.py"
    file.write_text(
        "from locust import events\n"
        "from simulator.worlds.locust import Operator, Schedule\n"
        "@events.init.add_listener\n"
        "def secret(environment, **more):\n"
        "    environment.web_ui.app.secret_key = 'for the session cookie'\n"
        "    environment.web_ui.login_manager.user_loader(lambda name: None)\n"
    )
    with locust(tmp_path, "-f", file, "--web-login", "--web-base-path", "/load", ready="/load/login") as page:
        for path in ("", "/state", "/report", "/tab.js"):
            with urllib.request.urlopen(f"{page}/load/fleet{path}", timeout=30) as answer:
                assert "/load/login" in answer.url, path


def test_the_curve_thins_out_and_keeps_its_ends():
    history = History(most=100)
    for second in range(1, 5001):
        history.add(float(second), second, 0, 0, 0, 0)
    points = history.since(-1.0)
    assert len(points) <= 101
    assert points[0][:2] == (1.0, 1)
    assert points[-1][:2] == (5000.0, 5000)
    apart = [b[0] - a[0] for a, b in itertools.pairwise(points[:-1])]
    assert max(apart) <= 2 * min(apart) + 1
    assert history.since(points[-2][0]) == points[-1:]
