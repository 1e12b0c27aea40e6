"""DIR-Lab's sets: the files as distributed, errors known in advance, and restarts.

The sets themselves may not be passed on, so small volumes in their layout stand for
them.
"""

import json
import logging

import numpy as np
import pytest
from scipy import ndimage

from experiments.comparison import dirlab_results, runs
from experiments.comparison.dirlab_files import (
    EXHALE,
    INHALE,
    PHASES,
    check_case,
    file_frame,
    find_cases,
    read_case_image,
    read_case_landmarks,
    read_geometries,
)
from experiments.comparison.dirlab_published import CASES, SETS, Geometry
from experiments.comparison.dirlab_results import (
    Plan,
    check_against_published,
    measure_landmarks,
    register_case,
)
from experiments.comparison.dirlab_tables import error_table, method_table, summarise
from experiments.text import markdown
from regnet_jax.errors import InputError
from regnet_jax.spatial import to_index

# Files of four cases, of inhale and exhale, as the archives have them.
IMAGES = {
    "4dct1": "Case1Pack/Images/case1_T{}_s.img",
    "4dct2": "Case2Pack/Images/case2_T{}-ssm.img",
    "4dct8": "Case8Pack/Case8Deploy/Images/case8_T{}.img",
    "copd3": "copd3/copd3/copd3_{}BHCT.img",
}
LANDMARKS = {
    "4dct1": "Case1Pack/ExtremePhases/Case1_300_T{}_xyz.txt",
    "4dct2": "Case2Pack/ExtremePhases/Case2_300_T{}_xyz.txt",
    "4dct8": "Case8Pack/Case8Deploy/extremePhases/case8_dirLab300_T{}_xyz.txt",
    "copd3": "copd3/copd3/copd3_300_{}BH_xyz_r1.txt",
}
LETTERS = {"4dct": ("00", "50"), "copd": ("i", "e")}
SMALL = Geometry((24, 36, 40), (1.5, 1.25, 2.5))
# Voxels, x first, from inhale to exhale: the liver rises, the indices grow to the feet.
SHIFT = np.array([1, -2, -3])
AIR, LUNG, TISSUE = -1000, -800, 40


def chest(shape):
    """HU with two unequal lungs and vessels, different along every axis."""
    z, y, x = np.meshgrid(*(np.linspace(-1, 1, n) for n in shape), indexing="ij")
    image = np.where((x / 0.95) ** 2 + (y / 0.9) ** 2 < 1, TISSUE, AIR).astype(float)
    for at, width in ((-0.45, 0.36), (0.42, 0.3)):
        inside = ((x - at) / width) ** 2 + (y / 0.6) ** 2 + (
            (z + at / 4) / 0.7
        ) ** 2 < 1
        noise = np.random.default_rng(3).normal(size=shape)
        image = np.where(inside, LUNG + 150 * ndimage.gaussian_filter(noise, 1), image)
    return ndimage.gaussian_filter(image, 0.7)


def write_case(folder, case, images, points, *, offset=1024):
    """Images ``[z, y, x]`` in HU and indices ``[n, 3]`` from 1, x first, by phase."""
    for letter, phase in zip(LETTERS[case[:4]], PHASES, strict=True):
        path = folder / IMAGES[case].format(letter)
        path.parent.mkdir(parents=True, exist_ok=True)
        (np.rint(images[phase]) + offset).astype("<i2").tofile(path)
        path = folder / LANDMARKS[case].format(letter)
        path.parent.mkdir(parents=True, exist_ok=True)
        lines = ["\t".join(map(str, point)) + "\t" for point in points[phase]]
        path.write_text("\n".join(lines) + "\n")


def shifted_case(folder, case, *, offset=1024):
    """A case whose exhale is its inhale moved by SHIFT: its points by phase."""
    inhale = chest(SMALL.shape)
    exhale = np.roll(inhale, SHIFT[::-1], axis=(0, 1, 2))
    size = np.array(SMALL.shape[::-1])
    fixed = np.random.default_rng(1).integers(8, size - 8, (20, 3)) + 1
    points = {INHALE: fixed, EXHALE: fixed + SHIFT}
    write_case(folder, case, {INHALE: inhale, EXHALE: exhale}, points, offset=offset)
    return points


