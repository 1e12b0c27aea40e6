"""The module of 3D Slicer, with stubs in place of Slicer and Qt."""

import ast
import dataclasses
import importlib.util
import os
import re
import sys
import types
from pathlib import Path
from unittest.mock import MagicMock

import numpy as np
import pytest
import SimpleITK as sitk

from regnet_jax import pretrained
from regnet_jax.io import read_image
from regnet_jax.registration.alignment.linear import KINDS
from regnet_jax.registration.options import EFFORTS, RegistrationOptions
from regnet_jax.spatial import Frame, Image, to_sitk
from tests.helpers.networks import smooth_image

ROOT = Path(__file__).resolve().parents[1]
FILE = ROOT / "docs" / "slicer" / "RegNet.py"
# What the stub of the command does, by the model that it is asked for.
COMMAND = """#!{python}
import shutil, sys, time
from pathlib import Path
given = dict(word[2:].split("=", 1) for word in sys.argv[2:])
model = given.get("model", "")
print(sys.argv[1:], flush=True)
sys.stderr.write("predicting:  40%|####      | 2/5\\rpredicting: 100%|######| 5/5\\n")
if model == "refuses":
    sys.exit(print("error: fixed.nrrd: is \u2205; give another") or 2)
if model == "crashes":
    raise ZeroDivisionError("by zero")
if model == "waits":
    time.sleep(100)
out = Path(given["out"])
out.mkdir()
shutil.copytree({results!r}, out, dirs_exist_ok=True)
"""


@dataclasses.dataclass
class Node:
    """What the module uses of a node of Slicer."""

    name: str
    data: object = None
    parent: object = None
    storage: str = "storage"

    def GetName(self):
        return self.name

    def SetName(self, name):
        self.name = name

    def GetID(self):
        return f"id of {self.name}"

    def GetParentTransformNode(self):
        return self.parent

    def GetStorageNode(self):
        return f"{self.storage} of {self.name}"


def stub_modules():
    """Stand-ins for qt, ctk and slicer; nodes are written and read by SimpleITK."""

    def export(node, path):
        sitk.WriteImage(to_sitk(node.data.array, node.data.frame), path)

    def widgets():
        made = MagicMock()
        for name in ("QComboBox", "QSpinBox", "ctkPathLineEdit", "qMRMLNodeComboBox"):
            getattr(made, name).side_effect = lambda *_: MagicMock()
        return made

    slicer = widgets()
    slicer.util.exportNode = export
    slicer.util.loadVolume = lambda path, properties: Node(
        properties["name"], read_image(path)
    )
    slicer.util.loadTransform = lambda path: Node("", sitk.ReadTransform(path))
    slicer.util.settingsValue = lambda key, default: default
    slicer.util.startupEnvironment = lambda: dict(os.environ)
    bases = types.ModuleType("slicer.ScriptedLoadableModule")
    for name in ("", "Logic", "Widget"):
        kind = type(f"ScriptedLoadableModule{name}", (), {"setup": lambda self: None})
        kind.__init__ = lambda self, *_: None
        kind.layout = MagicMock()
        setattr(bases, kind.__name__, kind)
    return {
        **{"qt": widgets(), "ctk": widgets(), "slicer": slicer},
        "slicer.ScriptedLoadableModule": bases,
    }


@pytest.fixture
def module(monkeypatch):
    for name, stub in stub_modules().items():
        monkeypatch.setitem(sys.modules, name, stub)
    spec = importlib.util.spec_from_file_location("RegNet", FILE)
    loaded = importlib.util.module_from_spec(spec)
    spec.loader.exec_module(loaded)
    return loaded


@pytest.fixture
def nodes():
    frame = Frame((2, 40, 48), (2, 2, 2), (-9, 8, 7), np.diag([-1, 1, -1]))
    return [
        Node(name, Image(smooth_image(frame.shape, seed).astype(np.int16), frame, name))
        for seed, name in enumerate(("exhale", "inhale"))
    ]


@pytest.fixture
def results(nodes, tmp_path):
    """The files that the stub of the command writes."""
    folder = tmp_path / "results"
    folder.mkdir()
    warped = nodes[1].data
    sitk.WriteImage(to_sitk(warped.array, warped.frame), f"{folder}/warped.nii.gz")
    shift = sitk.TranslationTransform(3, (1.0, 2.0, 3.0))
    sitk.WriteTransform(shift, f"{folder}/transform.h5")
    (folder / "report.json").write_text('{"warnings": ["it folds"]}', "utf-8")
    return folder


@pytest.fixture
def command(results, tmp_path):
    path = tmp_path / "with spaces" / "regnet"
    path.parent.mkdir()
    text = COMMAND.format(python=sys.executable, results=str(results))
    path.write_text(text, "utf-8")
    path.chmod(0o755)
    return str(path)


@pytest.fixture
def widget(module, nodes, command):
    made = module.RegNetWidget()
    made.setup()
    for selector, node in zip((made.fixed, made.moving), nodes, strict=True):
        selector.currentNode.return_value = node
    made.command.currentPath = command
    made.model.currentText, made.initial.currentText = " lung ", "rigid"
    made.preset.currentText = "fast"
    return made


def test_choices_are_those_of_the_command(module):
    assert set(module.MODELS) <= set(pretrained.names())
    assert module.MODELS[0] == "lung"
    assert set(module.ALIGNMENTS) == set(KINDS)
    assert set(module.PRESETS) == set(EFFORTS)
    assert module.PRESETS[0] == RegistrationOptions().preset


