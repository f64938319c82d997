"""The command line: `fleetsim VERB`, each verb a few lines. Exit codes: 0 PASS, 1 a promise was broken, 2 otherwise
not PASS, 3 nothing was started, 4 a part of ours died."""

from __future__ import annotations

import errno
import io
import json
import os
import shlex
import shutil
import sys
from collections.abc import Mapping, Sequence
from dataclasses import fields
from functools import partial
from pathlib import Path
from typing import TYPE_CHECKING, Annotated, Any

import typer

from simulator import __version__
from simulator.model.errors import FleetsimError, PartDied, ScenarioError
from simulator.model.quantity import many, share
from simulator.worlds.nopandas import hide_pandas

if TYPE_CHECKING:  # what a verb needs is imported when it is called: the others are quicker without
    from simulator.model.scenario import Scenario
    from simulator.worlds.live.options import Options

app = typer.Typer(add_completion=False, no_args_is_help=True, pretty_exceptions_enable=False)

ScenarioName = Annotated[str, typer.Argument(help="a scenario file, or the name of a shipped one")]
RunPath = Annotated[Path, typer.Argument(help="a run directory")]


Broker = Annotated[
    str | None, typer.Option(envvar="FLEETSIM_BROKER", help="embedded, mosquitto, or mqtt:// mqtts:// ws:// wss:// URL")
]
Database = Annotated[str | None, typer.Option(envvar="FLEETSIM_DATABASE", help="sqlite, or sqlite:PATH")]
AllowRemote = Annotated[
    list[str] | None, typer.Option(envvar="FLEETSIM_ALLOW_REMOTE", help="a host beyond this machine that is meant")
]

Ramp = Annotated[str | None, typer.Option(envvar="FLEETSIM_RAMP", help="200/s or 30s")]
RunTime = Annotated[str | None, typer.Option(envvar="FLEETSIM_RUN_TIME", help="the longest: 1h30m")]
Seed = Annotated[int | None, typer.Option(envvar="FLEETSIM_SEED", min=0)]
World = Annotated[str | None, typer.Option(envvar="FLEETSIM_WORLD", help="live or virtual")]
Storage = Annotated[str | None, typer.Option(envvar="FLEETSIM_STORAGE", help="embedded, or artifact's URL")]
Link = Annotated[str, typer.Option(envvar="FLEETSIM_LINK", help="lean or library")]
Processes = Annotated[int, typer.Option(envvar="FLEETSIM_PROCESSES", min=1, help="for the devices")]
Pooled = Annotated[bool, typer.Option(envvar="FLEETSIM_POOLED", help="downloads share connections")]
IfAddr = Annotated[list[str] | None, typer.Option(envvar="FLEETSIM_IFADDR", help="a local address to bind")]

Bind = Annotated[str, typer.Option(envvar="FLEETSIM_BIND", help="the address on which our servers listen")]
CaFile = Annotated[str | None, typer.Option(envvar="FLEETSIM_CAFILE", help="trusted certificates")]
Cert = Annotated[str | None, typer.Option(envvar="FLEETSIM_CERT", help="a client certificate")]
Key = Annotated[str | None, typer.Option(envvar="FLEETSIM_KEY", help="its key")]
Insecure = Annotated[bool, typer.Option(envvar="FLEETSIM_INSECURE", help="do not check certificates")]


_NOT_SELF_TESTED = ("broker", "database", "storage", "fault", "operators", "metrics", "csv", "html", "junit",
                    "check_determinism")  # fmt: skip


def _version(asked: bool) -> None:
    if asked:
        print(f"fleetsim {__version__}")
        raise typer.Exit


@app.callback(help=__doc__)
def fleetsim(
    version: Annotated[bool, typer.Option("--version", help="print it", callback=_version, is_eager=True)] = False,
) -> None:
    """What holds for every verb."""


