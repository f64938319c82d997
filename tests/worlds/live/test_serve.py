"""`fleetsim serve` as somebody else's fleet or tool meets it."""

import asyncio
import hashlib
import hmac
import json
import os
import re
import select
import signal
import socket
import urllib.error
import urllib.request
from pathlib import Path

import orjson
import pytest

from simulator.links.base import MqttOptions
from simulator.links.mqtt import LeanMqtt
from simulator.model.errors import PartDied, ScenarioError
from simulator.model.scenario import Scenario
from simulator.replica.database import SqliteDatabase
from simulator.worlds.live.options import Options
from simulator.worlds.live.process import _last_words
from simulator.worlds.live.servers import Stack
from tests.worlds.running import alive, children, fleetsim, start, wait_for

PORTS = ("--broker-port", 0, "--backend-port", 0, "--storage-port", 0, "--application-port", 0)
CONNECT_311 = b"\x10\x0d\x00\x04MQTT\x04\x02\x00\x3c\x00\x01a"


class Serving:
    """A running `fleetsim serve`, and what it said."""

    def __init__(self, *words, **options):
        self.process = start("serve", *PORTS, *words, **options)

    def ready(self):
        """Wait until it has said where everything is."""
        said = {}
        while "token" not in said:
            line = self.process.stdout.readline()
            assert line, self.process.stderr.read()
            name, text = line.split(maxsplit=1)
            said[name] = text.strip()
        self.broker_port = int(said["broker"].rpartition(":")[2])
        self.backend, self.storage, self.rollouts = (said[n].split()[0] for n in ("backend", "storage", "rollouts"))
        self.run_key = re.search(r"run key (\w+)$", said["things"])[1]
        self.token = said["token"]
        self.below = children(self.process.pid)
        return self

    def __enter__(self):
        return self

    def __exit__(self, *_):
        self.process.kill()
        self.process.communicate()

    def end(self, number):
        """Send a signal: (exit code, stderr), once no child is left."""
        self.process.send_signal(number)
        _, err = self.process.communicate(timeout=20)
        wait_for(lambda: not any(alive(pid) for pid in self.below), 5.0)
        return self.process.returncode, err

    def get(self, url, token=""):
        """(status, JSON) of a GET."""
        headers = {"Authorization": f"Bearer {token}"} if token else {}
        try:
            with urllib.request.urlopen(urllib.request.Request(url, headers=headers), timeout=10) as answer:
                return answer.status, json.load(answer)
        except urllib.error.HTTPError as refusal:
            with refusal:
                return refusal.code, json.load(refusal)

    def thing(self, name):
        """A link that logs in as what was printed says."""
        password = hmac.new(self.run_key.encode(), name.encode(), hashlib.sha256).hexdigest()[:32]
        return LeanMqtt(MqttOptions("127.0.0.1", self.broker_port, name, name, password))

    def report(self, name, **reported):
        """A thing's report; the version that it was accepted with."""

        async def main():
            link = self.thing(name)
            await link.connect()
            await link.subscribe([f"state/{name}/update/accepted"])
            await link.publish(f"state/{name}/update", orjson.dumps({"state": {"reported": reported}}))
            delivery = await link.receive(asyncio.get_running_loop().time() + 10.0)
            await link.close()
            return orjson.loads(delivery.payload)["version"]

        return asyncio.run(main())


@pytest.fixture(scope="module", params=["embedded", "mosquitto"])
def serving(request, tmp_path_factory):
    """One that runs, whose temporary files are below `.scratch`, started as a script's background job."""

    def ignored():  # as such a job inherits it
        signal.signal(signal.SIGINT, signal.SIG_IGN)

    scratch = tmp_path_factory.mktemp(request.param)
    given = {"TMPDIR": str(scratch), "FLEETSIM_TOKEN": "from the environment"}
    with Serving("--broker", request.param, env=given, preexec_fn=ignored) as made:
        made.broker, made.scratch = request.param, scratch
        yield made.ready()


def test_it_says_where_everything_is_and_serves(serving):
    assert serving.get(f"{serving.backend}/health")[1]["subscribed"] is True
    assert serving.get(f"{serving.rollouts}/health")[0] == 200
    assert serving.report("device-99", n=1) == 1
    assert serving.get(f"{serving.backend}/things/device-99", serving.token)[1]["reported"] == {"n": 1}
    assert serving.get(f"{serving.storage}/health")[1]["artifacts"] == 0
    assert serving.get(f"{serving.backend}/things/d")[0] == 401
    for base, path in ((serving.storage, "/artifacts"), (serving.rollouts, "/rollouts")):
        assert serving.get(base + path)[0] == 401
        assert serving.get(base + path, serving.token) == (200, [])
        for page in ("/docs", "/redoc"):  # whose scripts are elsewhere
            assert serving.get(base + page, serving.token)[0] == 404
        assert serving.get(base + "/openapi.json")[0] == 200


def test_its_secrets_are_in_no_process_list_and_its_files_are_the_users_alone(serving):
    assert serving.token == "from the environment"
    for pid in (serving.process.pid, *serving.below):
        words = Path(f"/proc/{pid}/cmdline").read_text()
        assert serving.token not in words
        assert serving.run_key not in words
    (directory,) = serving.scratch.iterdir()
    for path in (directory, *directory.glob("mosquitto/passwords"), *directory.glob("mosquitto/mosquitto.conf")):
        assert path.stat().st_mode & 0o077 == 0


