"""Point files in the words of their own formats, against the points they stand for."""

import logging

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from regnet_jax.errors import InputError
from regnet_jax.io import read_landmarks, read_points, write_points
from regnet_jax.io.landmarks import load_points, rewrite_points
from regnet_jax.spatial import Frame, to_sitk
from tests.helpers.frames import FRAMES, rotation

# An oblique, flipped grid, and two voxels of it, x first.
FRAME = Frame((9, 8, 7), (2, 1, 3), (-80, 12, 300), rotation(3, 0.4) * (1, -1, 1))
INDEX = np.array([[1, 2, 3], [6, 0, 8]])
VOXELS = np.array(
    [
        to_sitk(np.zeros(FRAME.shape, np.uint8), FRAME).TransformIndexToPhysicalPoint(i)
        for i in INDEX.tolist()
    ]
)
# Two points in mm, LPS.
LPS = np.array([[1.5, -2.25, 3.0], [-40.0, 50.5, 600.125]])

TRANSFORMIX = (
    "Point\t{0}\t; InputIndex = [ 1 2 3 ]\t; InputPoint = [ 7.0 8.0 9.0 ]\t;"
    " OutputIndexFixed = [ 4 5 6 ]\t; OutputPoint = [ {1} ]\t; Deformation = [ 1 1 1 ]"
    "\t; OutputIndexMoving = [ 4 5 6 ]\n"
)
SLICER_3 = """# Fiducial List file /tmp/F.fcsv
# version = 2
# name = F
# numPoints = 2
# symbolScale = 5
# columns = label,x,y,z,sel,vis
top,-1.5,2.25,3,1,1
base,40,-50.5,600.125,1,1
"""
SLICER_4 = """# Markups fiducial file version = 4.{version}
# CoordinateSystem = {system}
# columns = id,x,y,z,ow,ox,oy,oz,vis,sel,lock,label,desc,associatedNodeID
vtkMRMLMarkupsFiducialNode_0,{x},0,0,0,1,1,1,0,top,"carina, left",vtkMRMLVolume1
vtkMRMLMarkupsFiducialNode_1,{y},0,0,0,1,1,0,0,base,,
"""
IN_LPS = {"x": "1.5,-2.25,3", "y": "-40,50.5,600.125"}
IN_RAS = {"x": "-1.5,2.25,3", "y": "40,-50.5,600.125"}
MARKUPS = """{{"@schema": "https://raw.githubusercontent.com/slicer/slicer/master/x#",
"markups": [{{"type": "Fiducial", "coordinateSystem": "{system}",
"coordinateUnits": "mm", "locked": true, "controlPoints": [
 {{"id": "1", "label": "top", "description": "carina", "position": [{x}],
   "orientation": [-1, 0, 0, 0, -1, 0, 0, 0, 1], "positionStatus": "defined"}},
 {{"id": "2", "label": "base", "position": [{y}], "positionStatus": "defined"}}],
"measurements": [], "display": {{"color": [0.4, 1.0, 1.0]}}}}]}}
"""
VTK = """# vtk DataFile Version {version}
vtk output{space}
ASCII
DATASET POLYDATA
POINTS 2 float
{x} {y}
{extra}
VERTICES 2 4
1 0
1 1
"""
SPACED = {key: value.replace(",", " ") for key, value in IN_LPS.items()}