@app.command()
def run(
    scenario: ScenarioName,
    devices: Annotated[int | None, typer.Option("-c", "--devices", envvar="FLEETSIM_DEVICES", min=1)] = None,
    ramp: Ramp = None,
    first_index: Annotated[int | None, typer.Option(envvar="FLEETSIM_FIRST_INDEX", min=0)] = None,
    run_time: RunTime = None,
    seed: Seed = None,
    world: World = None,
    broker: Broker = None,
    database: Database = None,
    storage: Storage = None,
    fault: Annotated[
        list[str] | None, typer.Option(envvar="FLEETSIM_FAULT", help="one more, on all devices from the start")
    ] = None,
    operators: Annotated[
        int | None, typer.Option(envvar="FLEETSIM_OPERATORS", min=1, help="each rolls out to a part of the targets")
    ] = None,
    link: Link = "lean",
    processes: Processes = 1,
    pooled: Pooled = False,
    ifaddr: IfAddr = None,
    allow_remote: AllowRemote = None,
    bind: Bind = "127.0.0.1",
    cafile: CaFile = None,
    cert: Cert = None,
    key: Key = None,
    insecure: Insecure = False,
    out: Annotated[Path, typer.Option(envvar="FLEETSIM_OUT", help="where run directories go")] = Path("runs"),
    as_json: Annotated[bool, typer.Option("--json", envvar="FLEETSIM_JSON", help="print summary.json")] = False,
    csv: Annotated[str | None, typer.Option(envvar="FLEETSIM_CSV", help="also PREFIX_devices.csv")] = None,
    html: Annotated[Path | None, typer.Option(envvar="FLEETSIM_HTML", help="also the report here")] = None,
    junit: Annotated[Path | None, typer.Option(envvar="FLEETSIM_JUNIT", help="also the JUnit XML here")] = None,
    quiet: Annotated[bool, typer.Option(envvar="FLEETSIM_QUIET", help="print the verdict alone")] = False,
    metrics: Annotated[
        str | None,
        typer.Option(envvar="FLEETSIM_METRICS", help="serve Prometheus here while it runs: 127.0.0.1:9464, :0"),
    ] = None,
    self_test: Annotated[
        bool, typer.Option(envvar="FLEETSIM_SELF_TEST", help="how many of its devices this machine can drive, up to -c")
    ] = False,
    check_determinism: Annotated[bool, typer.Option(help="run twice and show the first event that differs")] = False,
    led: Annotated[int | None, typer.Option(hidden=True, help="led over stdin and stdout, by so many workers")] = None,
    carried: Annotated[
        list[str] | None, typer.Option(hidden=True, help="SERVER=ADDRESS of the worker that carries it")
    ] = None,
    command: Annotated[str | None, typer.Option(hidden=True, help="what repeats the run")] = None,
) -> None:
    """Run a scenario: a run directory with its trace, a report and a verdict."""
    flags = locals()
    if self_test:
        raise typer.Exit(_self_tested(flags))
    loaded = _loaded(scenario, _laid(flags), fault or (), operators)
    if check_determinism:
        from simulator.worlds.reproduce.replay import differing, twice

        differs = twice(loaded)
        print(f"same trace twice, seed {loaded.seed}" if differs is None else differing(differs, "first", "second"))
        raise typer.Exit(differs is not None)
    from simulator.worlds import run as running

    copies = _copies(html=html, junit=junit, csv=csv)
    carriers = dict(one.split("=", 1) for one in carried or ())
    options = _options({**flags, "processes": processes if led is None else led, "carried": carriers})
    if led is not None:
        raise typer.Exit(_led(loaded, out, command or "", options, led))
    if not quiet and not as_json:
        fleet = many(loaded.fleet.devices, "device")
        print(f"{loaded.name}: {fleet}, {loaded.world} world, seed {loaded.seed}", flush=True)
    repeat = shlex.join(["fleetsim", *_without(sys.argv[1:], "--seed"), "--seed", str(loaded.seed)])
    path, judgement = running.run(loaded, out, repeat, options, quiet=quiet)
    _report(path, judgement, as_json=as_json, quiet=quiet)
    for name, copy in copies.items():
        shutil.copyfile(path / name, copy)
    raise typer.Exit(judgement.exit_code)


