"""What a run directory says of its run."""

import json

from simulator.model.scenario import parse_scenario
from simulator.worlds.runs import manifest_of


def test_no_password_stands_in_the_manifest():
    broker = "mqtts://user:s3cret@broker.example:8883"
    made = parse_scenario(f"{{target: {{kind: external, broker: '{broker}'}}, fleet: {{password: 's3cret-%i'}}}}")
    said = manifest_of(made, f"fleetsim run my.yaml --broker {broker} --seed 1")
    assert "s3cret" not in json.dumps(said)
    assert said["repeat"] == "fleetsim run my.yaml --broker mqtts://user:***@broker.example:8883 --seed 1"
    assert said["broker"] == {"name": "mqtts://user:***@broker.example:8883"}
