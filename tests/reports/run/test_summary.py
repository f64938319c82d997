"""summary.json and the end of a run in the terminal: numbers recounted by other means, evidence, what is missing."""

import duckdb
import pytest

from reports import files
from reports.run import summary
from reports.run.times import QUANTILES
from simulator.checks.judge import judge
from simulator.model.verdict import Finding, Judgement, Limit, Verdict
from simulator.trace.reader import Trace, in_order
from tests.checks.traces import failure, trace, update
from tests.worlds.virtually import scenario


def ask(path, sql):
    return duckdb.sql(sql.replace("TRACE", f"'{path}/trace.parquet'").replace("DEVICES", f"'{path}/devices.csv'"))


LAST = "SELECT thing, arg_max(status, seq) AS state FROM TRACE WHERE kind = 'execution' GROUP BY thing"
DONE = f"""
    WITH runs AS (SELECT thing, arg_max(digest, seq) AS digest FROM TRACE
                  WHERE kind IN ('boot', 'confirm', 'rollback', 'retired') GROUP BY thing),
         told AS (SELECT thing, max(t_us) AS t_us FROM TRACE
                  WHERE kind = 'execution' AND status = 'SUCCEEDED' GROUP BY thing),
         known AS (SELECT thing, arg_max(version, seq) AS version, max(t_us) AS t_us FROM TRACE
                   WHERE kind = 'replica.accepted' AND status IN ('reported', 'both') GROUP BY thing)
    SELECT CASE WHEN state = 'SUCCEEDED' THEN told.t_us WHEN known.version = t.version THEN known.t_us END AS t_us,
        t.detail AS cohort
    FROM TRACE t JOIN ({LAST}) USING (thing) JOIN runs ON runs.thing = t.thing AND runs.digest = t.digest
    LEFT JOIN told ON told.thing = t.thing LEFT JOIN known ON known.thing = t.thing
    WHERE t.kind = 'target'"""

SPANS = """
    WITH due AS (SELECT job, t_us - span_us AS due FROM TRACE WHERE kind = 'offer' AND status = 'sent'),
         heard AS (SELECT job, min(t_us) AS t_us FROM TRACE
                   WHERE kind = 'delta' AND status IN ('start', 'supersede', 'installed') GROUP BY job)
    SELECT phase AS step, span_us AS us FROM TRACE WHERE kind = 'phase' AND phase != 'idle'
    UNION ALL SELECT 'connect', span_us FROM TRACE WHERE kind = 'connect' AND status IN ('new', 'resumed')
    UNION ALL SELECT 'offer to delta', t_us - due FROM heard JOIN due USING (job)
    UNION ALL SELECT 'whole update', t_us - due FROM TRACE t JOIN due USING (job)
        WHERE t.kind = 'execution' AND t.status = 'SUCCEEDED'"""


def test_outcomes_are_the_last_state_of_each_target(left):
    numbers, path = left
    assert len(numbers["outcomes"]) > 1
    assert numbers["outcomes"] == dict(ask(path, f"SELECT state, count(*) FROM ({LAST}) GROUP BY state").fetchall())
    assert numbers["targets"] == sum(numbers["outcomes"].values()) == 60
    by_cohort = ask(path, f"""SELECT t.detail, state, count(*) FROM ({LAST}) e JOIN TRACE t ON t.thing = e.thing
        WHERE t.kind = 'target' GROUP BY 1, 2""").fetchall()  # fmt: skip
    said = {(c, s, n) for c, part in numbers["cohorts"].items() for s, n in part["outcomes"].items()}
    assert said == set(by_cohort)


