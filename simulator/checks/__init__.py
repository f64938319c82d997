"""The judges, who see the trace and the scenario and nothing else."""
