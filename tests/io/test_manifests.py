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


def test_manifest_paths_start_from_its_folder(listed, tmp_path):
    series = tmp_path / "series"
    series.mkdir()
    path = listed(
        f"# chests\n\na.nii\n  deep/b c.mha \n  # inhale\n\t\n../series\n{series}\n"
    )
    folder = path.parent
    want = [folder / "a.nii", folder / "deep" / "b c.mha", folder / "../series", series]
    assert read_manifest(path) == read_manifest(str(path)) == want


def test_manifest_may_repeat_images_and_have_windows_lines(listed):
    path = listed("a.nii\r\na.nii")
    assert [image.name for image in read_manifest(path)] == ["a.nii", "a.nii"]


NAMES = (
    *("patient #2.nii", "#1.nii", "50 % of it.mha", "été, Müller; 肺.nii", "a\\b.nii"),
    *("'quoted'.nii", 'a "b" c.nii', "~tilde.nii", "no\u00a0break \u2028 x\x85y.nii"),
)


@pytest.mark.parametrize("encoding", ["utf-8", "utf-8-sig"])
@pytest.mark.parametrize("end", ["\n", "\r\n", "\r"])
def test_manifest_takes_any_file_name(listed, tmp_path, end, encoding):
    folder = tmp_path / "scans"
    for name in NAMES:
        (folder / name).touch()
    lines = [f"./{name}" if name[0] == "#" else name for name in NAMES]
    path = folder / "list.txt"
    path.write_bytes((end.join(["# names", *lines]) + end).encode(encoding))
    assert [image.name for image in read_manifest(path)] == list(NAMES)
    path.write_text("".join(f'"{folder / name}"\n' for name in NAMES), "utf-8")
    assert read_manifest(path) == [folder / name for name in NAMES]


def test_manifest_keeps_outer_spaces_in_quotes(listed, tmp_path):
    (tmp_path / "scans" / " a.nii ").touch()
    path = listed('" a.nii "\na.nii  \n')
    assert [image.name for image in read_manifest(path)] == [" a.nii ", "a.nii"]


def test_manifest_expands_the_home_folder(listed, tmp_path, monkeypatch):
    monkeypatch.setenv("HOME", str(tmp_path))
    assert read_manifest(listed("~/scans/a.nii\n")) == [tmp_path / "scans/a.nii"]


@pytest.mark.parametrize(
    ("text", "said"),
    [
        ("", "names no image"),
        ("\n  # a.nii\n", "names no image"),
        ("a.nii\ngone.nii\n", "gone.nii does not exist"),
        ("a.nii b.nii", "does not exist"),
        ("a.nii # inhale", "a.nii # inhale does not exist.* a line of its own"),
    ],
)
def test_manifest_with_errors_is_refused_in_one_line(listed, text, said):
    path = listed(text)
    with pytest.raises(InputError, match=said) as caught:
        read_manifest(path)
    assert str(path) in str(caught.value)
    assert "\n" not in str(caught.value)


def test_manifest_that_is_no_text_file_is_refused(listed, tmp_path):
    for path in (tmp_path / "nowhere.txt", tmp_path):
        with pytest.raises(InputError, match="no such file") as caught:
            read_manifest(path)
        assert str(path) in str(caught.value)
    path = listed("")
    path.write_bytes(b"\x93NUMPY\xff\xfe\x00")
    with pytest.raises(InputError, match="is not UTF-8 text"):
        read_manifest(path)


def test_manifest_in_another_encoding_is_refused(listed):
    path = listed("")
    path.write_bytes("a.nii\nMüller.nii\n".encode("latin-1"))
    with pytest.raises(InputError, match="is not UTF-8 text, see line 2") as caught:
        read_manifest(path)
    assert "save it as UTF-8" in str(caught.value)
    # Without its mark nothing tells UTF-16 from other files.
    path.write_bytes("a.nii\n".encode("utf-16-le"))
    with pytest.raises(InputError, match="is not UTF-8 text, see line 1"):
        read_manifest(path)
