"""The house is in order: scenarios load, event kinds are registered, what the READMEs say of the code is so."""

import ast
import itertools
import re
import shlex
from pathlib import Path

import pytest
from typer.main import get_command

from simulator.cli import app
from simulator.model.events import KINDS, Kind
from simulator.model.scenario import load_scenario

ROOT = Path(__file__).resolve().parents[1]
README = (ROOT / "README.md").read_text()
SCENARIOS = (ROOT / "scenarios" / "README.md").read_text()
REPORTS = (ROOT / "reports" / "README.md").read_text()
READMES = [ROOT / "README.md", *sorted(ROOT.glob("[a-z]*/README.md"))]
SHIPPED = sorted((ROOT / "scenarios").glob("*.yaml"))


@pytest.mark.parametrize("path", SHIPPED, ids=lambda path: path.stem)
def test_each_shipped_scenario_loads_and_is_in_readme(path):
    assert load_scenario(path).description
    assert f"| `{path.stem}` |" in SCENARIOS


def test_each_event_kind_that_the_code_names_is_registered():
    used = set()
    for path in (ROOT / "simulator").rglob("*.py"):
        used |= set(re.findall(r"\bKind\.([A-Z_]+)", path.read_text()))
    assert {getattr(Kind, name) for name in used} == set(KINDS)


def tree():
    """room -> the modules that simulator/README.md names in it."""
    block = (ROOT / "simulator" / "README.md").read_text().split("## The rooms")[1].split("```")[1]
    named, top, room = {}, "", ""
    for line in block.strip().splitlines():
        if head := re.match(r"( {0,2})(\w[\w/]*)/(?: |$)", line):
            room = f"{top}/{head[2]}" if head[1] else head[2]
            top = top if head[1] else room
            named.setdefault(room, set())
        elif file := re.match(r"  (\w+\.py)", line):
            named[top].add(file[1])
            continue
        named[room] |= set(re.findall(r"\b\w+\.py\b", line))
    return named


def test_the_tree_in_simulator_s_readme_is_the_real_tree():
    named = tree()
    rooms = {
        str(path.parent.relative_to(ROOT))
        for top in ("simulator", "reports")
        for path in (ROOT / top).rglob("__init__.py")
    }
    assert rooms <= named.keys(), f"simulator/README.md's tree lacks {sorted(rooms - named.keys())}"
    for room, modules in named.items():
        missing = {name for name in modules if not (ROOT / room / name).is_file()}
        assert not missing, f"simulator/README.md's tree names {sorted(missing)} in {room}"
        if modules - {"validity.py", "locustfile.py"}:
            real = {path.name for path in (ROOT / room).glob("*.py")} - {"__init__.py"}
            assert modules == real, f"simulator/README.md's tree lacks {sorted(real - modules)} in {room}"


def test_readme_names_the_two_commands_that_ci_and_users_run():
    blocks = re.findall(r"```sh\n(.*?)```", README, re.S)
    assert "fleetsim run quickstart" in blocks[0]
    assert blocks[1].strip() in (ROOT / ".ci" / "run").read_text()


def test_each_flag_of_run_sweep_explore_and_serve_is_an_environment_variable():
    for verb in ("run", "sweep", "explore", "serve"):
        for option in get_command(app).commands[verb].params:
            if option.param_type_name == "option" and "--check-determinism" not in option.opts and not option.hidden:
                assert (option.envvar or "").startswith("FLEETSIM_"), option.opts


def rows(text, first):
    """The rows of the table whose head begins with this, as lists of cells."""
    lines = text[text.index(f"| {first} |") :].splitlines()[2:]
    return [
        [cell.strip() for cell in line.strip("|").split("|")]
        for line in itertools.takewhile(lambda x: x[:1] == "|", lines)
    ]


def titles():
    """check -> its promise: the second argument of its Draft, which reports show as the title."""
    drafts = [
        [argument.value for argument in call.args[:2]]
        for path in (ROOT / "simulator" / "checks").glob("*.py")
        for call in ast.walk(ast.parse(path.read_text()))
        if isinstance(call, ast.Call)
        and getattr(call.func, "id", "") == "Draft"
        and isinstance(call.args[0], ast.Constant)
    ]
    assert len(drafts) == len(dict(drafts))
    return dict(drafts)


