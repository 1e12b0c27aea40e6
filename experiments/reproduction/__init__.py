"""The parts of ``experiments.reproduce``: scans, recipe, errors and page."""
