"""What went through, where it went and what failed: recounted by other means, and where there is little or nothing."""

import re
from collections import Counter

import pytest

from reports.run import effort, failures, flow, times
from reports.run.charts import Charts
from reports.run.sequence import sequence
from simulator.trace.targets import Targets
from tests.checks.traces import backed, failure, trace, update
from tests.reports.run.test_summary import LAST, ask
from tests.worlds.virtually import run, scenario


def one(path, sql):
    return ask(path, sql).fetchone()


BEGAN = "(SELECT min(t_us) FROM TRACE WHERE kind = 'rollout' AND status = 'begin')"


@pytest.mark.parametrize(
    ("step", "which"),
    [
        ("offers due", "kind = 'offer' AND status = 'sent'"),
        ("offers sent", "kind = 'offer' AND status = 'sent'"),
        ("deltas heard", "kind = 'delta'"),
        ("downloads ended", "kind = 'download' AND status IN ('200', '206')"),
        ("reports sent", "kind = 'report'"),
        ("ends accepted", "kind = 'answer' AND status = 'accepted' AND job IS NOT NULL"),
    ],
)
def test_steps_are_counted_since_the_rollout_began(left, step, which):
    numbers, path = left
    at = "t_us - span_us" if step == "offers due" else "t_us"
    since = f"FROM TRACE WHERE {which} AND {at} >= {BEGAN}"
    said = numbers["throughput"][step]
    assert said["total"] == one(path, f"SELECT count(*) {since}")[0] > 0
    peak = f"SELECT max(n) FROM (SELECT count(*) AS n {since} GROUP BY ({at} - {BEGAN}) // 1000000)"
    assert said["peak_per_s"] == one(path, peak)[0]


def test_bytes_are_what_the_devices_received(left):
    numbers, path = left
    total = one(path, "SELECT sum(size) FROM TRACE WHERE kind = 'download'")[0]
    most = one(path, f"""SELECT max(n) FROM (SELECT sum(size) AS n FROM TRACE WHERE kind = 'download'
        GROUP BY (t_us - {BEGAN}) // 1000000)""")[0]  # fmt: skip
    assert numbers["throughput"]["bytes downloaded"] == {"total": total, "peak_per_s": most}
    rolled_out = one(path, f"""SELECT (max(t_us) - {BEGAN}) / 1e6 FROM TRACE
        WHERE kind = 'rollout' AND status = 'end'""")[0]  # fmt: skip
    assert numbers["rolled_out_s"] == pytest.approx(rolled_out)
    installed = one(path, "SELECT sum(size) FROM TRACE WHERE kind = 'commit'")[0]
    said = numbers["effort"]["bytes downloaded"]
    assert (said["done"], said["needed"]) == (total, installed)
    assert said["times"] == pytest.approx(total / installed)


def test_the_fan_out_is_when_each_device_first_heard(left):
    numbers, path = left
    heard = f"""SELECT (min(t_us) - {BEGAN}) / 1e6 AS t FROM TRACE
        WHERE kind = 'delta' AND status IN ('start', 'supersede', 'installed') GROUP BY thing"""
    count, first, median, last = one(path, f"SELECT count(*), min(t), median(t), max(t) FROM ({heard})")
    said = numbers["fan_out"]["rollout-1"]
    assert said["devices"] == count
    assert [said["first_s"], said["median_s"], said["last_s"]] == pytest.approx([first, median, last])
    tenth = count // 10
    low, high = (
        one(path, f"SELECT t FROM ({heard}) ORDER BY t OFFSET {n} LIMIT 1")[0] for n in (tenth, count - tenth - 1)
    )
    assert said["slope"] == pytest.approx((count - 2 * tenth - 1) / (high - low))


def test_the_slope_of_an_even_fan_out_is_its_rate():
    made = run(scenario(devices=200, rollout={"maximumPerMinute": 120}))
    assert flow.fan_out(made, Targets(made))["rollout-1"]["slope"] == pytest.approx(2.0, rel=0.01)


