"""The suites of `experiments.benchmark`; each times the library against a reference."""