@pytest.fixture(scope="module")
def data(tmp_path_factory):
    """A folder with two small cases, beside a file of their sizes."""
    folder = tmp_path_factory.mktemp("dirlab")
    shifted_case(folder / "data", "4dct8")
    shifted_case(folder / "data", "copd3", offset=0)
    # What an archive made on a Mac, and other phases, leave there.
    (folder / "data" / "copd3" / "._copd3_iBHCT.img").write_bytes(b"x")
    (folder / "data" / "Case8Pack" / "case8_T10.img").write_bytes(b"x")
    (folder / "sizes.txt").write_text(
        "# A copy of low resolution.\n"
        "4dct8, 40 x 36 x 24, 1.5 x 1.25 x 2.5\n\n"
        "copd3,40x36x24,1.5x1.25x2.5\n"
    )
    return folder


@pytest.mark.parametrize("case", IMAGES)
@pytest.mark.parametrize("offset", [0, 1024])
def test_landmarks_lie_on_the_blobs_that_they_mark(tmp_path, case, offset):
    geometry = Geometry((21, 30, 27), (0.9, 1.1, 2.5))
    rng = np.random.default_rng(4)
    index = np.array([[4, 6, 3], [20, 9, 5], [12, 24, 17], [23, 20, 11]])
    images, points = {}, {}
    for phase in PHASES:
        points[phase] = index + rng.integers(0, 3, index.shape)
        images[phase] = np.full(geometry.shape, TISSUE)
        images[phase][:, :3] = -2000
        for x, y, z in points[phase] - 1:
            images[phase][z, y, x] = 500
    write_case(tmp_path, case, images, points, offset=offset)
    files = find_cases(tmp_path)[case]
    check_case(case, files, {case: geometry})
    found = read_case_landmarks(files, geometry)
    for phase in PHASES:
        image = read_case_image(files.images[phase], geometry)
        places = to_index(image.frame, found[phase])
        np.testing.assert_allclose(places, np.rint(places), atol=1e-9)
        bright = image.array[tuple(np.rint(places).astype(int).T)]
        np.testing.assert_array_equal(bright, 500)
        assert np.count_nonzero(image.array == 500) == len(index)
        assert image.array.min() == -1024
        # Right to left, front to back, and the first slice is that of the head.
        expected = (points[phase] - 1) * geometry.spacing * np.array([1, 1, -1])
        np.testing.assert_allclose(found[phase], expected)
        np.testing.assert_array_equal(
            np.reshape(image.frame.direction, (3, 3)), np.eye(3)
        )


def test_published_sizes_are_those_of_the_distributed_files():
    """The bytes of an image in each archive of 4DCT, as their lists of files say."""
    listed = [
        *(12320768, 14680064, 13631488, 12976128, 13893632),
        *(67108864, 71303168, 67108864, 67108864, 62914560),
    ]
    for number, size in enumerate(listed, 1):
        assert 2 * np.prod(CASES[f"4dct{number}"].geometry.shape) == size
    for name in SETS:
        assert sum(case.startswith(name) for case in CASES) == 10


def test_a_file_of_the_real_size_is_read(tmp_path):
    path = tmp_path / "copd1_iBHCT.img"
    with path.open("wb") as file:
        # Sparse: the disk holds none of its zeros.
        file.truncate(2 * 512 * 512 * 121)
    image = read_case_image(path, CASES["copd1"].geometry)
    assert image.array.shape == (121, 512, 512)
    assert image.frame.spacing == (0.625, 0.625, 2.5)
    assert image.frame.origin == (0, 0, -300)


def test_values_that_are_not_those_of_a_chest_are_refused(tmp_path):
    path = tmp_path / "a.img"
    for values in (
        chest(SMALL.shape).astype(">i2"),
        np.full(SMALL.shape, -2000, "<i2"),
        np.full(SMALL.shape, 500, "<i2"),
    ):
        values.tofile(path)
        with pytest.raises(InputError, match="neither HU nor HU"):
            read_case_image(path, SMALL)


def _truncate(folder, geometries):
    (folder / IMAGES["4dct8"].format("50")).write_bytes(b"0" * 2 * 40 * 36 * 20)


def _pad(folder, geometries):
    (folder / IMAGES["4dct8"].format("50")).write_bytes(b"0" * 12345)


def _resize(folder, geometries):
    geometries["4dct8"] = Geometry((24, 36, 41), SMALL.spacing)
    geometries["4dct2"] = geometries["copd9"] = SMALL


def _lose_image(folder, geometries):
    (folder / IMAGES["4dct8"].format("00")).unlink()


def _lose_landmarks(folder, geometries):
    (folder / LANDMARKS["4dct8"].format("50")).unlink()


