"""A backend that is already there: `fleetsim serve` beside somebody's mosquitto, with TLS, client certificates, WebSocket."""

import contextlib
import json
import signal
import socket
import subprocess
import urllib.request

import pytest

from simulator.broker.mosquitto import find_mosquitto, free_port
from simulator.model.events import Kind
from simulator.model.scenario import Scenario
from simulator.worlds.live.options import Options
from simulator.worlds.live.servers import Stack
from tests.certificate import make_certificate
from tests.worlds.running import fleetsim, latest, scenario, start, wait_for

CONTENT = b"firmware" * 1000


@contextlib.contextmanager
def mosquitto(directory):
    """Somebody's broker, open to all who have a certificate: (its ports by scheme, the flags that reach it)."""
    cert, key = make_certificate(directory)
    key.chmod(0o644)
    ports = {"mqtts": free_port(), "ws": free_port()}
    (directory / "m.conf").write_text(
        "user root\nallow_anonymous true\nmax_queued_messages 0\nset_tcp_nodelay true\n"
        f"listener {ports['mqtts']}\ncafile {cert}\ncertfile {cert}\nkeyfile {key}\nrequire_certificate true\n"
        f"listener {ports['ws']} 127.0.0.1\nprotocol websockets\n"
    )
    process = subprocess.Popen([find_mosquitto(), "-c", directory / "m.conf"], stderr=subprocess.DEVNULL)
    try:
        yield ports, ("--cafile", cert, "--cert", cert, "--key", key)
    finally:
        process.terminate()
        process.wait()


@contextlib.contextmanager
def backend(broker, *words):
    """`fleetsim serve` on that broker: the URL of an artifact in its storage."""
    ports = free_port(), free_port(), free_port()
    process = start(
        "serve", "--broker", broker, "--token", "t",
        "--backend-port", ports[0], "--application-port", ports[1], "--storage-port", ports[2], *words
    )  # fmt: skip
    base = f"http://127.0.0.1:{ports[0]}"
    try:
        wait_for(lambda: process.poll() is not None or healthy(base))
        upload = urllib.request.Request(
            f"http://127.0.0.1:{ports[2]}/artifacts/app/2.0.0", CONTENT, {"Authorization": "Bearer t"}, method="PUT"
        )
        with urllib.request.urlopen(upload) as answer:
            yield process, json.loads(answer.read())["url"]
    finally:
        process.send_signal(signal.SIGTERM)
        process.communicate(timeout=30)


def healthy(base):
    with contextlib.suppress(OSError), urllib.request.urlopen(f"{base}/health") as answer:
        return json.loads(answer.read())["subscribed"]


@pytest.mark.parametrize(("scheme", "link"), [("mqtts", "lean"), ("mqtts", "library"), ("ws", "library")])
def test_a_backend_of_somebody_elses_carries_a_rollout(tmp_path, scheme, link):
    file = scenario(tmp_path, target={"kind": "external", "probe": True}, fleet={"devices": 10})
    with mosquitto(tmp_path) as (ports, certificate):
        broker = f"{scheme}://localhost:{ports[scheme]}"
        words = certificate if scheme == "mqtts" else ()
        with backend(f"mqtts://localhost:{ports['mqtts']}", *certificate) as (_, url):
            code, out, err = fleetsim(
                "run", file, "--broker", broker, "--storage", url, "--link", link, "--out", tmp_path / "runs", *words
            )
    assert code == 0, out + err
    run = latest(tmp_path / "runs")
    assert set(run.trace.kind(Kind.RETIRED).texts("version")) == {"2.0.0"}
    assert run.manifest["broker"] == {"name": "mosquitto", "version": "2.0.11"}
    assert len(run.trace.kind(Kind.PROBE)) == 26
    assert "S2-conditional" in out


def test_two_runs_that_began_at_the_same_instant_have_different_names_on_their_broker(tmp_path):
    one, other = (Stack(Scenario(), Options(), tmp_path, 0, 0.0).configs.server("application").run for _ in range(2))
    assert one != other


def test_a_certificate_that_nobody_trusts_is_said(tmp_path):
    file = scenario(tmp_path, target={"kind": "external", "artifact_url": "http://127.0.0.1:1/a"})
    with mosquitto(tmp_path) as (ports, _):
        code, out, err = fleetsim(
            "run", file, "--broker", f"mqtts://localhost:{ports['mqtts']}", "--out", tmp_path / "runs"
        )
    assert code == 3, out + err
    assert "certificate verify failed" in err
    assert "Traceback" not in err