def test_readme_says_of_each_check_what_the_report_says():
    from simulator.checks.judge import CHECKS

    said = {name.strip("`"): promise for name, promise, *_ in rows(REPORTS, "check")}
    assert titles().keys() == CHECKS.keys()
    assert said == titles()


def test_each_check_is_in_readme_with_its_scenario_and_its_planted_bugs():
    from simulator.checks.judge import CHECKS
    from tests.planted.test_rollouts import PLANTED

    planted = {check for check, *_ in PLANTED.values()}
    found = {name.strip("`"): row for name, *row in rows(REPORTS, "check")}
    assert found.keys() == CHECKS.keys()
    assert sorted(name.partition("-")[0] for name in CHECKS) == sorted(
        [*(f"S{n}" for n in range(1, 24)), *(f"L{n}" for n in range(1, 12))]
    )
    for name, (promise, occasion, scenario, test) in found.items():
        assert promise
        assert occasion
        assert (ROOT / "scenarios" / f"{scenario.strip('`')}.yaml").exists(), name
        proof = (ROOT / "tests" / test.strip("`")).read_text()
        assert f"def test_{name.partition('-')[0].lower()}_" in proof or name in planted, name


def test_each_class_of_faults_is_in_readme_with_its_scenario_checks_and_test():
    from simulator.checks.judge import CHECKS
    from simulator.faults.catalogue import CATALOGUE

    found = {row[0]: row[1:] for row in rows(SCENARIOS, "class")}
    assert list(found) == [f"F{n}" for n in range(1, 28)]
    ids = {name.partition("-")[0] for name in CHECKS}
    for number, (text, scenario, checks, test) in found.items():
        named = [name for name in CATALOGUE if name.startswith(f"{number}-")]
        assert bool(named) == (number not in ("F12", "F27")), number
        if named:
            assert text
            assert set(checks.split(", ")) <= ids
            assert (ROOT / "tests" / test.strip("`")).exists()
        if scenario != "-":
            assert (ROOT / "scenarios" / f"{scenario.strip('`')}.yaml").exists(), number


def test_each_fault_is_in_readme():
    from simulator.faults.catalogue import CATALOGUE

    for package in CATALOGUE.values():
        breaks = ", ".join(check.partition("-")[0] for check in package.breaks)
        settings = ", ".join(f"`{name}: {value}`" for name, value in package.settings.items())
        assert f"| `{package.name}` | {package.text} | {settings} | {breaks} |" in SCENARIOS


def test_readme_is_a_front_door():
    assert len(README.splitlines()) <= 220


@pytest.mark.parametrize("path", READMES, ids=lambda path: str(path.relative_to(ROOT)))
def test_what_a_readme_points_to_is_there(path):
    """Its links, with their headings, and the paths that it names."""
    text = path.read_text()
    for target in re.findall(r"\]\(([^)\s]+)\)", text):
        name, _, heading = target.partition("#")
        file = (path.parent / name).resolve() if name else path
        assert file.exists(), target
        if heading:
            titles = re.findall(r"^#+ (.*)$", file.read_text(), re.M)
            assert heading in [re.sub(r"[^\w -]", "", title).lower().replace(" ", "-") for title in titles], target
    for name in re.findall(r"`((?:simulator|reports|tests|scenarios|docker)/[\w/.-]+)`", text):
        assert (ROOT / name).exists() or (ROOT / "simulator" / name).exists(), name


def test_the_commands_in_the_readmes_are_understood():
    """Each `fleetsim` line of their examples, as the command line reads it; `[…]`, `|` and `&` are not words of it."""
    commands, lines = get_command(app).commands, []
    for path in READMES:
        examples = "\n".join(re.findall(r"```\w*\n(.*?)```", re.sub(r" \\\n +", " ", path.read_text()), re.DOTALL))
        lines += re.findall(r"^(?:\$ |.*- run: )?(fleetsim [a-z][^#\n]*?)(?: {2,}.*)?$", examples, re.MULTILINE)
    for line in lines:
        words = shlex.split(re.sub(r"\[.*|[|&].*", "", line).replace(" MOST", " 5"))[1:]
        assert commands[words[0]].make_context(words[0], words[1:]), line
    assert len(lines) > 20
