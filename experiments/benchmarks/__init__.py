"""The suites of `experiments.benchmark`: each times ours against a named reference."""