def test_what_is_under_way_begins_and_ends_at_nothing():
    made = run(scenario(devices=30, profile="wifi"))
    at, count = flow.under_way(made)
    assert count.min() == 0
    assert count[-1] == 0
    assert count.max() == 30
    assert (at[1:] >= at[:-1]).all()


def test_efforts_are_recounted(left):
    numbers, path = left
    done = {what: (e["done"], e["needed"]) for what, e in numbers["effort"].items()}
    sql = "SELECT count(*), count(DISTINCT job) FROM TRACE WHERE kind = "
    assert done["download requests"] == one(path, f"{sql}'download'")
    assert done["ends reported"] == one(path, f"{sql}'report' AND status IN ('SUCCESS', 'FAILURE')")
    assert done["attempts to connect"][0] == one(path, "SELECT count(*) FROM TRACE WHERE kind = 'connect'")[0]
    total = one(path, """SELECT count(*) FROM TRACE WHERE kind IN ('delta', 'report')
        OR (kind = 'answer' AND status IN ('accepted', 'rejected'))""")[0]  # fmt: skip
    assert sum(numbers["messages"].values()) == total


def test_a_waterfall_adds_up_and_is_of_the_update_it_names(left):
    numbers, path = left
    for share, which in ((0.5, "median"), (0.99, "p99")):
        course = numbers["waterfall"][which]
        assert sum(course["parts_s"].values()) == pytest.approx(course["total_s"])
        assert min(course["parts_s"].values()) > 0
        at = one(path, f"""SELECT quantile_disc(t, {share}) FROM (SELECT (e.t_us - o.t_us + o.span_us) / 1e6 AS t
            FROM TRACE e JOIN TRACE o USING (job) WHERE e.kind = 'execution' AND e.status = 'SUCCEEDED'
            AND o.kind = 'offer' AND o.status = 'sent')""")[0]  # fmt: skip
        assert course["total_s"] == pytest.approx(at, rel=0.2)
        install = one(path, f"""SELECT sum(span_us) / 1e6 FROM TRACE WHERE kind = 'phase' AND phase = 'installing'
            AND job = '{course["job"]}'""")[0]  # fmt: skip
        assert course["parts_s"]["installing"] == pytest.approx(install)


def test_failures_are_all_that_did_not_succeed_with_their_reason_and_phase(left):
    numbers, path = left
    states = {}
    for found in numbers["failures"]:
        states[found["state"]] = states.get(found["state"], 0) + found["targets"]
    counted = dict(ask(path, f"SELECT state, count(*) FROM ({LAST}) GROUP BY state").fetchall())
    assert states == {state: n for state, n in counted.items() if state != "SUCCEEDED"}
    told = {(f["state"], f["phase"], f["reason"]) for f in numbers["failures"]}
    assert ("FAILED", "rebooting", "boot failed") in told
    why = ask(path, f"""SELECT state, regexp_replace(e.why, '[0-9.]+ s', '… s') AS reason, t.detail, count(*) FROM ({LAST}) l
        JOIN (SELECT thing, arg_max(detail, seq) AS why FROM TRACE WHERE kind = 'execution' GROUP BY thing) e USING (thing)
        JOIN TRACE t USING (thing) WHERE t.kind = 'target' AND state != 'SUCCEEDED' GROUP BY 1, 2, 3""").fetchall()  # fmt: skip
    shown = Counter()
    for found in numbers["failures"]:
        shown[found["state"], found["reason"], found["cohort"]] += found["targets"]
    assert {(*what, n) for what, n in shown.items()} == set(why)
    assert {reason for state, _, reason in told if state == "TIMED_OUT"} == {"silent for … s"}


def test_what_varies_in_a_reason_makes_no_other_reason():
    events = [
        *failure(
            "d-0", "r.d-0.0", ended={"status": "FAILED", "detail": "sha256 0123456789ab…, announced ba9876543210…"}
        ),
        *failure(
            "d-1", "r.d-1.0", ended={"status": "FAILED", "detail": "sha256 aaaaaaaaaaaa…, announced bbbbbbbbbbbb…"}
        ),
        *failure("d-2", "r.d-2.0", ended={"status": "FAILED", "detail": "size 12, announced 4096"}),
    ]
    made = trace(*events)
    found = failures.failures(made, Targets(made))
    assert [(f.reason, f.targets) for f in found] == [("sha256 …, announced …", 2), ("size …, announced …", 1)]


