"""Judging a trace of ten million events: CPU, wall time and memory of the checks, the numbers and the report.

To reach: judging in 60 s and 4 GiB; the report of ten million events in 30 s and 4 GiB, of 100,000 in 4 s.
The trace is a virtual run of 2,000 devices, laid beside itself under other names and at other times.
Usage: python -m tests.bench.judge [EVENTS] [merge]
"""

import json
import multiprocessing
import resource
import sys
import tempfile
import time
from pathlib import Path

import numpy as np
import pyarrow as pa

from reports import files
from reports.run import page, summary
from simulator.checks.judge import CHECKS, judge
from simulator.checks.validity import validity
from simulator.model.events import Kind
from simulator.model.scenario import parse_scenario
from simulator.model.verdict import Judgement
from simulator.trace.reader import Trace, in_order, read_parquet, write_parquet
from simulator.trace.recorder import BATCH_EVENTS, SCHEMA, StreamFile
from simulator.trace.rundir import collect
from simulator.worlds import virtual

BASE = 2_000
SCENARIO = f"""
name: judged
world: virtual
fleet:
  devices: {BASE}
  ramp: 10m
  cohorts: [{{name: home, profile: wifi, share: 90%}}, {{name: field, profile: flaky}}]
target: {{probe: false}}  # its thing would be the next copy's first
rollout: {{size: 16KiB, maximumPerMinute: {BASE / 45}, retryConfig: {{failed: 1}}}}
run_time: 6h
"""
MERGED = {"rollout.maximumPerMinute": 1e6}  # the copies together keep to no rate
ONCE = (Kind.RUN, Kind.STAGE, Kind.ROLLOUT, Kind.BROKER)
SHIFT_US = 1_700_000


