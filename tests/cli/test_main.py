"""The command ``regnet``, by which everything is reached after ``pip install``."""

import os
import subprocess
import sys
from pathlib import Path

import numpy as np
import pytest
import SimpleITK as sitk

from tests.helpers.networks import smooth_image
from tests.helpers.python import run_python

ROOT = Path(__file__).resolve().parents[2]


def regnet(*arguments):
    return subprocess.run(
        [sys.executable, "-m", "regnet_jax.cli.main", *map(str, arguments)],
        cwd=ROOT, capture_output=True, text=True, check=False,
    )  # fmt: skip


@pytest.mark.parametrize("arguments", [[], ["--help"], ["help"]], ids=str)
def test_help_lists_the_commands(arguments):
    result = regnet(*arguments)
    assert result.returncode == 0
    for command in ("register", "warp", "evaluate"):
        assert f"\n  {command} " in result.stdout
    assert not result.stderr


def test_unknown_command_is_refused_in_one_line():
    result = regnet("train")
    assert result.returncode == 2
    assert result.stderr == (
        "error: 'train' is not a command; there are register, warp, evaluate (see"
        " regnet --help)\n"
    )


@pytest.mark.parametrize("command", ["register", "warp", "evaluate"])
def test_command_has_help_of_its_own(command):
    result = regnet(command, "--help")
    assert result.returncode == 0
    assert "Example:\n" in result.stdout
    assert "--out" in result.stdout


def test_register_and_evaluate_work_on_two_files(tmp_path):
    for seed, name in enumerate(("fixed", "moving")):
        image = sitk.GetImageFromArray(smooth_image((40, 48), seed).astype(np.int16))
        image.SetSpacing((2.0, 2.0))
        sitk.WriteImage(image, str(tmp_path / f"{name}.mha"))
    pair = [f"--{name}={tmp_path / name}.mha" for name in ("fixed", "moving")]
    out = tmp_path / "out"
    result = regnet("register", *pair, f"--out={out}", "--initial=none")
    assert result.returncode == 0, result.stderr
    assert (out / "transform.h5").is_file()
    measures = tmp_path / "measures.json"
    result = regnet(
        "evaluate", *pair, f"--transform={out / 'transform.h5'}", f"--out={measures}"
    )
    assert result.returncode == 0, result.stderr
    assert measures.is_file()


def test_closed_standard_output_is_no_fault(tmp_path):
    """As by a pipe to a program that has ended."""
    points = tmp_path / "p.csv"
    points.write_text("x,y,z,t\n1,2,3,0\n", "utf-8")
    both = [f"--{n}_points={points}" for n in ("fixed", "moving")]
    reader, writer = os.pipe()
    os.close(reader)
    done = subprocess.run(
        [
            sys.executable,
            "-m",
            "regnet_jax.cli.main",
            "evaluate",
            *both,
            f"--out={tmp_path}/m.json",
        ],
        cwd=ROOT,
        stdout=writer,
        stderr=subprocess.PIPE,
        text=True,
        check=False,
    )
    os.close(writer)
    assert done.returncode == 141
    assert "error" not in done.stderr
    assert "Traceback" not in done.stderr
    assert (tmp_path / "m.json").is_file()


def test_an_interrupt_of_the_imports_is_told_in_a_line():
    code = """
import sys
from regnet_jax.cli import main

class Interrupting:
    def find_spec(self, name, path=None, target=None):
        if name == "jax":
            raise KeyboardInterrupt

sys.meta_path.insert(0, Interrupting())
sys.argv = ["regnet", "register", "--help"]
main.main()
"""
    done = run_python(code)
    assert done.returncode == 130
    assert done.stderr == "error: interrupted\n"