def _double(folder, geometries):
    (folder / "CASE8_T00_s.IMG").write_bytes(b"")


def _renumber(folder, geometries):
    del geometries["4dct8"]


def _empty(folder, geometries):
    for path in folder.rglob("*.*"):
        path.unlink()


@pytest.mark.parametrize(
    ("spoil", "facts"),
    [
        (_truncate, ("69120", "57600", "size of 40 x 36 x 20)", "case8_T50")),
        (_pad, ("has 12345 bytes", "no image of whole slices")),
        (_resize, ("41 x 36 x 24", "size of 40 x 36 x 24 of 4dct2, copd9")),
        (_lose_image, ("4dct8 has no image of inhale",)),
        (_lose_landmarks, ("4dct8 has no landmarks of exhale",)),
        (_double, ("is the same file of 4dct8", "CASE8_T00_s.IMG")),
        (_renumber, ("no size is published for 4dct8",)),
        (_empty, ("holds no files of DIR-Lab",)),
    ],
)
def test_a_spoilt_set_is_refused_in_one_line(tmp_path, spoil, facts):
    shifted_case(tmp_path, "4dct8")
    geometries = {"4dct8": SMALL}
    spoil(tmp_path, geometries)

    def check():
        for case, files in find_cases(tmp_path).items():
            check_case(case, files, geometries)

    with pytest.raises(InputError) as refused:
        check()
    for fact in facts:
        assert fact in str(refused.value)
    assert "\n" not in str(refused.value)


@pytest.mark.parametrize(
    "line",
    [
        "4dct1, 256 x 256, 1 x 1 x 1",
        "4dct1, 256 x 256 x 94",
        "4dct1, 256 x 256 x 0, 1 x 1 x 1",
        "4dct1, 256 x 256 x 94, 1 x 1 x nan",
        "case1, 256 x 256 x 94, 1 x 1 x 1",
        "# nothing",
    ],
)
def test_malformed_sizes_are_refused(tmp_path, line):
    path = tmp_path / "sizes.txt"
    path.write_text(line)
    with pytest.raises(InputError, match=r"is not the size of a case|names no case"):
        read_geometries(path)


def test_a_case_has_one_size_however_it_is_numbered(tmp_path):
    path = tmp_path / "sizes.txt"
    path.write_text("4dct01, 256 x 256 x 94, 1 x 1 x 2\ncopd10, 9 x 8 x 7, 1 x 1 x 1\n")
    assert list(read_geometries(path)) == ["4dct1", "copd10"]
    path.write_text("4dct1, 9 x 8 x 7, 1 x 1 x 2\n4dct01, 9 x 8 x 6, 1 x 1 x 1\n")
    with pytest.raises(InputError, match="line 2: 4dct1 has a line already"):
        read_geometries(path)


def test_landmarks_that_are_not_the_published_ones_are_noticed(caplog):
    geometry, motion = CASES["4dct1"].geometry, CASES["4dct1"].motion
    caplog.set_level(logging.WARNING)

    def found(n, millimetres, of=geometry):
        fixed = np.zeros((n, 3))
        moving = fixed + np.array([0, millimetres, 0])
        return check_against_published("4dct1", of, {INHALE: fixed, EXHALE: moving})

    assert found(300, motion) == found(300, motion + 0.004) == []
    assert found(7, 99.0, SMALL) == []
    (line,) = found(300, motion + 0.1)
    assert "move by 3.99 mm on average where 3.89 mm are published" in line
    (line,) = found(299, motion)
    assert "has 299 landmarks where 300 are published" in line
    assert len(caplog.messages) == 2


@pytest.mark.parametrize("fixed", PHASES)
def test_errors_are_those_of_the_field(tmp_path, fixed):
    """Snapping changes an error by what rounds the warped point to a voxel."""
    shifted_case(tmp_path, "4dct8")
    files = find_cases(tmp_path)["4dct8"]
    points = read_case_landmarks(files, SMALL)
    frame = file_frame(SMALL)
    ends = points[fixed], points[EXHALE if fixed == INHALE else INHALE]
    truth = SHIFT * np.array([1, 1, -1]) * SMALL.spacing
    truth = truth if fixed == INHALE else -truth
    spacing = np.array(SMALL.spacing)
    for wrong, left in (
        ([0.0, 0.0, 0.0], [0, 0, 0]),
        ([0.4, -0.4, 0.4], [0, 0, 0]),
        ([0.6, -0.4, 1.4], [1, 0, 1]),
    ):
        field = np.broadcast_to(truth + wrong * spacing, (*SMALL.shape, 3))
        measured = measure_landmarks(field, frame, *ends)
        expected = np.linalg.norm(wrong * spacing)
        np.testing.assert_allclose(measured["errors"], expected, atol=1e-9)
        expected = np.linalg.norm(left * spacing)
        np.testing.assert_allclose(measured["snapped"], expected, atol=1e-9)
        assert measured["folding"] == 0


