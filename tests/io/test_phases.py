"""Series as phases: files in 4D, folders, DICOM; the order is that of time."""

import re

import numpy as np
import pytest
import SimpleITK as sitk

from regnet_jax.errors import InputError
from regnet_jax.io.phases import as_phases, find_reference, read_phases
from tests.helpers.dicom_files import MR, write_frames, write_slices

AXIAL = np.eye(3)[:2]
SHAPE = (4, 5, 6)  # slices, rows, columns
PLACES = [(0, 0, 2.5 * z) for z in range(SHAPE[0])]


def volume(number, shape=SHAPE):
    """Values that tell the number of a phase and the voxel."""
    return (1000 * number + np.arange(np.prod(shape)).reshape(shape)).astype(np.int16)


def to_image(array):
    image = sitk.GetImageFromArray(array)
    image.SetSpacing((2.0, 1.5, 2.5)[: array.ndim])
    image.SetOrigin((3.0, -4.0, 5.0)[: array.ndim])
    return image


def check(phases, numbers):
    assert len(phases) == len(numbers)
    for phase, number in zip(phases, numbers, strict=True):
        image = phase.read()
        np.testing.assert_array_equal(image.array, volume(number))
        assert image.frame == phase.frame


@pytest.mark.parametrize("suffix", ["nii.gz", "nii", "mha", "nrrd"])
def test_frames_of_a_4d_file_are_the_phases(tmp_path, suffix):
    path = tmp_path / f"scan.{suffix}"
    series = sitk.JoinSeries([to_image(volume(k)) for k in range(11)])
    sitk.WriteImage(series, str(path))
    phases = read_phases(path)
    check(phases, range(11))
    assert [phases[k].name for k in (0, 9, 10)] == ["phase_00", "phase_09", "phase_10"]
    np.testing.assert_allclose(phases[3].frame.spacing, (2.0, 1.5, 2.5))
    np.testing.assert_allclose(phases[3].frame.origin, (3, -4, 5))
    assert phases[3].read().name.endswith("phase_03")


@pytest.mark.parametrize("order", ["first", "last"])
def test_sequence_of_slicer_is_a_list_of_phases(tmp_path, order):
    """As 3D Slicer writes them: the axis of time is a list, first or last."""
    arrays = np.stack([volume(k) for k in range(3)], -1 if order == "first" else 0)
    axes, places = ["domain"] * 3, ["(2,0,0)", "(0,1.5,0)", "(0,0,2.5)"]
    at = 0 if order == "first" else 3
    axes.insert(at, "list")
    places.insert(at, "none")
    header = (
        "NRRD0005\ntype: short\ndimension: 4\nspace: left-posterior-superior\n"
        f"sizes: {' '.join(map(str, arrays.shape[::-1]))}\n"
        f"space directions: {' '.join(places)}\nkinds: {' '.join(axes)}\n"
        "endian: little\nencoding: raw\nspace origin: (3,-4,5)\n\n"
    )
    path = tmp_path / "scan.seq.nrrd"
    path.write_bytes(header.encode() + arrays.astype("<i2").tobytes())
    phases = read_phases(path)
    check(phases, range(3))
    np.testing.assert_allclose(phases[0].frame.spacing, (2.0, 1.5, 2.5))


def test_files_of_a_folder_are_in_the_natural_order_of_their_names(tmp_path):
    for number, name in ((0, "T00.nii.gz"), (1, "T5.mha"), (10, "t10.nrrd")):
        sitk.WriteImage(to_image(volume(number)), str(tmp_path / name))
    (tmp_path / "notes.txt").write_text("no image")
    (tmp_path / ".T7.mha").write_text("hidden")
    phases = read_phases(tmp_path)
    check(phases, (0, 1, 10))
    assert [phase.name for phase in phases] == ["T00", "T5", "t10"]
    assert [phase.source for phase in phases] == ["T00.nii.gz", "T5.mha", "t10.nrrd"]


