"""Landmarks through ``regnet warp`` and ``regnet evaluate``, format by format."""

import json

import numpy as np
import pytest
import SimpleITK as sitk

from regnet_jax.io import read_points, write_transform
from regnet_jax.io.landmarks import load_points
from regnet_jax.spatial import Frame, composite, to_index, to_sitk, to_world
from tests.helpers.frames import rotation
from tests.io.test_point_formats import IN_MM, LPS, binary_vtk

SHIFT = np.array([3.0, -6.0, 4.0])
FRAME = Frame((12, 14, 16), (3, 3, 4), (-20, -18, 5), rotation(3, 0.3))
MOVING = Frame((20, 22, 24), (3, 3, 4), (-40, -30, -15), np.diag([1, -1, 1]))
INDEX = np.array([[3, 4, 5], [10, 7, 2], [8, 8, 8]])


@pytest.fixture(scope="module")
def folder(tmp_path_factory):
    """Two images, a shift, and a field on the grid of the fixed one."""
    folder = tmp_path_factory.mktemp("points")
    write_transform(folder / "shift.tfm", sitk.TranslationTransform(3, SHIFT.tolist()))
    field = np.broadcast_to(SHIFT, (*FRAME.shape, 3))
    write_transform(folder / "field.h5", composite(FRAME, field, np.eye(4)))
    for name, frame in (("fixed", FRAME), ("moving", MOVING)):
        image = to_sitk(np.zeros(frame.shape, np.uint8), frame)
        sitk.WriteImage(image, str(folder / f"{name}.mha"))
    return folder


@pytest.fixture
def warp(command, folder, tmp_path):
    def run(source, out, *arguments, transform="shift.tfm"):
        result = command(
            "warp",
            f"--transform={folder / transform}",
            f"--points={tmp_path / source}",
            f"--out={tmp_path / out}",
            *arguments,
        )
        assert result.status == 0, result.err
        return tmp_path / out, result

    return run


@pytest.mark.parametrize(
    "case",
    ["ants-labels", "brats-reg", "slicer-4.6", "markups-ras", "vtk-5.1", "vv", "popi"],
)
@pytest.mark.parametrize("inverse", [False, True])
def test_warp_keeps_format_and_names_of_points(warp, tmp_path, case, inverse):
    name, text, names = IN_MM[case]
    (tmp_path / name).write_text(text)
    path, result = warp(name, f"warped_{name}", f"--inverse={inverse}")
    assert all("does not say its coordinates" in line for line in result.errors)
    found = load_points(path)
    expected = LPS + (-SHIFT if inverse else SHIFT)
    np.testing.assert_allclose(found.points, expected, atol=2e-3 if inverse else 1e-6)
    assert found.parsed.names == tuple(names)
    lines = path.read_text("utf-8").splitlines()
    assert lines[0] == text.splitlines()[0] or name.endswith(".json")


@pytest.mark.parametrize(
    "suffix", [".csv", ".pts", ".txt", ".fcsv", ".mrk.json", ".vtk"]
)
def test_warp_writes_every_format_from_every_other(warp, tmp_path, suffix):
    (tmp_path / "a.fcsv").write_text(IN_MM["slicer-3"][1])
    (tmp_path / "b.vtk").write_bytes(binary_vtk(LPS, ">f8"))
    source = "b.vtk" if suffix == ".fcsv" else "a.fcsv"
    path, _ = warp(source, f"out{suffix}")
    found = load_points(path)
    np.testing.assert_allclose(found.points, LPS + SHIFT, atol=1e-6)
    if suffix in (".csv", ".mrk.json"):
        assert found.parsed.names == ("top", "base")


def test_warp_writes_voxels_of_the_image_that_points_come_to(warp, folder, tmp_path):
    (tmp_path / "a.csv").write_text("name,i,j,k\nA,3,4,5\nB,10,7,2\nC,8,8,8\n")
    moved = to_world(FRAME, INDEX[:, ::-1]) + SHIFT
    given = f"--points_image={folder / 'fixed.mha'}"
    path, result = warp("a.csv", "b.csv", given, f"--like={folder / 'moving.mha'}")
    rows = [line.split(",") for line in path.read_text().splitlines()]
    assert rows[0] == ["name", "i", "j", "k"]
    assert [row[0] for row in rows[1:]] == ["A", "B", "C"]
    index = np.array([row[1:] for row in rows[1:]], float)
    np.testing.assert_allclose(index, to_index(MOVING, moved)[:, ::-1], atol=1e-6)
    path, result = warp("a.csv", "c.csv", given)
    assert "c.csv: is in mm; for voxel indices give --like" in result.out
    np.testing.assert_allclose(read_points(path), moved, atol=1e-6)
    assert load_points(path).parsed.names == ("A", "B", "C")