def _copies(*, html: Path | None, junit: Path | None, csv: str | None) -> dict[str, Path]:
    """Which of a run's files are also wanted where. Raises ScenarioError, before anything runs, for a place that there
    is not."""
    wanted = (
        ("--html", "report.html", html),
        ("--junit", "junit.xml", junit),
        ("--csv", "devices.csv", csv and Path(f"{csv}_devices.csv")),
    )
    for flag, _, place in wanted:
        if place and not place.parent.is_dir():
            raise ScenarioError(f"{flag}: there is no directory {place.parent}; make it, or name another")
    return {name: place for _, name, place in wanted if place}


def _led(scenario: Scenario, out: Path, command: str, options: Options, workers: int) -> int:
    """A run that Locust leads."""
    from reports.run import summary
    from simulator.worlds import run as running
    from simulator.worlds.live import led

    if scenario.world != "live":
        raise ScenarioError(f"{scenario.name}: Locust drives the live world; add --world live, or use fleetsim run")
    if not workers:
        raise ScenarioError(f"{scenario.name}: no worker is there for the devices, only some that carry servers")
    options.apart = True
    repeat = f"{command} --seed {scenario.seed}"
    path, judgement = running.run(scenario, out, repeat, options, quiet=True, desk=led.Led(workers, options.carried))
    numbers = _written(path, judgement)
    text = summary.text(numbers, str(path / "report.html"))
    led.tell("ended", verdict=numbers["verdict"], exit_code=judgement.exit_code, path=str(path), text=text)
    return judgement.exit_code


def _self_tested(flags: Mapping[str, Any]) -> int:
    """Measure what this machine can drive, and print it; the exit code."""
    from simulator.worlds.campaigns import selftest

    if given := next((name for name in _NOT_SELF_TESTED if flags[name]), None):
        flag = _flag(given)
        raise ScenarioError(f"{flag}: --self-test drives the devices alone, against a null backend; leave {flag} out")
    options, silent = _options(flags), flags["as_json"] or flags["quiet"]
    tell = _say_nothing if silent else partial(print, flush=True)
    ramp = flags["ramp"] or f"{selftest.RAMP * options.processes}/s"

    def at(devices: int) -> Scenario:
        return _loaded(flags["scenario"], _laid({**flags, "devices": devices, "ramp": ramp}))

    name = at(max(1, flags["devices"] or options.processes)).name
    tell(f"{name}: self-test, --processes {options.processes}")
    found = selftest.self_test(at, flags["devices"], options, tell)
    summary = selftest.summary(found, name, options.processes)
    print(json.dumps(summary, indent=2) if flags["as_json"] else selftest.text(found))
    return found.exit_code


@app.command()
def explore(
    scenario: ScenarioName,
    seeds: Annotated[int, typer.Option(envvar="FLEETSIM_SEEDS", min=1, help="how many")] = 1000,
    first_seed: Annotated[int | None, typer.Option(envvar="FLEETSIM_FIRST_SEED", min=0, max=2**62)] = None,
    processes: Annotated[int, typer.Option(envvar="FLEETSIM_PROCESSES", min=1, help="for the runs")] = 1,
    out: Annotated[Path | None, typer.Option(envvar="FLEETSIM_OUT", help="not runs/explore/SCENARIO")] = None,
    as_json: Annotated[bool, typer.Option("--json", envvar="FLEETSIM_JSON", help="print JSON alone")] = False,
) -> None:
    """Run a scenario in virtual time under many seeds, those known to fail first; group what fails and keep it in
    corpus.json. Exit codes: 1 something failed, 2 nothing did but not every run proves it, 0 all passed."""
    from simulator.trace.rundir import folder
    from simulator.worlds.campaigns import explore as exploring

    loaded = _loaded(scenario, {"world": "virtual"})
    first = loaded.seed if first_seed is None else first_seed
    where = out or Path("runs", "explore", folder(loaded.name))
    found = exploring.explore(loaded, scenario, range(first, first + seeds), processes, where, quiet=as_json).summary()
    print(json.dumps(found, indent=2) if as_json else exploring.text(found))
    raise typer.Exit(found["exit_code"])


