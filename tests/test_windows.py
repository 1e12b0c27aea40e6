"""Nothing needs what Windows lacks: modules of Unix, UTF-8 by default, ``/proc``."""

import math
import os
import subprocess
import sys
from pathlib import Path

import numpy as np
import SimpleITK as sitk

from regnet_jax.cli import common, output
from tests.helpers.networks import smooth_image

ROOT = Path(__file__).resolve().parents[1]
# The encoding of files and of the terminal as far as Linux can imitate it.
ENCODING = {
    "LC_ALL": "C",
    "PYTHONCOERCECLOCALE": "0",
    "PYTHONUTF8": "0",
    "PYTHONIOENCODING": "cp1252",
}


def run(*arguments, folder):
    # Matplotlib and JAX may warn that they found no lock for their caches.
    environment = os.environ | ENCODING | {"XDG_CACHE_HOME": str(folder / "cache")}
    return subprocess.run(
        [sys.executable, "-m", "tests.helpers.windows", *map(str, arguments)],
        cwd=ROOT, env=environment, capture_output=True, check=False,
    )  # fmt: skip


def test_the_library_imports_and_the_command_registers_without_unix(tmp_path):
    folder = tmp_path / "with spaces"
    folder.mkdir()
    for seed, name in enumerate(("fixed", "moving")):
        image = sitk.GetImageFromArray(smooth_image((40, 48), seed).astype(np.int16))
        image.SetSpacing((2.0, 2.0))
        sitk.WriteImage(image, str(folder / f"{name}.mha"))
    result = run(
        *("register", "--fixed", folder / "fixed.mha"),
        *("--moving", folder / "moving.mha", "--out", folder / "the result"),
        *("--initial=none", "--model=regnet2d_2017", "--profile"),
        folder=tmp_path,
    )
    assert result.returncode == 0, result.stderr.decode()
    assert b"the result" in result.stdout
    assert {p.name for p in (folder / "the result").iterdir()} == {
        *("warped.nii.gz", "displacement.nii.gz", "transform.h5"),
        *("report.json", "report.html"),
    }


def test_the_removal_is_noticed():
    source = (
        "from tests.helpers import windows\n"
        "windows.remove()\n"
        "import os, signal\n"
        "assert not hasattr(os, 'fork') and not hasattr(signal, 'SIGALRM')\n"
        "import resource"
    )
    result = subprocess.run(
        [sys.executable, "-c", source],
        cwd=ROOT, capture_output=True, text=True, check=False,
    )  # fmt: skip
    assert "import of resource halted" in result.stderr


def test_the_peak_memory_is_left_out_where_it_is_not_known(
    monkeypatch, tmp_path, capsys
):
    assert common.peak_gib() > 0
    monkeypatch.setattr(common, "_STATUS", tmp_path / "no_such_file")
    assert common.peak_gib() > 0
    monkeypatch.setitem(sys.modules, "resource", None)
    assert math.isnan(common.peak_gib())
    output.print_profile({"alignment": 2.0})
    assert "memory" not in capsys.readouterr().out


def test_a_name_that_the_terminal_cannot_show_is_escaped():
    name = "结果"
    source = (
        "import sys\n"
        "from regnet_jax.cli import common\n"
        "def main(): print(sys.argv[0])\n"
        f"sys.argv = [{name!r}]\n"
        "common.run(main)"
    )
    result = subprocess.run(
        [sys.executable, "-c", source],
        cwd=ROOT, env=os.environ | {"PYTHONIOENCODING": "cp1252"},
        capture_output=True, check=False,
    )  # fmt: skip
    assert result.returncode == 0, result.stderr.decode("cp1252")
    assert result.stdout.split() == [name.encode("ascii", "backslashreplace")]
