"""The page of a series, of phases that were never registered."""

import base64
import io
import re

import numpy as np
import pytest
from PIL import Image

from regnet_jax.reporting import series_page
from regnet_jax.reporting.series_page import write_series_page


def make_page(path, shape, names=("T0", "T5", "T10"), **more):
    """Phases of random values whose motion grows with their number."""
    rng = np.random.default_rng(0)
    fixed = rng.normal(size=shape)
    slices = [rng.normal(size=(shape[0], shape[-1])) for _ in names]
    rows = [
        {
            "phase": name, "source": f"{name}.mha", "region": "image",
            "mean_mm": float(k), "p95_mm": 2.0 * k, "max_mm": 3.0 * k,
            **{f"mean_{axis}_mm": 0.5 * k for axis in "xyz"[: len(shape)]},
        }
        for k, name in enumerate(names)
    ]  # fmt: skip
    write_series_page(
        path, title="Series a & b", rows=rows, reference=0, region_name="image",
        region=np.ones(shape, bool), fixed=fixed, amplitude=np.full(shape, 7.25),
        path_length=np.full(shape, 12.5), mid_position=fixed, views=(slices, slices),
        index=None if len(shape) == 2 else (2, 3, 4),
        spacing=(2.0, 1.5, 1.0)[: len(shape)],
        links={name: f"{name}/report.html" for name in names[1:]}, **more,
    )  # fmt: skip
    return path.read_text("utf-8")


def animation(page):
    (content,) = re.findall(r'src="data:image/gif;base64,([^"]*)"', page)
    return Image.open(io.BytesIO(base64.b64decode(content)))


@pytest.mark.parametrize("shape", [(14, 18), (8, 10, 12)], ids=["2D", "3D"])
def test_page_holds_the_numbers_the_notes_and_a_breath_in_motion(tmp_path, shape):
    page = make_page(tmp_path / "a.html", shape, notes=["T5: <odd>"])
    for text in ("7.2 mm", "12.5 mm", "T5: &lt;odd&gt;", "Series a &amp; b", "T0.mha"):
        assert text in page
    assert "back to the first phase" in page
    found = animation(page)
    assert found.n_frames == 3
    # All of a breath takes some seconds, and it repeats for ever.
    assert found.info["duration"] == pytest.approx(700, abs=10)
    assert found.info["loop"] == 0


def test_many_phases_are_thinned_out_in_the_animation(tmp_path, monkeypatch):
    monkeypatch.setattr(series_page, "_FRAMES", 2)
    page = make_page(tmp_path / "a.html", (14, 18), cycle=False)
    assert animation(page).n_frames == 2
    assert "from the first to the last phase" in page
