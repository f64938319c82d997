"""Benchmarks, run by hand: `python -m tests.bench.NAME`. Each prints figures and the ratio that matters."""
