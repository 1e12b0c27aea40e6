"""Published facts about DIR-Lab's sets: sizes of the images, motion, results.

The sizes, the motion and the observers are those of the pages of the sets,
https://med.emory.edu/departments/radiation-oncology/research-laboratories/deformable-image-registration/downloads-and-reference-data
"""

from typing import NamedTuple


class Geometry(NamedTuple):
    """The grid of the images of a case.

    Attributes:
        shape: voxels, array order (z, y, x).
        spacing: mm, (x, y, z).
    """

    shape: tuple[int, int, int]
    spacing: tuple[float, float, float]


class Published(NamedTuple):
    """The published facts about a case.

    Attributes:
        geometry: of both of its images.
        motion: mean displacement of landmarks, mm: of the 300 in 4DCT, of all features
            of the case, of which the 300 are a sample, in COPDgene.
        observers: mean and standard deviation of the error of repeated marking, mm.
    """

    geometry: Geometry
    motion: float
    observers: tuple[float, float]


class Set(NamedTuple):
    """One of DIR-Lab's sets.

    Attributes:
        title: in tables.
        motion_of: the landmarks that the published motion was measured at.
        tolerance: relative, by which the motion of the 300 landmarks may differ from
            it: rounding, or a sample.
    """

    title: str
    motion_of: str
    tolerance: float


class Result(NamedTuple):
    """A published result: text as it stands in the source.

    Attributes:
        method: name.
        error: TRE over all cases, mm.
        source: where it is stated.
    """

    method: str
    error: str
    source: str


# The landmarks of a case.
LANDMARKS = 300
SETS = {
    "4dct": Set("DIR-Lab 4DCT", "the 300 landmarks", 0.005),
    "copd": Set("DIR-Lab COPDgene", "all features of the case", 0.1),
}

# For each case: voxels along x and y, slices, mm along x and y; motion; observers.
_SLICE_DISTANCE = 2.5
_4DCT = (
    (256, 94, 0.97, 3.89, (0.85, 1.24)),
    (256, 112, 1.16, 4.34, (0.70, 0.99)),
    (256, 104, 1.15, 6.94, (0.77, 1.01)),
    (256, 99, 1.13, 9.83, (1.13, 1.27)),
    (256, 106, 1.10, 7.48, (0.92, 1.16)),
    (512, 128, 0.97, 10.89, (0.97, 1.38)),
    (512, 136, 0.97, 11.03, (0.81, 1.32)),
    (512, 128, 0.97, 14.99, (1.03, 2.19)),
    (512, 128, 0.97, 7.92, (0.75, 1.09)),
    (512, 120, 0.97, 7.30, (0.86, 1.45)),
)
_COPD = (
    (512, 121, 0.625, 25.90, (0.65, 0.73)),
    (512, 102, 0.645, 21.77, (1.06, 1.51)),
    (512, 126, 0.652, 12.29, (0.58, 0.87)),
    (512, 126, 0.590, 30.90, (0.71, 0.96)),
    (512, 131, 0.647, 30.90, (0.65, 0.87)),
    (512, 119, 0.633, 28.32, (1.06, 2.38)),
    (512, 112, 0.625, 21.66, (0.65, 0.78)),
    (512, 115, 0.586, 25.57, (0.96, 3.07)),
    (512, 116, 0.664, 14.84, (1.01, 2.54)),
    (512, 135, 0.742, 22.48, (0.87, 1.65)),
)


def _cases(prefix: str, rows) -> dict[str, Published]:
    cases = {}
    for number, (width, slices, spacing, motion, observers) in enumerate(rows, 1):
        geometry = Geometry((slices, width, width), (spacing, spacing, _SLICE_DISTANCE))
        cases[f"{prefix}{number}"] = Published(geometry, motion, observers)
    return cases


def set_of(case: str) -> str:
    """Return the name of the set of a case."""
    return case[:4]


# By the name of the case: 4dct1 to 4dct10 and copd1 to copd10.
CASES = _cases("4dct", _4DCT) | _cases("copd", _COPD)

# Protocols differ: the direction, masks, and whether errors are snapped to voxels.
RESULTS = {
    "4dct": (
        Result("RegNet 2019", "1.86 ± 2.12", "arXiv 1908.10235"),
        Result("elastix, ITK's settings", "1.78 ± 1.57", "PMC4229927"),
        Result("elastix, best of four settings", "1.28 ± 1.10", "PMC4229927"),
        Result("landmark-driven cycle network", "1.20 ± 0.72", "PMC10937322"),
        Result("CNN with anatomical constraints, 2021", "below 1.2", "PMC10369673"),
        Result("NGPDIR", "1.15 ± 1.15", "arXiv 2402.05568"),
    ),
    "copd": (
        Result("LDDMM, Polzin 2016", "1.03", "doi 10.1007/978-3-319-46726-9_4"),
        Result("RRN", "0.83", "arXiv 2106.07608"),
    ),
}
