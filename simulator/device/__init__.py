"""Floor 4: one virtual device."""