# Name, text, and the names of the points; each stands for LPS.
IN_MM = {
    "ants": ("a.csv", "x,y,z,t\n1.5,-2.25,3,0\n-40,50.5,600.125,0\n", ()),
    "ants-labels": (
        "a.csv",
        'x,y,z,t,label,comment\n1.5,-2.25,3,0,1,"a, b"\n-40,50.5,600.125,0,2,c\n',
        ("1", "2"),
    ),
    "ants-crlf": ("a.csv", "x,y,z,t\r\n1.5,-2.25,3,0\r\n-40,50.5,600.125,0\r\n", ()),
    "brats-reg": (
        "patient_landmarks.csv",
        "Landmark,X,Y,Z\n1,1.5,-2.25,3.0\n2,-40.0,50.5,600.125\n",
        ("1", "2"),
    ),
    "mm": (
        "a.csv",
        "name,x (mm),y_mm,Z [mm]\nA,1.5,-2.25,3\nB,-40,50.5,600.125\n",
        "AB",
    ),
    "tabs": ("a.tsv", "x\ty\tz\tt\n1.5\t-2.25\t3\t0\n-40\t50.5\t600.125\t0\n", ()),
    "excel": ("a.csv", "sep=;\nx;y;z;t\n1.5;-2.25;3;0\n-40;50.5;600.125;0\n", ()),
    "text-tabs": ("a.txt", "x_mm\ty_mm\tz_mm\n1.5\t-2.25\t3\n-40\t50.5\t600.125\n", ()),
    "semicolons": ("a.csv", "z_mm;y_mm;x_mm\n3;-2.25;1.5\n600.125;50.5;-40\n", ()),
    "slicer-table": (
        "a.csv",
        "label,r,a,s,defined,selected,visible,locked,description\n"
        "F-1,-1.5,2.25,3,1,1,1,0,\nF-2,40,-50.5,600.125,1,1,1,0,\n",
        ("F-1", "F-2"),
    ),
    "slicer-table-lps": ("a.csv", "l,p,s\n1.5,-2.25,3\n-40,50.5,600.125\n", ()),
    "text-table": ("a.txt", "x,y,z,t\n1.5,-2.25,3,0\n-40,50.5,600.125,0\n", ()),
    "elastix": ("a.txt", "point\n2\n1.5 -2.25 3\n-40 50.5 600.125\n", ()),
    "comments": (
        "a.pts",
        "# one\npoint\n2\n# two\n1.5 -2.25 3\n-40 50.5 600.125\n",
        (),
    ),
    "popi": ("00.txt", "#X Y Z\n1.5 -2.25 3\n-40 50.5 600.125\n", ()),
    "popi-pts": ("00.pts", "#X\tY\tZ\r\n1.5\t-2.25\t3\r\n-40\t50.5\t600.125\r\n", ()),
    "vv": (
        "00.pts",
        "LANDMARKS1\n0 1.5 -2.25 3 0 -812 the top\n1 -40 50.5 600.125 0 12  \n\n",
        ("the top", ""),
    ),
    "transformix": (
        "outputpoints.txt",
        TRANSFORMIX.format(0, "1.500000 -2.250000 3.000000")
        + TRANSFORMIX.format(1, "-40.000000 50.500000 600.125000"),
        (),
    ),
    "slicer-3": ("a.fcsv", SLICER_3, ("top", "base")),
    "slicer-4.6": (
        "a.fcsv",
        SLICER_4.format(version=6, system=0, **IN_RAS),
        ("top", "base"),
    ),
    "slicer-4.10-lps": (
        "a.fcsv",
        SLICER_4.format(version=10, system=1, **IN_LPS),
        ("top", "base"),
    ),
    "slicer-4.11": (
        "a.fcsv",
        SLICER_4.format(version=11, system="LPS", **IN_LPS),
        ("top", "base"),
    ),
    "slicer-4.13-ras": (
        "a.fcsv",
        SLICER_4.format(version=13, system="RAS", **IN_RAS),
        ("top", "base"),
    ),
    "markups": ("a.mrk.json", MARKUPS.format(system="LPS", **IN_LPS), ("top", "base")),
    "markups-ras": (
        "a.mrk.json",
        MARKUPS.format(system="RAS", **IN_RAS),
        ("top", "base"),
    ),
    "vtk": ("a.vtk", VTK.format(version="3.0", space="", extra="", **SPACED), ()),
    "vtk-5.1": (
        "a.vtk",
        VTK.format(version=5.1, space=" SPACE=LPS", extra="METADATA\n", **SPACED),
        (),
    ),
    "vtk-ras": (
        "a.vtk",
        VTK.format(
            version=4.2,
            space=" SPACE=RAS",
            extra="",
            **{key: value.replace(",", " ") for key, value in IN_RAS.items()},
        ),
        (),
    ),
}
# Each stands for VOXELS; and the coordinates.
IN_VOXELS = {
    "learn2reg": ("a.csv", "1,2,3\n6,0,8\n"),
    "header": ("a.csv", "x,y,z\n1,2,3\n6,0,8\n"),
    "ijk": ("a.csv", "label,i,j,k\nA,1,2,3\nB,6,0,8\n"),
    "vox": ("a.csv", "z_vox,y_vox,x_vox\n3,2,1\n8,0,6\n"),
    "index": ("a.pts", "index\n2\n1 2 3\n6 0 8\n"),
    "dirlab": ("a.txt", "2\t3\t4\n7\t1\t9\n"),
    "dirlab-commas": ("a.txt", "# voxels from 1\n2, 3, 4\n7, 1, 9\n"),
}


