"""2D networks on 3D images, and networks with a margin or one per voxel size."""

import dataclasses
import json

import jax.numpy as jnp
import numpy as np
import pytest

import regnet_jax
from regnet_jax.errors import InputError
from regnet_jax.geometry import compose, downsample, upsample_field, warp
from regnet_jax.geometry.slices import SLICE_AXES
from regnet_jax.pretrained.inference import write_inference
from regnet_jax.registration import load_network
from regnet_jax.registration.inference.prediction import predict
from regnet_jax.registration.inference.tiles import predict_lattice
from regnet_jax.registration.refinement import refine_on_body
from regnet_jax.spatial import Frame, Image
from tests.helpers import networks
from tests.helpers.networks import dense, smooth_image

SHAPE = (7, 40, 33)


def rotated(shape, axis):
    """The shape with its smallest size along an axis."""
    return tuple(np.roll(shape, axis))


@pytest.mark.parametrize("name", SLICE_AXES)
@pytest.mark.parametrize("hidden", [False, True])
def test_slices_are_predicted_as_in_2d(name, hidden):
    axis = SLICE_AXES[name]
    shape = rotated(SHAPE, axis)
    network = dense(2, 2.0, (1.0, 2.0))
    images = [smooth_image(shape, seed) + 400.0 for seed in (0, 1)]
    shown = [None, None]
    if hidden:
        shown = [np.ones(shape, bool), np.ones(shape, bool)]
        np.moveaxis(shown[0], axis, 0)[:, :9] = False
        np.moveaxis(shown[1], axis, 0)[..., -9:] = False
    field = predict(network, *images, shown=shown, slice_axis=name)
    assert field.shape == (*shape, 3)
    assert field.dtype == np.float32
    np.testing.assert_array_equal(field[..., axis], 0)
    within = [a for a in range(3) if a != axis]
    for k in (0, 3, 6):
        planes = [np.take(image, k, axis) for image in images]
        parts = [None if s is None else np.take(s, k, axis) for s in shown]
        want = predict(network, *planes, shown=parts)
        got = np.take(field, k, axis)[..., within]
        assert want.std() > 0.05
        np.testing.assert_allclose(got, want, atol=1e-4)


def test_only_slices_of_the_body_are_predicted(monkeypatch):
    """Neither air beside the body nor the padding of its box across the slices."""
    shape, seen = (60, 40, 33), []
    images = [smooth_image(shape, seed) + 400.0 for seed in (0, 1)]
    for image in images:
        image[45:] = -1000.0
    network = networks.dense(2, 2.0)
    whole = type(network).predict_patch

    def predict_patch(self, fixed, moving):
        seen.append(fixed.shape)
        return whole(self, fixed, moving)

    monkeypatch.setattr(type(network), "predict_patch", predict_patch)
    field = predict(network, *images, slice_axis="axial")
    assert field.shape == (*shape, 3)
    assert len(seen) == 45 + 8, "and the margin of the body's box"


def test_slices_without_anything_shown_do_not_move():
    shown = np.ones(SHAPE, bool)
    shown[2] = False
    images = [smooth_image(SHAPE, seed) for seed in (0, 1)]
    field = predict(dense(2, 2.0), *images, shown=(shown, shown), slice_axis="axial")
    np.testing.assert_array_equal(field[2], 0)
    assert np.isfinite(field).all()


def test_refinement_by_slices_moves_nothing_across():
    shape = (3, 40, 36)
    images = [smooth_image(shape, 0), smooth_image(shape, 0)]
    images[1] = np.roll(images[1], 1, axis=2)
    start = np.zeros((*shape, 3), np.float32)
    options = {"steps": 6, "spacing": 2.0}
    field = refine_on_body(*images, start, slice_axis="axial", **options)
    np.testing.assert_array_equal(field[..., 0], 0)
    planes = [image[1] for image in images]
    want = refine_on_body(*planes, start[1, ..., 1:], **options)
    assert want.std() > 0.01
    np.testing.assert_allclose(field[1, ..., 1:], want, atol=1e-4)


@pytest.fixture
def volumes():
    """Two images whose anatomical axes are not those of their arrays."""
    direction = np.eye(3)[[1, 2, 0]] * [1, -1, 1]
    frame = Frame((12, 10, 14), (2.0, 2.5, 3.0), (-80, 12, 300), direction)
    return [Image(smooth_image(frame.shape, s), frame, f"image{s}") for s in (0, 1)]


def shifting(vector):
    def apply(fixed, moving):
        margin = networks.RegNet(2).support.margin
        shape = [len(range(margin, n - margin, 2)) for n in fixed.shape[1:-1]]
        return np.broadcast_to(np.float32(vector), (1, *shape, 2))

    return networks.fake(2, 4.0, apply)


@pytest.mark.parametrize(
    ("name", "world"),
    # Voxels of 4 mm; array axes (z, y, x) within the slices, the world is (x, y, z).
    [
        (None, (8.0, 4.0, 0.0)),
        ("axial", (8.0, 4.0, 0.0)),
        ("coronal", (8.0, 0.0, 4.0)),
        ("sagittal", (0.0, 8.0, 4.0)),
    ],
)
def test_2d_network_registers_3d_images_and_says_so(volumes, name, world, caplog):
    result = regnet_jax.register(
        *volumes,
        shifting((1.0, 2.0)),
        initial="none",
        voxel_size=4.0,
        slice_axis=name,
    )
    want = np.broadcast_to(world, result.displacement.shape)
    np.testing.assert_allclose(result.displacement, want, atol=1e-4)
    line = f"it registered {name or 'axial'} slices one by one"
    assert any(line in notice for notice in result.notices)
    assert line in caplog.text
    assert result.parameters["slice_axis"] == (name or "axial")


