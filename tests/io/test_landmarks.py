"""Landmark files against ITK's own arithmetic, and the one line for each bad one."""

import json
import os

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from regnet_jax.errors import InputError
from regnet_jax.io import read_points, write_points
from regnet_jax.spatial import Frame, to_sitk
from tests.helpers.frames import FRAMES

every_frame = pytest.mark.parametrize("frame", FRAMES.values(), ids=FRAMES)
PLAIN = Frame((6, 7, 8), (1, 2, 3), (10, 20, 30), np.eye(3))
LPS = np.array([[1.5, -2.25, 3.0], [-40.0, 50.5, 600.125]])
RAS = LPS * (-1, -1, 1)


def text(path, content):
    path.write_text(content)
    return path


def lines(points, separator=" "):
    return "".join(separator.join(map(str, p)) + "\n" for p in np.asarray(points))


def index_points(frame):
    """Voxels of a frame, x first, and where ITK says they are."""
    rng = np.random.default_rng(0)
    index = rng.integers(0, frame.shape[::-1], (9, frame.ndim))
    image = to_sitk(np.zeros(frame.shape, np.uint8), frame)
    return index, [image.TransformIndexToPhysicalPoint(i) for i in index.tolist()]


@every_frame
def test_read_points_converts_voxel_indices_of_every_format(tmp_path, frame):
    index, expected = index_points(frame)
    contents = {
        "elastix.txt": f"index\n{len(index)}\n{lines(index)}",
        "elastix.pts": f"Index\r\n{len(index)}\r\n\r\n{lines(index)}\n\n",
        "dirlab.txt": lines(index + 1, "\t"),
        "learn2reg.csv": lines(index.astype(float), ","),
    }
    for name, content in contents.items():
        found = read_points(text(tmp_path / name, content), frame)
        assert found.dtype == np.float64
        np.testing.assert_allclose(found, expected, atol=1e-9, err_msg=name)


def test_read_points_converts_fractional_indices(tmp_path):
    path = text(tmp_path / "a.csv", "0.5, 1.25, 2\n")
    np.testing.assert_allclose(read_points(path, PLAIN), [[10.5, 22.5, 36]])


@pytest.mark.parametrize("d", [2, 3])
def test_read_points_in_mm_needs_no_image(tmp_path, d):
    points = LPS[:, :d]
    path = text(tmp_path / "a.pts", f"point\n2\n{lines(points)}")
    np.testing.assert_array_equal(read_points(path), points)
    path.write_bytes(b"\xef\xbb\xbf" + path.read_bytes())
    np.testing.assert_array_equal(read_points(str(path)), points)


HEADER = "# Markups fiducial file version = 4.11\n"


@pytest.mark.parametrize(
    ("system", "points"), [("LPS", LPS), ("1", LPS), ("RAS", RAS), ("0", RAS)]
)
def test_read_points_reads_fcsv_of_slicer(tmp_path, system, points):
    rows = "".join(
        f'vtkMRML_{k},{x},{y},{z},0,0,0,1,1,1,0,"F,{k}",,\n'
        for k, (x, y, z) in enumerate(points)
    )
    content = (
        f"{HEADER}# CoordinateSystem = {system}\n"
        "# columns = id,x,y,z,ow,ox,oy,oz,vis,sel,lock,label,desc,associatedNodeID\n"
        f"{rows}"
    )
    np.testing.assert_array_equal(read_points(text(tmp_path / "a.fcsv", content)), LPS)


def test_decimal_commas_in_fcsv_are_refused(tmp_path):
    columns = "id,x,y,z,ow,ox,oy,oz,vis,sel,lock,label,desc,associatedNodeID"
    content = f"# CoordinateSystem = LPS\n# columns = {columns}\n"
    row = "1,1,5,2,5,3,5,0,0,0,1,1,1,0,F-1,,\n"
    path = text(tmp_path / "a.fcsv", content + row)
    with pytest.raises(InputError, match="line 3 has more cells than the header"):
        read_points(path)


def test_read_points_reads_fcsv_columns_in_any_order(tmp_path):
    content = "# CoordinateSystem = LPS\n# columns = label,z,y,x\na,3,2,1\n"
    found = read_points(text(tmp_path / "a.fcsv", content))
    np.testing.assert_array_equal(found, [[1, 2, 3]])


