"""Whatever stands in a header: an image that makes sense, or one line."""

import os
import resource
from pathlib import Path

import numpy as np
import pytest
import SimpleITK as sitk
from hypothesis import HealthCheck, given, settings
from hypothesis import strategies as st

from regnet_jax.errors import InputError
from regnet_jax.io import read_image

SUFFIXES = (".nii", ".mha", ".nrrd")
# Bytes of a NIfTI header; the text headers are lines.
NIFTI_HEADER = 352
ODD = (
    *("0", "-1", "-0.0", "nan", "inf", "1e308", "1e-320", "99999999", "4294967296"),
    *("", "None", "0x10", "1,5", "\u00b2", "1 2", "1 1 1 1 1 1 1 1 1 1", "(1,0,0)"),
    *("True", "MET_SHORT", "MET_NOTHING", "gzip", "raw", "LOCAL", "gone.raw"),
)


@pytest.fixture(scope="module", autouse=True)
def bounded_memory():
    """A header that promises terabytes must not get them."""
    used = int(Path("/proc/self/statm").read_text("utf-8").split()[0]) * os.sysconf(
        "SC_PAGESIZE"
    )
    limits = resource.getrlimit(resource.RLIMIT_AS)
    resource.setrlimit(resource.RLIMIT_AS, (used + 2**31, limits[1]))
    yield
    resource.setrlimit(resource.RLIMIT_AS, limits)


@pytest.fixture(scope="module")
def originals(tmp_path_factory):
    """A small oblique volume in each format, as bytes."""
    folder = tmp_path_factory.mktemp("originals")
    image = sitk.GetImageFromArray(np.arange(60, dtype=np.int16).reshape(3, 4, 5))
    image.SetSpacing((1.0, 2.0, 3.0))
    image.SetOrigin((-10.0, 4.0, 900.0))
    image.SetDirection((0.6, -0.8, 0, 0.8, 0.6, 0, 0, 0, 1))
    contents = {}
    for suffix in SUFFIXES:
        sitk.WriteImage(image, str(folder / f"a{suffix}"))
        contents[suffix] = (folder / f"a{suffix}").read_bytes()
    return contents


def makes_sense(image):
    frame = image.frame
    direction = np.reshape(frame.direction, (frame.ndim, frame.ndim))
    assert image.array.shape == frame.shape
    assert frame.ndim in (2, 3)
    assert np.isfinite(image.array).all()
    assert np.isfinite(frame.origin).all()
    assert np.isfinite(frame.spacing).all()
    assert min(frame.spacing) > 0
    np.testing.assert_allclose(direction @ direction.T, np.eye(frame.ndim), atol=0.01)


def check(path, content):
    path.write_bytes(content)
    try:
        image, message = read_image(path), ""
    except InputError as error:
        image, message = None, str(error)
    if image is not None:
        makes_sense(image)
        return
    assert "\n" not in message
    assert str(path) in message
    assert len(message) > len(str(path)) + 10


# The same examples every time, so that nobody's change fails by another's luck.
fuzz = settings(
    max_examples=100,
    derandomize=True,
    deadline=None,
    suppress_health_check=[HealthCheck.function_scoped_fixture],
)
changes = st.lists(
    st.tuples(st.integers(0, NIFTI_HEADER - 1), st.binary(min_size=1, max_size=8)),
    min_size=1,
    max_size=4,
)


@pytest.mark.parametrize("value", ["-665.8", "315.8", "0", "99999999", "", "\u00b2"])
def test_dimensions_that_crash_itk_are_refused(originals, tmp_path, value):
    """Found by the tests below, the first two."""
    content = originals[".mha"].replace(b"NDims = 3", f"NDims = {value}".encode())
    (tmp_path / "a.mha").write_bytes(content)
    with pytest.raises(InputError, match="dimensions; correct its header"):
        read_image(tmp_path / "a.mha")


@pytest.mark.parametrize("start", [np.nan, -5.0, 1e30, np.inf])
def test_nifti_with_an_impossible_offset_is_refused(originals, tmp_path, start):
    content = bytearray(originals[".nii"])
    content[108:112] = np.float32(start).tobytes()
    (tmp_path / "a.nii").write_bytes(content)
    with pytest.raises(InputError, match="begin at byte"):
        read_image(tmp_path / "a.nii")


@fuzz
@given(changes=changes)
def test_changed_nifti_header_is_read_or_refused(originals, tmp_path, capfd, changes):
    content = bytearray(originals[".nii"])
    for place, data in changes:
        content[place : place + len(data)] = data
    check(tmp_path / "a.nii", bytes(content))
    assert capfd.readouterr().err == ""


@fuzz
@given(
    suffix=st.sampled_from(SUFFIXES[1:]),
    line=st.integers(0, 30),
    word=st.integers(0, 12),
    value=st.one_of(st.sampled_from(ODD), st.floats().map(repr), st.text(max_size=6)),
    action=st.sampled_from(["word", "value", "drop", "twice"]),
)
def test_changed_text_header_is_read_or_refused(
    originals, tmp_path, capfd, suffix, line, word, value, action
):
    head, mark, data = originals[suffix].partition(
        b"LOCAL\n" if suffix == ".mha" else b"\n\n"
    )
    lines = (head + mark).decode().splitlines(keepends=True)
    line %= len(lines)
    old = lines[line]
    key, separator, rest = old.partition("=" if suffix == ".mha" else ":")
    if action == "word" and rest.split():
        words = rest.split()
        words[word % len(words)] = value
        lines[line] = f"{key}{separator} {' '.join(words)}\n"
    elif action == "value":
        lines[line] = f"{key}{separator} {value}\n"
    else:
        lines[line] = "" if action == "drop" else old + old
    content = "".join(lines).encode("utf-8", errors="replace") + data
    check(tmp_path / f"a{suffix}", content)
    assert capfd.readouterr().err == ""


@pytest.mark.parametrize(
    ("place", "value", "said"),
    [
        (108, np.float32(0), "begin at byte 0, within its header"),
        (108, np.float32(348), "begin at byte 348, within its header"),
        (42, np.int16(0), "has a size of"),
        (44, np.int16(-4), "has a size of"),
    ],
)
def test_nifti_that_itk_would_read_as_another_is_refused(
    originals, tmp_path, place, value, said
):
    content = bytearray(originals[".nii"])
    content[place : place + value.nbytes] = value.tobytes()
    (tmp_path / "a.nii").write_bytes(content)
    with pytest.raises(InputError, match=said):
        read_image(tmp_path / "a.nii")
