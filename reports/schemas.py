"""The JSON Schemas of summary.json and comparison.json: what each key holds, and in which unit.

`SCHEMAS` maps `summary` and `comparison` to a schema of draft 2020-12. `fleetsim schema` prints them. Versions and names are
taken from the modules that make the documents. No object may have keys that its schema does not name, so a new key of
`reports.run.summary` or `reports.comparison.compare` must be described here too.
"""

from __future__ import annotations

from typing import Any

from reports.comparison import compare
from reports.comparison.compare import ComparisonVerdict
from reports.comparison.differences import Change
from reports.run import summary
from reports.run.failures import Failure
from reports.run.times import QUANTILES
from simulator.model.update import State
from simulator.model.verdict import Verdict

Schema = dict[str, Any]

_DRAFT = "https://json-schema.org/draft/2020-12/schema"
_TEXT: Schema = {"type": "string"}
_COUNT: Schema = {"type": "integer", "minimum": 0}
_NUMBER: Schema = {"type": "number"}
_FLAG: Schema = {"type": "boolean"}


def _described(schema: Schema, description: str) -> Schema:
    return schema | {"description": description}


def _or_null(schema: Schema, description: str) -> Schema:
    return {"anyOf": [schema, {"type": "null"}], "description": description}


def _list(items: Schema, description: str) -> Schema:
    return {"type": "array", "items": items, "description": description}


def _each(values: Schema, description: str) -> Schema:
    """An object with any keys, and a value of this schema under each."""
    return {"type": "object", "additionalProperties": values, "description": description}


def _object(**keys: Schema) -> Schema:
    """An object with all of these keys and no others."""
    return {"type": "object", "properties": keys, "required": [*keys], "additionalProperties": False}


def _document(title: str, description: str, schema: Schema) -> Schema:
    return {"$schema": _DRAFT, "title": title, "description": description} | schema


def _one_of(*values: Any) -> Schema:
    return {"enum": [*values]}


_FOUND = _one_of(*(verdict.value for verdict in Verdict if verdict is not Verdict.INVALID))
_VERDICT = _one_of(*(verdict.value for verdict in Verdict if not verdict.silent))
_OUTCOMES = _described(
    {"type": "object", "propertyNames": _one_of(*(state.value for state in State)), "additionalProperties": _COUNT},
    "targets by the state of their last attempt",
)
_CONVERGED = _each(
    _or_null(_NUMBER, "seconds; null: never"), "share of the targets, as 50%, and after how many seconds it converged"
)
_PART = _object(targets=_COUNT, outcomes=_OUTCOMES, converged_s=_CONVERGED)
_FINDING = _object(
    check=_described(_TEXT, "the check's name, or threshold-NAME"),
    title=_described(_TEXT, "what is promised"),
    verdict=_FOUND,
    safety=_described(_FLAG, "false: a promise of liveness, which counts in a valid and complete run alone"),
    summary=_described(_TEXT, "what was found"),
    things=_list(_TEXT, "the devices concerned"),
    events=_list(_COUNT, "rows of the trace, the first that offends first"),
    evidence=_list(_TEXT, "the first of them, marked by >, among those of its device around it"),
)
_LIMIT = _object(name=_TEXT, value=_NUMBER, allowed=_NUMBER, at_most=_described(_FLAG, "false: at least"), held=_FLAG)
_FAILURE = _object(**{name: _COUNT if name == "targets" else _TEXT for name in Failure._fields})
_FAULT = _object(
    fault=_TEXT,
    on=_described(_TEXT, "the server; empty: devices"),
    devices=_COUNT,
    strikes=_COUNT,
    begin_s=_or_null(_NUMBER, "seconds since the first rollout began; null: by the device's step"),
    end_s=_or_null(_NUMBER, "likewise"),
)
_FAN_OUT = _object(
    devices=_described(_COUNT, "that heard of it"),
    first_s=_or_null(_NUMBER, "seconds since the rollout began"),
    median_s=_or_null(_NUMBER, "likewise"),
    last_s=_or_null(_NUMBER, "likewise"),
    slope=_or_null(_NUMBER, "devices a second between the tenth and the ninetieth percent"),
)
_COURSE = _object(thing=_TEXT, job=_TEXT, total_s=_NUMBER, parts_s=_each(_NUMBER, "step -> seconds"))
_EFFORT = _object(done=_COUNT, needed=_COUNT, times=_or_null(_NUMBER, "done for each that was needed"))
_OF_A_RUN = {
    "targets": _described(_COUNT, "things of rollouts"),
    "outcomes": _OUTCOMES,
    "stuck": _described(_COUNT, "targets that never converged"),
    "converged_s": _CONVERGED,
    "throughput": _each(_object(total=_NUMBER, peak_per_s=_NUMBER), "step -> how many, and the most in one second"),
    "fan_out": _each(_FAN_OUT, "rollout -> how its desired state spread"),
    "effort": _each(_EFFORT, "what was done -> how often, and how often it had to be"),
    "messages": _each(_COUNT, "messages of the devices, by what they said"),
    "phases_s": _each(
        _object(count=_COUNT, **dict.fromkeys(QUANTILES, _NUMBER)), "step -> how long it took, in seconds"
    ),
}

