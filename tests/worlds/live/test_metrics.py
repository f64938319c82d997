"""`fleetsim run --metrics`: what Prometheus is told is what the trace holds, and speaks of no device."""

import asyncio
import re
import socket
import time
import urllib.request
from collections import Counter

import pytest
from prometheus_client.parser import text_string_to_metric_families

from simulator.model.events import Kind
from simulator.model.scenario import Scenario
from simulator.worlds.live.metrics import RunCollector
from simulator.worlds.live.roads import ConnectGate
from simulator.worlds.progress import Now
from tests.worlds.running import fleetsim, latest, scenario, start, wait_for


def samples(url):
    """(name, its one label's value or "") -> value."""
    with urllib.request.urlopen(url, timeout=5) as response:
        assert response.headers["content-type"].startswith("text/plain; version=")
        text = response.read().decode()
    families = text_string_to_metric_families(text)
    return {(s.name, *s.labels.values()): s.value for family in families for s in family.samples}


@pytest.fixture(scope="module")
def scraped(tmp_path_factory):
    """(all scrapes of a live run with two shards, the run)."""
    where = tmp_path_factory.mktemp("metrics")
    file = scenario(
        where, settle="3s", profiles={"quick": {"install": "300ms", "mishaps": {"install": {"error": 0.2}}}}
    )
    process = start("run", file, "--metrics", ":0", "--processes", 2, "--json", "--out", where / "runs")
    url = re.search(r"http://127\.0\.0\.1:\d+/metrics", process.stderr.readline())[0]
    scrapes = [samples(url)]

    def settling():
        scrapes.append(samples(url))
        return scrapes[-1]["fleetsim_stage", "settle"]

    wait_for(settling, 60)
    time.sleep(1.5)  # what was recorded last is told within half a second, and health each second
    scrapes.append(samples(url))
    out, err = process.communicate(timeout=60)
    assert process.returncode == 0, out + err
    assert out.startswith("{")
    return scrapes, latest(where / "runs")


def test_the_last_scrape_counts_what_the_trace_holds(scraped):
    scrapes, run = scraped
    last, trace = scrapes[-1], run.trace
    ends = Counter(trace.kind(Kind.EXECUTION).texts("status"))
    downloads = trace.kind(Kind.DOWNLOAD)
    assert 0 < ends["FAILED"] < 30
    assert {name[0]: value for name, value in last.items() if len(name) == 1 and name[0].endswith("_total")} == {
        "fleetsim_connects_total": len(trace.kind(Kind.CONNECT)),
        "fleetsim_connect_failures_total": 0,
        "fleetsim_disconnects_total": len(trace.kind(Kind.LOST)),
        "fleetsim_offers_total": len(trace.kind(Kind.OFFER).where("status", "sent")),
        "fleetsim_deltas_total": len(trace.kind(Kind.DELTA)),
        "fleetsim_downloads_total": len(downloads),
        "fleetsim_downloaded_bytes_total": downloads["size"].sum(),
        "fleetsim_confirmed_total": len(trace.kind(Kind.CONFIRM)),
        "fleetsim_events_total": last["fleetsim_events_total",],
    }
    assert last["fleetsim_executions_total", "succeeded"] == ends["SUCCEEDED"]
    assert last["fleetsim_executions_total", "failed"] == ends["FAILED"]
    assert last["fleetsim_executions_total", "timed_out"] == 0
    assert (last["fleetsim_targets",], last["fleetsim_devices",], last["fleetsim_connected",]) == (30, 30, 30)


def test_it_grows_while_the_run_lasts_and_says_in_which_stage_it_is(scraped):
    scrapes, _ = scraped
    seen = [next((name[1] for name, on in s.items() if name[0] == "fleetsim_stage" and on), "") for s in scrapes]
    assert [stage for stage, before in zip(seen, ["", *seen], strict=False) if stage != before][-2:] == [
        "rollout", "settle",
    ]  # fmt: skip
    deltas = [s["fleetsim_deltas_total",] for s in scrapes]
    assert deltas == sorted(deltas)
    assert deltas[0] == 0


def test_each_process_says_how_it_is(scraped):
    last = scraped[0][-1]
    for process in ("application", "broker", "replica", "storage", "shard-0", "shard-1"):
        assert last["fleetsim_process_resident_bytes", process] > 1 << 20
        assert last["fleetsim_process_cpu_share", process] >= 0
        assert last["fleetsim_process_loop_lag_seconds", process] >= 0
        assert last["fleetsim_process_open_files", process] > 2
    counting = {name[1] for name in last if name[0] == "fleetsim_process_unsent"}
    assert counting == {"application", "shard-0", "shard-1"}


def test_who_waits_for_a_turn_to_connect_is_counted_as_unsent():
    async def main():
        gate = ConnectGate(1)
        await gate.acquire()
        second = asyncio.ensure_future(gate.acquire())
        await asyncio.sleep(0)
        held = gate.waiting
        gate.release()
        await second
        return held, gate.waiting

    assert asyncio.run(main()) == (1, 0)


def test_no_label_names_a_device(scraped):
    scrapes, run = scraped
    things = {f"device-{i}" for i in range(30)}
    assert things == set(run.trace.kind(Kind.BOOT).texts("thing"))
    assert not [name for scrape in scrapes for name in scrape if any("device-" in label for label in name)]


def test_a_process_whose_lag_is_not_known_has_none():
    now = Now(1, health={"mosquitto": {"cpu_share": 0.5}})
    found = {metric.name: metric.samples for metric in RunCollector(Scenario(), now).collect()}
    assert [s.value for s in found["fleetsim_process_cpu_share"]] == [0.5]
    assert not found["fleetsim_process_loop_lag_seconds"]


@pytest.mark.parametrize(
    ("words", "said"),
    [
        (("--metrics", "0.0.0.0:0"), "--metrics: 0.0.0.0 is not this machine; add --allow-remote 0.0.0.0"),
        (("--metrics", "9464"), "--metrics: '9464' is neither HOST:PORT nor :PORT, such as 127.0.0.1:9464"),
        (("--metrics", ":66000"), "neither HOST:PORT nor :PORT"),
        (("--metrics", ":0", "--world", "virtual"), "--metrics: a virtual run's clock is not Prometheus's"),
    ],
)
def test_what_cannot_be_is_refused_in_a_line_before_the_start(tmp_path, words, said):
    code, _, err = fleetsim("run", scenario(tmp_path), "--out", tmp_path / "runs", *words)
    assert code == 3
    assert said in err
    assert err.count("\n") == 1
    assert not (tmp_path / "runs").exists()


def test_a_port_in_use_is_said_in_a_line(tmp_path):
    with socket.socket() as taken:
        taken.bind(("127.0.0.1", 0))
        taken.listen()
        address = "{}:{}".format(*taken.getsockname())
        code, _, err = fleetsim("run", scenario(tmp_path), "--out", tmp_path, env={"FLEETSIM_METRICS": address})
    assert code == 3
    assert err == f"fleetsim: cannot listen on {address}: Address already in use\n"