def test_warp_rounds_voxels_of_dirlab_and_says_so(warp, folder, tmp_path):
    (tmp_path / "a.txt").write_text("4\t5\t6\n11\t8\t3\n9\t9\t9\n")
    images = (
        f"--points_image={folder / 'fixed.mha'}",
        f"--like={folder / 'moving.mha'}",
    )
    path, result = warp("a.txt", "b.txt", *images)
    moved = to_world(FRAME, INDEX[:, ::-1]) + SHIFT
    expected = np.rint(to_index(MOVING, moved)[:, ::-1]) + 1
    np.testing.assert_array_equal(np.loadtxt(path), expected)
    assert "\t" in path.read_text()
    assert "rounded to whole voxels" in result.out


def test_warp_takes_the_half_of_a_file_of_both_images(warp, folder, tmp_path):
    index = np.hstack([INDEX, INDEX[:, ::-1]])
    np.savetxt(tmp_path / "a.csv", index, "%d", ",")
    for inverse, frame, half in ((False, FRAME, INDEX), (True, MOVING, INDEX[:, ::-1])):
        image = "moving" if inverse else "fixed"
        given = (f"--points_image={folder / image}.mha", f"--inverse={inverse}")
        path, _ = warp("a.csv", "b.csv", *given)
        expected = to_world(frame, half[:, ::-1]) + (-SHIFT if inverse else SHIFT)
        np.testing.assert_allclose(read_points(path), expected, atol=2e-3)


def test_warp_asks_for_the_coordinates_of_a_file_that_does_not_tell(
    command, warp, folder, tmp_path
):
    (tmp_path / "a.csv").write_text("x,y,z\n1.5,-2,3\n")
    arguments = (f"--transform={folder / 'shift.tfm'}", f"--out={tmp_path / 'b.csv'}")
    result = command("warp", *arguments, f"--points={tmp_path / 'a.csv'}")
    assert result.status == 2
    assert len(result.errors) == 1
    assert "--point_coordinates" in result.errors[0]
    assert not (tmp_path / "b.csv").exists()
    for coordinates, signs in (("lps", 1), ("ras", (-1, -1, 1))):
        path, _ = warp("a.csv", "b.csv", f"--point_coordinates={coordinates}")
        found = np.loadtxt(path, delimiter=",", skiprows=1)
        np.testing.assert_allclose(found, [1.5, -2, 3] + SHIFT * signs)


def test_warp_says_which_points_lie_beyond_the_field(warp, tmp_path):
    inside = to_world(FRAME, [[5, 5, 5]])[0]
    rows = "".join(f"{x},{y},{z},0\n" for x, y, z in (inside, inside + 500))
    (tmp_path / "a.csv").write_text("x,y,z,t\n" + rows)
    path, result = warp("a.csv", "b.csv", transform="field.h5")
    assert "1 of 2 points (number 2) lie beyond the grid" in result.out
    expected = [inside + SHIFT, inside + 500]
    np.testing.assert_allclose(read_points(path), expected, atol=1e-5)


def test_the_inverse_says_so_too(warp, tmp_path):
    inside = to_world(FRAME, [[5, 5, 5]])[0]
    rows = "".join(f"{x},{y},{z},0\n" for x, y, z in (inside + SHIFT, inside + 500))
    (tmp_path / "a.csv").write_text("x,y,z,t\n" + rows)
    path, result = warp("a.csv", "b.csv", "--inverse", transform="field.h5")
    assert "1 of 2 points (number 2) lie beyond the grid" in result.out
    np.testing.assert_allclose(read_points(path)[0], inside, atol=1e-3)


# Voxels of whole millimetres, so that all formats hold the points exactly.
PLAIN = Frame((20, 20, 20), (3, 3, 4), (0, 0, 0), np.eye(3))
MOVED = INDEX + np.array([1, -2, 1])


def lines(points, separator=","):
    return "".join(separator.join(map(str, p)) + "\n" for p in points.tolist())


def vtk(points, space):
    head = "# vtk DataFile Version 3.0\nx SPACE={}\nASCII\nDATASET POLYDATA\n"
    return f"{head.format(space)}POINTS {len(points)} int\n{lines(points, ' ')}"


def transformix(points):
    form = (
        "Point\t{}\t; InputPoint = [ 9 9 9 ]\t; OutputPoint = [ {} ]\t; Deformation\n"
    )
    rows = enumerate(lines(points, " ").splitlines())
    return "".join(form.format(*row) for row in rows)


