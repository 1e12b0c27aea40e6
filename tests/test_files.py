"""Files are written atomically, and JSON is strict."""

import errno
import json
import os
import resource
import zlib
from pathlib import Path

import numpy as np
import pytest
import SimpleITK as sitk

from regnet_jax import files
from regnet_jax.errors import InputError
from regnet_jax.files import staged_folder, strict_json, write_atomically
from regnet_jax.io import read_image, write_displacement, write_transform
from regnet_jax.io.images import write_image
from regnet_jax.spatial import Frame
from tests.helpers.frames import FRAMES
from tests.helpers.python import run_python

FRAME = Frame((40, 50, 60), (1, 1, 1), (0, 0, 0), np.eye(3))
NOISE = np.random.default_rng(0).normal(size=FRAME.shape).astype(np.float32)
every_suffix = pytest.mark.parametrize("suffix", [".nii.gz", ".nii", ".mha", ".nrrd"])


@pytest.fixture
def small_disk():
    """Let no file grow beyond 100 kB."""
    limits = resource.getrlimit(resource.RLIMIT_FSIZE)
    resource.setrlimit(resource.RLIMIT_FSIZE, (100_000, limits[1]))
    yield
    resource.setrlimit(resource.RLIMIT_FSIZE, limits)


@every_suffix
@pytest.mark.parametrize("frame", FRAMES.values(), ids=FRAMES)
def test_write_displacement_keeps_vectors_and_frame(tmp_path, frame, suffix):
    path = tmp_path / ("u" + suffix)
    u = np.random.default_rng(0).normal(size=(*frame.shape, frame.ndim))
    write_displacement(path, u, frame)
    image = sitk.ReadImage(str(path))
    assert image.GetPixelID() == sitk.sitkVectorFloat32
    np.testing.assert_array_equal(sitk.GetArrayFromImage(image), u.astype(np.float32))
    assert image.GetSize() == frame.shape[::-1]
    np.testing.assert_allclose(image.GetSpacing(), frame.spacing, rtol=1e-6)
    np.testing.assert_allclose(image.GetOrigin(), frame.origin, rtol=1e-6)
    np.testing.assert_allclose(image.GetDirection(), frame.direction, atol=1e-6)
    assert list(tmp_path.iterdir()) == [path]


def test_a_compressed_displacement_is_one_member_of_gzip(tmp_path):
    """Several threads compress it; some readers stop at the end of the first member."""
    path = tmp_path / "u.nii.gz"
    u = np.random.default_rng(0).normal(size=(70, 260, 270, 3)).astype(np.float32)
    frame = Frame(u.shape[:3], (1, 1, 1), (0, 0, 0), np.eye(3))
    write_displacement(path, u, frame)
    stream = zlib.decompressobj(wbits=16 + zlib.MAX_WBITS)
    # It is told of a wrong checksum or length.
    values = stream.decompress(path.read_bytes())
    assert stream.eof
    assert not stream.unused_data
    components = np.frombuffer(values[352:], "<f4").reshape(3, *frame.shape)
    np.testing.assert_array_equal(np.moveaxis(components, 0, -1), u)


@every_suffix
def test_write_image_on_a_full_disk_keeps_the_old(tmp_path, small_disk, capfd, suffix):
    path = tmp_path / ("a" + suffix)
    write_image(path, np.eye(5), Frame((5, 5), (1, 1), (0, 0), np.eye(2)))
    before = path.read_bytes()
    with pytest.raises(InputError, match="free some space") as caught:
        write_image(path, NOISE, FRAME)
    assert str(path) in str(caught.value)
    assert "\n" not in str(caught.value)
    assert capfd.readouterr() == ("", "")
    assert path.read_bytes() == before
    assert list(tmp_path.iterdir()) == [path]


@every_suffix
def test_an_end_that_finds_no_room_is_noticed(tmp_path, suffix):
    """The last bytes of a file are written when it is closed, and ITK ignores that."""
    path, whole = tmp_path / ("a" + suffix), tmp_path / ("whole" + suffix)
    write_image(path, np.eye(5), Frame((5, 5), (1, 1), (0, 0), np.eye(2)))
    before = path.read_bytes()
    write_image(whole, NOISE, FRAME)
    limits = resource.getrlimit(resource.RLIMIT_FSIZE)
    resource.setrlimit(resource.RLIMIT_FSIZE, (whole.stat().st_size - 90, limits[1]))
    try:
        with pytest.raises(InputError, match="free some space"):
            write_image(path, NOISE, FRAME)
    finally:
        resource.setrlimit(resource.RLIMIT_FSIZE, limits)
    assert path.read_bytes() == before
    assert set(tmp_path.iterdir()) == {path, whole}


def test_write_transform_on_a_full_disk_is_refused(tmp_path, monkeypatch):
    monkeypatch.setattr(
        "shutil.disk_usage", lambda path: type("Usage", (), {"free": 1000})
    )
    field = sitk.GetImageFromArray(np.zeros((5, 5, 5, 3)), isVector=True)
    with pytest.raises(InputError, match="free some space"):
        write_transform(tmp_path / "t.h5", sitk.DisplacementFieldTransform(field))
    assert not list(tmp_path.iterdir())


@pytest.mark.parametrize("name", ["a.png", "a.xyz", "a", "nii.gz.txt", "a.mhd"])
def test_write_image_refuses_suffixes_without_a_frame(tmp_path, name):
    with pytest.raises(InputError, match=r"use \.nii\.gz"):
        write_image(tmp_path / name, NOISE, FRAME)
    assert not list(tmp_path.iterdir())