def test_an_older_client_is_served_by_mosquitto_and_the_embedded_broker_says_so_where_the_user_looks(serving):
    with socket.create_connection(("127.0.0.1", serving.broker_port)) as older:
        older.sendall(CONNECT_311)
        assert older.recv(10) == (b"\x20\x02\x00\x01" if serving.broker == "embedded" else b"\x20\x02\x00\x05")
    if serving.broker == "embedded":
        assert select.select([serving.process.stderr], [], [], 10.0)[0]
        said = serving.process.stderr.readline()
        assert re.fullmatch(r"broker: .* use --broker mosquitto for 3\.1\.1\n", said)


def test_a_signal_ends_it_in_0_with_no_child_and_nothing_left_behind(serving):
    number = signal.SIGTERM if serving.broker == "embedded" else signal.SIGINT
    assert len(serving.below) == 4
    assert serving.end(number) == (0, "")
    assert list(serving.scratch.iterdir()) == []


def test_a_signal_before_it_is_ready_ends_it_all_the_same():
    with Serving() as serving:
        serving.below = wait_for(lambda: len(found := children(serving.process.pid)) == 4 and found)
        assert serving.end(signal.SIGTERM) == (0, "")


@pytest.mark.parametrize("taken", ["backend", "storage", "mosquitto"])
def test_a_port_in_use_is_said_in_3(taken):
    with socket.socket() as other:
        other.bind(("127.0.0.1", 0))
        other.listen()
        port = other.getsockname()[1]
        flag = "--broker-port" if taken == "mosquitto" else f"--{taken}-port"
        words = ("--broker", "mosquitto") if taken == "mosquitto" else ()
        with Serving(*words, flag, port) as serving:
            _, err = serving.process.communicate(timeout=30)
            assert serving.process.returncode == 3
            assert re.fullmatch(rf"fleetsim: .*127\.0\.0\.1:{port}.*[Aa]ddress already in use\n", err)


def test_a_database_that_another_holds_is_said_in_3(tmp_path):
    held = SqliteDatabase(tmp_path / "held")
    with Serving("--database", f"sqlite:{tmp_path}/held") as serving:
        _, err = serving.process.communicate(timeout=30)
        said = f"fleetsim: target.database: {tmp_path}/held: database is locked\n"
        assert (serving.process.returncode, err) == (3, said)
    held.close()


@pytest.mark.parametrize("name", ["mysql:x", "sqlite:", "postgresql://h/d", ""])
def test_a_database_of_another_kind_is_refused_before_anything_starts(tmp_path, name):
    scenario = Scenario.model_validate({"target": {"database": name}})
    with pytest.raises(ScenarioError, match=f"target.database: '{name}' is none of sqlite, sqlite:PATH"):
        Stack(scenario, Options(), tmp_path, 0, 0.0)


@pytest.mark.parametrize(
    ("key", "value", "why"),
    [
        ("dialect", "nope", "no such dialect: 'nope'"),
        ("bind_address", "true", "in dialect atlas-example a device does not"),
    ],
)
def test_a_target_that_makes_no_sense_is_refused_with_file_and_line(tmp_path, key, value, why):
    file = tmp_path / "case.yaml"
    target = {"dialect": "atlas-example"} | {key: value}
    file.write_text("\n".join(["name: case", "target:", *(f"  {name}: {word}" for name, word in target.items())]))
    code, out, err = fleetsim("serve", file, *PORTS)
    assert (code, out) == (3, "")
    assert err.startswith(f"fleetsim: {file}:{2 + len(target)}: target.{key}: {why}")


def test_the_replicas_death_ends_it_in_4_and_what_was_accepted_is_there_after_the_next_start(tmp_path):
    words = ("--database", f"sqlite:{tmp_path / 'replicas'}")
    with Serving(*words) as serving:
        serving.ready()
        versions = [serving.report("d", n=n) for n in range(3)]
        victim = next(p for p in serving.below if os.readlink(f"/proc/{p}/fd/2").endswith("replica.log"))
        os.kill(victim, signal.SIGKILL)
        _, err = serving.process.communicate(timeout=20)
        assert serving.process.returncode == 4
        assert err == "fleetsim: replica died: killed by signal 9\n"
    with Serving(*words) as serving:
        serving.ready()
        found = serving.get(f"{serving.backend}/things/d", serving.token)[1]
        assert (found["version"], found["reported"]) == (versions[-1], {"n": 2})
        assert serving.report("d", n=3) == versions[-1] + 1


def test_a_parts_last_words_are_a_sentence_and_its_exit_code_says_whose_fault_it_was(capfd):
    for error, code in (
        (ExceptionGroup("", [ExceptionGroup("", [PartDied("disk I/O error")])]), 4),
        (ExceptionGroup("", [ScenarioError("no such thing")]), 3),
        (BrokenPipeError(), 0),
    ):
        assert _last_words(error) == code
    assert capfd.readouterr().err == "disk I/O error\nno such thing\n"
    with pytest.raises(ZeroDivisionError):
        _last_words(ExceptionGroup("", [ZeroDivisionError()]))
