"""The HTML file: complete, escaped, written atomically."""

import base64
import io

import numpy as np
import pytest
from matplotlib.figure import Figure
from PIL import Image

from regnet_jax.errors import InputError
from regnet_jax.reporting import View, encode_figure, viewer_data, write_html


def test_page_holds_summary_tables_figures_and_notes(tmp_path):
    image = np.eye(16)
    path = write_html(
        tmp_path / "r.html",
        title="T",
        summary=[("<b>", 3), ("c", "4", "five")],
        tables=[("N", ("name", "value"), [("x", 1), ("y<", "n/a")]), ("E", ("q",), [])],
        figures=[("F", "caption", Figure(figsize=(1, 1)))],
        slices=viewer_data(image, image, image, View((1.0, 1.0))),
        notes=["note"],
        dpi=20,
    )
    text = path.read_text(encoding="utf-8")
    for part in ("&lt;b&gt;", "five", "y&lt;", 'class="number">n/a', "caption"):
        assert part in text, part
    assert list(tmp_path.iterdir()) == [path]


def test_name_that_is_not_text_can_be_written(tmp_path):
    path = write_html(tmp_path / "r.html", title="scan\udcff.nii")
    assert "scan?.nii" in path.read_text("utf-8")


def test_missing_folder_is_an_error_and_leaves_nothing(tmp_path):
    with pytest.raises(InputError, match="its folder does not exist") as caught:
        write_html(tmp_path / "none" / "r.html", title="T")
    assert "\n" not in str(caught.value)
    assert list(tmp_path.iterdir()) == []


def test_figure_without_colour_is_stored_in_grey():
    grey, colour = Figure(figsize=(2, 1)), Figure(figsize=(2, 1))
    for figure, cmap in ((grey, "gray"), (colour, "inferno")):
        axes = figure.add_axes((0, 0, 1, 1))
        axes.imshow(np.random.default_rng(0).uniform(size=(50, 100)), cmap=cmap)
    (small, *size), (large, *_) = encode_figure(grey, 50), encode_figure(colour, 50)
    assert size == [100, 50]
    assert len(small) < 0.7 * len(large)


@pytest.mark.parametrize("width", [2.0, np.nextafter(2.0, 0.0), np.nextafter(2.0, 3.0)])
def test_rows_of_a_figure_are_not_displaced(width):
    """Also where the width is a whole number of pixels but for its rounding."""
    figure = Figure(figsize=(width, 1.0))
    axes = figure.add_axes((0, 0, 1, 1))
    axes.set_axis_off()
    axes.imshow([[0.0, 1.0]], cmap="inferno", aspect="auto", interpolation="nearest")
    uri, *size = encode_figure(figure, 50)
    with Image.open(io.BytesIO(base64.b64decode(uri.partition(",")[2]))) as image:
        pixels = np.asarray(image.convert("L"), int)
    assert pixels.shape == tuple(size[::-1])
    assert np.ptp(pixels, axis=0).max() == 0
    assert pixels[0, 10] < pixels[0, 90]
