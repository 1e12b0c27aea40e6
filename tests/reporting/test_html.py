"""The HTML file: complete, escaped, whole or absent."""

import functools
import json
import re

import numpy as np
import pytest
from matplotlib.figure import Figure

from regnet_jax.errors import InputError
from regnet_jax.reporting import html as html_module
from regnet_jax.reporting import registration_report, viewer_data, write_report
from regnet_jax.reporting.summary import format_fraction, format_number, headline

REPORT = {
    "seconds": {"total": 7.31, "affine": 2.125, "network": 3.2},
    "model": "flagship",
    "similarity": {"before": {"ncc": 0.8125, "mse": 5}, "after": {"ncc": 0.9637}},
    "jacobian": {"min": 0.321, "folding_fraction": 0.0123},
    "versions": {"jax_thing": "0.10.1"},
    "warnings": ["a < b & c"],
    "initial": "affine",
    "options": {"refine": 40, "spacing": [1.5, 2.0]},
}


def pair(shape):
    rng = np.random.default_rng(0)
    images = {n: rng.normal(size=shape) for n in ("fixed", "moving", "warped")}
    field = rng.normal(size=(*shape, len(shape))).astype(np.float32)
    determinant = 1 + 0.1 * rng.normal(size=shape)
    return {**images, "displacement": field, "determinant": determinant}


@pytest.fixture(autouse=True)
def _coarse_figures(monkeypatch):
    coarse = functools.partial(html_module.encode_figure, dpi=20)
    monkeypatch.setattr(html_module, "encode_figure", coarse)


def visible(text):
    """The page without its pictures."""
    return re.sub(r"data:image/[a-z]+;base64,[A-Za-z0-9+/=]+", "", text)


@pytest.fixture(scope="module")
def page(tmp_path_factory):
    path = tmp_path_factory.mktemp("report") / "report.html"
    returned = registration_report(
        str(path),
        **pair((10, 20, 16)),
        spacing=(3.0, 1.0, 1.0),
        report=REPORT,
        names={"fixed": "<script>alert(1)</script>.nii", "moving": "a&b.nii"},
    )
    assert returned == path
    return path.read_text(encoding="utf-8")


def test_nothing_is_loaded_from_outside(page):
    assert "http://" not in page
    assert "https://" not in page
    assert "url(" not in page
    sources = re.findall(r"""(?:src|href)=["']([^"']*)""", page)
    assert len(sources) >= 7
    assert all(source.startswith("data:") for source in sources)
    assert "default-src 'none'" in page


def test_names_are_escaped(page):
    assert "<script>alert" not in page
    assert "&lt;script&gt;alert(1)&lt;/script&gt;.nii" in page
    assert "a&amp;b.nii" in page
    assert "a &lt; b &amp; c" in page


def test_numbers_are_in_the_page(page):
    text = visible(page)
    for number in ("0.8125 → 0.9637", "7.31 s", "1.23 %", "0.321", "2.12", "3.2"):
        assert number in text, number
    for words in ("flagship", "0.10.1", "jax_thing", "options.refine", "1.5, 2"):
        assert words in text, words


def test_figures_have_titles_captions_and_alternatives(page):
    images = re.findall(r"<img [^>]*>", page)
    assert len(images) == 6
    assert all(re.search(r'alt="[^"]{20,}"', image) for image in images)
    for title in ("Images", "Difference", "Checkerboard", "Displacement", "Jacobian"):
        assert f"<h3>{title}" in page


def test_viewer_data_can_be_read_back(page):
    found = re.search(r'id="viewer-data">(.*?)</script>', page, re.DOTALL)
    data = json.loads(found[1])
    assert [p["name"] for p in data["planes"]] == ["axial", "coronal", "sagittal"]
    assert data["names"]["fixed"] == "Fixed: <script>alert(1)</script>.nii"
    assert set(data["planes"][0]["sheets"]) == {"fixed", "warped", "moving"}


def test_page_reads_in_light_and_dark_and_narrow(page):
    assert 'name="viewport"' in page
    assert "prefers-color-scheme: dark" in page
    assert "max-width: 640px" in page
    assert '<html lang="en">' in page


