"""Floor 5: the pattern's application: who gets which artifact, when."""