def test_times_to_shares_keep_those_that_never_finish(left):
    numbers, path = left
    began = ask(path, "SELECT t_us FROM TRACE WHERE kind = 'rollout' AND status = 'begin'").fetchone()[0]
    done = ask(path, f"SELECT t_us, cohort FROM ({DONE}) WHERE t_us IS NOT NULL ORDER BY 1").fetchall()
    late = numbers["targets"] - len(done)
    assert 60 - numbers["outcomes"]["SUCCEEDED"] > late > 0  # some of those timed out came through all the same
    assert numbers["stuck"] == late
    for part, times in (
        (numbers, [t for t, _ in done]),
        *((part, [t for t, cohort in done if cohort == name]) for name, part in numbers["cohorts"].items()),
    ):
        for share, said in part["converged_s"].items():
            needed = -(-part["targets"] * int(share[:-1]) // 100)
            expected = (times[needed - 1] - began) / 1e6 if needed <= len(times) else None
            assert said == (pytest.approx(expected) if expected is not None else None)


def test_quantiles_of_each_phase(left):
    numbers, path = left
    rows = ask(path, f"""SELECT step, count(*), min(us), {", ".join(f"quantile_cont(us, {q})" for q in (0.5, 0.9, 0.95, 0.99))},
        max(us) FROM ({SPANS}) WHERE us IS NOT NULL GROUP BY step""").fetchall()  # fmt: skip
    assert {step for step, *_ in rows} == numbers["phases_s"].keys() >= {"downloading", "installing", "rolling-back"}
    for step, count, *quantiles in rows:
        q = numbers["phases_s"][step]
        assert q["count"] == count
        assert [q[name] for name in QUANTILES] == pytest.approx([us / 1e6 for us in quantiles])


def test_bytes_and_events(left):
    numbers, path = left
    served = ask(path, "SELECT sum(size) FROM TRACE WHERE kind = 'storage.served'").fetchone()[0]
    assert numbers["bytes_served"] == served > 60 * 65536
    assert numbers["events"] == ask(path, "SELECT count(*) FROM TRACE").fetchone()[0]


def test_devices_csv_adds_up(left):
    numbers, path = left
    columns = ask(path, "SELECT * FROM DEVICES").columns
    assert tuple(columns) == files.DEVICE_COLUMNS
    counted = ask(path, "SELECT outcome, count(*) FROM DEVICES GROUP BY 1").fetchall()
    assert dict(counted) == numbers["outcomes"]
    total = ask(path, "SELECT sum(bytes), sum(attempts), count(converged_s), max(converged_s) FROM DEVICES").fetchone()
    downloaded = ask(path, "SELECT sum(size) FROM TRACE WHERE kind = 'download'").fetchone()[0]
    attempts = ask(path, "SELECT count(*) FROM TRACE WHERE kind = 'execution' AND status = 'IN_PROGRESS'").fetchone()[0]
    assert total[:3] == (downloaded, attempts, 60 - numbers["stuck"])
    assert attempts > 60
    waited = ask(
        path,
        """SELECT sum(first - began) / 1e6 FROM
        (SELECT min(t_us) AS first FROM TRACE WHERE kind = 'execution' AND status = 'IN_PROGRESS' GROUP BY thing),
        (SELECT t_us AS began FROM TRACE WHERE kind = 'rollout' AND status = 'begin')""",
    ).fetchone()[0]
    assert ask(path, "SELECT sum(offered_s) FROM DEVICES").fetchone()[0] == pytest.approx(waited, abs=1e-4)
    cohorts = ask(path, "SELECT cohort, count(*) FROM DEVICES GROUP BY 1").fetchall()
    assert dict(cohorts) == {"home": 40, "field": 20}
    one = ask(path, "SELECT reason, offered_s FROM DEVICES WHERE outcome = 'TIMED_OUT' LIMIT 1").fetchone()
    assert one[0] == "silent for 600 s"
    assert one[1] >= 0


def test_limits_stand_beside_their_values(left):
    numbers, _ = left
    offered = next(limit for limit in numbers["limits"] if limit["name"].startswith("offered"))
    assert offered == {"name": "offered of what was scheduled", "value": 1.0, "allowed": 0.99, "at_most": False,
                       "held": True}  # fmt: skip
    assert "offered of what was scheduled: 100.00%, allowed at least 99.00%" in summary.as_text(numbers, "r")


def test_offers_never_heard_and_deltas_never_offered_have_no_latency():
    unheard = ("offer", "d-1", {"job": "unheard", "status": "sent", "t_us": 1, "span_us": 0})
    unoffered = ("delta", "d-1", {"job": "unoffered", "status": "start"})
    offer = {"t_us": 6, "span_us": 2}
    numbers = summed([unheard, unoffered, *update(offer=offer, delta={"t_us": 104})])
    q = numbers["phases_s"]["offer to delta"]
    assert (q["count"], q["max"]) == (1, pytest.approx(100e-6))


# ---- evidence


def summed(events, judgement=None, manifest=None):
    made = events if isinstance(events, Trace) else trace(*events)
    found = judgement or Judgement(judge(made, scenario()))
    return summary.summarise(manifest or {"scenario": {"name": "s", "fleet": {"devices": 1}}}, made, found)


def test_a_finding_shows_the_events_around_the_first_offence_of_its_device():
    events = [*update("d-1", "r.d-1.0"), *update(report={"version": "9"})]
    numbers = summed(events)
    found = next(f for f in numbers["findings"] if f["check"] == "S11-true-success")
    marked = [line for line in found["evidence"] if line.startswith(">")]
    assert len(marked) == 1
    assert "version=9" in marked[0]
    assert 3 <= len(found["evidence"]) <= 8
    assert not any("d-1" in line for line in found["evidence"])
    shown = summary.as_text(numbers, "r")
    assert all(line in shown for line in found["evidence"])
    assert "✗ S11-true-success" in shown


def test_an_event_of_no_device_is_its_own_evidence():
    numbers = summed(update(counters={"detail": '{"SUCCEEDED":7}'}))
    found = next(f for f in numbers["findings"] if f["check"] == "S8-counters")
    assert [line[0] for line in found["evidence"]] == [">"]
    assert '{"SUCCEEDED":7}' in found["evidence"][0]


def test_what_passes_and_what_is_unknown_needs_no_evidence():
    numbers = summed(update(target=None))
    assert {f["verdict"] for f in numbers["findings"]} == {"PASS", "UNKNOWN", "NO OCCASION"}
    assert not any(f["evidence"] for f in numbers["findings"])


# ---- runs that do not count


def test_an_interrupted_run_says_what_is_missing():
    made = [*update(), *update("d-1", "r.d-1.0", ended=None, retired=None)]
    made = [e for e in made if e[0] not in ("counters", "rollout")]
    interrupted = Judgement((), incomplete=("interrupted",))
    numbers = summed(made, interrupted, {"scenario": {"name": "s", "fleet": {"devices": 5}}})
    assert numbers["missing"] == [
        "3 of 5 devices were never started", "1 of 2 devices' records break off", "1 of 2 targets had not ended",
        "rollout-1 had not ended",
    ]  # fmt: skip
    shown = summary.as_text(numbers, "r")
    assert "UNKNOWN" in shown.splitlines()[0]
    assert "not complete: interrupted" in shown
    assert "not complete: 3 of 5 devices were never started" in shown


def test_a_run_before_its_rollout_says_so():
    numbers = summed([], Judgement((), died=("shard-0 died",)))
    assert "no rollout had begun" in numbers["missing"]
    assert (numbers["targets"], numbers["outcomes"], numbers["converged_s"]["50%"]) == (0, {}, None)
    assert "shard-0 died" in summary.as_text(numbers, "r")


def test_a_complete_run_misses_nothing():
    assert summed(update())["missing"] == []


def test_an_invalid_run_names_the_bottleneck():
    invalid = Judgement(
        (), ("loop lag p99 of shard-0: 0.5 s, allowed 0.1 s",), limits=(Limit("loop lag, s", 0.5, 0.1),)
    )
    shown = summary.as_text(summed(update(), invalid), "r")
    assert "the load generator was the bottleneck: loop lag" in shown
    assert "! loop lag: 0.500 s, allowed at most 0.100 s" in shown


def test_rollouts_after_one_another_are_shown_apart():
    second = update(job="q.d-0.0", rollout="rollout-2", version="3", digest="3" * 64, boot=None, initial=None)
    numbers = summed([*failure(retired=None), *second])
    assert {name: part["outcomes"] for name, part in numbers["rollouts"].items()} == {
        "rollout-1": {"FAILED": 1}, "rollout-2": {"SUCCEEDED": 1},
    }  # fmt: skip
    assert "rollout-2: 1 target: 1 succeeded" in summary.as_text(numbers, "r")


def test_the_seed_comes_first_and_last_and_a_failure_says_how_to_repeat_it():
    found = Judgement((Finding("L2", "t", Verdict.FAIL, "no"),))
    lines = summary.as_text(summed(update(), found, {"scenario": {"name": "s"}, "seed": 7, "repeat": "fleetsim run s"}),
                         "there").splitlines()  # fmt: skip
    assert lines[0].endswith("seed 7")
    assert lines[-1].split() == ["seed", "7"]
    assert lines[-2].split(maxsplit=1) == ["repeat", "fleetsim run s"]


def test_an_empty_trace_has_a_summary():
    numbers = summary.summarise({}, Trace(in_order([])), Judgement(()))
    assert (numbers["events"], numbers["span_s"], numbers["phases_s"]) == (0, 0.0, {})
