"""The names of ``regnet_jax`` itself, which are loaded when they are first used."""

import subprocess
import sys
from pathlib import Path

import pytest

import regnet_jax

ROOT = Path(__file__).resolve().parents[1]


def run(source):
    return subprocess.run(
        [sys.executable, "-c", source],
        cwd=ROOT, capture_output=True, text=True, check=True,
    ).stdout.strip()  # fmt: skip


@pytest.mark.parametrize("name", regnet_jax.__all__)
def test_public_name_is_found_and_listed(name):
    assert getattr(regnet_jax, name) is not None
    assert name in dir(regnet_jax)


def test_unknown_name_is_an_attribute_error():
    with pytest.raises(AttributeError, match="has no attribute 'warp'"):
        getattr(regnet_jax, "warp")  # noqa: B009


def test_type_checkers_see_the_names_that_are_loaded():
    source = (ROOT / "regnet_jax" / "__init__.py").read_text("utf-8")
    branch = source.split("if TYPE_CHECKING:")[1].split("__version__")[0]
    assert all(name in branch for name in regnet_jax.__all__)
    assert (ROOT / "regnet_jax" / "py.typed").is_file()


def test_errors_are_loaded_without_jax_and_simpleitk():
    source = "import sys, regnet_jax; regnet_jax.InputError, dir(regnet_jax)\n"
    source += "print({'jax', 'SimpleITK', 'numpy'} & set(sys.modules))"
    assert run(source) == "set()"