def test_tables_that_a_spreadsheet_saved_are_read(tmp_path):
    """With quotes, with commas behind short rows, and with rows without a value."""
    fcsv = '# CoordinateSystem = LPS,,,\n"# columns = id,x,y,z"\na,1,2,3\n'
    tables = {"a.csv": "x,y,z,t\n1,2,3,0\n,,,\n4,5,6,0\n,,,\n", "a.fcsv": fcsv}
    for name, content in tables.items():
        found = read_points(text(tmp_path / name, content))
        expected = [[1, 2, 3], [4, 5, 6]][: len(found)]
        np.testing.assert_array_equal(found, expected)


def markups(points=LPS, **changes):
    controls = [{"id": "1", "label": "F", "position": list(p)} for p in points]
    return {"type": "Fiducial", "controlPoints": controls} | changes


def stored_markups(path, *lists):
    return text(path, json.dumps({"@schema": "markups", "markups": lists}))


@pytest.mark.parametrize(
    ("changes", "points"),
    [
        ({"coordinateSystem": "LPS", "coordinateUnits": "mm"}, LPS),
        ({"coordinateSystem": "RAS"}, RAS),
        ({}, LPS),
    ],
)
def test_read_points_reads_markups_of_slicer(tmp_path, changes, points):
    path = stored_markups(tmp_path / "a.mrk.json", markups(points, **changes))
    np.testing.assert_array_equal(read_points(path), LPS)


@settings(max_examples=20, deadline=None)
@given(st.integers(0, 2**16), st.integers(1, 5), st.sampled_from([2, 3]))
def test_write_points_is_read_back(tmp_path_factory, seed, n, d):
    points = np.random.default_rng(seed).normal(size=(n, d)) * 300
    path = tmp_path_factory.mktemp("points") / "a.txt"
    write_points(path, points)
    np.testing.assert_allclose(read_points(path), points, atol=6e-7)
    assert path.read_text("utf-8").splitlines()[:2] == ["point", str(n)]


def test_write_points_is_atomic(tmp_path):
    with pytest.raises(InputError, match=r"use \.csv, \.tsv, \.txt"):
        write_points(tmp_path / "a.nii", LPS)
    with pytest.raises(InputError, match="does not exist; create it"):
        write_points(tmp_path / "none" / "a.pts", LPS)
    assert not list(tmp_path.iterdir())
    write_points(tmp_path / "a.pts", LPS)
    write_points(tmp_path / "a.pts", LPS[:1])
    assert [path.name for path in tmp_path.iterdir()] == ["a.pts"]
    assert len(read_points(tmp_path / "a.pts")) == 1


