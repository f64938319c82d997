"""The processes of a live run: the conductor, its servers and the parts it starts."""