@app.command()
def sweep(
    scenario: ScenarioName,
    devices: Annotated[
        str | None,
        typer.Option("-c", "--devices", envvar="FLEETSIM_DEVICES", help="500,1000,2000; beside --rates: the fleet"),
    ] = None,
    rates: Annotated[str | None, typer.Option(envvar="FLEETSIM_RATES", help="offers a second: 60/s,120/s")] = None,
    repeat: Annotated[int, typer.Option(envvar="FLEETSIM_REPEAT", min=1, help="each so often, seeds apart")] = 1,
    unpaced: Annotated[
        bool,
        typer.Option(envvar="FLEETSIM_UNPACED", help="without the rollout's waves, maximumConcurrent and own rate"),
    ] = False,
    ramp: Ramp = None,
    run_time: RunTime = None,
    seed: Seed = None,
    world: World = None,
    broker: Broker = None,
    database: Database = None,
    storage: Storage = None,
    link: Link = "lean",
    processes: Processes = 1,
    pooled: Pooled = False,
    ifaddr: IfAddr = None,
    allow_remote: AllowRemote = None,
    bind: Bind = "127.0.0.1",
    cafile: CaFile = None,
    cert: Cert = None,
    key: Key = None,
    insecure: Insecure = False,
    out: Annotated[
        Path | None, typer.Option(envvar="FLEETSIM_OUT", help="the sweep's directory; one that is there goes on")
    ] = None,
    as_json: Annotated[bool, typer.Option("--json", envvar="FLEETSIM_JSON", help="print sweep.json")] = False,
    html: Annotated[Path | None, typer.Option(envvar="FLEETSIM_HTML", help="also the report here")] = None,
    quiet: Annotated[bool, typer.Option(envvar="FLEETSIM_QUIET", help="print nothing while it runs")] = False,
) -> None:
    """Run a scenario at several loads, of devices or of offers a second, and report throughput and latency against load:
    the knee, the law of scaling, what saturated. Exit codes: 1 a run broke a promise, 4 a part of ours died, 2 less was
    measured than asked or, with INVALID points, nothing can be told, else 0."""
    flags = locals()
    from reports.sweep import capacity
    from reports.sweep import page as sweep_page
    from simulator.trace import rundir
    from simulator.worlds.campaigns import sweep as sweeping

    axis, loads, fleet = sweeping.loads_of(devices, rates)

    def at(load: float) -> Scenario:
        size = fleet if axis == "rates" else int(load)
        return sweeping.at_load(_loaded(scenario, _laid({**flags, "devices": size})), axis, load, unpaced=unpaced)

    scenarios = {load: at(load) for load in loads}
    first = scenarios[loads[0]]
    where = sweeping.place(out, first.name)
    ours, words = ("--devices", "-c") if axis == "devices" else ("--rates",), sys.argv[1:]
    bare = words
    for flag in (*ours, "--repeat", "--seed", "--out"):
        bare = _without(bare, flag)

    def again(load: float, seed: int) -> str:
        value = f"{load:.0f}" if axis == "devices" else f"{load:g}/s"
        return shlex.join(["fleetsim", *bare, ours[0], value, "--seed", str(seed)])

    plan = sweeping.Plan(
        axis=axis,
        scenarios=scenarios,
        repeat=repeat,
        unpaced=unpaced,
        options=_options(flags),
        command=shlex.join(["fleetsim", *_without(words, "--out"), "--out", str(where)]),
        again=again,
    )
    silent = quiet or as_json
    tell = _say_nothing if silent else partial(print, flush=True)
    tell(f"{first.name}: {len(loads)} loads over {axis}, {first.world} world, seed {first.seed}")
    found = capacity.judged(sweeping.sweep(plan, where, _point, tell, quiet=silent))
    rundir.write_json(where / sweeping.FILE, found)
    page = where / "sweep.html"
    sweep_page.write_sweep(page, found)
    if html:
        shutil.copyfile(page, html)
    print(json.dumps(found, indent=2) if as_json else "\n" + capacity.text(found, str(page)))
    raise typer.Exit(found["exit_code"])


def _point(path: Path, judgement: Any) -> dict[str, Any]:
    """Write a run's files; what a sweep keeps of it."""
    from reports import files
    from reports.sweep import points
    from simulator.trace import rundir

    opened = rundir.open_run(path)
    return points.point(opened, files.write_all(opened, judgement))