_SUMMARY = _object(
    schema=_one_of(summary.SCHEMA_VERSION),
    scenario=_TEXT,
    seed=_or_null(_COUNT, "of all draws"),
    world=_or_null(_one_of("live", "virtual"), "where it ran"),
    version=_or_null(_TEXT, "fleetsim's"),
    began=_described(_TEXT, "ISO 8601, in UTC"),
    verdict=_VERDICT,
    exit_code=_one_of(0, 1, 2, 4),
    invalid=_list(_TEXT, "why the load generator was the bottleneck"),
    incomplete=_list(_TEXT, "why the run is not complete"),
    died=_list(_TEXT, "which part of ours died"),
    missing=_list(_TEXT, "what an incomplete run lacks"),
    findings=_list(_FINDING, "of each check and threshold"),
    limits=_list(_LIMIT, "of validity"),
    stopped=_each(_TEXT, "rollout that was paused to the end, or aborted -> in which wave, and why"),
    rollouts=_each(_PART, "rollout -> its targets"),
    cohorts=_each(_PART, "cohort -> its targets"),
    waves=_each(_PART, "wave -> its targets"),
    failures=_list(_FAILURE, "targets that did not succeed, by reason; the most frequent first"),
    faults=_list(_FAULT, "what was done on purpose"),
    rolled_out_s=_described(_NUMBER, "seconds from when the first rollout began until the last ended"),
    waterfall=_each(_COURSE, "median, p99 -> where that update's time went"),
    events=_described(_COUNT, "recorded"),
    span_s=_described(_NUMBER, "seconds of fleet time recorded"),
    bytes_served=_described(_COUNT, "what the storage sent; 0 where it is not fleetsim's"),
    bytes_received=_described(_COUNT, "what devices received"),
    clocks=_list(
        _object(process=_TEXT, host=_TEXT, offset_s=_NUMBER, error_s=_NUMBER), "of other hosts, as they were compared"
    ),
    repeat=_described(_TEXT, "the command that repeats it"),
    **_OF_A_RUN,
)

_CHANGE = _one_of(*(change.value for change in Change))
_OUTCOME = _one_of(*(outcome.value for outcome in ComparisonVerdict))
_RUN = _object(
    name=_described({"type": "string", "pattern": "^[A-Z]$"}, "A is the baseline"),
    path=_TEXT,
    scenario=_TEXT,
    seed=_SUMMARY["properties"]["seed"],
    world=_SUMMARY["properties"]["world"],
    version=_SUMMARY["properties"]["version"],
    verdict=_VERDICT,
    repeat=_SUMMARY["properties"]["repeat"],
    host=_TEXT,
    began=_TEXT,
    devices=_COUNT,
    counts=_described(_FLAG, "valid and complete; what is not decides nothing by its figures"),
    against=_list(_TEXT, "why it does not count"),
    not_passed=_each(_one_of("FAIL", "UNKNOWN"), "check -> its verdict, where that is FAIL or UNKNOWN"),
    **_OF_A_RUN,
)
_FIGURE = _object(
    figure=_TEXT,
    unit=_described(_one_of("s", "share", "ratio", "rate"), "s: seconds; rate: a second"),
    less_is_worse=_FLAG,
    baseline=_or_null(_NUMBER, "in its unit; null: never reached, or none"),
    run=_or_null(_NUMBER, "likewise"),
    difference=_or_null(_NUMBER, "as a share of the baseline's; of a share: the difference itself; null: no bound"),
    low=_or_null(_NUMBER, "the interval of the difference; null: no bound"),
    high=_or_null(_NUMBER, "likewise"),
    allowed=_described(_NUMBER, "the tolerance, as the difference"),
    values=_described(_COUNT, "of how many values it is, in the run that has fewer"),
    needed=_described(_COUNT, "how many it takes to be judged"),
    change=_CHANGE,
    why=_TEXT,
)
_AGAINST = _object(
    run=_TEXT,
    verdict=_OUTCOME,
    why=_list(_TEXT, "what made it so"),
    warnings=_list(_TEXT, "why the runs can hardly be compared"),
    settings=_list(
        {"type": "array", "prefixItems": [_TEXT, _TEXT, _TEXT], "items": False}, "setting, the baseline's, the run's"
    ),
    paired=_described(_FLAG, "both have the same targets, and these were drawn in pairs"),
    checks=_list(
        _object(
            check=_TEXT,
            baseline=_or_null(_FOUND, "null: not judged"),
            run=_or_null(_FOUND, "null: not judged"),
            change=_CHANGE,
            why=_TEXT,
        ),
        "whose verdict changed",
    ),
    figures=_list(_FIGURE, "what is compared"),
)
_COMPARISON = _object(
    schema=_one_of(compare.SCHEMA_VERSION),
    verdict=_OUTCOME,
    exit_code=_one_of(0, 1, 2),
    tolerance=_described(_NUMBER, "how much worse times, sizes and rates may be, as a share of the baseline's"),
    tolerance_failed=_described(_NUMBER, "by how much more of the targets may not succeed"),
    least_s=_described(_NUMBER, "times that differ by less do not differ, in seconds"),
    confidence=_described(_NUMBER, "that all intervals of one comparison hold together"),
    drawings=_described(_COUNT, "of the bootstrap"),
    runs=_list(_RUN, "the baseline first"),
    comparisons=_list(_AGAINST, "one for each run but the first"),
)
SCHEMAS = {
    "summary": _document(
        "fleetsim: summary.json",
        "The numbers of one run. Devices that never finished stay in every denominator.",
        _SUMMARY,
    ),
    "comparison": _document("fleetsim: comparison.json", "Runs compared with the first of them.", _COMPARISON),
}
