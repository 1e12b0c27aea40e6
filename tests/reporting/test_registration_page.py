"""The page of a registration: offline, escaped, with every number and figure."""

import json
import re

import numpy as np
import pytest

from regnet_jax.evaluation import (
    ErrorStatistics,
    JacobianStatistics,
    LabelOverlap,
    Similarity,
)
from regnet_jax.reporting import write_registration_page
from regnet_jax.reporting.registration_page import (
    format_fraction,
    format_number,
    headline_cards,
    report_tables,
)
from tests.helpers.reports import make_report

REPORT = make_report(
    before={"similarity": Similarity(0.8125)},
    after={
        "similarity": Similarity(0.9637),
        "jacobian": JacobianStatistics(0.321, 1.7, 0.0123, 0.1),
    },
    warnings=("a < b & c",),
    request={"options": {"refine": 40, "spacing": [1.5, 2.0]}},
)
DPI = 20


def make_pair(shape):
    """Random images and a random field, by argument of the page."""
    rng = np.random.default_rng(0)
    images = {n: rng.normal(size=shape) for n in ("fixed", "moving", "warped")}
    field = rng.normal(size=(*shape, len(shape))).astype(np.float32)
    determinant = 1 + 0.1 * rng.normal(size=shape)
    return {**images, "displacement": field, "determinant": determinant}


def without_pictures(text):
    return re.sub(r"data:image/[a-z]+;base64,[A-Za-z0-9+/=]+", "", text)


@pytest.fixture(scope="module")
def page(tmp_path_factory):
    path = tmp_path_factory.mktemp("report") / "report.html"
    returned = write_registration_page(
        str(path),
        REPORT,
        **make_pair((10, 20, 16)),
        spacing=(3.0, 1.0, 1.0),
        names={"fixed": "<script>alert(1)</script>.nii", "moving": "a&b.nii"},
        dpi=DPI,
    )
    assert returned == path
    return path.read_text(encoding="utf-8")


def test_page_loads_nothing_from_outside(page):
    assert "http://" not in page
    assert "https://" not in page
    assert "url(" not in page
    sources = re.findall(r"""(?:src|href)=["']([^"']*)""", page)
    assert len(sources) >= 7
    assert all(source.startswith("data:") for source in sources)
    assert "default-src 'none'" in page


def test_names_and_warnings_are_escaped(page):
    assert "<script>alert" not in page
    assert "&lt;script&gt;alert(1)&lt;/script&gt;.nii" in page
    assert "a&amp;b.nii" in page
    assert "a &lt; b &amp; c" in page


def test_page_shows_the_numbers_of_the_report(page):
    text = without_pictures(page)
    for number in ("0.8125 → 0.9637", "7.31 s", "1.23 %", "0.321", "2.12", "3.2"):
        assert number in text, number
    for words in ("flagship", "0.10.1", "jax_thing", "options.refine", "1.5, 2"):
        assert words in text, words


def test_figures_have_titles_captions_and_alternative_texts(page):
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
    assert data["names"]["warped"] == "Warped"
    assert set(data["planes"][0]["sheets"]) == {"fixed", "warped", "moving"}


def test_page_is_styled_for_light_dark_and_narrow_screens(page):
    assert 'name="viewport"' in page
    assert "prefers-color-scheme: dark" in page
    assert "max-width: 640px" in page
    assert '<html lang="en">' in page


def test_page_of_2d_images_has_all_figures(tmp_path):
    data = make_pair((20, 16))
    path = write_registration_page(
        tmp_path / "r.html", REPORT, **data, spacing=(1.0, 1.0), dpi=DPI
    )
    text = path.read_text(encoding="utf-8")
    assert text.count("<img ") == 6
    assert "<h1>Registration</h1>" in text


def test_page_without_a_field_has_the_figures_of_images(tmp_path):
    images = {k: make_pair((20, 16))[k] for k in ("fixed", "moving", "warped")}
    path = write_registration_page(
        tmp_path / "r.html", make_report(), **images, spacing=(1.0, 1.0), dpi=DPI
    )
    text = without_pictures(path.read_text(encoding="utf-8"))
    assert text.count("<img ") == 3
    assert "0.5 → 0.75" in text


def test_folding_moves_the_planes_of_the_jacobian_and_is_mentioned(tmp_path):
    data = make_pair((10, 12, 14))
    data["determinant"][2, 3, 4] = -1.0
    path = write_registration_page(
        tmp_path / "r.html", REPORT, **data, spacing=(1.0, 1.0, 1.0), dpi=DPI
    )
    assert "The field folds where it is green" in path.read_text(encoding="utf-8")


def test_cards_lead_with_the_correlation_in_the_lung():
    report = make_report(
        before={"similarity": Similarity(0.5, 0.3, 0.8)},
        after={"similarity": Similarity(0.9, 0.7, 0.9)},
    )
    cards = headline_cards(report)
    assert cards == [
        ("Similarity before → after", "0.3 → 0.7", "correlation in the lung"),
        ("Time", "7.31 s", "longest: network, 3.2 s"),
        ("Model", "flagship", ""),
    ]


def test_the_largest_displacement_is_that_of_all_voxels():
    displacement = np.zeros((257, 5, 300, 3), np.float32)
    displacement[1, 2, 1] = (30.0, 0.0, 40.0)
    cards = headline_cards(make_report(), displacement)
    assert ("Median displacement", "0.0 mm", "largest 50.0 mm") in cards


def test_cards_without_phases_give_the_total_time():
    (time,) = [
        card
        for card in headline_cards(make_report(seconds={"total": 4.0}))
        if card[0] == "Time"
    ]
    assert time == ("Time", "4 s", "")


def test_tables_show_landmarks_and_labels_before_and_after():
    before = ErrorStatistics(2, 3.0, 0.5, 3.0, 3.4, 3.5, (2.5, 3.5))
    after = ErrorStatistics(2, 1.0, 0.5, 1.0, 1.4, 1.5, (0.5, 1.5))
    report = make_report(
        before={"tre": before, "overlap": {1: LabelOverlap(0.5, 3.0)}},
        after={
            "tre": after,
            "overlap": {1: LabelOverlap(0.9, 1.0), 2: LabelOverlap(0.0, float("nan"))},
        },
    )
    tables = {title: rows for title, _, rows in report_tables(report)}
    assert ("error: mean", "3", "1") in tables["Landmarks, mm"]
    assert ("error: mean ci95", "2.5, 3.5", "0.5, 1.5") in tables["Landmarks, mm"]
    assert tables["Labels"] == [
        ("1", "0.5", "0.9", "3", "1"),
        ("2", "n/a", "0", "n/a", "n/a"),
    ]


def test_tables_that_would_be_empty_are_left_out():
    titles = [title for title, _, _ in report_tables(make_report())]
    assert titles == ["Similarity", "Time", "Parameters", "Versions"]


def test_numbers_have_four_digits_and_missing_ones_are_named():
    assert format_number(None) == format_number(float("inf")) == "n/a"
    assert format_number(0.12345) == "0.1235"
    assert format_number(3) == "3"
    assert format_number([1, 2.5]) == "1, 2.5"
    assert format_number(True) == "yes"


def test_fractions_are_per_cent_and_small_ones_are_not_zero():
    assert format_fraction(0.0) == "0 %"
    assert format_fraction(1e-9) == "< 0.001 %"
    assert format_fraction(float("nan")) == "n/a"
