"""The nemesis: what goes wrong on purpose, to whom, when, and until when."""
