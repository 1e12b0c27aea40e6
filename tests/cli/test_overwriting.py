"""Results do not replace the files that they are made from."""

import os

import numpy as np
import pytest
import SimpleITK as sitk

from regnet_jax.io import write_displacement, write_points, write_transform
from regnet_jax.spatial import Frame, affine_transform
from tests.helpers.networks import smooth_image


@pytest.fixture
def folder(tmp_path):
    """Inputs under the names of results."""
    for seed, name in enumerate(("fixed.nii.gz", "warped.nii.gz", "jacobian.nii.gz")):
        image = sitk.GetImageFromArray(smooth_image((30, 34), seed))
        sitk.WriteImage(image, str(tmp_path / name))
    frame = Frame((30, 34), (1, 1), (0, 0), np.eye(2))
    write_displacement(tmp_path / "t.mha", np.ones((30, 34, 2), np.float32), frame)
    write_transform(tmp_path / "t.tfm", affine_transform(np.eye(3)))
    write_points(tmp_path / "p.csv", [[1.0, 2.0], [3.0, 4.0]])
    write_transform(tmp_path / "transform.h5", affine_transform(np.eye(3)))
    text = "name,fixed,moving\na,fixed.nii.gz,fixed.nii.gz\n"
    (tmp_path / "pairs.csv").write_text(text, "utf-8")
    return tmp_path


CASES = {
    "moving": (
        "register --fixed={0}/fixed.nii.gz --moving={0}/warped.nii.gz --out={0}"
    ),
    "mask": (
        "register --fixed={0}/fixed.nii.gz --moving={0}/fixed.nii.gz"
        " --ignore_fixed={0}/jacobian.nii.gz --out={0}"
    ),
    "start": (
        "register --fixed={0}/fixed.nii.gz --moving={0}/fixed.nii.gz"
        " --initial=inverse:{0}/transform.h5 --out={0}"
    ),
    "list of pairs": "register --pairs={0}/pairs.csv --out={0}",
    "image of evaluate": (
        "evaluate --fixed={0}/fixed.nii.gz --moving={0}/warped.nii.gz"
        " --out={0}/fixed.nii.gz"
    ),
    "points of evaluate": (
        "evaluate --fixed_points={0}/p.csv --moving_points={0}/p.csv --out={0}/p.csv"
    ),
    "transform of evaluate": (
        "evaluate --fixed={0}/fixed.nii.gz --moving={0}/warped.nii.gz"
        " --transform={0}/t.tfm --out={0}/t.tfm"
    ),
    "image of warp": (
        "warp --transform={0}/t.mha --image={0}/warped.nii.gz --out={0}/warped.nii.gz"
    ),
    "transform of warp": (
        "warp --transform={0}/t.mha --image={0}/warped.nii.gz --out={0}/t.mha"
    ),
    "points of warp": "warp --transform={0}/t.mha --points={0}/p.csv --out={0}/p.csv",
}


@pytest.mark.parametrize("case", CASES)
def test_inputs_are_not_replaced_by_results(command, folder, case):
    before = {path: path.read_bytes() for path in folder.iterdir()}
    name, *arguments = CASES[case].format(folder).split(" ")
    result = command(name, *arguments)
    assert result.status == 2
    (line,) = result.errors
    assert "is read, and a result would replace it; choose another --out" in line
    assert {path: path.read_bytes() for path in folder.iterdir()} == before


@pytest.mark.parametrize(
    ("out", "said"),
    [("", "--out: is empty; give a value"), (os.sep, "is the whole disk")],
)
@pytest.mark.parametrize("given", ["one", "list"])
def test_results_need_a_folder_of_their_own(command, folder, out, said, given):
    paths = [f"--{n}={folder}/fixed.nii.gz" for n in ("fixed", "moving")]
    if given == "list":
        text = "name,fixed,moving\na,fixed.nii.gz,fixed.nii.gz\n"
        (folder / "list.csv").write_text(text, "utf-8")
        paths = [f"--pairs={folder}/list.csv"]
    result = command("register", *paths, f"--out={out}")
    assert result.status == 2
    (line,) = result.errors
    assert said in line


def test_a_pair_may_not_have_the_name_of_the_table(command, folder):
    text = "name,fixed,moving\npairs.csv,fixed.nii.gz,fixed.nii.gz\n"
    (folder / "list.csv").write_text(text, "utf-8")
    result = command("register", f"--pairs={folder}/list.csv", f"--out={folder}/out")
    assert result.status == 2
    assert "has the name of the table of results, pairs.csv" in result.errors[0]
    assert not (folder / "out").exists()


def test_an_image_beyond_the_grid_is_said(command, folder):
    far = affine_transform(np.array([[1, 0, 1e4], [0, 1, 0], [0, 0, 1.0]]))
    write_transform(folder / "far.tfm", far)
    image = folder / "fixed.nii.gz"
    paths = [f"--transform={folder}/far.tfm", f"--image={image}", f"--like={image}"]
    result = command("warp", *paths, f"--out={folder}/far.mha")
    assert result.status == 0
    assert "the result has a single value, as nothing of the image" in result.out
    paths = [f"--fixed={image}", f"--moving={image}", f"--transform={folder}/far.tfm"]
    result = command("evaluate", *paths, f"--out={folder}/far.json")
    assert result.status == 0
    assert any("no part of the images could be compared" in e for e in result.errors)


def test_a_pair_does_not_replace_what_another_reads(command, folder):
    (folder / "out" / "a").mkdir(parents=True)
    image = folder / "out" / "a" / "warped.nii.gz"
    image.write_bytes((folder / "warped.nii.gz").read_bytes())
    text = f"name,fixed,moving\na,fixed.nii.gz,fixed.nii.gz\nb,{image},fixed.nii.gz\n"
    (folder / "list.csv").write_text(text, "utf-8")
    result = command("register", f"--pairs={folder}/list.csv", f"--out={folder}/out")
    assert result.status == 2
    (line,) = result.errors
    assert f"{image}: is read, and a result would replace it" in line
    assert image.read_bytes() == (folder / "warped.nii.gz").read_bytes()
    assert [path.name for path in (folder / "out").rglob("*")] == ["a", image.name]
