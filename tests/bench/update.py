"""Fleet CPU of a whole live update: delta, 16 KiB over a fresh connection from nginx, report, accepted, with dialect,
device and trace; the lean links beside the library's, by turns on one mosquitto, of which the medians count. And the
same with the reboot, which ends the connection and begins it anew (CONNECT, SUBSCRIBE, initial report, get).

To reach: 350 µs an update, a third of the library's. Also: memory of a whole idle device, 20 KiB.
Usage: python -m tests.bench.update [DEVICES]   (nginx: Debian's nginx-light)
"""

import asyncio
import gc
import hashlib
import json
import shutil
import statistics
import subprocess
import sys
import tempfile
import time
from pathlib import Path

from simulator.broker.access import thing_password
from simulator.broker.mosquitto import Mosquitto, free_port
from simulator.device.agent import Software
from simulator.device.device import DeviceSpec, run_device
from simulator.dialects.atlas.device import AtlasDevice
from simulator.links.base import HttpOptions, MqttOptions, Wires
from simulator.links.http import LeanHttp
from simulator.links.library import LibraryMqtt
from simulator.links.library_http import LibraryHttp
from simulator.links.loop import run_live
from simulator.links.mqtt import LeanMqtt
from simulator.model.dice import Dice
from simulator.model.events import Kind
from simulator.model.scenario import Profile
from simulator.trace.recorder import Recorder
from simulator.worlds.live.health import resident_bytes
from simulator.worlds.live.machine import raise_open_files

CONTENT = hashlib.sha256(b"seed").digest() * 512
ROUNDS = 7
LINKS = {"lean": (LeanMqtt, LeanHttp), "library": (LibraryMqtt, LibraryHttp)}
# no time is slept; a device that only claims to have installed does all but the reboot
PROFILES = {
    "no reboot": Profile(install=0, reboot=0, verify=0, mishaps={"install": {"lie": 1.0}}),
    "reboot": Profile(install=0, reboot=0, verify=0),
}


async def fleet(kind, way, port, devices):
    """CPU of an update in µs and memory of an idle device in KiB; between them, a line each way says what goes on."""
    make_mqtt, make_http = LINKS[kind]
    batches = []
    recorder = Recorder(time.monotonic_ns, batches.append, per_us=1000)
    gate = asyncio.Semaphore(64)
    http = make_http(HttpOptions())
    recorder.record(Kind.RUN)
    recorder.flush()  # what this loads is not a device's
    gc.collect()
    before = resident_bytes()
    tasks = []
    for i in range(devices):
        thing = f"d{i}"
        options = MqttOptions("127.0.0.1", port, thing, thing, thing_password("k", thing), gate=gate)
        spec = DeviceSpec(
            thing, PROFILES[way], Software("1", "urn:1", "0" * 64), 1 << 20, time.time() - time.monotonic()
        )
        wires = Wires(make_mqtt(options), http)
        tasks.append(
            asyncio.ensure_future(run_device(spec, AtlasDevice(thing), wires, recorder.record, Dice(1, thing)))
        )
    await told("connected")  # and the last `get` is answered
    recorder.flush()
    batches.clear()
    gc.collect()
    memory = (resident_bytes() - before) / devices / 1024
    gc.freeze()
    cpu = time.process_time()
    await told("ready")
    used = time.process_time() - cpu
    recorder.flush()
    rows = [row for batch in batches for row in batch.select(["kind", "job"]).to_pylist()]
    answered = sum(row["kind"] == Kind.ANSWER and row["job"] is not None for row in rows)
    if answered != devices:
        sys.exit(f"{kind}: {answered} of {devices} updates were answered")
    for task in tasks:
        task.cancel()
    await asyncio.gather(*tasks, return_exceptions=True)
    await http.close()
    return used / devices * 1e6, memory


async def told(what):
    """Say it, and wait until told to go on."""
    print(what, flush=True)
    await asyncio.get_running_loop().run_in_executor(None, sys.stdin.readline)


