"""Held-out scans from the command line: what is measured, and of what."""

import json

import jax
import numpy as np
import pytest

from experiments.heldout.artificial import make_cases, summarise, visible_body
from regnet_jax.geometry import warp
from regnet_jax.io.images import write_image
from regnet_jax.spatial import Frame
from regnet_jax.synthesis import FAMILIES, ArtificialPair

NAMES = ["multiscale", "zero"]


def slab(shape):
    """Textured tissue in air."""
    rng = np.random.default_rng(5)
    image = np.full(shape, -1000.0, np.float32)
    inside = tuple(slice(6, n - 6) for n in shape[-2:])
    image[(..., *inside)] = rng.normal(50, 30, image[(..., *inside)].shape)
    return image


@pytest.fixture(scope="module")
def listed(tmp_path_factory):
    """A file that lists one volume."""
    folder = tmp_path_factory.mktemp("assess")
    frame = Frame((9, 58, 64), (2.0, 2.0, 3.0), (0, 0, 0), np.eye(3))
    write_image(folder / "scan.nii.gz", slab(frame.shape), frame)
    (folder / "scans.txt").write_text("scan.nii.gz\n")
    return folder / "scans.txt"


def test_a_2d_network_is_measured_on_slices(command, run2d, listed):
    out = listed.parent / "measures.json"
    result = command(
        "assess",
        *(f"--volumes={listed}", f"--model={run2d}", f"--out={out}"),
        *("--count=2", f"--families={','.join(NAMES)}", "--refine=1", "--seed=3"),
    )
    assert result.status == 0, result.err
    report = json.loads(out.read_text("utf-8"))
    assert report["volumes"] == ["scan.nii.gz"]
    assert [pair["family"] for pair in report["pairs"]] == NAMES
    assert set(report["summary"]) == {*NAMES, "all"}
    total = report["summary"]["all"]
    assert set(total) == {"before", "network", "refined"}
    assert total["before"]["ratio"] == 1
    assert report["summary"]["zero"]["before"]["mean"] == 0
    assert report["summary"]["zero"]["network"]["ratio"] is None
    assert total["network"]["mean"] > 0
    assert "multiscale     network" in result.out


def test_crops_are_boxes_of_the_volume():
    """Deformed by nothing, a crop is the volume at some place, but for its noise."""
    volume = np.random.default_rng(0).normal(0, 1e4, (40, 9, 30)).astype(np.float32)
    made = make_cases(
        jax.random.key(1), {"v": volume}, ["zero"], 6, spacing=2.0, d=3, crop=16
    )
    places = set()
    for case in made:
        moving = case.pair.moving[..., 0]
        assert moving.shape == (16, 9, 16)
        boxes = np.lib.stride_tricks.sliding_window_view(volume, moving.shape)
        error = np.abs(boxes - moving).max(axis=(3, 4, 5))
        assert error.min() < 100.0
        places.add(int(error.argmin()))
    assert len(places) > 2


@pytest.mark.parametrize(
    ("flags", "fact"),
    [
        (["--families=breath"], "there are"),
        (["--volumes=none.txt"], "no such file"),
        (["--spacing=nan"], "millimetres"),
        (["--count=0"], "--count"),
    ],
)
def test_bad_flags_give_one_line(command, run2d, listed, tmp_path, flags, fact):
    result = command(
        "assess",
        *(f"--volumes={listed}", f"--model={run2d}", f"--out={tmp_path / 'm.json'}"),
        *flags,
    )
    assert result.status == 2
    assert len(result.errors) == 1
    assert fact in result.errors[0]
    assert not list(tmp_path.iterdir())


def test_cases_take_every_family_on_every_volume():
    volumes = {"a": slab((58, 64)), "b": slab((58, 64)) + 1}
    how = {"spacing": 2.0, "d": 2}
    cases = list(make_cases(jax.random.key(1), volumes, NAMES, 4, **how))
    assert {(case.volume, case.family) for case in cases} == {
        (volume, name) for volume in volumes for name in NAMES
    }
    for case in cases:
        largest = 2.0 * np.abs(case.pair.displacement).max()
        assert largest <= 1.001 * FAMILIES[case.family].amplitude
        # Images differ from volume and warped volume by noise of 10 HU.
        volume = volumes[case.volume][..., None]
        for image, clean in (
            (case.pair.moving, volume),
            (case.pair.fixed, warp(volume, case.pair.displacement)),
        ):
            assert np.std(image - clean) == pytest.approx(10, rel=0.05)
    first = next(iter(make_cases(jax.random.key(1), volumes, NAMES, 4, **how)))
    np.testing.assert_array_equal(first.pair.fixed, cases[0].pair.fixed)


def test_visible_body_leaves_out_voxels_beyond_the_moving_image():
    fixed = slab((20, 30))[..., None]
    u = np.zeros((20, 30, 2), np.float32)
    u[8, 10] = (0, -11)
    u[8, 11] = (0, -11)
    seen = visible_body(ArtificialPair(fixed, fixed, u, None))
    assert not seen[8, 10]
    assert seen[8, 11]
    assert not seen[2, 2]


def test_summarise_takes_the_means_of_pairs():
    errors = [(4.0, 10.0, 1.0, 3.0), (2.0, 6.0, 0.5, 1.0)]
    rows = [
        {
            "errors": {
                "before": {"mean": a, "p95": b},
                "network": {"mean": c, "p95": d},
            }
        }
        for a, b, c, d in errors
    ]
    network = summarise(rows)["network"]
    assert network["n"] == 2
    assert network["mean"] == pytest.approx(0.75)
    assert network["sd"] == pytest.approx(np.std([1, 0.5], ddof=1))
    assert network["ratio"] == pytest.approx(0.25)
    assert network["p95_ratio"] == pytest.approx(0.25)