FCSV = "# CoordinateSystem = LPS\n"
VTK = "# vtk DataFile Version 3.0\npoints\nASCII\nDATASET POLYDATA\n"
TRANSFORMIX = (
    "Point\t0\t; InputIndex = [ 1 2 3 ]\t; InputPoint = [ 1.0 2.0 3.0 ]\t;"
    " OutputIndexFixed = [ 1 2 3 ]\t; OutputPoint = [ 1.5 -2.25 3.0 ]\t;"
    " Deformation = [ 0.5 -4.25 0.0 ]\n"
)
BAD = {
    "missing": ("gone.txt", None, "does not exist"),
    "empty": ("a.txt", "", "empty"),
    "blank": ("a.csv", "\n \n", "empty"),
    "suffix": ("a.xyz", "1 2 3\n", "suffix"),
    "elastix-words": ("a.txt", "point\n1\n1 two 3\n", "line 3"),
    "elastix-few": ("a.txt", "point\n3\n1 2 3\n", "announces 3 points and has 1"),
    "elastix-many": ("a.txt", "point\n1\n1 2 3\n4 5 6\n", "announces 1 points and"),
    "elastix-count": ("a.txt", "point\nmany\n1 2 3\n", "second the number"),
    "elastix-no-count": ("a.txt", "point\n1 2 3\n", "second the number"),
    "elastix-alone": ("a.txt", "point\n", "second the number"),
    "elastix-none": ("a.txt", "point\n0\n", "no point"),
    "dimension": ("a.txt", "point\n2\n1 2 3\n1 2\n", "line 4 has 2 numbers where 3"),
    "four": ("a.txt", "point\n1\n1 2 3 4\n", "line 3 has 4 numbers where 2 or 3"),
    "nan": ("a.txt", "point\n2\n1 2 3\n1 nan 3\n", "point 2 is NaN"),
    "infinite": ("a.csv", "1,2,1e999\n", "point 1 is NaN or infinite"),
    "index-2d": ("a.txt", "index\n1\n1 2\n", "holds 2D points and its image is 3D"),
    "point-2d": ("a.txt", "point\n1\n1 2\n", "holds 2D points and its image is 3D"),
    "outside": ("a.txt", "index\n2\n1 2 3\n1 7 3\n", "point 2 lies outside of its"),
    "dirlab-zero": ("a.txt", "1 0 1\n", "point 1 lies outside of its image of 8 x 7"),
    "dirlab-fraction": ("a.txt", "1 2.5 1\n", "fractions"),
    "dirlab-words": ("a.txt", "once upon a time\n", "line 1"),
    "csv-header": ("a.csv", "u,v,w\n1,2,3\n", "names no coordinates"),
    "csv-axes": ("a.csv", "a_x,a_y,b_x,b_y,b_z,c\n1,2,3,4,5,6\n", "no coordinates"),
    "csv-mm": ("a.csv", "x,y,z\n1.5,2,3\n", "say it by --point_coordinates"),
    "csv-outside": ("a.csv", "x,y,z\n1,20,3\n", "say it by --point_coordinates"),
    "csv-negative": ("a.csv", "-1,2,3\n", "by --point_coordinates"),
    "csv-comma": ("a.csv", "1,5;2,5;3,5\n", "line 1"),
    "csv-words": ("a.csv", "x,y,z,t\n1,b,3,0\n", "line 2"),
    "csv-row": ("a.csv", "x,y,z,t\n1,2\n", "line 2"),
    "csv-headed": ("a.csv", "x,y,z,t\n", "no point"),
    "pair": ("a.csv", "1,2,3,1,2,4\n", "fixed and moving points"),
    "pair-headed": ("a.csv", "x1,y1,z1,x2,y2,z2\n1,2,3,1,2,4\n", "6 columns"),
    "four-columns": ("a.csv", "1,2,3,4\n", "has 4 columns where 3, or 6"),
    "five": ("a.csv", "1,2,3,4,5\n", "line 1 has 5 numbers"),
    "transformix": ("a.txt", f"{TRANSFORMIX}Point 1 ; Input = [ 1 ]\n", "line 2 lacks"),
    "vv-short": ("a.pts", "LANDMARKS1\n0 1 2 3\n", "line 2 lacks"),
    "vv-words": ("a.pts", "LANDMARKS1\n0 1 b 3 0 0\n", "line 2"),
    "vtk-other": ("a.vtk", "once upon a time\n", "not a legacy VTK file"),
    "vtk-xml": ("a.vtk", '<?xml version="1.0"?>\n', "not a legacy VTK file"),
    "vtk-few": ("a.vtk", f"{VTK}POINTS 2 float\n1 2 3 4 5\n", "announces 2 points"),
    "vtk-many": (
        "a.vtk",
        f"{VTK}POINTS 1 float\n1 2 3\n4 5 6\n",
        "1 points and has more",
    ),
    "vtk-words": ("a.vtk", f"{VTK}POINTS 1 float\n1 2 b\n", "announces 1 points"),
    "vtk-type": ("a.vtk", f"{VTK}POINTS 1 bit\n1 2 3\n", "POINTS of float"),
    "vtk-none": ("a.vtk", f"{VTK}POINTS 0 float\n", "no point"),
    "csv-spaces": ("a.csv", "1 2 3\n", "line 1"),
    "csv-short": ("a.csv", "1,2,3\n4,5\n", "line 2"),
    "csv-gap": ("a.csv", "1,,3\n", "line 1"),
    "fcsv-no-system": ("a.fcsv", "0,1,2,3\n", "no coordinate system"),
    "fcsv-ijk": ("a.fcsv", "# CoordinateSystem = IJK\n0,1,2,3\n", "IJK"),
    "fcsv-short": ("a.fcsv", f"{FCSV}0,1,2,3\n0,1,2\n", "line 3"),
    "fcsv-all-short": ("a.fcsv", f"{FCSV}0,1,2\n", "line 2"),
    "fcsv-words": ("a.fcsv", f"{FCSV}0,1,b,3\n", "line 2"),
    "fcsv-columns": ("a.fcsv", f"{FCSV}# columns = id,x,y\n0,1,2,3\n", "columns"),
    "fcsv-none": ("a.fcsv", FCSV, "no point"),
    "json-broken": ("a.mrk.json", "{", "markups"),
    "json-number": ("a.mrk.json", "3", "markups"),
    "comma-text": ("a.txt", "1,5 2,5 3,5\n", "comma within a number (1,5); write 1.5"),
    "comma-plane": ("a.pts", "1 2,5\n", "comma within a number (2,5); write 2.5"),
    "comma-tabs": ("a.txt", "1,5\t2\t3\n", "line 1 has a comma within a number"),
    "comma-elastix": ("a.txt", "point\n1\n1,5 2,5 3,5\n", "line 3 has a comma"),
    "comma-table": ("a.csv", "x;y;z;t\n1,5;2;3;0\n", "line 2 has a comma within"),
    "comma-numbers": ("a.csv", "1;2,5;3\n", "comma within a number (2,5)"),
    "comma-in-commas": ("a.csv", "x,y,z,t\n1,5,2,5,3,5,0\n", "line 2 has more cells"),
    "twice": ("a.csv", "x,y,z,X,y,z\n1,2,3,4,5,6\n", "two columns 'x'; leave one out"),
    "json-other": ("a.json", '{"layers": 3}', "markups"),
    "json-text": ("a.json", '{"markups": ["a"]}', "markups"),
}


