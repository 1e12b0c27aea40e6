"""The content of the figures: panels, labels, limits, directions."""

import subprocess
import sys

import numpy as np
import pytest
from matplotlib.collections import LineCollection
from matplotlib.quiver import Quiver

from regnet_jax.evaluation import MotionStatistics
from regnet_jax.reporting import (
    box_figure,
    checkerboard_figure,
    confidence_figure,
    difference_figure,
    differences_figure,
    displacement_figure,
    encode_figure,
    family_figure,
    grid_figure,
    jacobian_figure,
    motion_figure,
    pair_figure,
    statistics_figure,
    training_figure,
)
from regnet_jax.reporting.curves import collect_series, running_mean
from regnet_jax.reporting.families import middle_slices
from regnet_jax.reporting.fields import FOLD_COLOUR
from regnet_jax.reporting.images import checkerboard
from regnet_jax.reporting.slices import View, choose_planes

CASES = {2: ((20, 30), (1.0, 2.0)), 3: ((12, 20, 30), (2.5, 1.0, 1.5))}


@pytest.fixture(params=[2, 3], ids=["2D", "3D"])
def case(request):
    """Three images of a grid, a constant displacement and the spacing."""
    shape, spacing = CASES[request.param]
    rng = np.random.default_rng(0)
    fixed, moving = (rng.uniform(0, 100, shape).astype(np.float32) for _ in range(2))
    displacement = np.zeros((*shape, len(shape)), np.float32)
    displacement[..., -2:] = (3.0, 4.0)
    return fixed, moving, 0.5 * (fixed + moving), displacement, spacing


def panels(figure):
    """The axes that show an image."""
    return [axes for axes in figure.axes if axes.images]


def test_pair_has_a_panel_for_each_image_and_plane(case):
    fixed, moving, warped, _, spacing = case
    figure = pair_figure(fixed, moving, warped, View(spacing, window=(10, 90)))
    planes = 1 if fixed.ndim == 2 else 3
    assert len(panels(figure)) == 3 * planes
    assert [a.get_title() for a in figure.axes[:3]] == ["fixed", "moving", "warped"]
    assert all(a.images[0].get_clim() == (10, 90) for a in panels(figure))
    if planes == 3:
        rows = [a.get_ylabel().split(",")[0] for a in figure.axes[::3]]
        assert rows == ["axial", "coronal", "sagittal"]


def test_panels_have_the_physical_shape_of_their_plane(case):
    fixed, moving, warped, _, spacing = case
    for make in (pair_figure, checkerboard_figure, difference_figure):
        figure = make(fixed, moving, warped, View(spacing))
        width, height = figure.get_size_inches()
        for axes in panels(figure):
            left, right, bottom, top = axes.images[0].get_extent()
            box = axes.get_position()
            drawn = (box.width * width) / (box.height * height)
            assert drawn == pytest.approx((right - left) / abs(top - bottom), rel=1e-6)


def test_default_intensity_window_is_that_of_the_fixed_image(case):
    fixed, moving, warped, _, spacing = case
    figure = pair_figure(fixed - 1000, moving, warped, View(spacing))
    assert panels(figure)[0].images[0].get_clim() == (-1000, 400)


def test_differences_share_one_symmetric_scale(case):
    fixed, moving, warped, _, spacing = case
    figure = difference_figure(fixed, moving, warped, View(spacing))
    limits = {a.images[0].get_clim() for a in panels(figure)}
    assert len(limits) == 1
    low, high = limits.pop()
    assert low == -high
    assert 50 < high < 100
    before, after = panels(figure)[0], panels(figure)[-1]
    assert np.ptp(after.images[0].get_array()) < np.ptp(before.images[0].get_array())
    assert "fixed minus" in figure.axes[-1].get_ylabel()


def test_differences_of_equal_images_have_a_scale(case):
    fixed, _, _, _, spacing = case
    figure = difference_figure(fixed, fixed, fixed, View(spacing))
    low, high = panels(figure)[0].images[0].get_clim()
    assert low == -high < 0


def test_pair_figure_refuses_images_of_two_grids(case):
    fixed, moving, warped, _, spacing = case
    with pytest.raises(ValueError, match="one grid"):
        pair_figure(fixed, moving[1:], warped, View(spacing))
    with pytest.raises(ValueError, match="spatial axes"):
        pair_figure(fixed[0], moving, warped, View(spacing))


def test_images_may_have_a_channel_axis(case):
    fixed, moving, warped, _, spacing = case
    images = (image[..., None] for image in (fixed, moving, warped))
    assert panels(pair_figure(*images, View(spacing)))


