"""Carries docker/compose.yaml out without a Docker engine: the image by buildah, a root and a network namespace each
service, joined by a bridge; its health checks decide what starts when, and master's exit code is ours. As root, by hand:

    python -m tests.bench.containers IMAGE --out DIRECTORY [--workers N]
"""

from __future__ import annotations

import argparse
import json
import os
import shlex
import subprocess
import sys
import time
from pathlib import Path
from typing import Any

import yaml

COMPOSE = Path(__file__).parents[2] / "docker" / "compose.yaml"
BRIDGE, NET, USER = "fleetsim0", "10.201.7", "10001:10001"
HEALTHY_S = 90


def sh(*words: str) -> str:
    return subprocess.run(words, check=True, stdout=subprocess.PIPE, text=True).stdout.strip()


class Container:
    """One service's."""

    def __init__(self, image: str, name: str, service: dict[str, Any], address: str) -> None:
        self.name, self.service, self.address = name, service, address
        self.space = f"fleetsim-{name}"
        self.id = sh("buildah", "from", image)
        self.root = Path(sh("buildah", "mount", self.id))
        config = json.loads(sh("buildah", "inspect", self.id))["OCIv1"]["config"]
        self.work = config["WorkingDir"]
        said = {k: str(v) for k, v in service.get("environment", {}).items()}
        self.environment = dict(one.split("=", 1) for one in config["Env"]) | {"HOME": self.work} | said
        self.process: subprocess.Popen[bytes] | None = None

    def connect(self, hosts: str, volumes: Path) -> None:
        """Its network, its neighbours' names, its volumes."""
        (self.root / "etc/hosts").write_text(hosts)
        for volume in self.service.get("volumes", ()):
            source, target = volume.split(":")[:2]
            (volumes / source).mkdir(exist_ok=True)
            os.chown(volumes / source, 10001, 10001)
            sh("mount", "--bind", str(volumes / source), f"{self.root}{target}")
        for what in ("proc", "dev"):
            sh("mount", "--rbind", f"/{what}", f"{self.root}/{what}")
        end = f"fs-{self.address.rpartition('.')[2]}"
        sh("ip", "netns", "add", self.space)
        sh("ip", "link", "add", end, "type", "veth", "peer", "name", "eth0", "netns", self.space)
        sh("ip", "link", "set", end, "master", BRIDGE, "up")
        for words in (
            ["addr", "add", f"{self.address}/24", "dev", "eth0"],
            ["link", "set", "eth0", "up"],
            ["link", "set", "lo", "up"],
        ):
            sh("ip", "-n", self.space, *words)

    def command(self, words: list[str]) -> list[str]:
        inside = ["env", "-i", *(f"{k}={v}" for k, v in self.environment.items()), *words]
        line = f"hostname {self.name}; exec chroot --userspec={USER} {self.root} sh -c 'cd {self.work} && exec \"$@\"' sh {shlex.join(inside)}"
        return ["ip", "netns", "exec", self.space, "unshare", "--uts", "sh", "-c", line]

    def start(self, logs: Path) -> None:
        said = self.service["command"]
        words = [one.replace("$$", "$") for one in (shlex.split(said) if isinstance(said, str) else said)]
        with (logs / f"{self.name}.log").open("wb") as log:
            self.process = subprocess.Popen(self.command(words), stdout=log, stderr=log)

    def healthy(self) -> bool:
        test = self.service["healthcheck"]["test"].replace("$$", "$")
        return subprocess.run(self.command(["sh", "-c", test]), capture_output=True).returncode == 0

    def remove(self) -> None:
        if self.process is not None and self.process.poll() is None:
            self.process.terminate()
            self.process.wait(30)
        subprocess.run(["ip", "netns", "del", self.space], stderr=subprocess.DEVNULL)
        for volume in (*(v.split(":")[1] for v in self.service.get("volumes", ())), "/proc", "/dev"):
            subprocess.run(["umount", "--lazy", "--recursive", f"{self.root}{volume}"], stderr=subprocess.DEVNULL)
        subprocess.run(["buildah", "rm", self.id], stdout=subprocess.DEVNULL)


def up(containers: list[Container], logs: Path) -> int:
    """Each when those it depends on are healthy; master's exit code."""
    began = time.monotonic()
    waiting, well = list(containers), set[str]()
    master = next(one for one in containers if one.name == "master")
    while master.process is None or master.process.poll() is None:
        for one in [one for one in waiting if set(one.service.get("depends_on", ())) <= well]:
            one.start(logs)
            waiting.remove(one)
        for one in containers:
            if one.name not in well and one.process is not None and one.healthy():
                well.add(one.name)
                print(f"{time.monotonic() - began:6.1f} s  {one.name} is healthy", flush=True)
        if len(well) < len(containers) and time.monotonic() - began > HEALTHY_S:
            raise SystemExit(f"not healthy: {sorted({one.name for one in containers} - well)}")
        time.sleep(1.0)
    print(f"{time.monotonic() - began:6.1f} s  master has ended: {master.process.returncode}")
    return master.process.returncode


def main() -> int:
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0])
    parser.add_argument("image")
    parser.add_argument("--workers", type=int, default=2)
    parser.add_argument("--out", type=Path, required=True, help="for volumes and logs")
    said = parser.parse_args()
    environment = {**os.environ, "WORKERS": str(said.workers)}
    words = ["docker-compose", "-f", str(COMPOSE), "config"]
    services = yaml.safe_load(subprocess.run(words, check=True, env=environment, stdout=subprocess.PIPE).stdout)[
        "services"
    ]
    worker = services.pop("worker")
    services |= {f"worker-{nth}": worker for nth in range(said.workers)}
    said.out.mkdir(parents=True, exist_ok=True)
    containers: list[Container] = []
    sh("ip", "link", "add", BRIDGE, "type", "bridge")
    try:
        sh("ip", "link", "set", BRIDGE, "up")
        for nth, (name, service) in enumerate(services.items()):
            containers.append(Container(said.image, name, service, f"{NET}.{nth + 2}"))
        hosts = "127.0.0.1 localhost\n" + "".join(f"{one.address} {one.name}\n" for one in containers)
        for one in containers:
            one.connect(hosts, said.out)
        return up(containers, said.out)
    finally:
        for one in containers:
            one.remove()
        sh("ip", "link", "del", BRIDGE)


if __name__ == "__main__":
    sys.exit(main())
