"""The judges, who see the trace and the scenario and nothing else. Each check is a function; judge.py lists them all."""