def test_checkerboard_squares_alternate_and_are_square_in_mm():
    (plane,) = choose_planes((20, 30), (1.0, 2.0))
    mask = checkerboard(plane, 6)  # 60 mm: squares of 10 mm, 10 rows by 5 columns
    assert mask[:10, :5].all()
    assert not mask[:10, 5:10].any()
    assert mask[10:, 5:10].all()


def test_checkerboard_takes_from_both_images():
    ones, zeros = np.ones((20, 30)), np.zeros((20, 30))
    figure = checkerboard_figure(ones, zeros, ones, View((1.0, 2.0)))
    before, after = (np.asarray(a.images[0].get_array()) for a in panels(figure))
    assert 0.4 < before.mean() < 0.6
    assert (after == 1).all()


def test_displacement_magnitude_limits_and_arrows(case):
    fixed, _, _, displacement, spacing = case
    figure = displacement_figure(displacement, fixed, View(spacing))
    heat = [a for a in panels(figure) if a.images[0].get_cmap().name == "inferno"]
    assert len(heat) == (1 if fixed.ndim == 2 else 3)
    assert all(a.images[0].get_clim() == (0, 5) for a in heat)
    assert figure.axes[-1].get_ylabel() == "displacement, mm"
    (arrows,) = (a for a in heat[0].collections if isinstance(a, Quiver))
    stretch = arrows.U[0] / 4
    np.testing.assert_allclose(arrows.U, 4 * stretch)  # along x, columns
    np.testing.assert_allclose(arrows.V, 3 * stretch)  # along y, rows
    assert arrows.angles == "xy"  # follows the axes, also where they point down


def test_figures_of_a_zero_displacement_can_be_drawn(case):
    fixed, moving, _, displacement, spacing = case
    still = np.zeros_like(displacement)
    for figure in (
        displacement_figure(still, fixed, View(spacing)),
        grid_figure(still, fixed, View(spacing), moving=moving),
    ):
        assert encode_figure(figure)[1] > 100


def test_grid_figure_refuses_a_field_of_another_grid(case):
    fixed, _, _, displacement, spacing = case
    with pytest.raises(ValueError, match="grid"):
        grid_figure(displacement[..., :1], fixed, View(spacing))


def lines_of(axes):
    (collection,) = (c for c in axes.collections if isinstance(c, LineCollection))
    return [np.asarray(line) for line in collection.get_segments()]


