"""Procedural and real chests side by side."""

import json

import numpy as np
import pytest

from regnet_jax.io.images import write_image
from regnet_jax.spatial import Frame
from tests.helpers.chest import chest


def test_densities_in_the_lungs_are_measured_and_drawn(command, tmp_path):
    frame = Frame((40, 56, 64), (4.0, 4.0, 4.0), (0, 0, 0), np.eye(3))
    image = chest(frame, frame.centre, lung=-800.0)
    write_image(tmp_path / "scan.nii.gz", image.astype(np.float32), frame)
    (tmp_path / "scans.txt").write_text("scan.nii.gz\n", "utf-8")
    out = tmp_path / "chests"
    result = command(
        "chests", f"--scans={tmp_path / 'scans.txt'}", "--count=1", f"--out={out}"
    )
    assert result.status == 0, result.err
    volumes = json.loads((out / "chests.json").read_text("utf-8"))["volumes"]
    assert list(volumes) == ["real 1", "procedural 1"]
    for found in volumes.values():
        assert -950 < found["hu"][2] < -650
    # Two ellipsoids, eroded by 6 mm along the axes and by less between them.
    assert volumes["real 1"]["hu"][1:4] == [-800.0] * 3
    expected = 2 * 4 / 3 * np.pi * 28 * 49 * 39 / 1000
    assert volumes["real 1"]["millilitres"] == pytest.approx(expected, rel=0.15)
    assert (out / "chests.png").stat().st_size > 10_000
