"""A module of 3D Slicer that registers two loaded volumes by the command ``regnet``.

Add the folder of this file to Slicer's module paths; docs/slicer.md has the steps. The
command runs in a process and a Python of its own, so Slicer needs neither JAX nor
regnet_jax, and this file imports neither. It runs in Python 3.9, as in Slicer 5.2.
"""

import json
import os
import queue
import re
import shutil
import subprocess
import tempfile
import threading
import time

import ctk
import qt
import slicer
from slicer.ScriptedLoadableModule import (
    ScriptedLoadableModule,
    ScriptedLoadableModuleLogic,
    ScriptedLoadableModuleWidget,
)

# Where Slicer keeps the path of the command between sessions.
SETTING = "RegNet/Command"
MODELS = ("lung", "regnet3d_2017", "lung2d")
ALIGNMENTS = ("affine", "rigid", "moments", "center", "none")
PRESETS = ("default", "fast", "accurate")
# Seconds between two looks at the process, and lines that an error shows of its output.
PAUSE, SHOWN = 0.05, 30


class RegNetError(RuntimeError):
    """A registration that failed: what to tell the user, and the output in full."""

    def __init__(self, message, output=""):
        """Keep the output.

        Args:
            message: one line.
            output: of the command.
        """
        super().__init__(message)
        self.output = output


class Cancelled(Exception):
    """The user stopped the registration."""


def find_command(given, search_path=None):
    """Return the beginning of the command line.

    Args:
        given: path of ``regnet`` or of a Python that has regnet_jax; empty to search.
        search_path: folders to search, as in the variable ``PATH``.

    Returns:
        A list of words.

    Raises:
        RegNetError: if there is no such file.
    """
    given = given.strip().strip('"')
    path = shutil.which(os.path.expanduser(given) or "regnet", path=search_path)
    if path is None and given:
        raise RegNetError(
            f"{given}: is no program; give the path of regnet or of the Python in which"
            " regnet_jax is installed"
        )
    if path is None:
        raise RegNetError(
            "The command regnet was not found; install regnet_jax in a Python of its"
            " own and give the path of regnet or of that Python under Command"
        )
    if re.match(r"py(thon)?[\d.]*w?(\.exe)?$", os.path.basename(path), re.IGNORECASE):
        return [path, "-m", "regnet_jax.cli.main"]
    return [path]


def build_arguments(fixed, moving, out, model="", initial="", preset=""):
    """Return the arguments of the command.

    Args:
        fixed: path of the fixed image.
        moving: path of the moving image.
        out: folder for the results.
        model: network that ships, or the folder of a training run; empty for the
            command's default.
        initial: linear alignment; empty for the default.
        preset: of accuracy and time; empty for the default.

    Returns:
        A list of words.
    """
    arguments = ["register", f"--fixed={fixed}", f"--moving={moving}", f"--out={out}"]
    if model:
        arguments.append(f"--model={model}")
    if initial:
        arguments.append(f"--initial={initial}")
    if preset:
        arguments.append(f"--preset={preset}")
    return arguments


def read_progress(line):
    """Return what a line of the command's progress bars says.

    Args:
        line: such as ``predicting:  40%|####      | 2/5 [00:01<00:02]``.

    Returns:
        The phase and the percentage; None if the line is none of a bar.
    """
    found = re.match(r"\s*(.*?):?\s*(\d+)%\|", line)
    return (found[1], int(found[2])) if found else None


def explain_failure(status, lines):
    """Return what to tell the user about a command that failed.

    Args:
        status: exit status, not 0.
        lines: of its output.

    Returns:
        The command's own line if it printed one, else the end of the output.
    """
    errors = [line[len("error: ") :] for line in lines if line.startswith("error: ")]
    if errors:
        return errors[-1]
    if any("No module named" in line and "regnet_jax" in line for line in lines):
        return "This Python has no regnet_jax; install it there or choose another"
    last = lines[-1] if lines else "no output"
    return f"The command ended with status {status}: {last}"