def test_grid_lines_move_with_the_displacement(case):
    """A line at fixed position x is drawn at x + u(x), in mm of each axis."""
    fixed, moving, _, displacement, spacing = case
    figure = grid_figure(displacement, fixed, View(spacing), moving=moving)
    axes = panels(figure)
    still, moved = axes[0], axes[len(axes) // 2]
    for before, after in zip(lines_of(still), lines_of(moved), strict=True):
        expected = np.broadcast_to((4.0, 3.0), before.shape)  # (x, y)
        np.testing.assert_allclose(after - before, expected, atol=1e-4)


def test_grid_lines_move_up_with_z_in_the_coronal_plane():
    shape, spacing = CASES[3]
    displacement = np.zeros((*shape, 3))
    displacement[..., 0] = 6.0
    fixed = np.random.default_rng(0).normal(size=shape)
    figure = grid_figure(displacement, fixed, View(spacing), lines=6)
    coronal = panels(figure)[1]
    low, high = coronal.get_ylim()
    assert low < high  # larger z is higher on the page
    highest = max(line[:, 1].max() for line in lines_of(coronal))
    assert highest == pytest.approx((shape[0] - 1) * spacing[0] + 6.0)


def test_jacobian_is_centred_at_one_and_marks_folds(case):
    fixed, _, _, _, spacing = case
    determinant = np.exp(np.random.default_rng(2).normal(0, 0.3, fixed.shape))
    determinant[tuple(n // 2 for n in fixed.shape)] = -0.2
    figure = jacobian_figure(determinant, View(spacing))
    image = panels(figure)[0].images[0]
    low, high = image.get_clim()
    assert low * high == pytest.approx(1.0)
    assert image.norm(1.0) == pytest.approx(0.5)
    assert np.ma.getmaskarray(image.get_array()).sum() == 1
    red, green, blue, _ = image.get_cmap().get_bad()
    assert (red, green, blue) == pytest.approx(
        tuple(int(FOLD_COLOUR[i : i + 2], 16) / 255 for i in (1, 3, 5))
    )
    assert figure.legends


def test_jacobian_without_folds_has_no_legend(case):
    fixed, _, _, _, spacing = case
    figure = jacobian_figure(np.ones_like(fixed), View(spacing))
    assert not figure.legends
    assert encode_figure(figure)[1] > 100


def test_confidence_leaves_out_what_is_not_known(case):
    fixed, _, _, _, spacing = case
    bound = np.full(fixed.shape, 2.0)
    bound[..., :3] = np.inf
    figure = confidence_figure(bound, fixed, View(spacing), top=4.0)
    overlays = [
        axes.images[1] for axes in figure.axes if len(getattr(axes, "images", ())) == 2
    ]
    assert len(overlays) == (3 if fixed.ndim == 3 else 1)
    assert overlays[0].get_clim() == (0.0, 4.0)
    axial = np.ma.getmaskarray(overlays[0].get_array())
    assert axial[:, :3].all()
    assert not axial[:, 3:].any()
    with pytest.raises(ValueError, match="does not lie on the grid"):
        confidence_figure(bound[:-1], fixed, View(spacing))


def blob(height, shape=(40, 50)):
    y, x = np.indices(shape)
    bump = np.exp(-((y - 20) ** 2 + (x - 25) ** 2) / 50)
    return np.stack([np.zeros(shape), height * bump], axis=-1)


def test_family_figure_shows_magnitudes_and_their_largest():
    heights = {"low": 8.0, "high": 3.0, "single": 2.0, "mixed": 1.0, "affine": 4.0}
    fields = {name: blob(height) for name, height in heights.items()}
    figure = family_figure(fields, np.eye(40, 50))
    written = [text.get_text() for axes in figure.axes for text in axes.texts]
    assert written == [f"{name}, max. {top:.1f} mm" for name, top in heights.items()]
    heat = [a for a in panels(figure) if a.images[0].get_cmap().name == "inferno"]
    assert [a.images[0].get_clim() for a in heat] == [(0, 8)] * 5
    tops = sorted({round(a.get_position().y1, 3) for a in heat})
    assert len(tops) == 2  # a second band where one would crowd
    assert encode_figure(figure)[1] > 100


def test_statistics_figure_has_a_line_for_each_field():
    rng = np.random.default_rng(0)
    low = {"mean": rng.uniform(1, 2, 3), "upper": rng.uniform(3, 4, 3)}
    low |= {"largest": rng.uniform(5, 6, 3), "wavelength": rng.uniform(50, 90, 3)}
    low |= {"least_jacobian": -rng.uniform(0, 1, 3), "greatest_jacobian": np.full(3, 2)}
    figure = statistics_figure({"low": low, "high": low})
    sizes, jacobians, waves = figure.axes
    assert [label.get_text() for label in sizes.get_yticklabels()] == ["low", "high"]
    ends = np.concatenate([c.get_segments() for c in sizes.collections])[:, :, 0]
    np.testing.assert_allclose(ends[:3], np.stack([low["mean"], low["largest"]], -1))
    assert jacobians.get_xlim()[0] < low["least_jacobian"].min()
    np.testing.assert_allclose(waves.lines[0].get_xdata(), low["wavelength"])
    with pytest.raises(ValueError, match="no family"):
        statistics_figure({})


def test_motion_figure_has_breaths_as_points_and_families_as_ranges():
    rng = np.random.default_rng(0)
    real, low = (
        {name: rng.uniform(1, 2, n) for name in MotionStatistics._fields}
        for n in (3, 4)
    )
    low["correlation_far"][:] = np.nan
    figure = motion_figure(real, {"low": low})
    shown = [axes for axes in figure.axes if axes.axison]
    assert len(shown) == len(MotionStatistics._fields)
    labels = [label.get_text() for label in shown[0].get_yticklabels()]
    assert labels == ["real breaths", "low"]
    (ends,) = shown[0].collections[0].get_segments()
    np.testing.assert_allclose(ends[:, 0], [low["mean"].min(), low["mean"].max()])
    points, mark = shown[0].lines[:2]
    np.testing.assert_allclose(points.get_xdata(), real["mean"])
    np.testing.assert_allclose(mark.get_xdata(), [low["mean"].mean()])
    (empty,) = (axes for axes in shown if not axes.collections)
    assert "50-70 mm" in empty.get_title()
    assert encode_figure(figure)[1] > 100


def test_middle_slices_are_coronal_with_the_head_up():
    """A slice of the field leads to the same place in the slice of the image."""
    image = np.arange(5 * 7 * 6.0).reshape(5, 7, 6)
    field = np.zeros((5, 7, 6, 3))
    # One voxel towards the head, three backwards, two to the right.
    field[...] = (1, 3, -2)
    pixels, moves = middle_slices(image, field)
    assert pixels.shape == (5, 6)
    assert pixels[0, 0] == image[4, 3, 0]
    np.testing.assert_array_equal(moves[2, 3], (3, -1, -2))
    assert pixels[2 - 1, 3 - 2] == image[2 + 1, 3, 3 - 2]
    plane = middle_slices(image[0], field[0, ..., :2])
    assert [a.shape for a in plane] == [(7, 6), (7, 6, 2)]


def test_family_figure_deforms_the_background_like_a_fixed_image():
    """Fixed is I(x + u): with u = +3 along x the picture moves to the left."""
    image = np.zeros((40, 50))
    image[:, 25] = 1.0
    field = np.zeros((40, 50, 3))
    field[..., 2] = 6.0
    figure = family_figure({"shift": field}, image, spacing=(1.0, 2.0))
    deformed = np.asarray(panels(figure)[0].images[0].get_array())
    assert deformed[:, 22].min() == pytest.approx(1.0)
    given = family_figure({"shift": field}, {"shift": image})
    shown = np.asarray(panels(given)[0].images[0].get_array())
    np.testing.assert_array_equal(shown, image)


def test_family_figure_refuses_fields_of_several_sizes():
    with pytest.raises(ValueError, match="one size"):
        family_figure({"a": blob(1.0), "b": blob(1.0)[1:]})
    with pytest.raises(ValueError, match="one size"):
        family_figure({})


def test_training_figure_skips_missing_values():
    records = [{"step": s, "loss": 1.0 / s, "note": "x"} for s in range(1, 60)]
    records[9]["endpoint_error"] = 2.5
    records[19]["endpoint_error"] = np.float32(1.5)
    records[29]["endpoint_error"] = float("nan")
    figure = training_figure(records)
    shown = [axes for axes in figure.axes if axes.get_visible()]
    assert [a.get_title(loc="left") for a in shown] == ["loss", "endpoint error"]
    assert [a.get_yscale() for a in shown] == ["log", "linear"]
    assert all(a.get_xlabel() == "step" for a in shown)
    np.testing.assert_array_equal(shown[1].lines[0].get_xdata(), [10, 20])
    assert encode_figure(figure)[1] > 100


def test_training_figure_without_records_can_be_drawn():
    assert encode_figure(training_figure([]))[1] > 100


def test_series_are_sorted_and_running_means_keep_constants():
    steps, values = collect_series([{"step": 2, "a": 1.0}, {"step": 1, "a": 3.0}])["a"]
    assert (steps.tolist(), values.tolist()) == ([1.0, 2.0], [3.0, 1.0])
    np.testing.assert_allclose(running_mean(np.full(20, 2.0), 5), 2.0)


def test_figures_load_neither_pyplot_nor_simpleitk():
    code = (
        "import sys; from regnet_jax.reporting import html, images, fields, families; "
        "from regnet_jax.reporting import curves, measures, viewer; "
        "sys.exit('matplotlib.pyplot' in sys.modules or 'SimpleITK' in sys.modules)"
    )
    assert subprocess.run([sys.executable, "-c", code], check=False).returncode == 0


@pytest.mark.parametrize("shape", [(1, 60, 64), (60, 1, 64), (60, 64, 1)], ids=str)
def test_volume_one_voxel_thick_can_be_drawn(shape):
    image = np.random.default_rng(0).uniform(0, 100, shape).astype(np.float32)
    for make in (pair_figure, checkerboard_figure, difference_figure):
        figure = make(image, image, image, View((1.5, 1.0, 1.0)))
        for axes in figure.axes:
            box = axes.get_position()
            assert min(box.width, box.height) > 0


def test_box_figure_has_quartiles_and_a_point_for_each_value():
    values = {"a": [1.0, 2.0, 3.0, 4.0, 50.0, np.nan], "b": [2.0]}
    axes = box_figure(values, label="error (mm)").axes[0]
    assert [text.get_text() for text in axes.get_yticklabels()] == ["a", "b"]
    assert [len(points.get_offsets()) for points in axes.collections] == [5, 1]
    spans = [np.ptp(line.get_xdata()) for line in axes.lines]
    assert max(spans) == 2.0  # The box from 2 to 4; b has none.
    assert axes.get_xlabel() == "error (mm)"


def test_box_figure_has_a_log_axis_only_for_positive_values():
    positive = box_figure({"a": [1.0, 100.0]}, label="s", log=True)
    assert positive.axes[0].get_xscale() == "log"
    zero = box_figure({"a": [0.0, 100.0]}, label="s", log=True)
    assert zero.axes[0].get_xscale() == "linear"


@pytest.mark.parametrize("shape", [(30, 41), (12, 30, 41)])
def test_differences_figure_is_fixed_minus_others_on_one_scale(shape):
    fixed = np.random.default_rng(0).uniform(-900, 300, shape)
    others = {"before": fixed - 60, **{f"m{i}": fixed - 5 * i for i in range(4)}}
    figure = differences_figure(fixed, others, spacing=(2.0,) * len(shape))
    images = [axes.images[0] for axes in figure.axes if axes.images]
    shown = images[: len(others)]
    assert np.median(np.asarray(shown[0].get_array())) == pytest.approx(60)
    assert np.median(np.asarray(shown[3].get_array())) == pytest.approx(10)
    assert len({image.get_clim() for image in shown}) == 1
