"""What is built to be installed holds what users read and run."""

import subprocess
import sys
import tarfile
import zipfile

from tests.test_tidy import ROOT


def test_wheel_and_sdist_hold_the_readmes_and_the_scenarios(tmp_path):
    build = [sys.executable, "-m", "hatchling", "build", "-t", "wheel", "-t", "sdist", "-d", tmp_path]
    subprocess.run(build, cwd=ROOT, check=True, capture_output=True)
    (wheel,), (sdist,) = tmp_path.glob("*.whl"), tmp_path.glob("*.tar.gz")
    with zipfile.ZipFile(wheel) as archive:
        installed = set(archive.namelist())
        metadata = archive.read(next(name for name in installed if name.endswith("/METADATA"))).decode()
    assert {"scenarios/README.md", "reports/README.md", "simulator/README.md", "scenarios/smoke.yaml",
            "scenarios/field/esp-idf-17960.yaml", "scenarios/locustfile.py", "simulator/worlds/locust/fleet.html"} <= installed  # fmt: skip
    assert "bash tests/run.sh" in metadata
    assert not any(name.startswith("tests/") for name in installed)
    with tarfile.open(sdist) as archive:
        sources = {name.partition("/")[2] for name in archive.getnames()}
    assert {"README.md", "docker/README.md", "docker/compose.yaml", "tests/README.md", "tests/run.sh"} <= sources
