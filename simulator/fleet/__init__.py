"""Floor 5: many devices."""