def stored(folder, name, content):
    path = folder / name
    path.write_bytes(content.encode() if isinstance(content, str) else content)
    return path


def binary_vtk(points, kind=">f4"):
    name = {">f4": b"float", ">f8": b"double", ">i4": b"int"}[kind]
    head = b"# vtk DataFile Version 4.2\nmesh\nBINARY\nDATASET POLYDATA\nPOINTS 2 "
    cells = b"\nPOLYGONS 1 3\n" + np.array([2, 0, 1], ">i4").tobytes() + b"\n"
    return head + name + b"\n" + np.asarray(points).astype(kind).tobytes() + cells


@pytest.mark.parametrize("case", IN_MM)
def test_points_in_mm_need_no_image(tmp_path, case):
    name, text, names = IN_MM[case]
    path = stored(tmp_path, name, text)
    found = load_points(path)
    np.testing.assert_allclose(found.points, LPS, atol=1e-12)
    assert found.parsed.names == tuple(names)
    np.testing.assert_array_equal(read_points(path, FRAME), found.points)


@pytest.mark.parametrize("case", IN_MM)
def test_moved_points_are_written_in_the_format_that_was_read(tmp_path, case):
    """The points of the result are the moved ones, and all other words are there."""
    name, text, names = IN_MM[case]
    given = load_points(stored(tmp_path, name, text))
    out = tmp_path / f"moved_{name}"
    moved = LPS[:, [1, 0, 2]] + 0.123456
    assert rewrite_points(out, moved, given) == []
    found = load_points(out)
    np.testing.assert_allclose(found.points, moved, atol=1e-6)
    assert found.parsed.names == tuple(names)
    assert found.parsed.coordinates == given.parsed.coordinates
    written = out.read_text("utf-8")
    if case == "transformix":
        assert written.startswith("point\n2\n")
        return
    numbers = {"1.5", "-2.25", "3", "3.0", "-40", "50.5", "600.125", "-40.0"}
    numbers |= {"-1.5", "2.25", "40", "-50.5"}
    for word in text.replace(",", " ").replace(";", " ").split():
        comment = case in ("comments", "markups", "markups-ras")
        if word.strip("[]}") not in numbers and not comment:
            assert word in written


def test_moved_markups_keep_all_but_the_positions(tmp_path):
    given = load_points(stored(tmp_path, "a.mrk.json", IN_MM["markups-ras"][1]))
    rewrite_points(tmp_path / "b.mrk.json", LPS, given)
    written = (tmp_path / "b.mrk.json").read_text("utf-8")
    for word in ('"carina"', '"locked": true', '"display"', '"RAS"', '"orientation"'):
        assert word in written


@pytest.mark.parametrize("kind", [">f4", ">f8", ">i4"])
def test_binary_vtk_keeps_its_cells(tmp_path, kind):
    points = np.rint(LPS)
    path = stored(tmp_path, "a.vtk", binary_vtk(points, kind))
    given = load_points(path)
    np.testing.assert_array_equal(given.points, points)
    rewrite_points(tmp_path / "b.vtk", LPS, given)
    written = (tmp_path / "b.vtk").read_bytes()
    np.testing.assert_allclose(read_points(tmp_path / "b.vtk"), LPS)
    assert written.endswith(path.read_bytes().partition(b"\nPOLYGONS")[2])
    stored(tmp_path, "c.vtk", path.read_bytes().partition(b"\nPOLY")[0][:-1])
    with pytest.raises(InputError, match="announces 2 points and has fewer"):
        read_points(tmp_path / "c.vtk")


