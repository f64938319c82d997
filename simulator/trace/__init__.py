"""Floor 2: the run's memory."""
