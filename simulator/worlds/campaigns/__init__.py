"""Many runs: explore, sweep, self-test."""
