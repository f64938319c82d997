"""The MQTT broker: a pure state machine, its sockets, a real mosquitto, and what stands in for all servers in a self-test."""
