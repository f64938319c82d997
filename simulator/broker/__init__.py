"""Floor 1½: the MQTT broker as a pure state machine."""