def tiled(events):
    """About this many events: the base run, copied; things, jobs and times differ from copy to copy."""
    batches = []
    virtual.run(parse_scenario(SCENARIO), batches.append)
    base = Trace(in_order(batches))
    once = base.kind(*ONCE).rows
    counted = base.kind(Kind.COUNTERS).where("status", "final")
    final = json.loads(counted.texts("detail")[0])
    each = np.setdiff1d(np.arange(len(base)), np.concatenate([once, base.kind(Kind.COUNTERS).rows]))
    copies = -(-events // len(each))
    rows = np.concatenate([once, counted.rows, np.tile(each, copies)])
    copy = np.concatenate([np.zeros(len(once) + 1, np.int64), np.repeat(np.arange(copies), len(each))])
    columns = {name: base.column(name)[rows] for name in SCHEMA.names}
    columns["t_us"] = columns["t_us"] + copy * SHIFT_US
    end = columns["t_us"].max()
    closing = np.isin(rows, [*once[-3:], *counted.rows])  # settle, end, broker, counters
    columns["t_us"][closing] = end + np.arange(1, closing.sum() + 1)
    columns["size"] = np.where(
        np.isin(rows, [*base.kind(Kind.ROLLOUT).rows, *counted.rows]), BASE * copies, columns["size"]
    )
    words = {name: base.words(name) for name in SCHEMA.names if SCHEMA.field(name).type == pa.string()}
    for name in ("thing", "job"):
        columns[name] = np.where(columns[name] >= 0, columns[name] + copy * len(words[name]), -1)
        words[name] = [_renamed(word, nth) for nth in range(copies) for word in words[name]]
    words["detail"] = [*words["detail"], json.dumps({state: n * copies for state, n in final.items()})]
    columns["detail"] = np.where(np.isin(rows, counted.rows), len(words["detail"]) - 1, columns["detail"])
    order = np.argsort(columns["t_us"], kind="stable")
    columns = {name: values[order] for name, values in columns.items()}
    columns["seq"] = np.arange(1, len(order) + 1)
    return pa.table(
        [_column(columns[name], words.get(name), SCHEMA.field(name).type) for name in SCHEMA.names], SCHEMA.names
    )


def _renamed(word, nth):
    head, dash, rest = word.partition("device-")
    number, dot, attempt = rest.partition(".")
    return f"{head}device-{int(number) + nth * BASE}{dot}{attempt}" if dash else word


def _column(values, words, kind):
    if words is None:
        return pa.array(values, kind, mask=values == -1)
    return pa.DictionaryArray.from_arrays(pa.array(values, pa.int32(), mask=values < 0), pa.array(words, pa.string()))


def measured(what, work, *words):
    """Run in a process of its own: what it says, its CPU and wall seconds and peak memory."""
    context = multiprocessing.get_context("spawn")
    ours, theirs = context.Pipe()
    process = context.Process(target=_child, args=(theirs, work, words))
    process.start()
    said, cpu, wall, peak = ours.recv()
    process.join()
    print(f"{what:<28} {cpu:6.1f} s CPU {wall:6.1f} s wall {peak:7,.0f} MiB   {said}", flush=True)


def _child(pipe, work, words):
    began, cpu = time.monotonic(), time.process_time()
    said = work(*words)
    peak = resource.getrusage(resource.RUSAGE_SELF).ru_maxrss / 1024
    pipe.send((said, time.process_time() - cpu, time.monotonic() - began, peak))


def judging(path):
    scenario = parse_scenario(SCENARIO, overrides=MERGED)
    trace = Trace(read_parquet(path))
    findings, health = judge(trace, scenario), validity(trace, scenario)
    return (
        f"{len(trace):,} events: "
        + ", ".join(f"{f.check[:3]} {f.verdict}" for f in findings)
        + f", {len(health.limits)} limits"
    )


def one_check(path, name):
    scenario = parse_scenario(SCENARIO, overrides=MERGED).model_copy(update={"checks": (name,)})
    trace = Trace(read_parquet(path))
    return judge(trace, scenario)[0].summary[:100]


def reporting(path, out):
    scenario = parse_scenario(SCENARIO)
    trace = Trace(read_parquet(path))
    manifest = {"scenario": scenario.model_dump(mode="json"), "seed": 1}
    numbers = summary.summarise(manifest, trace, Judgement(()))
    files.write_devices(out / "devices.csv", trace)
    page.write_report(out / "report.html", manifest, trace, numbers)
    return f"report.html {(out / 'report.html').stat().st_size / 1e6:.2f} MB, devices.csv {(out / 'devices.csv').stat().st_size / 1e6:.1f} MB"


def merging(path):
    trace, _ = collect(path)
    return f"{len(trace):,} events, trace.parquet {(path / 'trace.parquet').stat().st_size / 1e6:.0f} MB"


PARTIES = {"run": 0, "stage": 0, "broker": 0, "target": 1, "rollout": 1, "offer": 1, "execution": 1, "counters": 1}


def shards(path, table):
    """The table as the streams of conductor, application, backend and two shards of devices."""
    (path / "parts").mkdir(parents=True)
    trace = Trace(table)
    of_kind = np.array([PARTIES.get(k, 2 if "." in k else 10) for k in trace.words("kind")])[trace.column("kind")]
    shard = np.where(of_kind == 10, 10 + trace.column("thing") % 2, of_kind)
    for number in np.unique(shard).tolist():
        rows = table.take(pa.array(np.flatnonzero(shard == number)))
        rows = rows.set_column(1, "shard", pa.array(np.full(len(rows), number), pa.int16())).combine_chunks()
        with StreamFile(path / "parts" / f"{number}.arrow") as stream:
            for batch in rows.cast(SCHEMA).to_batches(BATCH_EVENTS):
                stream(batch)


def making(events, out, parts):
    table = tiled(events)
    write_parquet(table, out / "trace.parquet")
    if parts:
        shards(out / "run", table)
    return f"{len(table):,} events, {(out / 'trace.parquet').stat().st_size / 1e6:.0f} MB"


def main() -> None:
    events = int(sys.argv[1]) if len(sys.argv) > 1 else 10_000_000
    with tempfile.TemporaryDirectory() as directory:
        out = Path(directory)
        measured("making the trace", making, events, out, "merge" in sys.argv)
        if "merge" in sys.argv:
            measured("merge of five streams", merging, out / "run")
        measured("all checks and validity", judging, out / "trace.parquet")
        for name in CHECKS:
            measured(f"  {name} alone", one_check, out / "trace.parquet", name)
        measured("summary, devices, report", reporting, out / "trace.parquet", out)


if __name__ == "__main__":
    main()
