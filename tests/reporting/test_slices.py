"""Planes, orientation, intensity windows, and the data of the viewer."""

import base64
import io

import numpy as np
import pytest
from PIL import Image

from regnet_jax.reporting import View, pair_figure, viewer_data
from regnet_jax.reporting.slices import (
    choose_differing_index,
    choose_index,
    choose_planes,
    choose_window,
)

SHAPE, SPACING = (12, 20, 30), (2.5, 1.0, 1.5)


def corner_volume():
    """Bright in the superior, posterior, left corner: large z, y and x."""
    volume = np.zeros(SHAPE, np.float32)
    volume[-3:, -4:, -5:] = 1.0
    return volume


def rendered(figure, axes):
    """The pixels of one panel as drawn, ``[rows, columns]``, row 0 on top."""
    buffer = io.BytesIO()
    figure.savefig(buffer, format="png", dpi=60)
    pixels = np.asarray(Image.open(buffer).convert("L"))
    box = axes.get_position()
    height, width = pixels.shape
    rows = slice(round((1 - box.y1) * height) + 1, round((1 - box.y0) * height) - 1)
    return pixels[rows, round(box.x0 * width) + 1 : round(box.x1 * width) - 1]


def brightest_quarter(pixels):
    """(vertical, horizontal) side of the bright part: 0 top or left, 1 the other."""
    rows, columns = (n // 2 for n in pixels.shape)
    halves = [pixels[:rows].sum(dtype=float), pixels[rows:].sum(dtype=float)]
    sides = [pixels[:, :columns].sum(dtype=float), pixels[:, columns:].sum(dtype=float)]
    return int(np.argmax(halves)), int(np.argmax(sides))


def tile(data, plane, role="fixed"):
    """The first-shown tile of the viewer, ``[rows, columns]``."""
    entry = data.planes[plane]
    text = entry["sheets"][role].split(",", 1)[1]
    sheet = np.asarray(Image.open(io.BytesIO(base64.b64decode(text))))
    (width, height), start = entry["tile"], entry["start"]
    y, x = start // entry["columns"] * height, start % entry["columns"] * width
    return sheet[y : y + height, x : x + width]


def test_planes_of_a_volume_have_their_labels_sizes_and_edges():
    axial, coronal, sagittal = choose_planes(SHAPE, SPACING, (1, 2, 3))
    assert [axial.label, coronal.label] == ["axial, z = 1", "coronal, y = 2"]
    assert (axial.size, coronal.size, sagittal.size) == ((20, 30), (12, 30), (12, 20))
    assert [axial.up, coronal.up, sagittal.up] == [False, True, True]
    assert (axial.edges, coronal.edges, sagittal.edges) == ("RLAP", "RLSI", "APSI")
    assert coronal.aspect == pytest.approx((30 * 1.5) / (12 * 2.5))


def test_plane_of_an_image_is_the_image_itself():
    (plane,) = choose_planes((20, 30), (1.0, 2.0))
    image = np.arange(600).reshape(20, 30)
    assert plane.label == "image"
    assert plane.aspect == pytest.approx(3.0)
    assert plane.take(image) is image


def test_index_outside_of_the_grid_is_clamped():
    assert [p.index for p in choose_planes(SHAPE, SPACING, (99, -5, 3))] == [11, 0, 3]


@pytest.mark.parametrize("spacing", [(1.0,), (1.0, 1.0)])
def test_choose_planes_refuses_spacing_of_another_dimension(spacing):
    with pytest.raises(ValueError, match="not both"):
        choose_planes(SHAPE, spacing)


def test_in_plane_components_are_rows_then_columns():
    field = np.broadcast_to(np.array([1.0, 2.0, 3.0]), (*SHAPE, 3))
    planes = choose_planes(SHAPE, SPACING)
    found = [plane.in_plane(field)[0, 0].tolist() for plane in planes]
    assert found == [[2.0, 3.0], [1.0, 3.0], [1.0, 2.0]]


def test_choose_index_returns_the_bright_voxel():
    volume = np.zeros(SHAPE)
    volume[4, 7, 22] = 3.0
    assert choose_index(volume) == (4, 7, 22)
    assert choose_index(np.zeros(SHAPE)) == (6, 10, 15)


def test_choose_differing_index_ignores_equal_voxels_and_the_border():
    first = np.random.default_rng(0).normal(size=SHAPE)
    second = first.copy()
    second[5, 9, 11] += 2.0
    second[0, 0, 0] += 50.0
    assert choose_differing_index(first, second) == (5, 9, 11)
    assert choose_differing_index(first, first) == choose_index(first)


def test_intensity_window_is_fixed_for_ct_and_percentiles_otherwise():
    assert choose_window(np.array([-1000.0, 0.0, 3000.0])) == (-1000.0, 400.0)
    low, high = choose_window(np.linspace(0, 100, 101))
    assert (low, high) == pytest.approx((1.0, 99.0))
    assert choose_window(np.full((4, 4), 7.0)) == (7.0, 8.0)
    assert choose_window(np.full((4, 4), np.nan)) == (0.0, 1.0)


@pytest.mark.parametrize(
    ("row", "side"), [(0, (1, 1)), (1, (0, 1)), (2, (0, 1))], ids=["ax", "cor", "sag"]
)
def test_slices_are_drawn_in_the_anatomical_orientation(row, side):
    """Back downwards in axial, head upwards elsewhere, left and back rightwards."""
    volume = corner_volume()
    index = tuple(n - 1 for n in SHAPE)
    view = View(SPACING, window=(0, 1), index=index)
    figure = pair_figure(volume, volume, volume, view)
    panel = figure.axes[3 * row + 1]
    assert brightest_quarter(rendered(figure, panel)) == side
    data = viewer_data(volume, volume, volume, view)
    assert brightest_quarter(tile(data, row)) == side


def test_viewer_tiles_have_the_shape_of_the_plane():
    volume = corner_volume()
    data = viewer_data(volume, volume, volume, View(SPACING), names={"fixed": "a"})
    assert data.names == {"fixed": "a", "warped": "Warped", "moving": "Moving"}
    for plane, total in zip(data.planes, SHAPE, strict=True):
        width, height = plane["tile"]
        assert width % 8 == height % 8 == 0
        assert width / height == pytest.approx(plane["ratio"], rel=0.35)
        assert plane["slices"] == list(range(total))


def test_viewer_skips_slices_and_keeps_to_its_size():
    noise = np.random.default_rng(1).normal(size=(100, 40, 40)).astype(np.float32)
    view = View((1.0, 1.0, 1.0), index=(50, 3, 3))
    data = viewer_data(noise, noise, noise, view, max_bytes=600_000)
    assert data.size <= 600_000
    slices = data.planes[0]["slices"]
    assert len(slices) == 64
    assert (slices[0], slices[-1]) == (0, 99)
    assert abs(slices[data.planes[0]["start"]] - 50) <= 1


def test_viewer_shows_an_image_with_missing_values():
    image = np.full((16, 24), 5.0)
    image[:, :12] = np.nan
    data = viewer_data(image, image, image, View((1.0, 1.0), window=(0.0, 5.0)))
    (plane,) = data.planes
    assert (plane["axis"], plane["total"], plane["tile"]) == ("", 1, (24, 16))
    assert brightest_quarter(tile(data, 0))[1] == 1
