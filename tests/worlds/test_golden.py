"""The golden traces: what each shipped scenario records in virtual time, at 60 devices and seed 1.

golden.json holds, for each scenario, the sha256 of its trace's rows (as JSON lines) and of its trace.parquet. A change
of the code that is meant to keep behaviour changes none of them. Renew the file only in a commit that means to change
what a run does, and says why:

    python -m tests.worlds.test_golden
"""

import hashlib
import json
from pathlib import Path

import orjson
import pyarrow as pa
import pytest

from simulator.model.scenario import load_scenario
from simulator.trace.reader import in_order, write_parquet
from simulator.worlds import virtual
from simulator.worlds.shipped import shipped

GOLDEN = Path(__file__).with_name("golden.json")
DEVICES, SEED = 60, 1


def digests(name, folder):
    """The sha256 of a scenario's rows, and of its trace.parquet."""
    laid = {"world": "virtual", "fleet.devices": DEVICES, "seed": SEED}
    batches = []
    virtual.run(load_scenario(shipped()[name], laid), batches.append)
    table = in_order(batches)
    rows = hashlib.sha256()
    for row in table.to_pylist():
        rows.update(orjson.dumps(row) + b"\n")
    file = folder / "trace.parquet"
    write_parquet(table, file)
    return {"events": len(table), "rows": rows.hexdigest(), "parquet": hashlib.sha256(file.read_bytes()).hexdigest()}


def golden():
    return json.loads(GOLDEN.read_text())


def test_every_shipped_scenario_has_a_golden_trace():
    assert golden()["traces"].keys() == shipped().keys()


@pytest.mark.parametrize("name", shipped())
def test_a_shipped_scenario_records_what_it_always_did(name, tmp_path):
    found, wanted = digests(name, tmp_path), golden()["traces"][name]
    if pa.__version__ != golden()["pyarrow"]:  # another version of it spells the same rows in other bytes
        found["parquet"] = wanted["parquet"]
    assert found == wanted


if __name__ == "__main__":
    import tempfile

    with tempfile.TemporaryDirectory() as folder:
        traces = {name: digests(name, Path(folder)) for name in shipped()}
    GOLDEN.write_text(json.dumps({"pyarrow": pa.__version__, "traces": traces}, indent=2) + "\n")
