"""Numbers and tables as text."""

import math

import pytest

from experiments.text import interval, markdown, mean_and_sd, plain

HEAD, BODY = ["method", "mm"], [["affine", "10.25"], ["ours", ""]]


@pytest.mark.parametrize(
    ("given", "text"),
    [
        ((1.204, 0.31), "1.20 ± 0.31"),
        ((1.204, 0.31, 1), "1.2 ± 0.3"),
        ((1.204, math.nan), "1.20"),
        ((math.nan, math.nan), ""),
        ((math.inf, math.nan), ""),
    ],
)
def test_a_mean_has_the_deviation_that_there_is(given, text):
    assert mean_and_sd(*given) == text


def test_differences_have_a_sign():
    assert mean_and_sd(1.0, 2.0, sign="+") == "+1.00 ± 2.00"
    assert interval((-0.5, 1.0), 1, sign="+") == "[-0.5, +1.0]"
    assert interval((1.05, 1.42)) == "[1.05, 1.42]"


def test_tables_have_straight_columns():
    assert markdown(HEAD, BODY).splitlines() == [
        "| method |    mm |",
        "| ------ | ----: |",
        "| affine | 10.25 |",
        "| ours   |       |",
    ]
    assert plain(HEAD, BODY) == "method     mm\naffine  10.25\nours"
    assert plain(HEAD, BODY, left=2) == "method  mm\naffine  10.25\nours"