@pytest.mark.parametrize("case", IN_VOXELS)
def test_voxels_are_converted_and_written_as_voxels(tmp_path, case, caplog):
    name, text = IN_VOXELS[case]
    path = stored(tmp_path, name, text)
    given = load_points(path, FRAME)
    np.testing.assert_allclose(given.points, VOXELS, atol=1e-9)
    warned = [r for r in caplog.records if r.levelno >= logging.WARNING]
    assumed = case == "header" or bool(given.parsed.custom)
    assert len(warned) == assumed
    out = tmp_path / f"moved_{name}"
    # The same voxels, in reverse order, of the image itself.
    notes = rewrite_points(out, VOXELS[::-1], given, FRAME)
    assert len(notes) == case.startswith("dirlab")
    np.testing.assert_allclose(read_points(out, FRAME), VOXELS[::-1], atol=1e-5)
    notes = rewrite_points(out, VOXELS + 0.25, given)
    assert "is in mm" in notes[0]
    found = load_points(out)
    np.testing.assert_allclose(found.points, VOXELS + 0.25, atol=1e-5)
    assert found.parsed.names == given.parsed.names


@pytest.mark.parametrize(
    ("coordinates", "expected"),
    [
        ("lps", INDEX),
        ("ras", INDEX * (-1, -1, 1)),
        ("voxels", VOXELS),
    ],
)
@pytest.mark.parametrize("name", ["a.csv", "a.txt"])
def test_coordinates_that_are_said_count(tmp_path, name, coordinates, expected, caplog):
    path = stored(tmp_path, name, "1,2,3\n6,0,8\n")
    found = read_points(path, FRAME, coordinates=coordinates)
    np.testing.assert_allclose(found, expected, atol=1e-9)
    assert not caplog.records


def test_voxels_can_be_said_to_count_from_one(tmp_path):
    path = stored(tmp_path, "a.csv", "2,3,4\n7,1,9\n")
    found = read_points(path, FRAME, coordinates="voxels1")
    np.testing.assert_allclose(found, VOXELS, atol=1e-9)


def test_a_header_that_does_not_tell_needs_an_image_or_a_flag(tmp_path):
    path = stored(tmp_path, "a.csv", "x,y,z\n1,2,3\n")
    with pytest.raises(InputError, match="say it by --point_coordinates"):
        read_points(path)
    np.testing.assert_array_equal(read_points(path, coordinates="lps"), [[1, 2, 3]])


@pytest.mark.parametrize(
    "text",
    [
        "1,2,3,6,0,8\n",
        "# keypoints\n1;2;3;6;0;8\n",
        "fixed_x,fixed_y,fixed_z,moving_x,moving_y,moving_z\n1,2,3,6,0,8\n",
        "x1,y1,z1,x2,y2,z2\n1,2,3,6,0,8\n",
        "exhale_x,exhale_y,exhale_z,inhale_x,inhale_y,inhale_z\n1,2,3,6,0,8\n",
        "name,z inhale,y inhale,x inhale,x exhale,y exhale,z exhale\na,3,2,1,6,0,8\n",
    ],
)
@pytest.mark.parametrize("alone", [True, False])
def test_one_file_holds_fixed_and_moving_points(tmp_path, text, alone):
    path = stored(tmp_path, "a.csv", text)
    other = Frame((9, 9, 9), (1, 1, 1), (5, 5, 5), np.eye(3))
    paths = (path, None if alone else str(path))
    fixed, moving = read_landmarks(paths, (FRAME, other))
    np.testing.assert_allclose(fixed, VOXELS[:1], atol=1e-9)
    np.testing.assert_allclose(moving, [[11, 5, 13]])


def test_points_of_one_image_need_those_of_the_other(tmp_path):
    path = stored(tmp_path, "a.csv", "1,2,3\n")
    with pytest.raises(InputError, match="holds the points of one image"):
        read_landmarks((path, None), (FRAME, FRAME))


