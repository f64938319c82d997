"""The artifact storage: step 2 of the pattern."""
