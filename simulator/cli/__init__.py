"""The command line: a module for each family of verbs; `main` obeys it."""

from simulator.cli.main import app, main

__all__ = ["app", "main"]