@pytest.mark.parametrize("case", BAD)
def test_read_points_refuses_bad_files_in_one_line(tmp_path, case):
    name, content, fact = BAD[case]
    path = tmp_path / name
    if content is not None:
        text(path, content)
    refused(path, fact)


def refused(path, fact, frame=PLAIN):
    with pytest.raises(InputError) as caught:
        read_points(path, frame)
    message = str(caught.value)
    assert message.startswith(f"{path}: ")
    assert fact in message
    assert ";" in message
    assert "\n" not in message


@pytest.mark.parametrize(
    ("lists", "fact"),
    [
        ([], "0 lists"),
        ([markups(), markups()], "2 lists"),
        ([markups([])], "no point"),
        ([markups(coordinateSystem="IJK")], "IJK"),
        ([markups(coordinateUnits="um")], "um"),
        ([markups([[1, 2]])], "control point 1"),
        ([markups([[1, 2, 3], [1, 2, "3"]])], "control point 2"),
        ([markups([[1, 2, True]])], "control point 1"),
        ([markups([[1, 2, float("nan")]])], "point 1 is NaN"),
        ([{"controlPoints": [{"label": "unplaced"}]}], "control point 1"),
        (
            [{"controlPoints": [{"position": [0, 0, 0], "positionStatus": "preview"}]}],
            "control point 1",
        ),
        ([{"type": "Fiducial"}], "markups"),
    ],
)
def test_read_points_refuses_markups_without_points(tmp_path, lists, fact):
    refused(stored_markups(tmp_path / "a.mrk.json", *lists), fact)


@pytest.mark.parametrize(
    ("name", "content"),
    [("a.txt", "index\n1\n1 2 3\n"), ("a.txt", "1 2 3\n"), ("a.csv", "1,2,3\n")],
)
def test_read_points_refuses_voxel_indices_without_an_image(tmp_path, name, content):
    refused(text(tmp_path / name, content), "voxel indices", frame=None)


def test_read_points_refuses_binary_files(tmp_path):
    (tmp_path / "a.txt").write_bytes(b"\xff\xfe\x00")
    refused(tmp_path / "a.txt", "not text")
    (tmp_path / "b.csv").mkdir()
    refused(tmp_path / "b.csv", "cannot be read")


@pytest.mark.skipif(os.geteuid() == 0, reason="root may read everything")
def test_read_points_refuses_files_without_permission(tmp_path):
    path = text(tmp_path / "a.txt", "point\n1\n1 2 3\n")
    path.chmod(0)
    refused(path, "cannot be read")