@pytest.mark.slow
def test_command_finds_the_known_shift_and_goes_on(command, data, tmp_path):
    given = [f"--data={data / 'data'}", f"--sizes={data / 'sizes.txt'}"]
    given += ["--methods=affine", f"--out={tmp_path / 'out'}"]
    result = command("dirlab", *given)
    assert result.status == 0, result.err
    report = json.loads((tmp_path / "out" / "results.json").read_text("utf-8"))
    before = np.linalg.norm(SHIFT * SMALL.spacing)
    for name, case in (("4dct", "4dct8"), ("copd", "copd3")):
        found = report["sets"][name]["cases"][case]
        assert found["before"]["tre"]["mean"] == pytest.approx(before)
        # A tenth of the smallest voxel.
        assert found["affine"]["tre"]["max"] < 0.12
        assert found["affine"]["tre_snapped"]["max"] == pytest.approx(0, abs=1e-6)
        assert found["affine"]["seconds"] > 0
    table = (tmp_path / "out" / "table.md").read_text("utf-8")
    assert "1.86 ± 2.12" in table
    assert "arXiv 2106.07608" in table
    assert "without 4dct1, 4dct2" in table
    assert table in result.out
    again = command("dirlab", *given)
    assert again.status == 0, again.err
    assert "2 registrations are those of an earlier run" in again.out
    assert (tmp_path / "out" / "table.md").read_text("utf-8") == table


def test_command_lists_failures_and_ends_with_status_2(command, data, tmp_path):
    given = [f"--data={data / 'data'}", f"--sizes={data / 'sizes.txt'}"]
    given += ["--methods=affine", "--patience=1", "--cases=4dct"]
    result = command("dirlab", *given, f"--out={tmp_path}")
    assert result.status == 2
    assert "table.md: 1 of 1 registrations failed" in result.errors[-1]
    table = (tmp_path / "table.md").read_text("utf-8")
    assert "affine failed on 4dct8: took more than 1 s" in table
    assert "copd3" not in table


@pytest.mark.parametrize(
    ("flags", "fact"),
    [
        (["--cases=4dct1"], "--cases 4dct1: not below --data; there are 4dct8, copd3"),
        (["--methods=sorcery"], "sorcery: unknown"),
        (["--data=nowhere"], "nowhere: is no folder"),
        (["--sizes=nowhere"], "nowhere: no such file"),
        (["--fixed=asleep"], "fixed"),
    ],
)
def test_command_refuses_bad_flags_in_one_line(command, data, tmp_path, flags, fact):
    given = [f"--data={data / 'data'}", f"--sizes={data / 'sizes.txt'}"]
    result = command("dirlab", *given, f"--out={tmp_path / 'out'}", *flags)
    assert result.status == 2
    assert len(result.errors) == 1
    assert fact in result.errors[0]
    assert not (tmp_path / "out").exists()


@pytest.fixture
def fake(monkeypatch):
    """Methods that return the true shift, and are counted or fail when told to."""
    calls, failing = [], {}

    def run(variant, pair, folder, options, *, log):
        name = variant.method
        calls.append((pair.name, name))
        if name in failing:
            raise failing[name]
        return {"seconds": 2.0}

    truth = SHIFT * np.array([1, 1, -1]) * SMALL.spacing
    field = np.broadcast_to(truth, (*SMALL.shape, 3))
    monkeypatch.setattr(dirlab_results, "run_method", run)
    monkeypatch.setattr(dirlab_results, "read_field", lambda folder: field)
    return calls, failing


def _plan(folder, *, fixed=INHALE, setting="lung"):
    options = runs.Options(setting, None, 60.0, "cache")
    return Plan(fixed, {"one": "1.0", "two": "2.0"}, options, folder)