def _say_nothing(line: str) -> None:
    pass


@app.command()
def serve(
    scenario: Annotated[
        str | None, typer.Argument(help="whose target, fleet names and topics; none: the defaults")
    ] = None,
    broker: Broker = None,
    database: Database = None,
    broker_port: Annotated[int, typer.Option(envvar="FLEETSIM_BROKER_PORT", min=0, max=65535)] = 1883,
    backend_port: Annotated[
        int, typer.Option(envvar="FLEETSIM_BACKEND_PORT", min=0, max=65535, help="of the replica's API: things")
    ] = 8080,
    application_port: Annotated[int, typer.Option(envvar="FLEETSIM_APPLICATION_PORT", min=0, max=65535)] = 8081,
    storage_port: Annotated[
        int, typer.Option(envvar="FLEETSIM_STORAGE_PORT", min=0, max=65535, help="of the storage's API: artifacts")
    ] = 8082,
    token: Annotated[
        str | None, typer.Option(envvar="FLEETSIM_TOKEN", help="of the HTTP APIs; none: a fresh one")
    ] = None,
    allow_remote: AllowRemote = None,
    bind: Bind = "127.0.0.1",
    cafile: CaFile = None,
    cert: Cert = None,
    key: Key = None,
    insecure: Insecure = False,
) -> None:
    """Run broker, backend (replica and storage) and application alone, until interrupted."""
    flags = locals()
    from simulator.model.scenario import load_scenario, parse_scenario
    from simulator.worlds.live.serve import serve as serving
    from simulator.worlds.shipped import find

    laid = _laid(flags)
    if scenario:
        loaded = load_scenario(find(scenario), laid, _FLAGS)
    else:
        loaded = parse_scenario("{name: serve}", "serve", laid, flags=_FLAGS)
    raise typer.Exit(serving(loaded, _options(flags)))


@app.command()
def mosquitto(
    scenario: ScenarioName,
    directory: Annotated[Path, typer.Argument(help="where to")],
    devices: Annotated[int | None, typer.Option("-c", "--devices", envvar="FLEETSIM_DEVICES", min=1)] = None,
    first_index: Annotated[int | None, typer.Option(envvar="FLEETSIM_FIRST_INDEX", min=0)] = None,
    seed: Seed = None,
    broker_port: Annotated[int, typer.Option(envvar="FLEETSIM_BROKER_PORT", min=1, max=65535)] = 1883,
    bind: Annotated[str, typer.Option(envvar="FLEETSIM_BIND", help="the address on which it listens")] = "127.0.0.1",
) -> None:
    """Write the files of a mosquitto that runs by itself and loses no message, for runs of this scenario, fleet and seed
    against it: `mosquitto -c DIRECTORY/mosquitto.conf`, and then `--broker mqtt://HOST`."""
    flags = locals()
    from simulator.worlds.live.servers import mosquitto_for

    mosquitto_for(_loaded(scenario, _laid(flags)), _options(flags), directory).write()
    print(directory / "mosquitto.conf")


def _flag(name: str) -> str:
    """A parameter's name, as it is typed."""
    return f"--{name.replace('_', '-')}"


_LAID = {
    "fleet.devices": "devices",
    "fleet.ramp": "ramp",
    "fleet.first_index": "first_index",
    "run_time": "run_time",
    "seed": "seed",
    "world": "world",
    "target.broker": "broker",
    "target.database": "database",
    "target.artifact_url": "storage",
}
_FLAGS = {key: _flag(name) for key, name in _LAID.items()}


def _laid(flags: Mapping[str, Any]) -> dict[str, Any]:
    """What these flags lay over a scenario, by its keys."""
    if flags.get("storage") == "embedded":
        flags = {**flags, "storage": None}
    return {key: flags[name] for key, name in _LAID.items() if flags.get(name) is not None}