@pytest.mark.parametrize(
    ("names", "warns"),
    [
        (("t1", "t1.25", "t1.5", "t2"), True),
        (("t1", "t1.05", "t1.5", "t10"), False),
        (("a.0.5", "a.1", "a.1.5"), False),
        (("2024.1.9", "2024.1.10", "2024.1.10.1"), False),
        (("s1_20240101120000000001", "s1_20240101120000000002"), False),
    ],
    ids=str,
)
def test_names_of_phases_may_have_decimals(tmp_path, caplog, names, warns):
    for number, name in enumerate(names):
        sitk.WriteImage(to_image(volume(number)), str(tmp_path / f"{name}.mha"))
    check(read_phases(tmp_path), range(len(names)))
    said = "t1.25.mha is before t1.5.mha, as the numbers in their names are taken"
    assert (said in caplog.text) == bool(caplog.text) == warns


def test_images_of_a_folder_may_be_2d_and_lie_on_several_grids(tmp_path):
    for number, shape in enumerate(((5, 6), (7, 6))):
        image = to_image(volume(number, shape))
        sitk.WriteImage(image, str(tmp_path / f"{number}.mha"))
    assert [phase.frame.shape for phase in read_phases(tmp_path)] == [(5, 6), (7, 6)]


def write_series(folder, number, **elements):
    write_slices(
        folder, volume(number).astype(np.uint16), PLACES, AXIAL, (2.0, 1.5), **elements
    )


@pytest.mark.parametrize(
    "names",
    [
        {0: "4D 0%", 1: "4D 20% ", 2: "4D 100 %"},
        {0: "gated, 0.0% in", 1: "gated, 33.3% in", 2: "50% B30f 66.7%"},
    ],
)
def test_dicom_series_are_in_the_order_of_their_per_cent(tmp_path, caplog, names):
    for number in (2, 0, 1):
        write_series(
            tmp_path / f"{number}", number, series=f"1.2.{9 - number}",
            SeriesDescription=names[number], SeriesNumber=20 - number,
        )  # fmt: skip
    write_series(tmp_path, 7, series="1.2.1", SeriesDescription="Average")
    phases = read_phases(tmp_path)
    check(phases, range(3))
    assert [phase.source for phase in phases] == [n.strip() for n in names.values()]
    assert re.search("no phase, which are left out: .*'Average'", caplog.text)


def test_dicom_series_without_per_cent_are_in_the_order_of_their_numbers(tmp_path):
    for number in (10, 2, 9):
        write_series(tmp_path, number, series=f"1.{99 - number}", SeriesNumber=number)
    phases = read_phases(tmp_path)
    check(phases, (2, 9, 10))
    assert [phase.name for phase in phases] == ["phase_0", "phase_1", "phase_2"]
    assert phases[1].source == "series 9"


@pytest.mark.parametrize(
    "tag", ["TemporalPositionIdentifier", "TriggerTime", "AcquisitionNumber"]
)
def test_slices_of_one_series_are_told_apart_by_their_times(tmp_path, tag):
    # The trigger times of a phase differ from slice to slice.
    for z in range(SHAPE[0]):
        for number in (1, 0, 2):
            value = 10 + number if tag != "TriggerTime" else 100 * number + z / 3
            write_slices(
                tmp_path, [volume(number)[z].astype(np.uint16)], [PLACES[z]], AXIAL,
                (2.0, 1.5), kind=MR, first=1 + 10 * number + z, **{tag: value},
            )  # fmt: skip
    phases = read_phases(tmp_path)
    check(phases, range(3))
    words = {"T": "temporal position identifier 10", "A": "acquisition number 10"}
    assert phases[0].source == words[tag[0]] if tag != "TriggerTime" else True
    check(read_phases(f"{tmp_path}::1.2.3.4"), range(3))


def test_frames_of_one_file_are_told_apart_by_their_temporal_index(tmp_path):
    times = np.repeat([2, 1], SHAPE[0])
    arrays = np.concatenate([volume(k - 1) for k in (2, 1)]).astype(np.uint16)
    path = tmp_path / "frames.dcm"
    write_frames(path, arrays, PLACES * 2, AXIAL, (2.0, 1.5), times=times)
    check(read_phases(path), range(2))