def test_the_slowest_come_first_and_those_that_never_converged_not_at_all():
    made = run(scenario(devices=20, profile="flaky", run_time="3h"))
    targets = Targets(made)
    took = times.converged_s(made, targets)
    found = took[failures.slowest(made, targets, 5)]
    assert list(found) == sorted(took[took == took], reverse=True)[:5]


def test_waves_take_their_targets_in_order():
    made = run(scenario(devices=20, rollout={"waves": [{"share": "25%"}, {"share": "75%"}]}))
    targets = Targets(made)
    parts = times.waves(made, targets)
    assert {name: int(ours.sum()) for name, ours in parts.items()} == {"wave 1": 5, "wave 2": 15}
    took = times.converged_s(made, targets)
    assert took[parts["wave 1"]].max() <= took[parts["wave 2"]].min()
    assert "wave 2 (15)" in Charts(made).by_wave()


# ---- pictures


def test_each_picture_says_what_it_shows():
    made = run(scenario(devices=40, profile="wifi"))
    charts = Charts(made)
    for drawn in (
        charts.convergence(),
        charts.throughput(),
        charts.latency(),
        charts.distributions(),
        charts.waterfall(),
    ):
        assert drawn.startswith("<svg")
        assert re.search(
            r"seconds( since the rollout began| since the offer was due)?</text>|>\d+ (ms|s)</text>", drawn
        )
    assert (charts.by_wave(), charts.health(0.1)) == ("", "")


def test_times_that_are_many_and_end_at_once_are_drawn_all_the_same():
    made = run(scenario(devices=1600))
    assert "500 of 1,600</text>" in Charts(made).latency()


@pytest.mark.parametrize("events", [[], update()[:1], update()[:2], update(), failure()], ids=str)
def test_pictures_of_little_or_nothing(events):
    charts = Charts(trace(*events))
    for draw in (charts.convergence, charts.by_wave, charts.throughput, charts.latency, charts.distributions):
        assert draw() == "" or draw().startswith("<svg")
    assert len(charts.waterfall()) > 0 or effort.waterfall(trace(*events)) == {}


def test_no_two_pictures_of_a_page_share_a_name(left):
    text = (left[1] / "report.html").read_text()
    names = re.findall(r' id="([^"]*)"', text)
    assert names
    assert len(names) == len(set(names))


def test_health_is_drawn_with_the_band_in_which_a_run_is_invalid():
    beats = [("health", "", {"t_us": n, "detail": '{"process":"shard-0","cpu_share":0.5,"rss_bytes":1,"loop_lag_us":[9]}'})
             for n in (1, 2, 3)]  # fmt: skip
    drawn = Charts(trace(*update(), *beats)).health(0.1)
    assert "shard-0</text>" in drawn
    assert "INVALID if the p99 of a shard" in drawn


def test_an_update_is_told_message_by_message():
    drawn = sequence(trace(*backed()), "r.d-0.0")
    said = re.findall(r"<text[^>]*>([^<]*)</text>", drawn)
    story = ["desired 2", "accepted, document 2", "delta 2", "hears of it: start", "GET: 200, 9 B", "slot written",
             "boots 2", "runs 2", "SUCCESS 2", "accepted, document 3", "SUCCEEDED"]  # fmt: skip
    assert [text for text in said if text in story] == story
    assert sequence(trace(*backed()), "nobody's") == ""


def test_nothing_of_a_backend_slips_into_the_picture_as_markup():
    drawn = sequence(trace(*backed(commit={"job": "<script>"}, delta={"status": "<b>"})), "r.d-0.0")
    assert "<b>" not in drawn
    assert "&lt;b&gt;" in drawn