@pytest.mark.parametrize(
    ("name", "text", "assumed"),
    [
        (
            "ants.csv",
            lambda i, mm: "x,y,z,t\n" + lines(np.pad(mm, ((0, 0), (0, 1)))),
            "",
        ),
        (
            "brats.csv",
            lambda i, mm: "Landmark,Z,Y,X\n" + lines(mm_first(mm)),
            "mm in LPS are taken, the custom of BraTS-Reg",
        ),
        (
            "header.csv",
            lambda i, mm: "x,y,z\n" + lines(i),
            "voxel indices from 0 are taken, as all are whole",
        ),
        (
            "learn2reg.csv",
            lambda i, mm: lines(i),
            "voxel indices from 0 are taken, the custom of Learn2Reg",
        ),
        (
            "dirlab.txt",
            lambda i, mm: lines(i + 1, ", "),
            "voxel indices from 1 are taken, the custom of DIR-Lab",
        ),
        ("popi.pts", lambda i, mm: "#X Y Z\n" + lines(mm, " "), ""),
        ("points.vtk", lambda i, mm: vtk(mm, "LPS"), ""),
        ("ras.vtk", lambda i, mm: vtk(mm * (-1, -1, 1), "RAS"), ""),
        (
            "bare.vtk",
            lambda i, mm: vtk(mm, "LPS").replace("SPACE=LPS", "mesh"),
            "mm in LPS are taken, the custom of ITK",
        ),
        ("outputpoints.txt", lambda i, mm: transformix(mm), ""),
    ],
)
def test_evaluate_reads_landmarks_of_every_kind(
    evaluate, tmp_path, name, text, assumed
):
    paths = [tmp_path / f"{image}_{name}" for image in ("fixed", "moving")]
    for path, index in zip(paths, (INDEX, MOVED), strict=True):
        path.write_text(text(index, index * (3, 3, 4)))
    result = evaluate(f"--fixed_points={paths[0]}", f"--moving_points={paths[1]}")
    warned = [line for line in result.errors if "--point_coordinates" in line]
    assert len(warned) == (2 if assumed else 0)
    for path, line in zip(paths, warned, strict=bool(assumed)):
        assert str(path) in line
        assert assumed in line


def mm_first(points):
    """The number of each point, then z, y, x."""
    return np.column_stack([np.arange(len(points)), points[:, ::-1]])


@pytest.mark.parametrize("twice", [True, False])
def test_evaluate_reads_the_points_of_both_images_from_one_file(
    evaluate, tmp_path, twice
):
    path = tmp_path / "a.csv"
    path.write_text(lines(np.hstack([INDEX, MOVED])))
    evaluate(f"--fixed_points={path}", *[f"--moving_points={path}"] * twice)


@pytest.fixture
def evaluate(command, folder, tmp_path):
    """Measure a shift of 61**0.5 mm, which the transform undoes."""
    labels = tmp_path / "labels.mha"
    sitk.WriteImage(to_sitk(np.ones(PLAIN.shape, np.uint8), PLAIN), str(labels))

    def run(*arguments):
        result = command(
            "evaluate",
            f"--transform={folder / 'shift.tfm'}",
            f"--fixed_labels={labels}",
            f"--moving_labels={labels}",
            f"--out={tmp_path / 'o.json'}",
            *arguments,
        )
        assert result.status == 0, result.err
        measures = json.loads((tmp_path / "o.json").read_text())["tre"]
        assert measures["before"]["mean"] == pytest.approx(61**0.5)
        assert measures["after"]["mean"] == pytest.approx(0, abs=1e-9)
        assert measures["after"]["n"] == len(INDEX)
        return result

    return run


def test_evaluate_needs_points_of_both_images(command, folder, tmp_path):
    (tmp_path / "a.csv").write_text("x,y,z,t\n1,2,3,0\n")
    result = command(
        "evaluate",
        f"--fixed_points={tmp_path / 'a.csv'}",
        f"--out={tmp_path / 'o.json'}",
    )
    assert result.status == 2
    assert "--moving_points" in result.errors[0]


def test_whole_millimetres_do_not_come_back_rounded(warp, folder, tmp_path):
    """A file of whole numbers is that of voxels, unless it is said to be in mm."""
    shift = sitk.TranslationTransform(3, (0.4, 0.3, -0.45))
    write_transform(folder / "small.tfm", shift)
    (tmp_path / "a.txt").write_text("10 20 30\n-5 0 12\n", "utf-8")
    flag = "--point_coordinates=lps"
    path, _ = warp("a.txt", "b.txt", flag, transform="small.tfm")
    expected = [[10.4, 20.3, 29.55], [-4.6, 0.3, 11.55]]
    np.testing.assert_allclose(load_points(path).points, expected, atol=1e-5)