def run_command(command, environment, on_line, on_wait):
    """Run a command, and let Slicer live meanwhile.

    Args:
        command: list of words.
        environment: variables of the process.
        on_line: called with each line that the command prints.
        on_wait: called often; what it raises ends the command and is raised here.

    Raises:
        RegNetError: if the command cannot be started or fails.
    """
    try:
        process = subprocess.Popen(
            command,
            stdin=subprocess.DEVNULL,
            stdout=subprocess.PIPE,
            stderr=subprocess.STDOUT,
            # Also the carriage returns of progress bars end lines.
            text=True,
            encoding="utf-8",
            errors="replace",
            env=environment,
            # No black window on Windows.
            creationflags=getattr(subprocess, "CREATE_NO_WINDOW", 0),
        )
    except OSError as error:
        raise RegNetError(f"{command[0]}: cannot be started ({error})") from error
    waiting = queue.Queue()
    reader = threading.Thread(
        target=lambda: [waiting.put(line) for line in process.stdout], daemon=True
    )
    reader.start()
    lines = []

    def read():
        while not waiting.empty():
            line = waiting.get().rstrip()
            if line:
                if read_progress(line) is None:
                    lines.append(line)
                on_line(line)

    try:
        while process.poll() is None:
            read()
            on_wait()
            time.sleep(PAUSE)
    except BaseException:
        # The command removes what it has half written.
        process.terminate()
        raise
    finally:
        process.wait()
        reader.join()
        process.stdout.close()
    read()
    if process.returncode:
        message = explain_failure(process.returncode, lines)
        raise RegNetError(message, "\n".join(lines[-SHOWN:]))


class RegNet(ScriptedLoadableModule):
    """The entry of the module in Slicer's list."""

    def __init__(self, parent):
        """Describe the module.

        Args:
            parent: the module object of Slicer.
        """
        ScriptedLoadableModule.__init__(self, parent)
        parent.title = "RegNet"
        parent.categories = ["Registration"]
        parent.dependencies = []
        parent.contributors = ["The authors of regnet_jax"]
        parent.helpText = (
            "Registers a moving to a fixed volume by the command regnet of the Python"
            " package regnet_jax, which runs in a process of its own. The documentation"
            " of regnet_jax has a page on this module."
        )
        parent.acknowledgementText = (
            "The method is RegNet: H. Sokooti et al., Nonrigid image registration using"
            " multi-scale 3D convolutional neural networks, MICCAI 2017."
        )


class RegNetLogic(ScriptedLoadableModuleLogic):
    """Writes the volumes, runs the command, and loads its results."""

    def register(
        self, fixed, moving, command="", model="", initial="", preset="",
        on_progress=None, on_wait=None,
    ):  # fmt: skip
        """Register two volumes.

        Args:
            fixed: the volume node that keeps its place.
            moving: the volume node that is warped.
            command: see ``find_command``.
            model: see ``build_arguments``.
            initial: see ``build_arguments``.
            preset: see ``build_arguments``.
            on_progress: called with a text, and a percentage or None.
            on_wait: called often; what it raises ends the registration.

        Returns:
            The warped volume's node, the transform's node (which brings what moves
            with the moving volume onto the fixed one), and the list of warnings.

        Raises:
            RegNetError: if an input cannot be used, or the command fails.
        """
        on_progress = on_progress or (lambda text, percent: None)
        self._check(fixed, moving)
        environment = self._environment()
        # A wrong path is told before anything is written.
        words = find_command(command, environment.get("PATH"))

        def on_line(line):
            on_progress(*(read_progress(line) or (line, None)))

        with tempfile.TemporaryDirectory(prefix="regnet-") as folder:
            paths = [os.path.join(folder, f"{n}.nrrd") for n in ("fixed", "moving")]
            for node, path in zip((fixed, moving), paths):  # noqa: B905
                on_progress(f"Writing {node.GetName()}", None)
                slicer.util.exportNode(node, path)
                if not os.path.isfile(path):
                    raise RegNetError(f"{node.GetName()}: could not be written")
            out = os.path.join(folder, "result")
            arguments = build_arguments(*paths, out, model, initial, preset)
            run_command(
                words + arguments, environment, on_line, on_wait or (lambda: None)
            )
            on_progress("Loading the result", None)
            return self._load(out, moving.GetName())

    @staticmethod
    def _check(fixed, moving):
        if fixed is None or moving is None:
            raise RegNetError("Choose a fixed and a moving volume")
        if fixed.GetID() == moving.GetID():
            raise RegNetError("Choose two different volumes")
        for node in (fixed, moving):
            if node.GetParentTransformNode() is not None:
                raise RegNetError(
                    f"{node.GetName()}: lies under a transform; harden it in the module"
                    " Transforms or Data first, or take the volume out of it"
                )

    @staticmethod
    def _environment():
        """Return the variables from before Slicer added those of its own Python."""
        ours = {"PYTHONIOENCODING": "utf-8", "PYTHONUNBUFFERED": "1"}
        return {**slicer.util.startupEnvironment(), **ours}

    @staticmethod
    def _load(out, name):
        """Load the results as nodes that do not refer to the temporary files."""
        warped = slicer.util.loadVolume(
            os.path.join(out, "warped.nii.gz"),
            {"name": f"{name} warped", "show": False},
        )
        transform = slicer.util.loadTransform(os.path.join(out, "transform.h5"))
        transform.SetName(f"{name} to fixed")
        for node in (warped, transform):
            slicer.mrmlScene.RemoveNode(node.GetStorageNode())
        with open(os.path.join(out, "report.json"), encoding="utf-8") as file:
            warnings = json.load(file).get("warnings", [])
        return warped, transform, warnings