def test_a_stopped_run_goes_on_and_repeats_nothing(data, tmp_path, fake):
    calls, failing = fake
    files = find_cases(data / "data")["4dct8"]
    points = read_case_landmarks(files, SMALL)

    def register(**changes):
        calls.clear()
        plan = _plan(tmp_path, **changes)
        return register_case("4dct8", files, SMALL, points, plan)

    failing["two"] = KeyboardInterrupt()
    with pytest.raises(KeyboardInterrupt):
        register()
    failing["two"] = InputError("took more than 60 s")
    results = register()
    assert calls == [("4dct8", "two")]
    assert results.failures == {"two": "took more than 60 s"}
    assert list(results.records) == ["before", "one"]
    failing.clear()
    assert register().reused == 1
    assert calls == [("4dct8", "two")]
    results = register()
    assert (results.reused, calls) == (2, [])
    np.testing.assert_allclose(results.records["two"]["errors"], 0, atol=1e-9)
    # Another request is another registration, and so is a damaged record.
    assert register(setting="default").reused == 0
    assert register(fixed=EXHALE).reused == 0
    (tmp_path / "4dct8-one.json").write_text("{")
    assert register(fixed=EXHALE).reused == 1


def test_a_case_of_unusable_values_fails_and_is_reported(data, tmp_path, fake):
    files = find_cases(data / "data")["4dct8"]
    spoilt = tmp_path / "case8_T50.img"
    np.full(SMALL.shape, 500, "<i2").tofile(spoilt)
    files = files._replace(images=files.images | {EXHALE: spoilt})
    points = read_case_landmarks(files, SMALL)
    results = register_case("4dct8", files, SMALL, points, _plan(tmp_path))
    assert list(results.records) == ["before"]
    assert set(results.failures) == {"one", "two"}
    assert "neither HU nor HU" in results.failures["one"]


def test_tables_have_cases_and_both_averages():
    def record(*errors):
        return {"errors": [*errors], "snapped": [0.0] * len(errors), "folding": 0.5}

    records = {
        "4dct1": {"before": record(4.0, 6.0), "x": record(1.0, 3.0)},
        "4dct2": {"before": record(7.0, 9.0, 8.0, 8.0)},
    }
    geometries = {"4dct1": CASES["4dct1"].geometry, "4dct2": SMALL}
    head, body = error_table(records, ["x"], geometries)
    assert head[-3:] == ["before", "x", "x, snapped"]
    published = ["3.89", "0.85 ± 1.24"]
    partly = ["2.00 ± 1.41 (1 of 2 cases)", "0.00 ± 0.00 (1 of 2 cases)"]
    pooled = np.array([4, 6, 7, 9, 8, 8])
    assert body == [
        ["4dct1", "2", *published, "5.00 ± 1.41", "2.00 ± 1.41", "0.00 ± 0.00"],
        ["4dct2", "4", "", "", "8.00 ± 0.82", "failed", "failed"],
        ["all landmarks", "6", "", "", f"7.00 ± {pooled.std(ddof=1):.2f}", *partly],
        [
            "mean of cases",
            "",
            "",
            "",
            "6.50 ± 2.12",
            "2.00 (1 of 2 cases)",
            "0.00 (1 of 2 cases)",
        ],
    ]
    assert summarise(records, ["x"])["x"]["folding"] == 0.5
    assert summarise(records, ["x"])["x"]["difference"] is None


def test_methods_are_compared_with_the_default_registration():
    def record(*errors):
        same = {"errors": [*errors], "snapped": [0.0] * len(errors)}
        return same | {"folding": 0.0, "seconds": 2.0}

    records = {
        "4dct1": {"before": record(4.0), "regnet": record(1.0), "x": record(2.0, 4.0)},
        "4dct2": {"before": record(4.0), "regnet": record(2.0), "x": record(9.0)},
        "4dct3": {"before": record(4.0), "regnet": record(3.0)},
    }
    found = summarise(records, ["regnet", "x"])
    assert (found["regnet"]["worse"], found["x"]["worse"]) == (0, 1)
    assert found["regnet"]["difference"] is None
    difference = found["x"]["difference"]
    assert (difference["pairs"], difference["mean"]) == (2, 4.5)
    head, body = method_table(records, {"regnet": "1", "x": "2"})
    rows = [dict(zip(head, row, strict=True)) for row in body]
    assert [row["median (mm)"] for row in rows] == ["2.00", "4.00"]
    assert rows[1]["mean of cases minus regnet (mm), 95 %"].startswith("+4.50 [+2.0")
    assert rows[0]["mean of cases minus regnet (mm), 95 %"] == ""
    lines = markdown(head, body).splitlines()
    assert len({len(line) for line in lines}) == 1
