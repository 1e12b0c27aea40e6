"""Timings that are fair, and what they are summed up to."""

import itertools
import time

import pytest

from experiments.benchmarks import timing
from experiments.benchmarks.timing import geometric_mean
from regnet_jax.cli.common import peak_gib


def test_seconds_are_those_of_each_function(monkeypatch):
    calls = []
    monkeypatch.setattr(timing, "_RUN_SECONDS", 0.025)

    def wait(name, duration):
        calls.append(name)
        time.sleep(duration)

    short, long = timing.seconds(
        [lambda: wait("short", 0.01), lambda: wait("long", 0.03)], repeats=3
    )
    assert 0.01 <= short < 0.03 <= long
    # Once each to compile, then in turns, the short one several times in a row.
    turns = [name for name, _ in itertools.groupby(calls)]
    assert turns == ["short", "long"] * 4
    assert calls.count("short") > 4
    assert calls.count("long") == 4


def test_the_mean_of_ratios_is_geometric():
    assert geometric_mean([0.5, 2.0]) == pytest.approx(1.0)
    assert geometric_mean([4.0, 9.0]) == pytest.approx(6.0)


def test_the_peak_of_memory_is_in_gib():
    before = peak_gib()
    block = bytearray(300 * 2**20)
    block[:: 2**12] = b"\1" * len(block[:: 2**12])
    assert 0.01 < before < 64
    assert peak_gib() >= before
