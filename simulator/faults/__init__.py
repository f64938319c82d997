"""Floor 3: what goes wrong on the road."""
