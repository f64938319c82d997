"""The real mosquitto: its files, what it may not lose, and its end."""

from __future__ import annotations

import asyncio
import os
import shutil
import signal
import subprocess
import sys
import time
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import pytest

from simulator.broker.access import thing_password
from simulator.broker.mosquitto import Mosquitto, find_mosquitto, free_port, password_line
from simulator.links.base import MqttOptions
from simulator.links.mqtt import LeanMqtt
from simulator.model.errors import PeerError, ScenarioError
from tests.worlds.running import fleetsim, scenario, wait_for

RIGHTS = ("state/{thing}/#",)
KEPT = {"clean_start": False, "session_expiry_s": 600}


def server(directory: Path, **more: Any) -> Mosquitto:
    return Mosquitto(
        directory, **{"run_key": "key", "things": ["t-1"], "services": {"svc": "pw"}, "rights": RIGHTS} | more
    )


@pytest.fixture
def mosquitto(tmp_path: Path) -> Iterator[Mosquitto]:
    made = server(tmp_path, things=(f"t-{n}" for n in range(10_000)))
    made.start()
    yield made
    made.stop()


def link(made: Mosquitto, user: str, password: str, **more: Any) -> LeanMqtt:
    return LeanMqtt(MqttOptions("127.0.0.1", made.port, user, user, password, **more))


def test_ten_thousand_things_have_their_own_passwords(mosquitto: Mosquitto) -> None:
    assert mosquitto.version.startswith("2.")
    assert mosquitto.poll() is None

    async def main() -> None:
        for thing in ("t-0", "t-9999"):
            one = link(mosquitto, thing, thing_password("key", thing))
            await one.connect()
            await one.close()
        for user, password in (("t-1", thing_password("key", "t-2")), ("nobody", thing_password("key", "nobody"))):
            with pytest.raises(PeerError):
                await link(mosquitto, user, password).connect()

    asyncio.run(main())


def test_it_keeps_all_that_an_absent_client_has_to_get_and_counts(mosquitto: Mosquitto) -> None:
    """Its defaults would keep 1,000, and say nothing."""
    count = 3000

    async def main() -> None:
        absent, sender = link(mosquitto, "t-1", thing_password("key", "t-1"), **KEPT), link(mosquitto, "svc", "pw")
        await absent.connect()
        await absent.subscribe(["state/t-1/#"])
        await absent.close()
        await sender.connect()
        for n in range(count):
            await sender.publish("state/t-1/t", b"%d" % n)
        await sender.subscribe(["state/svc"])
        await sender.close()
        assert await absent.connect() is True
        for n in range(count):
            delivery = await absent.receive(asyncio.get_running_loop().time() + 5.0)
            assert delivery is not None, f"{n} of {count} came"
            assert delivery.payload == b"%d" % n
            delivery.ack()
        await absent.close()

    asyncio.run(main())
    counts = mosquitto.counts()
    assert counts["delivered"] >= count  # with the $SYS messages themselves
    assert (counts["published"], counts["dropped"]) == (count, 0)


def test_a_restart_in_the_same_directory_keeps_sessions_and_retained_messages(tmp_path: Path) -> None:
    async def fill(made: Mosquitto) -> None:
        one = link(made, "svc", "pw", **KEPT)
        await one.connect()
        await one.subscribe(["state/a"])
        await one.publish("state/kept", b"retained", retain=True)
        await one.subscribe(["state/a"])
        await one.close()

    async def look(made: Mosquitto) -> bytes:
        one = link(made, "svc", "pw", **KEPT)
        assert await one.connect() is True
        await one.subscribe(["state/kept"])
        delivery = await one.receive(asyncio.get_running_loop().time() + 5.0)
        await one.close()
        assert delivery is not None
        return delivery.payload

    for act in (fill, look):
        made = server(tmp_path)
        made.start()
        try:
            found = asyncio.run(act(made))
        finally:
            made.stop()
    assert found == b"retained"
    made.stop()
    assert made.poll() == 0
    assert made.counts() == {}


def test_what_prevents_the_start_is_said_in_its_own_words(mosquitto: Mosquitto, tmp_path: Path) -> None:
    second = server(tmp_path / "second", port=mosquitto.port)
    with pytest.raises(ScenarioError, match="Address already in use"):
        second.start()
    assert second.poll() is not None
    with pytest.raises(ScenarioError, match="t:1"):
        password_line("t:1", "pw")


def test_it_does_not_outlive_a_parent_that_was_killed(tmp_path: Path) -> None:
    program = (
        "import asyncio, pathlib, time\n"
        "from simulator.broker.mosquitto import Mosquitto\n"
        f"made = Mosquitto(pathlib.Path({str(tmp_path)!r}), run_key='k', services={{}}, rights=())\n"
        "async def main():\n"
        "    await asyncio.to_thread(made.start)\n"
        "    print(made.pid, flush=True)\n"
        "    await asyncio.sleep(60)\n"
        "asyncio.run(main())\n"
    )
    environment = {**os.environ, "PYTHONPATH": os.pathsep.join(p for p in sys.path if p)}
    with subprocess.Popen([sys.executable, "-c", program], stdout=subprocess.PIPE, env=environment) as parent:
        assert parent.stdout is not None
        pid = int(parent.stdout.readline())
        assert running(pid)
        parent.send_signal(signal.SIGKILL)
    deadline = time.monotonic() + 5.0
    while running(pid) and time.monotonic() < deadline:
        time.sleep(0.02)
    assert not running(pid)


def running(pid: int) -> bool:
    """Whether the process is there, and not only waiting for somebody to ask how it ended."""
    try:
        return Path(f"/proc/{pid}/stat").read_text().rpartition(")")[2].split()[0] != "Z"
    except FileNotFoundError:
        return False


def test_its_files_are_enough_for_one_that_runs_by_itself(tmp_path: Path) -> None:
    port = free_port()
    said = fleetsim("mosquitto", scenario(tmp_path), tmp_path / "m", "--broker-port", port)
    assert said[0] == 0, said
    process = subprocess.Popen([find_mosquitto(), "-c", tmp_path / "m" / "mosquitto.conf"])
    try:
        words = ["mosquitto_sub", "-p", str(port), "-t", "$SYS/broker/uptime", "-C", "1", "-W", "5"]
        environment = {**os.environ, "XDG_CONFIG_HOME": str(tmp_path / "m")}
        if shutil.which(words[0]):
            assert wait_for(lambda: subprocess.run(words, env=environment, capture_output=True).stdout)
        run = fleetsim("run", scenario(tmp_path), "--broker", f"mqtt://127.0.0.1:{port}", "--out", tmp_path / "runs")
        assert run[0] == 0, run
    finally:
        process.terminate()
        process.wait()
