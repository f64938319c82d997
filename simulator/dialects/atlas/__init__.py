"""The `atlas` dialect: the IoT Atlas pages' Software Update over Device State Replica, as JSON over MQTT.

Each party's side is a module of its own, with the clause of its source above the branch that obeys it; tests/pairs has
two sides talk to each other, so that nobody applies different rules to the two ends of a wire. The variant
`atlas-example` is the page's own code: the device publishes `jobID:<id> SUCCESS|FAILURE` on `update/accepted` and
reports nothing else.
"""