def test_points_of_the_same_names_are_matched_by_these(tmp_path, caplog):
    head = "name,x_mm,y_mm,z_mm\n"
    one = stored(tmp_path, "a.csv", f"{head}p,1,2,3\nq,4,5,6\nr,7,8,9\n")
    other = stored(tmp_path, "b.csv", f"{head}r,70,8,9\np,10,2,3\nq,40,5,6\n")
    fixed, moving = read_landmarks((one, other), (None, None), coordinates="lps")
    np.testing.assert_array_equal(fixed[:, 0], [1, 4, 7])
    np.testing.assert_array_equal(moving[:, 0], [10, 40, 70])
    assert "are matched by name" in caplog.text
    caplog.clear()
    # Other names say nothing, of which a warning tells, and the same in the same order.
    for names in ("uvw", "pqr"):
        rows = "".join(f"{n},{x},2,3\n" for n, x in zip(names, (1, 4, 7), strict=True))
        again = stored(tmp_path, f"{names}.csv", head + rows)
        moving = read_landmarks((one, again), (None, None), coordinates="lps")[1]
        np.testing.assert_array_equal(moving[:, 0], [1, 4, 7])
        assert ("shares no name" in caplog.text) == (names == "uvw")
        caplog.clear()


@pytest.mark.parametrize(
    ("column", "fixed_names", "moving_names"),
    [
        ("id", ("1", "2", "10"), ("1.0", "2.0", "10.0")),
        ("landmark_id", ("1", "2", "10"), ("01", "02", "10")),
        ("Point", ("L1", "L2", "Carina"), ("l1", "L 2", "carina ")),
        # Apart in one file: so they are in the other.
        ("label", ("a", "A", "b"), ("a", "A", "b")),
    ],
)
def test_names_that_programs_write_differently_are_one(
    tmp_path, caplog, column, fixed_names, moving_names
):
    head = f"{column},x_mm,y_mm,z_mm\n"
    rows = [f"{name},{k},2,3\n" for k, name in enumerate(fixed_names)]
    one = stored(tmp_path, "a.csv", head + "".join(rows))
    rows = [f"{name},{k},2,3\n" for k, name in enumerate(moving_names)]
    other = stored(tmp_path, "b.csv", head + "".join(rows[::-1]))
    fixed, moving = read_landmarks((one, other), (None, None), coordinates="lps")
    np.testing.assert_array_equal(fixed, moving)
    assert "are matched by name" in caplog.text


def test_one_file_of_points_of_one_image_is_warned_of(tmp_path, caplog):
    path = stored(tmp_path, "a.csv", "1,2,3\n")
    fixed, moving = read_landmarks((path, path), (FRAME, FRAME))
    np.testing.assert_array_equal(fixed, moving)
    assert "was given for both, so nothing is taken to move" in caplog.text


@pytest.mark.parametrize("suffix", [".csv", ".fcsv", ".mrk.json", ".vtk", ".txt"])
def test_formats_of_space_hold_points_of_a_plane(tmp_path, suffix):
    """With z = 0, which is left out again."""
    plane = FRAMES["2d oblique"]
    path = tmp_path / f"a{suffix}"
    write_points(path, LPS[:, :2])
    given = load_points(path, plane)
    np.testing.assert_allclose(given.points, LPS[:, :2])
    np.testing.assert_allclose(load_points(path, dimension=2).points, LPS[:, :2])
    rewrite_points(tmp_path / f"b{suffix}", LPS[:, 1::-1], given)
    found = read_points(tmp_path / f"b{suffix}", plane)
    np.testing.assert_allclose(found, LPS[:, 1::-1])


names = st.text(st.characters(categories=("L", "N", "P", "Zs")), max_size=9)


@settings(max_examples=25, deadline=None)
@given(
    st.lists(
        st.tuples(names.map(str.strip), *[st.floats(-2000, 2000)] * 3),
        min_size=1,
        max_size=4,
    ),
    st.sampled_from([".csv", ".fcsv", ".mrk.json", ".vtk", ".pts"]),
)
def test_written_points_are_read_back_with_their_names(tmp_path_factory, rows, suffix):
    path = tmp_path_factory.mktemp("points") / f"a{suffix}"
    given = tuple(name for name, *_ in rows)
    points = np.array([point for _, *point in rows])
    write_points(path, points, given)
    found = load_points(path)
    np.testing.assert_allclose(found.points, points, atol=6e-7)
    if suffix not in (".vtk", ".pts") and any(given):
        assert found.parsed.names == given


