"""Several loads: throughput, latency, and what saturates."""
