"""The command line: a module for each family of verbs, which `main` puts together. A new verb is a function in the module of
its family, and a line in `main`. Flags that several verbs share are rows of worlds/flags.py."""

from simulator.cli.main import app, main

__all__ = ["app", "main"]