def test_writing_to_a_missing_folder_is_refused(tmp_path):
    with pytest.raises(InputError, match="does not exist; create it"):
        write_image(tmp_path / "none" / "a.mha", NOISE, FRAME)
    with pytest.raises(InputError, match="does not exist; create it"):
        write_transform(tmp_path / "none" / "a.h5", sitk.AffineTransform(3))


def test_writing_over_a_folder_is_refused(tmp_path, capfd):
    (tmp_path / "a.mha").mkdir()
    with pytest.raises(InputError, match="cannot be written"):
        write_image(tmp_path / "a.mha", NOISE, FRAME)
    assert [p.name for p in tmp_path.iterdir()] == ["a.mha"]
    assert capfd.readouterr() == ("", "")


def test_write_image_refuses_an_array_of_another_grid(tmp_path):
    with pytest.raises(ValueError, match="grid"):
        write_image(tmp_path / "a.mha", NOISE[1:], FRAME)


def test_write_atomically_leaves_nothing_after_an_interrupt(tmp_path):
    def write(name):
        with open(name, "w") as file:
            file.write("half")
        raise KeyboardInterrupt

    with pytest.raises(KeyboardInterrupt):
        write_atomically(tmp_path / "a.json", write)
    assert not list(tmp_path.iterdir())


def test_write_image_replaces_a_file(tmp_path):
    write_image(tmp_path / "a.nii.gz", NOISE, FRAME)
    write_image(tmp_path / "a.nii.gz", -NOISE, FRAME)
    np.testing.assert_array_equal(read_image(tmp_path / "a.nii.gz").array, -NOISE)


@pytest.mark.parametrize("name", ["a.nii.gz.nii.gz", "a.nii.nii", "a.hdr.nii.gz"])
def test_write_image_keeps_names_of_two_suffixes(tmp_path, name):
    """The library of NIfTI would write another name than it was given."""
    frame = FRAMES["3d plain"]
    write_image(tmp_path / name, np.ones(frame.shape, np.float32), frame)
    assert [path.name for path in tmp_path.iterdir()] == [name]
    assert sitk.GetArrayFromImage(sitk.ReadImage(str(tmp_path / name))).all()


def test_strict_json_has_null_for_numbers_that_are_not_finite():
    nan, inf = float("nan"), float("inf")
    given = {"a": nan, "b": [1.5, inf, (-inf, {"c": np.float64(nan)})], "d": "nan"}

    def refuse(word):
        raise AssertionError(word)

    got = json.loads(strict_json(given), parse_constant=refuse)
    assert got == {"a": None, "b": [1.5, None, [None, {"c": None}]], "d": "nan"}


@pytest.mark.parametrize("indent", [None, 2])
def test_strict_json_keeps_other_values(indent):
    given = {"a": [1, 2.5, None, True], "b": {"c": "text"}}
    assert strict_json(given, indent=indent) == json.dumps(given, indent=indent)


def test_an_interrupt_at_once_leaves_no_folder(tmp_path, monkeypatch):
    """Between the making of the folder and the next line."""
    make = Path.mkdir

    def interrupted(path, *args, **options):
        make(path, *args, **options)
        raise KeyboardInterrupt

    monkeypatch.setattr(Path, "mkdir", interrupted)
    with pytest.raises(KeyboardInterrupt), staged_folder(tmp_path / "out"):
        pass
    assert not list(tmp_path.iterdir())


def test_a_folder_on_another_disk_is_filled(tmp_path, monkeypatch):
    """As where a container mounts it: nothing can be moved into it from beside."""
    out = tmp_path / "out"
    out.mkdir()
    replace, inside = os.replace, out.resolve()

    def replaced(source, target):
        if inside not in Path(source).resolve().parents:
            raise OSError(errno.EXDEV, "Invalid cross-device link")
        replace(source, target)

    monkeypatch.setattr(os, "replace", replaced)
    with pytest.raises(InputError, match="cross-device"), staged_folder(out) as stage:
        (stage / "a.txt").write_text("a")
    monkeypatch.setattr(files, "_disk", lambda path: path.resolve() == inside)
    with staged_folder(out) as stage:
        (stage / "a.txt").write_text("a")
    monkeypatch.undo()
    assert [file.name for file in out.iterdir()] == ["a.txt"]


def test_the_result_that_tells_of_all_comes_last(tmp_path, monkeypatch):
    moved, replace = [], os.replace

    def replaced(source, target):
        moved.append(Path(target).name)
        replace(source, target)

    monkeypatch.setattr(os, "replace", replaced)
    with staged_folder(tmp_path / "out", last="b") as stage:
        for name in "cab":
            (stage / name).touch()
    assert moved == ["a", "c", "b"]


@pytest.mark.parametrize("closed", ["descriptor", "object"])
def test_files_are_read_and_written_without_a_terminal(tmp_path, closed):
    """As by a service, whose standard error is closed."""
    path = tmp_path / "a.nii.gz"
    close = {"descriptor": "os.close(2)", "object": "sys.stderr = None"}[closed]
    code = f"""
import os, sys
import numpy as np
from regnet_jax.io import read_image, write_image
from regnet_jax.spatial import Frame
{close}
write_image({str(path)!r}, np.eye(5), Frame((5, 5), (1, 1), (0, 0), np.eye(2)))
print(read_image({str(path)!r}).array.sum())
"""
    done = run_python(code)
    assert done.returncode == 0
    assert done.stdout == "5.0\n"
