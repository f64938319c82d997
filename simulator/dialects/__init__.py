"""Floor 1: wire dialects, sans-IO. One file holds the device side and the service side of a dialect."""
