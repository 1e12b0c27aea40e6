"""Lists of images: what is read, and the one line for each that cannot be."""

import pytest

from regnet_jax.errors import InputError
from regnet_jax.io import read_manifest


@pytest.fixture
def listed(tmp_path):
    """Write a list beside two images, and give its path."""
    (tmp_path / "scans" / "deep").mkdir(parents=True)
    for name in ("a.nii", "deep/b c.mha"):
        (tmp_path / "scans" / name).touch()

    def write(text, encoding="utf-8"):
        path = tmp_path / "scans" / "list.txt"
        path.write_text(text, encoding)
        return path

    return write


def test_paths_start_from_the_list_and_comments_are_left_out(listed, tmp_path):
    series = tmp_path / "series"
    series.mkdir()
    path = listed(
        f"# chests\n\na.nii\n  deep/b c.mha  # inhale\n \t\n../series\n{series}\n"
    )
    folder = path.parent
    want = [folder / "a.nii", folder / "deep" / "b c.mha", folder / "../series", series]
    assert read_manifest(path) == read_manifest(str(path)) == want


def test_an_image_may_be_named_twice_and_lines_may_end_as_on_windows(listed):
    path = listed("a.nii\r\na.nii")
    assert [image.name for image in read_manifest(path)] == ["a.nii", "a.nii"]


@pytest.mark.parametrize(
    ("text", "said"),
    [
        ("", "names no image"),
        ("\n  # a.nii\n", "names no image"),
        ("a.nii\ngone.nii\n", "gone.nii does not exist"),
        ("a.nii b.nii", "does not exist"),
    ],
)
def test_what_is_wrong_with_a_list_is_said_in_a_line(listed, text, said):
    path = listed(text)
    with pytest.raises(InputError, match=said) as caught:
        read_manifest(path)
    assert str(path) in str(caught.value)
    assert "\n" not in str(caught.value)


def test_files_that_are_no_list(listed, tmp_path):
    for path in (tmp_path / "nowhere.txt", tmp_path):
        with pytest.raises(InputError, match="no such file") as caught:
            read_manifest(path)
        assert str(path) in str(caught.value)
    path = listed("")
    path.write_bytes(b"\x93NUMPY\xff\xfe\x00")
    with pytest.raises(InputError, match="is no text"):
        read_manifest(path)
