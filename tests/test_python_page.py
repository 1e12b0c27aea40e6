"""The blocks of the page on Python run from top to bottom, with the checks in them."""

import importlib.util
import re
from pathlib import Path

import pytest

from tests.helpers.optional import needs

PAGE = Path(__file__).resolve().parents[1] / "docs" / "python.md"
# What blocks import that the package does not need: in CI, and not even there.
INSTALLED, OPTIONAL = ("nibabel",), ("monai", "torchio")


def is_installed(name):
    return importlib.util.find_spec(name) is not None


def imports(block, name):
    return re.search(rf"^(import|from) {name}\b", block, re.M)


@pytest.mark.slow
def test_the_page_runs_from_top_to_bottom():
    for name in INSTALLED:
        needs(is_installed(name), f"{name} is not installed")
    blocks = re.findall(r"^```python\n(.*?)^```", PAGE.read_text("utf-8"), re.M | re.S)
    for name in (*INSTALLED, *OPTIONAL):
        assert any(imports(block, name) for block in blocks)
    names = {}
    missing = [name for name in OPTIONAL if not is_installed(name)]
    for block in blocks:
        if not any(imports(block, name) for name in missing):
            exec(compile(block, str(PAGE), "exec"), names)
    for transformation in ("jax.vmap", "jax.jit", "jax.value_and_grad"):
        assert any(transformation in block for block in blocks)
    assert set(names["sample"]) == {"fixed", "moving", "warped", "displacement"}