def test_3d_networks_say_that_slices_have_no_effect(volumes):
    network = networks.fake(3, 4.0, _still, tile=3)
    options = {"initial": "none", "voxel_size": 4.0}
    result = regnet_jax.register(*volumes, network, slice_axis="axial", **options)
    line = "slice_axis has no effect, as untrained3d is a 3D network"
    assert line in result.notices
    assert not regnet_jax.register(*volumes, network, **options).notices


def _still(fixed, moving):
    margin = networks.RegNet(3).support.margin
    shape = [len(range(margin, n - margin, 2)) for n in fixed.shape[1:-1]]
    return np.zeros((1, *shape, 3), np.float32)


def test_option_has_no_effect_in_2d(volumes):
    plane, other = (Image.from_array(smooth_image((20, 18), k), 2.0) for k in (0, 1))
    options = {"initial": "none", "voxel_size": 4.0, "slice_axis": "coronal"}
    result = regnet_jax.register(plane, other, shifting((1.0, 2.0)), **options)
    assert result.displacement.shape == (20, 18, 2)
    assert result.parameters["slice_axis"] is None
    (line,) = result.notices
    assert line.startswith("slice_axis has no effect, as ")
    assert line.endswith("is a 2D network and the images are 2D")
    with pytest.raises(InputError, match="slice_axis: is 'oblique'"):
        regnet_jax.register(plane, other, shifting((1.0, 2.0)), slice_axis="oblique")


@pytest.mark.parametrize("shape", [(61, 47), (14, 21, 17)])
def test_networks_with_a_margin_go_coarse_to_fine(shape):
    """Against the passes written out, with the field of whole images."""
    d = len(shape)
    experiment = networks.config(d, 2.0)
    use = networks.inference(d, 2.0, tile=3 if d == 3 else 13)
    use = dataclasses.replace(use, voxel_sizes=(4.0, 2.0), extra_pass=d == 2)
    network = networks.make_network(use, networks.untrained(experiment).variables)
    images = [smooth_image(shape, seed) for seed in (0, 1)]
    fixed, moving = (
        jnp.clip((jnp.asarray(i)[..., None] + 1000) / 4095, 0, 1) for i in images
    )
    coarse, _ = predict_lattice(network, downsample(fixed, 2), downsample(moving, 2))
    want = upsample_field(jnp.asarray(coarse), 2, shape)
    for _ in range(len(network.stages) - 1):
        found, _ = predict_lattice(network, fixed, warp(moving, want))
        want = compose(jnp.asarray(found), want)
    got = predict(network, *images)
    assert np.std(got) > 0.5
    np.testing.assert_allclose(got, want, atol=1e-3)


def test_network_per_voxel_size(tmp_path, run2d):
    """The folder names a run relative to itself, and a shipped network."""
    near = tmp_path / "run"
    near.symlink_to(run2d)
    use = dataclasses.replace(
        networks.inference(2, 2.0),
        name="stages",
        voxel_sizes=(4.0, 2.0),
        extra_pass=True,
        stage_weights=("run", "regnet2d_2017"),
    )
    write_inference(tmp_path, use)
    network = load_network(tmp_path)
    names = [stage.config.name for stage in network.stages]
    assert names == ["untrained2d", "regnet2d_2017", "regnet2d_2017"]
    images = [smooth_image((41, 35), seed) for seed in (0, 1)]
    whole = [jnp.clip((jnp.asarray(i)[..., None] + 1000) / 4095, 0, 1) for i in images]
    field = None
    for stage in network.stages:
        factor = 2 if field is None else 1
        fixed, moving = (downsample(i, factor) if factor > 1 else i for i in whole)
        moving = moving if field is None else warp(moving, field)
        found = jnp.asarray(predict_lattice(stage, fixed, moving)[0])
        if field is None:
            field = upsample_field(found, 2, (41, 35))
        else:
            field = compose(found, field)
    np.testing.assert_allclose(predict(network, *images), field, atol=1e-3)


@pytest.mark.parametrize(
    ("weights", "said"),
    [
        (["lung"], "stage_weights: "),
        (["lung", "lung2d"], "lung: is 3D and .* is 2D"),
        (["lung2d", "nowhere"], "nowhere: neither a folder nor a shipped network"),
        (["lung2d", "."], "has networks of its own for its voxel sizes"),
    ],
)
def test_stages_that_do_not_fit_are_refused(tmp_path, weights, said):
    use = dataclasses.replace(networks.inference(2, 2.0), voxel_sizes=(4.0, 2.0))
    write_inference(tmp_path, use)
    path = tmp_path / "inference.json"
    values = json.loads(path.read_text()) | {"stage_weights": weights}
    path.write_text(json.dumps(values))
    with pytest.raises(InputError, match=said):
        load_network(tmp_path)