def _options(flags: Mapping[str, Any]) -> Options:
    """How these flags set up a live run; what is not given is as by default."""
    from simulator.worlds.live.options import Options

    if (link := flags.get("link", "lean")) not in ("lean", "library"):
        raise ScenarioError(f"--link {link}: there are lean, library")
    return Options(**{one.name: flags[one.name] for one in fields(Options) if flags.get(one.name)})


def _loaded(word: str, laid: dict[str, Any], faults: Sequence[str] = (), operators: int | None = None) -> Scenario:
    """A scenario by its name or file, with more faults, and split among so many operators, which makes sense to the
    rooms that will carry it out."""
    from simulator.model.scenario import load_scenario, located, with_operators
    from simulator.worlds import run as running
    from simulator.worlds.shipped import find

    path = find(word)
    scenario = load_scenario(path, laid, _FLAGS)
    try:
        running.sensible(scenario)
    except ScenarioError as error:
        raise located(path, error) from None
    return with_operators(running.with_faults(scenario, faults), operators)


def _without(words: list[str], flag: str) -> list[str]:
    kept = [w for i, w in enumerate(words) if w != flag and (i == 0 or words[i - 1] != flag)]
    return [w for w in kept if not w.startswith(f"{flag}=")]


def _report(path: Path, judgement: Any, *, as_json: bool, quiet: bool) -> None:
    """Write the run's files for people and machines, and print the end."""
    from reports.run import summary

    numbers = _written(path, judgement)
    if as_json:
        print(json.dumps(numbers, indent=2))
    elif quiet:
        print(numbers["verdict"])
    else:
        print(summary.text(numbers, str(path / "report.html")))


def _written(path: Path, judgement: Any) -> dict[str, Any]:
    """The numbers, of which the run's files were written."""
    from reports import files
    from simulator.trace import rundir

    numbers = files.write_all(rundir.open_run(path), judgement)
    _to_step_summary(path / "summary.md")
    return numbers


@app.command()
def check(
    run: RunPath,
    only: Annotated[list[str] | None, typer.Option("--check", help="only this check; may be given again")] = None,
) -> None:
    """Judge a recorded run again."""
    from reports.run import summary
    from simulator.trace import rundir
    from simulator.worlds import judgement as judging

    opened = rundir.open_run(run)
    judgement = judging.judge_again(opened, tuple(only or ()))
    print(summary.text(summary.summarise(opened.manifest, opened.trace, judgement), str(run / "report.html")))
    raise typer.Exit(judgement.exit_code)


@app.command()
def replay(
    run: RunPath,
    device: Annotated[str | None, typer.Option(help="only this device, by its name or index, against its tape")] = None,
    world: Annotated[str | None, typer.Option(help="virtual: carry a device of a live run over")] = None,
) -> None:
    """Run a recorded virtual run again and compare: SAME (exit code: the original's), DIFFERENT (2) with the first event
    that differs, or FIXED (0): what had failed passes. With --device, that device alone, in milliseconds. Of a live run,
    with --world virtual: does the device that failed fail again? REPRODUCED (the original's) or NOT REPRODUCED (2)."""
    from simulator.trace import rundir
    from simulator.worlds.reproduce import carry, one_device
    from simulator.worlds.reproduce import replay as replaying

    if world not in (None, "virtual"):
        raise ScenarioError(f"--world {world}: a run is replayed in the virtual world")
    opened = rundir.open_run(run)
    found: Any
    if world and opened.manifest["scenario"].get("world") == "live":
        print(carry.as_text(found := carry.carry(opened, device)))
    elif device is not None:
        found = one_device.replay_device(opened, device)
        print(one_device.as_text(found) if isinstance(found, one_device.Alone) else replaying.as_text(found))
    else:
        print(replaying.as_text(found := replaying.replay(opened)))
    raise typer.Exit(found.exit_code)