@contextlib.contextmanager
def guarded(directory):
    """A mosquitto that admits the user app alone, with its password; its port."""
    subprocess.run(
        ["mosquitto_passwd", "-c", "-b", directory / "users", "app", "s3cret"],
        check=True,
    )
    (directory / "users").chmod(0o644)
    port = free_port()
    (directory / "m.conf").write_text(
        f"user root\nallow_anonymous false\npassword_file {directory}/users\nlistener {port} 127.0.0.1\n"
    )
    process = subprocess.Popen([find_mosquitto(), "-c", directory / "m.conf"], stderr=subprocess.DEVNULL)
    try:
        wait_for(lambda: socket.socket().connect_ex(("127.0.0.1", port)) == 0)
        yield port
    finally:
        process.terminate()
        process.wait()


def test_every_part_of_ours_logs_in_as_the_brokers_url_says_and_a_refusal_names_user_and_code_in_words(tmp_path):
    file, runs = scenario(tmp_path, fleet={"devices": 3}), tmp_path / "runs"
    with guarded(tmp_path) as port:
        code, out, err = fleetsim("run", file, "--broker", f"mqtt://app:s3cret@127.0.0.1:{port}", "--out", runs)
        assert code == 0, out + err
        assert len(latest(runs).trace.kind(Kind.CONFIRM)) == 3
        for user, shown in (("app:wrong@", "app"), ("", "fleetsim-backend")):
            code, _, err = fleetsim("run", file, "--broker", f"mqtt://{user}127.0.0.1:{port}", "--out", runs, "--quiet")
            why = "the broker refused the connection: 0x87 (not authorized)"
            assert (code, err) == (3, f"fleetsim: target.broker mqtt://127.0.0.1:{port}, user {shown}: {why}\n")


@pytest.mark.parametrize("given_by", ["flag", "environment"])
def test_no_password_of_a_broker_stands_in_any_file_of_a_run_or_a_sweep(tmp_path, given_by):
    file = scenario(tmp_path, target={"kind": "external"}, fleet={"devices": 3})
    runs, swept = tmp_path / "runs", tmp_path / "swept"
    with (
        mosquitto(tmp_path) as (ports, certificate),
        backend(f"mqtts://localhost:{ports['mqtts']}", *certificate) as (_, url),
    ):
        secret = f"ws://app:s3cret@localhost:{ports['ws']}"
        env = {"FLEETSIM_BROKER": secret} if given_by == "environment" else {}
        words = ["--storage", url, "--link", "library", *(["--broker", secret] if given_by == "flag" else [])]
        assert fleetsim("run", file, *words, "--out", runs, env=env)[0] == 0
        assert fleetsim("sweep", file, "-c", 3, *words, "--out", swept, env=env)[0] == 0
    files = [path for where in (runs, swept) for path in where.rglob("*") if path.is_file()]
    assert {"manifest.json", "summary.json", "sweep.json", "report.html"} <= {path.name for path in files}
    for path in files:
        assert b"s3cret" not in path.read_bytes(), path
    repeat = latest(runs).manifest["repeat"]
    assert ("--broker ws://app:***@localhost" in repeat) is (given_by == "flag")


def test_an_external_backend_that_dies_is_a_finding(tmp_path):
    file = scenario(
        tmp_path, target={"kind": "external"}, fleet={"devices": 10}, run_time="50s",
        rollout={"maximumPerMinute": 60, "timeoutConfig": {"inProgressTimeout": "3s"}},
    )  # fmt: skip
    with mosquitto(tmp_path) as (ports, certificate):
        broker = f"mqtts://localhost:{ports['mqtts']}"
        with backend(broker, *certificate) as (process, url):
            run = start("run", file, "--broker", broker, "--storage", url, "--out", tmp_path / "runs", *certificate)
            parts = tmp_path / "runs" / "latest" / "parts"
            wait_for(lambda: (parts / "shard-0.arrow").exists() and (parts / "shard-0.arrow").stat().st_size > 3000)
            process.send_signal(signal.SIGTERM)
            out, err = run.communicate(timeout=60)
    assert run.returncode in (1, 2), out + err
    assert "✗ L2-convergence" in out
    assert "Traceback" not in err