def test_registration_writes_runs_and_loads(module, nodes, command):
    seen = []
    warped, transform, warnings = module.RegNetLogic().register(
        *nodes,
        command,
        "lung",
        "rigid",
        "accurate",
        on_progress=lambda *s: seen.append(s),
    )
    assert ("predicting", 40) in seen
    assert ("predicting", 100) in seen
    (told,) = [text for text, _ in seen if text.startswith("[")]
    assert re.search("--fixed=.*fixed.nrrd.*--moving=.*moving.nrrd", told)
    assert "'--model=lung', '--initial=rigid', '--preset=accurate'" in told
    assert (warped.name, transform.name) == ("inhale warped", "inhale to fixed")
    np.testing.assert_array_equal(warped.data.array, nodes[1].data.array)
    assert transform.data.TransformPoint((0.0, 0.0, 0.0)) == (1, 2, 3)
    assert warnings == ["it folds"]
    removed = [call.args[0] for call in module.slicer.mrmlScene.RemoveNode.mock_calls]
    assert len(removed) == 2
    assert all(storage.startswith("storage of") for storage in removed)


def test_real_command_registers_two_volumes(module, nodes, tmp_path):
    module.slicer.util.startupEnvironment = lambda: (
        os.environ
        | {
            "PYTHONPATH": str(ROOT),
            "XDG_CACHE_HOME": str(tmp_path),
        }
    )
    warped, transform, warnings = module.RegNetLogic().register(
        *nodes, sys.executable, "regnet2d_2017", "none"
    )
    fixed, moving = (to_sitk(node.data.array, node.data.frame) for node in nodes)
    assert warped.data.frame.shape == nodes[0].data.frame.shape
    darkest = float(nodes[1].data.array.min())
    expected = sitk.GetArrayFromImage(
        sitk.Resample(moving, fixed, transform.data, sitk.sitkLinear, darkest)
    )
    inside = (slice(None), slice(8, -8), slice(8, -8))
    np.testing.assert_allclose(warped.data.array[inside], expected[inside], atol=1)
    assert any("2D network" in warning for warning in warnings)


@pytest.mark.parametrize(
    ("model", "message", "output"),
    [
        ("refuses", "fixed.nrrd: is \u2205; give another", "['register'"),
        ("crashes", "status 1: ZeroDivisionError: by zero", "Traceback"),
    ],
)
def test_failure_of_the_command_is_explained(
    module, nodes, command, model, message, output
):
    with pytest.raises(module.RegNetError, match=re.escape(message)) as error:
        module.RegNetLogic().register(*nodes, command, model)
    assert output in error.value.output
    assert "%|" not in error.value.output


def test_inputs_that_cannot_be_used_are_refused(module, nodes, command):
    register = module.RegNetLogic().register
    fixed, moving = nodes
    for given, message in [
        ((None, moving), "Choose a fixed"),
        ((fixed, fixed), "two different"),
        ((fixed, dataclasses.replace(moving, parent="a transform")), "inhale: lies"),
    ]:
        with pytest.raises(module.RegNetError, match=message):
            register(*given, command)
    with pytest.raises(module.RegNetError, match="no_such_file: is no program"):
        register(fixed, moving, "no_such_file")
    module.slicer.util.exportNode = lambda node, path: False
    with pytest.raises(module.RegNetError, match="exhale: could not be written"):
        register(fixed, moving, command)


def test_command_is_found_by_its_path_or_by_that_of_its_python(module, command):
    folder = os.path.dirname(command)
    assert module.find_command("", folder) == [command]
    assert module.find_command(f' "{command}" ') == [command]
    python = ["-m", "regnet_jax.cli.main"]
    assert module.find_command(sys.executable) == [sys.executable, *python]
    with pytest.raises(module.RegNetError, match="was not found; install"):
        module.find_command("", "/no_such_folder")


def test_missing_package_is_explained(module):
    line = "/bin/python: Error while finding module (No module named 'regnet_jax')"
    assert "has no regnet_jax" in module.explain_failure(1, [line])
    assert module.explain_failure(-9, []).endswith("status -9: no output")


def test_button_registers_and_shows_the_result(module, widget):
    widget.on_button()
    util = module.slicer.util
    shown = util.setSliceViewerLayers.call_args.kwargs
    assert shown["background"].name == "exhale"
    assert shown["foreground"].name == "inhale warped"
    assert "it folds" in widget.status.text
    assert (widget.button.text, widget.running) == ("Register", False)
    module.qt.QSettings().setValue.assert_called_with(
        module.SETTING, widget.command.currentPath
    )
    widget.bar.setValue.assert_any_call(40)
    assert not util.errorDisplay.called


def test_button_shows_what_went_wrong(module, widget):
    widget.model.currentText = "refuses"
    widget.on_button()
    told = module.slicer.util.errorDisplay.call_args
    assert told.args == ("fixed.nrrd: is \u2205; give another",)
    assert "register" in told.kwargs["detailedText"]
    assert widget.button.text == "Register"


def test_second_click_stops_the_command(module, widget):
    widget.model.currentText = "waits"
    module.slicer.app.processEvents = widget.on_button
    widget.on_button()
    assert widget.status.text == "Cancelled"
    assert not module.slicer.util.errorDisplay.called
    assert not widget.running


def test_module_describes_itself(module):
    parent = MagicMock()
    module.RegNet(parent)
    assert parent.title == "RegNet"
    assert parent.categories == ["Registration"]


def test_file_is_of_the_oldest_python_and_needs_no_package():
    tree = ast.parse(FILE.read_text("utf-8"), feature_version=(3, 9))
    names = {
        (node.module or "") if isinstance(node, ast.ImportFrom) else alias.name
        for node in ast.walk(tree)
        if isinstance(node, ast.Import | ast.ImportFrom)
        for alias in node.names
    }
    roots = {name.split(".")[0] for name in names}
    assert roots - sys.stdlib_module_names == {"ctk", "qt", "slicer"}