@app.command()
def shrink(
    run: RunPath,
    only: Annotated[str | None, typer.Option("--check", help="the check to go by; none: the first that failed")] = None,
    out: Annotated[
        Path | None, typer.Option(help="the scenario's file; none: shrunk.yaml in the run's directory")
    ] = None,
) -> None:
    """Find the fewest devices, the fewest faults and the shortest times with which a failed virtual run still fails the
    same check (exit code 2 if it does not fail again), as a scenario of its own, with a device's timeline."""
    from simulator.trace import rundir
    from simulator.trace.reader import timeline
    from simulator.worlds.reproduce import shrink as shrinking

    opened, file = rundir.open_run(run), out or run / "shrunk.yaml"
    if file.is_dir() or not os.access(file if file.exists() else file.parent, os.W_OK):
        raise ScenarioError(f"{file}: cannot be written; name another place with --out")
    found = shrinking.shrink(opened, only, lambda line: print(f"  still: {line}", flush=True))
    if found.finding is None or found.again is None:
        print(f"{found.check} does not fail again; fleetsim replay {run} shows the first event that differs")
        raise typer.Exit(2)
    file.write_text(shrinking.written(found.scenario), encoding="utf-8")
    devices, faults = len(found.scenario.fleet.present), len(found.scenario.faults)
    print(f"{found.check}: {found.finding.summary}")
    print(f"  {devices} device{'s' * (devices != 1)}, {faults} fault{'s' * (faults != 1)}, after {found.runs} runs")
    for thing in found.finding.things[:1]:
        print(f"\n  {thing}:")
        print("\n".join(f"  {line}" for line in timeline(found.again.trace, thing)))
    print(f"\n  scenario  {file}\n  repeat    fleetsim run {shlex.quote(str(file))}\n  seed      {found.scenario.seed}")


@app.command()
def report(
    runs: Annotated[list[Path], typer.Argument(help="a run directory; of several, the first is the baseline")],
    tolerance: Annotated[
        str | None, typer.Option(help="how much worse than the baseline's times, sizes and rates may be; none: 10%")
    ] = None,
    tolerance_failed: Annotated[
        str | None, typer.Option(help="by how many points more of the targets may not succeed; none: 1%")
    ] = None,
    out: Annotated[Path | None, typer.Option(help="where a comparison goes; none: runs/compare/TIME")] = None,
    as_json: Annotated[bool, typer.Option("--json", help="print summary.json or comparison.json")] = False,
) -> None:
    """Write a recorded run's files again: report, summary, devices.csv and junit.xml. Of two or more runs: compare each
    with the first, its baseline. Exit codes then: 1 a regression (a check newly fails, or a figure's whole interval is
    worse by more than the tolerance), 0 none, 2 where that cannot be told."""
    from simulator.trace import rundir
    from simulator.worlds import judgement as judging

    if len(runs) > 1:
        raise typer.Exit(_compared(runs, _tolerances(tolerance, tolerance_failed), out, as_json=as_json))
    given = {"--tolerance": tolerance, "--tolerance-failed": tolerance_failed, "--out": out}
    if flags := [flag for flag, value in given.items() if value is not None]:
        raise ScenarioError(f"{', '.join(flags)}: for a comparison; name two runs or more")
    judgement = judging.judge_again(rundir.open_run(runs[0]), ())
    _report(runs[0], judgement, as_json=as_json, quiet=False)
    raise typer.Exit(judgement.exit_code)


def _tolerances(relative: str | None, points: str | None) -> Any:
    from reports.comparison.differences import Tolerances

    given = {"--tolerance": ("relative", relative), "--tolerance-failed": ("points", points)}
    found = Tolerances()
    for flag, (name, value) in given.items():
        try:
            found = found if value is None else found._replace(**{name: share(value)})
        except ValueError as error:
            raise ScenarioError(f"{flag}: {error}") from None
    return found


def _compared(paths: list[Path], allowed: Any, out: Path | None, *, as_json: bool) -> int:
    """Compare the runs, leave the comparison's directory, print the end; the exit code."""
    from reports import files
    from reports.comparison import compare
    from reports.comparison import text as comparison_text
    from simulator.trace import rundir
    from simulator.worlds import judgement as judging

    if len(paths) > compare.RUNS_MOST:
        raise ScenarioError(f"{len(paths)} runs are too many to compare; at most {compare.RUNS_MOST}")
    sides = []
    for path in paths:  # one trace after the other: no two are in memory
        opened = rundir.open_run(path)
        sides.append(compare.side(path, opened.manifest, opened.trace, judging.judge_again(opened, ())))
        del opened
    where = out or rundir.fresh(Path("runs", "compare"))
    where.mkdir(parents=True, exist_ok=True)
    found = files.write_comparison(where, sides, allowed)
    _to_step_summary(where / "comparison.md")
    print(json.dumps(found, indent=2) if as_json else comparison_text.text(found, str(where / "comparison.html")))
    return int(found["exit_code"])