class RegNetWidget(ScriptedLoadableModuleWidget):
    """The panel of the module."""

    def setup(self):
        """Make the panel."""
        ScriptedLoadableModuleWidget.setup(self)
        self.logic = RegNetLogic()
        self.running = self.stopped = False
        box = ctk.ctkCollapsibleButton()
        box.text = "Registration"
        self.layout.addWidget(box)
        form = qt.QFormLayout(box)
        self.fixed = self._add_selector(form, "Fixed volume", "Keeps its place.")
        self.moving = self._add_selector(form, "Moving volume", "Is warped.")
        self.model = self._add_choice(
            form, "Model", MODELS, "A network that ships, or the folder of a training."
        )
        self.model.setEditable(True)
        self.initial = self._add_choice(
            form, "Alignment", ALIGNMENTS, "The linear alignment that comes first."
        )
        self.preset = self._add_choice(
            form, "Preset", PRESETS, "accurate takes about twice as long as default."
        )
        self.command = ctk.ctkPathLineEdit()
        self.command.filters = ctk.ctkPathLineEdit.Files
        self.command.currentPath = slicer.util.settingsValue(SETTING, "")
        self.command.toolTip = (
            "The program regnet, or a Python that has regnet_jax; empty to search."
        )
        form.addRow("Command", self.command)
        self.button = qt.QPushButton("Register")
        form.addRow(self.button)
        self.bar = qt.QProgressBar()
        self.bar.setVisible(False)
        form.addRow(self.bar)
        self.status = qt.QLabel()
        self.status.setWordWrap(True)
        form.addRow(self.status)
        self.layout.addStretch(1)
        self.button.connect("clicked(bool)", self.on_button)

    def cleanup(self):
        """Stop a registration when the panel goes away."""
        self.stopped = True

    def on_button(self, *_):
        """Start the registration, or stop the one that runs."""
        if self.running:
            self.stopped = True
            return
        self.running, self.stopped = True, False
        self.button.text = "Cancel"
        self.bar.setVisible(True)
        qt.QSettings().setValue(SETTING, self.command.currentPath)
        fixed = self.fixed.currentNode()
        try:
            warped, transform, warnings = self.logic.register(
                fixed,
                self.moving.currentNode(),
                command=self.command.currentPath,
                model=self.model.currentText.strip(),
                initial=self.initial.currentText,
                preset=self.preset.currentText,
                on_progress=self.show_progress,
                on_wait=self.keep_alive,
            )
        except Cancelled:
            self.status.text = "Cancelled"
        except (RuntimeError, OSError) as error:
            # Slicer raises RuntimeError where a result cannot be loaded.
            self.status.text = str(error)
            output = getattr(error, "output", "")
            slicer.util.errorDisplay(str(error), detailedText=output)
        else:
            slicer.util.setSliceViewerLayers(
                background=fixed, foreground=warped, foregroundOpacity=0.5
            )
            made = f"Made {warped.GetName()} and the transform {transform.GetName()}."
            self.status.text = "\n".join([made, *warnings])
        finally:
            self.running = False
            self.button.text = "Register"
            self.bar.setVisible(False)

    def show_progress(self, text, percent):
        """Show a line of the command and, if it has one, its percentage."""
        self.status.text = text
        # From 0 to 0, the bar shows that the end is not known.
        self.bar.setRange(0, 0 if percent is None else 100)
        if percent is not None:
            self.bar.setValue(percent)

    def keep_alive(self):
        """Let Slicer draw and take clicks; raise Cancelled after one on Cancel."""
        slicer.app.processEvents()
        if self.stopped:
            raise Cancelled

    @staticmethod
    def _add_selector(form, label, tip):
        selector = slicer.qMRMLNodeComboBox()
        selector.nodeTypes = ["vtkMRMLScalarVolumeNode"]
        selector.addEnabled = selector.removeEnabled = False
        selector.showChildNodeTypes = False
        selector.setMRMLScene(slicer.mrmlScene)
        selector.setToolTip(tip)
        form.addRow(label, selector)
        return selector

    @staticmethod
    def _add_choice(form, label, names, tip):
        choice = qt.QComboBox()
        choice.addItems(list(names))
        choice.setToolTip(tip)
        form.addRow(label, choice)
        return choice