async def serve(port, url, devices, go, asked, ended):
    """The replica's side: answers everything; once `go` is set, one delta each, 128 under way. `asked` is set when
    every device has asked what is desired, `ended` when each has reported an end."""
    link = LeanMqtt(MqttOptions("127.0.0.1", port, "service", "service", "secret"))
    await link.connect()
    await link.subscribe(["state/+/update", "state/+/get"])
    software = {"version": "2", "softwareURL": url}
    download = {"url": url, "size": len(CONTENT), "sha256": hashlib.sha256(CONTENT).hexdigest()}
    room = asyncio.Semaphore(128)

    async def offer():
        await go.wait()
        for i in range(devices):
            await room.acquire()
            delta = {"state": {"software": software}, "version": 2, "timestamp": 1, "jobID": f"j{i}"}
            await link.publish(f"state/d{i}/update/delta", json.dumps(delta | {"download": download}).encode())

    offering = asyncio.ensure_future(offer())
    gets = ends = 0
    try:
        while True:
            delivery = await link.receive()
            said = json.loads(delivery.payload or b"{}")
            echoed = {key: said[key] for key in ("clientToken", "jobID") if key in said}
            answer = {"version": 3, "timestamp": 1, "state": said.get("state", {})} | echoed
            await link.publish(f"{delivery.topic}/accepted", json.dumps(answer).encode())
            delivery.ack()
            if said.get("status") in ("SUCCESS", "FAILURE"):
                room.release()
                ends += 1
            gets += delivery.topic.endswith("/get")
            if gets >= devices:
                asked.set()
            if ends >= devices:
                ended.set()
    finally:
        offering.cancel()


async def measure(kind, way, port, url, devices):
    go, asked, ended = asyncio.Event(), asyncio.Event(), asyncio.Event()
    service = asyncio.ensure_future(serve(port, url, devices, go, asked, ended))
    words = [sys.executable, "-m", "tests.bench.update", "child", kind, way, str(port), str(devices)]
    child = await asyncio.create_subprocess_exec(*words, stdin=subprocess.PIPE, stdout=subprocess.PIPE)
    try:
        async with asyncio.timeout(180):
            for what, event in ((b"connected\n", asked), (b"ready\n", ended)):
                assert await child.stdout.readline() == what
                if event is ended:
                    go.set()
                await event.wait()
                await asyncio.sleep(1)  # what was said last arrives
                child.stdin.write(b"on\n")
            return tuple(map(float, (await child.stdout.readline()).split()))
    finally:
        service.cancel()
        await asyncio.gather(service, return_exceptions=True)
        await child.wait()


def nginx(directory):
    """(process, URL of the content)."""
    port = free_port()
    (directory / "app").write_bytes(CONTENT)
    (directory / "nginx.conf").write_text(
        f"worker_processes 1; daemon off; pid {directory}/pid; error_log {directory}/log;"
        "events { worker_connections 10000; }"
        f"http {{ access_log off; sendfile on; server {{ listen 127.0.0.1:{port} backlog=4096; root {directory}; }} }}"
    )
    directory.chmod(0o755)
    program = shutil.which("nginx", path="/usr/sbin:/usr/bin")
    assert program, "apt-get install nginx-light"
    return subprocess.Popen([program, "-c", str(directory / "nginx.conf")]), f"http://127.0.0.1:{port}/app"


def main():
    if sys.argv[1:2] == ["child"]:
        kind, way, port, devices = *sys.argv[2:4], int(sys.argv[4]), int(sys.argv[5])
        raise_open_files()
        print(*run_live(lambda: fleet(kind, way, port, devices)), flush=True)
        return
    devices = int(sys.argv[1]) if len(sys.argv) > 1 else 2_000
    raise_open_files()
    with tempfile.TemporaryDirectory() as name:
        directory = Path(name)
        things = [f"d{i}" for i in range(devices)]
        server = Mosquitto(
            directory / "m", run_key="k", things=things, services={"service": "secret"}, rights=["state/{thing}/#"]
        )
        server.start()
        storage, url = nginx(directory)
        try:
            found = {(way, kind): [] for way in PROFILES for kind in LINKS}
            for _ in range(ROUNDS):
                for (way, kind), measured in found.items():
                    measured.append(run_live(lambda w=way, k=kind: measure(k, w, server.port, url, devices)))
        finally:
            storage.terminate()
            storage.wait()
            server.stop()
    typical = {
        case: [statistics.median(column) for column in zip(*measured, strict=True)] for case, measured in found.items()
    }
    for (way, kind), (cpu, memory) in typical.items():
        each = ", ".join(f"{cpu:.0f}" for cpu, _ in found[way, kind])
        print(f"{kind:<8} {way:<10} {cpu:6.0f} µs an update ({each}), {memory:5.1f} KiB an idle device")
    lean, library = typical["no reboot", "lean"], typical["no reboot", "library"]
    print(f"lean           {lean[0]:.0f} µs (goal 350)")
    print(f"lean / library {lean[0] / library[0]:.3f} (goal 0.333)")
    print(f"idle device    {lean[1]:.1f} KiB (goal 20)")


if __name__ == "__main__":
    main()