REFUSED = {
    "gone": "gone: does not exist",
    "alone.mha": "holds one phase where two or more are needed",
    "one_time.mha": "holds one phase where two or more are needed",
    "one_time.nii": "holds one phase where two or more are needed",
    "colour.mha": "has 3 components per voxel",
    "empty": "without a DICOM series",
    "single": "holds one phase where two",
    "mixed": r"mixed: a\.mha is 2D and b\.mha is 3D; give phases of one dimension",
    "twice": "holds two files of a; keep one",
    "in4d": r"a\.mha: is 4D where 2D or 3D is needed",
    "untold": "holds one phase where two or more",
    "kernels": "holds 2 series of 10 %: .*move those of one reconstruction",
    "parts": "slices of several directions or sizes in one series",
}


@pytest.mark.parametrize("name", REFUSED)
def test_what_is_no_series_is_refused_in_one_line(tmp_path, name):
    plane, cube = to_image(volume(0, (5, 6))), to_image(volume(0))
    series = sitk.JoinSeries([cube, cube])
    files = {
        "alone.mha": cube,
        "one_time.mha": sitk.JoinSeries([cube]),
        "one_time.nii": sitk.JoinSeries([cube]),
        "colour.mha": sitk.Compose([cube] * 3),
        "single/a.mha": cube,
        "mixed/a.mha": plane,
        "mixed/b.mha": cube,
        "twice/a.mha": cube,
        "twice/a.nii": cube,
        "in4d/a.mha": series,
        "in4d/b.mha": series,
    }
    for file, image in files.items():
        (tmp_path / file).parent.mkdir(exist_ok=True)
        sitk.WriteImage(image, str(tmp_path / file))
    (tmp_path / "empty").mkdir()
    for number in (0, 1):
        write_series(tmp_path / "untold", number, first=1 + 10 * number)
        write_series(
            tmp_path / "kernels", number, series=f"1.{number}",
            SeriesDescription=f"10% B{number}0f",
        )  # fmt: skip
        axes = np.roll(AXIAL, number, axis=1)
        places = np.roll(PLACES, number, axis=1)
        arrays = volume(0).astype(np.uint16)
        write_slices(
            tmp_path / "parts", arrays, places, axes, (1, 1), first=1 + 10 * number
        )
    with pytest.raises(InputError, match=REFUSED[name]) as caught:
        read_phases(tmp_path / name)
    assert "\n" not in str(caught.value)


def test_phases_in_memory_are_images_arrays_or_one_image_in_4d():
    images = [to_image(volume(k)) for k in range(3)]
    for given in (images, sitk.JoinSeries(images)):
        phases = as_phases(given)
        check(phases, range(3))
        np.testing.assert_allclose(phases[2].frame.spacing, (2.0, 1.5, 2.5))
    phases = as_phases(np.stack([volume(k) for k in range(3)]), spacing=2.0)
    check(phases, range(3))
    for wrong in (images[:1], images[0], 3.0):
        with pytest.raises(InputError, match=r"^series: "):
            as_phases(wrong)


def test_reference_is_a_number_or_a_name(tmp_path):
    for name in ("1.mha", "2.mha", "T50.nii.gz"):
        sitk.WriteImage(to_image(volume(0)), str(tmp_path / name))
    phases = read_phases(tmp_path)
    # A name goes before a number, as text.
    wanted = {None: 0, "T50": 2, "T50.nii.gz": 2, "2": 1, 2: 2, "0": 0, "1": 0, 1: 1}
    for reference, number in wanted.items():
        assert find_reference(phases, reference) == number, reference
    for wrong in ("T60", "3", 3, -1, "-1"):
        with pytest.raises(InputError, match=r"is no phase of the series; .* 0 to 2"):
            find_reference(phases, wrong)