# Pieces of the formats, so that the parsers get beyond the first line.
PIECES = st.sampled_from(
    [
        *("point", "index", "Point", "OutputPoint = [", "]", "LANDMARKS1", "#X Y Z"),
        *("x,y,z,t", "label,r,a,s", "Landmark,X,Y,Z", "1,2,3", "1 2 3", "2", '"', "#"),
        *("# vtk DataFile Version 3.0", "ASCII", "BINARY", "POINTS 2 float", "1e999"),
        *("# CoordinateSystem = LPS", "# columns = id,x,y,z", "nan,1,2", ",,", "\0"),
        *(
            '{"markups": [{"controlPoints": [',
            '{"position": [1, 2, 1' + "0" * 400,
            "]}",
        ),
        *("{", "[", "null", "\n", "\n", "\r\n", ";", "\t", "\x85", "\u2028", "x1,y1"),
    ]
)


@settings(max_examples=150, derandomize=True, deadline=None)
@given(
    st.lists(st.one_of(PIECES, st.text(max_size=5)), max_size=12),
    st.sampled_from([".csv", ".txt", ".pts", ".vtk", ".fcsv", ".mrk.json"]),
)
def test_any_text_is_read_or_refused_in_one_line(tmp_path_factory, pieces, suffix):
    path = tmp_path_factory.getbasetemp() / f"any{suffix}"
    path.write_bytes("".join(pieces).encode("utf-8", "replace"))
    try:
        found = load_points(path, FRAME)
    except InputError as error:
        message = str(error)
        assert message.startswith(f"{path}: ")
        assert len(message.splitlines()) == 1
        return
    assert np.isfinite(found.points).all()
    assert found.points.shape[1] == 3
    rewrite_points(path.with_name(f"again{suffix}"), found.points, found)
    again = load_points(path.with_name(f"again{suffix}"))
    np.testing.assert_allclose(again.points, found.points, atol=1e-3)


@pytest.mark.parametrize(
    ("name", "text", "fact"),
    [
        ("a.csv", "x,y,z,t,label\n1,2,3,0," + "a" * 200000, "line 2 is no line of"),
        ("a.fcsv", "# CoordinateSystem = LPS\n" + "b" * 200000, "line 2 is no line of"),
        ("a.mrk.json", "[" * 100000, "is not a list of markups"),
        (
            "a.mrk.json",
            '{"markups": [{"controlPoints": [{"position": [1, 2, 1%s]}]}]}'
            % ("0" * 400),
            "control point 1",
        ),
        ("a.pts", "point\n" + "9" * 5000 + "\n1 2 3\n", "number of points"),
    ],
)
def test_enormous_words_are_refused(tmp_path, name, text, fact):
    with pytest.raises(InputError, match=fact):
        read_points(stored(tmp_path, name, text))


def fcsv(path, names):
    """Points of 3D Slicer, whose x tells the number in the name."""
    rows = [f"{k},{name[-1]},2,3,0,0,0,1,1,1,0,{name}" for k, name in enumerate(names)]
    columns = "id,x,y,z,ow,ox,oy,oz,vis,sel,lock,label"
    head = f"# CoordinateSystem = LPS\n# columns = {columns}\n"
    path.write_text(head + "\n".join(rows) + "\n", "utf-8")
    return path


@pytest.mark.parametrize(
    ("fixed", "moving", "said"),
    [
        (["F-1", "F-3", "F-4"], ["F-1", "F-2", "F-3"], "'F-4' is in one of them alone"),
        (["F-1", "F-2", "F-2"], ["F-2", "F-1", "F-2"], "some have the same name"),
        (["F-1", "F-2"], ["F-2", "F-1"], None),
        (["F-1", "F-2"], ["M-1", "M-2"], None),
        (["F-1", "F-1"], ["F-1", "F-1"], None),
    ],
)
def test_names_tell_whether_rows_correspond(tmp_path, fixed, moving, said):
    paths = fcsv(tmp_path / "f.fcsv", fixed), fcsv(tmp_path / "m.fcsv", moving)
    if said:
        with pytest.raises(InputError, match=said):
            read_landmarks(paths, [None, None])
        return
    got = read_landmarks(paths, [None, None])
    np.testing.assert_array_equal(*got)
