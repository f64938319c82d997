"""The pattern's application: who gets which artifact, when."""