def _to_step_summary(file: Path) -> None:
    """Append the file to the summary of the CI job that GitHub shows, if there is one."""
    if where := os.environ.get("GITHUB_STEP_SUMMARY"):
        try:
            with open(where, "a", encoding="utf-8") as summary:
                summary.write(file.read_text(encoding="utf-8") + "\n")
        except OSError as error:  # what was found counts all the same
            print(f"fleetsim: GITHUB_STEP_SUMMARY: {where}: {error.strerror}", file=sys.stderr)


@app.command()
def trace(run: RunPath, device: Annotated[str, typer.Argument(help="the thing's name, or a job's")]) -> None:
    """Print one device's timeline as text."""
    from simulator.trace import rundir
    from simulator.trace.reader import timeline

    for line in timeline(rundir.open_run(run).trace, device):
        print(line)


@app.command()
def scenarios() -> None:
    """List the shipped scenarios."""
    from simulator.model.scenario import load_scenario
    from simulator.worlds.shipped import GROUPS, shipped

    group = ""
    for name, path in shipped().items():
        if group != (group := name.rpartition("/")[0]):
            print(f"\n{GROUPS[group]}:")
        print(f"{name:<{38 if group else 12}} {load_scenario(path).description}")


@app.command()
def schema(
    of: Annotated[str, typer.Argument(help="scenario, summary, comparison, sweep or trace")] = "scenario",
) -> None:
    """Print the JSON Schema of scenario files, of summary.json or comparison.json, the fields of sweep.json, or the
    trace's columns and event kinds."""
    if of == "scenario":
        from simulator.worlds.setup import scenario_schema

        found = scenario_schema()
    elif of in ("summary", "comparison"):
        from reports.schemas import SCHEMAS

        found = SCHEMAS[of]
    elif of == "trace":
        from simulator.model.events import COLUMNS, KINDS, SCHEMA_VERSION

        kinds = {name: meaning._asdict() for name, meaning in KINDS.items()}
        found = {"version": SCHEMA_VERSION, "columns": COLUMNS, "kinds": kinds}
    elif of == "sweep":
        from reports.sweep.capacity import FIELDS
        from simulator.worlds.campaigns import sweep as sweeping

        found = {"version": sweeping.SCHEMA_VERSION, "fields": FIELDS}
    else:
        raise ScenarioError(f"no schema of {of!r}; there are scenario, summary, comparison, sweep, trace")
    print(json.dumps(found, indent=2))


_INTERRUPTED = 130  # what typer makes of a KeyboardInterrupt


def main() -> None:
    """Obey the command line: our own errors become one clear message and exit code 3. Raises KeyboardInterrupt."""
    hide_pandas()
    for stream in (sys.stdout, sys.stderr):
        if isinstance(stream, io.TextIOWrapper):
            stream.reconfigure(errors="replace")  # a terminal may have no ✓
    try:
        code = app(standalone_mode=False)
    except PartDied as error:
        print(f"fleetsim: {error}", file=sys.stderr)
        code = 4
    except FleetsimError as error:
        print(f"fleetsim: {error}", file=sys.stderr)
        code = 3
    except BrokenPipeError:
        code = 2
    except OSError as error:
        full = error.errno in (errno.ENOSPC, errno.EDQUOT, errno.EFBIG)
        if error.filename is None and not full:
            raise
        print(f"fleetsim: {error.filename or 'it could not be written'}: {error.strerror}", file=sys.stderr)
        code = 4 if full else 3
    except Exception as error:  # typer's usage errors carry their own text
        show = getattr(error, "show", None)
        if show is None:
            raise
        show()
        code = 3
    if code == _INTERRUPTED:
        raise KeyboardInterrupt
    sys.exit(code if isinstance(code, int) else 0)
