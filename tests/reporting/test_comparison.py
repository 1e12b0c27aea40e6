"""Figures that put methods side by side, looked at as numbers."""

import numpy as np
import pytest

from regnet_jax.reporting import box_figure, differences_figure


def test_boxes_are_quartiles_and_points_are_all_values():
    values = {"a": [1.0, 2.0, 3.0, 4.0, 50.0, np.nan], "b": [2.0]}
    axes = box_figure(values, label="error (mm)").axes[0]
    assert [text.get_text() for text in axes.get_yticklabels()] == ["a", "b"]
    assert [len(points.get_offsets()) for points in axes.collections] == [5, 1]
    spans = [np.ptp(line.get_xdata()) for line in axes.lines]
    assert max(spans) == 2.0  # The box from 2 to 4; b has none.
    assert axes.get_xlabel() == "error (mm)"


def test_a_log_axis_needs_positive_values():
    positive = box_figure({"a": [1.0, 100.0]}, label="s", log=True)
    assert positive.axes[0].get_xscale() == "log"
    zero = box_figure({"a": [0.0, 100.0]}, label="s", log=True)
    assert zero.axes[0].get_xscale() == "linear"


@pytest.mark.parametrize("shape", [(30, 41), (12, 30, 41)])
def test_differences_are_fixed_minus_others_on_one_scale(shape):
    fixed = np.random.default_rng(0).uniform(-900, 300, shape)
    others = {"before": fixed - 60, **{f"m{i}": fixed - 5 * i for i in range(4)}}
    figure = differences_figure(fixed, others, spacing=(2.0,) * len(shape))
    images = [axes.images[0] for axes in figure.axes if axes.images]
    shown = images[: len(others)]
    assert np.median(np.asarray(shown[0].get_array())) == pytest.approx(60)
    assert np.median(np.asarray(shown[3].get_array())) == pytest.approx(10)
    assert len({image.get_clim() for image in shown}) == 1