def test_2d_and_an_empty_report(tmp_path):
    data = pair((20, 16))
    path = registration_report(
        tmp_path / "r.html", **data, spacing=(1.0, 1.0), report={}
    )
    text = path.read_text(encoding="utf-8")
    assert text.count("<img ") == 6
    assert "<h1>Registration</h1>" in text


def test_fields_are_optional(tmp_path):
    images = {k: pair((20, 16))[k] for k in ("fixed", "moving", "warped")}
    report = {"seconds": 3.0, "similarity": {"before": 0.5, "after": 0.75}}
    path = tmp_path / "r.html"
    registration_report(path, **images, spacing=(1.0, 1.0), report=report)
    text = visible(path.read_text(encoding="utf-8"))
    assert text.count("<img ") == 3
    assert "0.5 → 0.75" in text


@pytest.mark.parametrize(
    "report",
    [
        {"seconds": None, "similarity": None, "jacobian": None, "versions": None},
        {"seconds": {"read": 1.0}, "similarity": {"before": {"ncc": 1.0}}},
        {"similarity": {"before": {"a": None}, "after": {"a": float("nan")}}},
        {"jacobian": {}, "model": {"name": "m", "stages": 3}, "warnings": "one"},
        {"seconds": {"total": 2.0, "phase": {"read": 1.0}}, "jacobian": {"min": 1}},
    ],
)
def test_missing_and_odd_keys(tmp_path, report):
    images = {k: pair((12, 16))[k] for k in ("fixed", "moving", "warped")}
    path = tmp_path / "r.html"
    registration_report(path, **images, spacing=(1.0, 1.0), report=report)
    assert "Traceback" not in path.read_text(encoding="utf-8")


def test_folding_moves_the_jacobian_planes_and_says_so(tmp_path):
    data = pair((10, 12, 14))
    data["determinant"][2, 3, 4] = -1.0
    path = registration_report(
        tmp_path / "r.html", **data, spacing=(1.0, 1.0, 1.0), report={}
    )
    assert "The field folds where it is green" in path.read_text(encoding="utf-8")


def test_headline_without_a_detail():
    assert headline({"seconds": 4}) == [("Time", "4 s", "")]


def test_formats():
    assert format_number(None) == format_number(float("inf")) == "n/a"
    assert format_number(np.float32(0.25)) == "0.25"
    assert format_number(np.int64(3)) == "3"
    assert format_number([1, 2.5]) == "1, 2.5"
    assert format_number(True) == "yes"
    assert format_fraction(0.0) == "0 %"
    assert format_fraction(1e-9) == "< 0.001 %"
    assert format_fraction(None) == "n/a"


def test_a_plain_report(tmp_path):
    image = np.eye(16)
    path = write_report(
        tmp_path / "r.html",
        title="T",
        summary=[("<b>", 3), ("c", "4", "five")],
        tables=[("N", ("name", "value"), [("x", 1), ("y<", "n/a")]), ("E", ("q",), [])],
        figures=[("F", "caption", Figure(figsize=(1, 1)))],
        slices=viewer_data(image, image, image, spacing=(1.0, 1.0)),
        notes=["note"],
    )
    text = path.read_text(encoding="utf-8")
    for part in ("&lt;b&gt;", "five", "y&lt;", 'class="number">n/a', "caption"):
        assert part in text, part
    assert list(tmp_path.iterdir()) == [path]


def test_a_folder_that_is_missing_leaves_nothing(tmp_path):
    with pytest.raises(InputError, match="cannot write the report") as caught:
        write_report(tmp_path / "none" / "r.html", title="T")
    assert "\n" not in str(caught.value)
    assert list(tmp_path.iterdir()) == []


def test_a_failed_rename_leaves_the_old_report(tmp_path, monkeypatch):
    path = tmp_path / "r.html"
    path.write_text("old")

    def refuse(*_):
        raise PermissionError(13, "Permission denied")

    monkeypatch.setattr(html_module.os, "replace", refuse)
    with pytest.raises(InputError, match="Permission denied"):
        write_report(path, title="T")
    assert path.read_text("utf-8") == "old"
    assert list(tmp_path.iterdir()) == [path]
