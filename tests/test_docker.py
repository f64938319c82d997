"""The image and the compose file, as far as they can be judged without an engine (`bench/containers.py` runs them)."""

from __future__ import annotations

import os
import re
import shutil
import subprocess
from pathlib import Path

import pytest
import yaml

from simulator.cli import app

ROOT = Path(__file__).parents[1]
COMPOSE = ROOT / "docker" / "compose.yaml"
DOCKERFILE = (ROOT / "docker" / "Dockerfile").read_text()
SERVICES = yaml.safe_load(COMPOSE.read_text())["services"]
WORKERS = ("backend", "application", "worker")


def test_the_image_is_made_in_two_stages_and_runs_as_nobody_special():
    first, last = re.split(r"^FROM ", DOCKERFILE, flags=re.M)[1:]
    assert first.startswith("${BASE} AS builder\n")
    assert last.startswith("${BASE}\n")
    assert "pip install" not in last
    user = re.search(r"^USER (\w+)$", last, re.M)[1]
    assert f"--create-home {user}" in last
    assert "VOLUME /runs" in last


def test_what_the_image_is_made_of_is_there_and_sent():
    sent = (ROOT / ".dockerignore").read_text().split()
    for sources in re.findall(r"^COPY (?!--from)(.+) \S+$", DOCKERFILE, re.M):
        for source in sources.split():
            assert (ROOT / source).exists()
            assert f"!{source.partition('/')[0]}" in sent


def test_each_service_has_a_health_check():
    assert set(SERVICES) == {"mosquitto", "master", *WORKERS}
    assert all(service["healthcheck"]["test"] for service in SERVICES.values())
    assert "mosquitto_sub" in SERVICES["mosquitto"]["healthcheck"]["test"]


def test_a_service_starts_when_what_it_needs_is_healthy():
    assert SERVICES["master"]["depends_on"] == {"mosquitto": {"condition": "service_healthy"}}
    assert all(SERVICES[name]["depends_on"] == {"master": {"condition": "service_healthy"}} for name in WORKERS)


def test_runs_are_kept_in_a_volume_and_only_the_page_is_published_on_loopback():
    assert "runs" in yaml.safe_load(COMPOSE.read_text())["volumes"]
    assert SERVICES["master"]["volumes"] == SERVICES["backend"]["volumes"] == ["runs:/runs"]
    assert {name: service["ports"] for name, service in SERVICES.items() if "ports" in service} == {
        "master": ["127.0.0.1:8089:8089"]
    }


def test_each_setting_is_one_that_a_flag_reads():
    known = {option.envvar for command in _commands() for option in command.params} - {None}
    known |= {"FLEETSIM_SCENARIO", "FLEETSIM_HEALTH"}  # Locust's flags
    said = {key for service in SERVICES.values() for key in service["environment"] if key.startswith("FLEETSIM_")}
    assert said <= known


def _commands():
    from typer.main import get_command

    return get_command(app).commands.values()


@pytest.mark.skipif(shutil.which("docker-compose") is None, reason="docker-compose is not installed")
def test_compose_itself_takes_it_and_scales_the_workers():
    words = ["docker-compose", "-f", str(COMPOSE), "config"]
    said = subprocess.run(words, check=True, capture_output=True, env={**os.environ, "WORKERS": "5"}).stdout
    services = yaml.safe_load(said)["services"]
    assert services["worker"]["deploy"]["replicas"] == 5
    assert services["master"]["environment"]["WORKERS"] == "5"
