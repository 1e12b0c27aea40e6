"""What some tests need and not every machine has."""

import os

import pytest


def needs(available: bool, reason: str):
    """Skip the test where something is not available; in CI, fail.

    CI installs all that the tests can use.
    """
    if not available:
        (pytest.fail if "CI" in os.environ else pytest.skip)(reason)
