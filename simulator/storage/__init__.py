"""Floor 4½: the artifact storage: step 2 of the pattern."""
