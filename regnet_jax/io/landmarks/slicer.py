"""Points of 3D Slicer: ``.fcsv`` of all versions, and markups in ``.mrk.json``."""

import copy
import csv
import io
import json
from pathlib import Path

import numpy as np

from regnet_jax.errors import InputError
from regnet_jax.io.landmarks.parsed import (
    Parsed,
    Rows,
    csv_words,
    numbers,
    shown_number,
)
from regnet_jax.io.landmarks.tables import format_table

# Slicer wrote numbers until version 4.10.
_SYSTEMS = {"LPS": "lps", "1": "lps", "RAS": "ras", "0": "ras"}
_COLUMNS = "id,x,y,z,ow,ox,oy,oz,vis,sel,lock,label,desc,associatedNodeID"
# The columns of version 3, which knew RAS only and did not say so.
_COLUMNS_OF_3 = ["label", "x", "y", "z", "sel", "vis"]
# Whole numbers of any size stand in JSON; larger ones than this are no floats.
_LARGEST = 1e308
# Markups that are points alone. Others hold a centre or axes, too.
_POINTS_ALONE = ("Fiducial", "PointList", "Line", "Angle", "Curve", "ClosedCurve")
_SCHEMA = (
    "https://raw.githubusercontent.com/slicer/slicer/master/Modules/Loadable/Markups/"
    "Resources/Schema/markups-schema-v1.0.3.json#"
)


def parse_fcsv(path: Path, text: str) -> Parsed:
    """Parse 3D Slicer's old format: a table below a header of comments.

    Version 3 has no ``CoordinateSystem``; its points are in RAS.
    """
    header: dict[str, str] = {}
    rows: Rows = []
    lines = text.splitlines()
    for number, line in enumerate(lines, 1):
        # Spreadsheets put quotes around them and commas behind.
        if line.lstrip('"').startswith("#"):
            key, _, value = line.strip('", ')[1:].partition("=")
            header[key.strip()] = value.strip()
        elif line.strip():
            rows.append((number, csv_words(path, number, line)))
    columns = [name.strip() for name in header.get("columns", "id,x,y,z").split(",")]
    if not {"x", "y", "z"} <= set(columns):
        raise InputError(f"{path}: its columns lack x, y or z; export it again")
    for number, row in rows if "columns" in header else ():
        if any(row[len(columns) :]):
            raise InputError(
                f"{path}: line {number} has more cells than the header; put quotes"
                " around text with commas, and write 1.5 instead of 1,5"
            )
    places = [columns.index(name) for name in "xyz"]
    words = [(n, [row[k] if k < len(row) else "" for k in places]) for n, row in rows]
    label = columns.index("label") if "label" in columns else None
    names = () if label is None else tuple(_word(row, label) for _, row in rows)
    doubt = "names no coordinate system"
    coordinates = _SYSTEMS["RAS"] if columns == _COLUMNS_OF_3 else None
    if "CoordinateSystem" in header:
        coordinates = _coordinates(path, header["CoordinateSystem"])
    return Parsed(
        numbers(path, words, (3,)),
        coordinates,
        names,
        lambda new: format_table(lines, rows, places, new),
        doubt="" if coordinates else doubt,
    )


def format_fcsv(points, names=()) -> str:
    """Return world points ``[n, 3]`` as ``.fcsv`` in LPS, for Slicer 4.11 and later."""
    text = io.StringIO()
    text.write("# Markups fiducial file version = 4.11\n# CoordinateSystem = LPS\n")
    text.write(f"# columns = {_COLUMNS}\n")
    writer = csv.writer(text, lineterminator="\n")
    for number, point in enumerate(_in_space(points), 1):
        name = names[number - 1] if names else f"F-{number}"
        place = [shown_number(value) for value in point]
        writer.writerow([number, *place, 0, 0, 0, 1, 1, 1, 0, name, "", ""])
    return text.getvalue()


def parse_markups(path: Path, text: str) -> Parsed:
    """Parse 3D Slicer's markups: the control points of the only list in the file."""
    try:
        document = json.loads(text)
        lists = document["markups"]
        if len(lists) != 1:
            raise InputError(
                f"{path}: holds {len(lists)} lists of points; save one to a file of"
                " its own"
            )
        # Slicer's schema has LPS and mm as defaults.
        coordinates = _coordinates(path, lists[0].get("coordinateSystem", "LPS"))
        unit = lists[0].get("coordinateUnits", "mm")
        controls = lists[0]["controlPoints"]
        positions = [_position(point) for point in controls]
        names = tuple(str(point.get("label", "")) for point in controls)
    except (
        ValueError,
        LookupError,
        TypeError,
        AttributeError,
        RecursionError,
    ) as error:
        if isinstance(error, InputError):
            raise
        raise InputError(
            f"{path}: is not a list of markups of 3D Slicer; export it again"
        ) from None
    if unit not in ("mm", ["mm"]):
        raise InputError(f"{path}: is in {unit}; export it in mm")
    for number, position in enumerate(positions, 1):
        if not _is_position(position):
            raise InputError(
                f"{path}: control point {number} has no position of 3 numbers; place"
                " or delete it"
            )

    def rewrite(new) -> str:
        changed = copy.deepcopy(document)
        places = np.round(np.asarray(new, np.float64), 6).tolist()
        for point, place in zip(
            changed["markups"][0]["controlPoints"], places, strict=True
        ):
            point["position"] = place
        # Slicer measures anew.
        changed["markups"][0].pop("measurements", None)
        return json.dumps(changed, indent=4, ensure_ascii=False) + "\n"

    values = np.array(positions, np.float64).reshape(-1, 3)
    alone = lists[0].get("type", "Fiducial") in _POINTS_ALONE
    named = names if any(names) else ()
    return Parsed(values, coordinates, named, rewrite if alone else None)


def format_markups(points, names=()) -> str:
    """Return world points ``[n, 3]`` as a point list of 3D Slicer, in LPS."""
    places = np.round(_in_space(points), 6).tolist()
    controls = [
        {
            "id": str(number),
            "label": names[number - 1] if names else f"F-{number}",
            "position": place,
            "positionStatus": "defined",
        }
        for number, place in enumerate(places, 1)
    ]
    markup = {
        "type": "Fiducial",
        "coordinateSystem": "LPS",
        "coordinateUnits": "mm",
        "controlPoints": controls,
    }
    document = {"@schema": _SCHEMA, "markups": [markup]}
    return json.dumps(document, indent=4, ensure_ascii=False) + "\n"


def _coordinates(path: Path, system) -> str:
    if system not in _SYSTEMS:
        raise InputError(f"{path}: is in {system}; save its points in LPS or RAS")
    return _SYSTEMS[system]


def _position(point: dict):
    """Return the position of a control point; None if it was not placed."""
    placed = point.get("positionStatus", "defined") == "defined"
    return point.get("position") if placed else None


def _is_position(position) -> bool:
    return (
        isinstance(position, list)
        and len(position) == 3
        and all(type(value) in (int, float) for value in position)
        and all(abs(value) < _LARGEST for value in position if value == value)
    )


def _word(words: list[str], column: int) -> str:
    return words[column] if column < len(words) else ""


def _in_space(points) -> np.ndarray:
    """``[n, 3]`` of ``[n, 2]`` or ``[n, 3]``; 3D Slicer knows 3D points only."""
    points = np.asarray(points, np.float64)
    return np.pad(points, ((0, 0), (0, 3 - points.shape[1])))
