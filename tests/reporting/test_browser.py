"""The report in a browser, on screens of two sizes; skipped without a browser."""

import time

import numpy as np
import pytest

from regnet_jax.reporting import write_registration_page
from tests.helpers.browser import Browser, is_available
from tests.helpers.optional import needs
from tests.helpers.reports import make_report

SHAPE = (20, 30, 36)
SIZES = {"desktop": (1280, 900), "phone": (390, 844)}
# The sum and the largest of the grey values of a panel.
PIXELS = """
const canvas = document.querySelector(`.panel[data-role=${arguments[0]}] canvas`);
const context = canvas.getContext("2d");
const data = context.getImageData(0, 0, canvas.width, canvas.height).data;
let sum = 0, most = 0;
for (let i = 0; i < data.length; i += 4) {
  sum += data[i]; most = Math.max(most, data[i]);
}
return [sum, most];
"""
CHOOSE = """
const [name, value] = arguments;
document.querySelector(`input[name=${name}][value="${value}"]`).click();
"""


@pytest.fixture(scope="module")
def browser(tmp_path_factory):
    needs(is_available(), "no chromium, no chromedriver")
    browser = Browser(tmp_path_factory.mktemp("profile"))
    yield browser
    browser.close()


@pytest.fixture(scope="module")
def page(tmp_path_factory):
    """A report in which the warped image is the fixed one, and the moving is not."""
    path = tmp_path_factory.mktemp("page") / "report.html"
    z, y, x = np.indices(SHAPE)
    fixed = 400 * np.sin(z / 3) * np.cos(y / 5) + 300 * np.sin(x / 4) - 300
    write_registration_page(
        path,
        make_report(),
        fixed=fixed,
        moving=np.roll(fixed, 4, axis=2),
        warped=fixed,
        displacement=np.ones((*SHAPE, 3)),
        determinant=np.ones(SHAPE),
        spacing=(2.0, 1.5, 1.5),
        names={"fixed": "a/rather/long/folder/exhale.nii.gz", "moving": "inhale.mha"},
        landmark_errors=([3.0, 4.0, 5.0], [1.0, 0.5, 2.0]),
    )
    return path


@pytest.fixture(params=SIZES)
def shown(request, browser, page):
    browser.open(page, *SIZES[request.param])
    browser.width = SIZES[request.param][0]
    browser.run("document.querySelector('input[name=mode][value=side]').click()")
    deadline = time.monotonic() + 20
    while browser.run(PIXELS, "moving")[1] == 0 and time.monotonic() < deadline:
        time.sleep(0.05)
    return browser


def test_page_fits_the_screen_loads_nothing_and_logs_nothing(shown):
    wide = shown.run(
        "return [document.documentElement.scrollWidth,"
        " Array.from(document.images).every(i => i.complete && i.naturalWidth > 0)]"
    )
    assert wide == [shown.width, True]
    assert shown.console() == []
    assert shown.run("return performance.getEntriesByType('resource').length") == 0


def test_every_plane_and_slice_is_drawn(shown):
    seen = set()
    for plane in range(3):
        shown.run(CHOOSE, "plane", str(plane))
        label = "return document.querySelector('.panel canvas').ariaLabel"
        for place in (1, 7):
            shown.run(
                "const s = document.getElementById('viewer-slice'); s.value ="
                " arguments[0]; s.dispatchEvent(new Event('input'));",
                place,
            )
            seen.add((shown.run(label), tuple(shown.run(PIXELS, "fixed"))))
    assert len({label for label, _ in seen}) == 6
    assert len({pixels for _, pixels in seen}) == 6
    shown.run(CHOOSE, "plane", "0")


def test_difference_is_black_and_checkerboard_plain_where_images_agree(shown):
    plain = {role: shown.run(PIXELS, role) for role in ("warped", "moving")}
    shown.run(CHOOSE, "mode", "difference")
    assert shown.run(PIXELS, "warped") == [0, 0]
    assert shown.run(PIXELS, "moving")[1] > 50
    shown.run(CHOOSE, "mode", "checkerboard")
    assert shown.run(PIXELS, "warped") == plain["warped"]
    assert shown.run(PIXELS, "moving") != plain["moving"]
    assert shown.run("return document.querySelector('[data-role=fixed]').hidden")


def test_blinking_shows_both_images_in_turn(shown):
    shown.run(CHOOSE, "mode", "moving")
    shown.run("document.querySelector('.stage').click()")
    role = "return document.querySelector('.panel').dataset.shown"
    first = shown.run(role), shown.run(PIXELS, "fixed")
    shown.run("document.querySelector('.stage').click()")
    second = shown.run(role), shown.run(PIXELS, "fixed")
    assert {first[0], second[0]} == {"fixed", "moving"}
    assert first[1] != second[1]
    assert shown.run("return document.getElementById('viewer-play').textContent") == (
        "Play"
    )
