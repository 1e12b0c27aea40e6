"""The rules of the code base, read from its source: who imports whom, and habits."""

import ast
import os
from pathlib import Path

import pytest

from tests.helpers.python import run_python

ROOT = Path(__file__).resolve().parents[1]
LIBRARY = sorted(p.relative_to(ROOT) for p in ROOT.glob("regnet_jax/**/*.py"))
BINARIES = sorted(p.relative_to(ROOT) for p in ROOT.glob("experiments/**/*.py"))

# What a package may import of ours, besides itself and ``regnet_jax.errors``. The
# constants of ``regnet_jax/__init__.py`` are free to all.
MAY_IMPORT = {
    # For type checkers, and when a name is first used: ``import regnet_jax`` loads
    # nothing, as a test holds.
    "__init__": {"registration", "spatial", "io", "evaluation", "training"},
    "errors": set(),
    "files": set(),
    "hounsfield": set(),
    "intensity": {"hounsfield"},
    "geometry": set(),
    "spatial": {"geometry", "hounsfield"},
    "io": {"spatial", "hounsfield", "files"},
    "synthesis": {"geometry", "hounsfield", "intensity"},
    "models": {"geometry", "hounsfield"},
    "evaluation": {"geometry", "hounsfield", "spatial"},
    "pretrained": {"files", "geometry", "intensity"},
    "reporting": {"evaluation", "hounsfield", "files"},
    "registration": {
        *("geometry", "hounsfield", "intensity", "files", "spatial", "io", "models"),
        *("evaluation", "reporting", "pretrained"),
    },
    "training": {
        *("geometry", "hounsfield", "intensity", "files", "spatial", "io", "synthesis"),
        *("models", "evaluation", "pretrained"),
    },
    "cli": {"files", "io", "evaluation", "registration", "pretrained", "reporting"},
}
PARALLEL_OWNER = "regnet_jax/training/parallel.py"
# The only places, by the beginning of their paths, where a module may be named.
OWNERS = {
    "SimpleITK": (
        "regnet_jax/io/",
        "regnet_jax/spatial/",
        "regnet_jax/registration/",
        "regnet_jax/synthesis/volumes/anatomy.py",
        "experiments/",
    ),
    "orbax": ("regnet_jax/training/checkpoint.py", "regnet_jax/pretrained/runs.py"),
    "absl.flags": ("experiments/", "regnet_jax/cli/"),
    "absl.app": ("regnet_jax/cli/",),
    "jax.distributed": (PARALLEL_OWNER,),
    # Arrays that are read lie on a single device.
    "jax.sharding": (PARALLEL_OWNER, "regnet_jax/pretrained/runs.py"),
}
PARALLEL = {
    *("pmap", "shard_map", "Mesh", "AbstractMesh", "make_mesh", "set_mesh"),
    *("mesh_utils", "NamedSharding", "PositionalSharding", "PartitionSpec"),
}
FUNCTION = (ast.FunctionDef, ast.AsyncFunctionDef)


def _imports(tree):
    """Full names of all that is imported, wherever it stands in the file."""
    for node in ast.walk(tree):
        if isinstance(node, ast.Import):
            yield from (alias.name for alias in node.names)
        elif isinstance(node, ast.ImportFrom):
            module = "." * node.level + (node.module or "")
            yield from (f"{module}.{alias.name}" for alias in node.names)


def _dotted(node):
    """``a.b.c`` for such an expression, an empty string for any other."""
    if isinstance(node, ast.Name):
        return node.id
    if isinstance(node, ast.Attribute) and (owner := _dotted(node.value)):
        return f"{owner}.{node.attr}"
    return ""


def _import_offences(path: Path, tree):
    for name in _imports(tree):
        root, package, *_ = [*name.split("."), ""]
        if name.startswith("."):
            yield f"relative import {name}"
        elif path.parts[0] == "experiments":
            continue
        elif root == "experiments":
            yield f"the library imports {name}"
        elif root == "regnet_jax" and package and not package.startswith("__"):
            own = path.parts[1].removesuffix(".py")
            if own not in MAY_IMPORT:
                yield f"MAY_IMPORT has no line for the package {own}"
            elif package not in {own, "errors"} | MAY_IMPORT[own]:
                yield f"{own} imports {name}"


def _owner_offences(path: Path, tree):
    named = {_dotted(n) for n in ast.walk(tree)} | set(_imports(tree))
    for name in sorted(named):
        for module, owners in OWNERS.items():
            if f"{name}.".startswith(f"{module}.") and not str(path).startswith(owners):
                yield f"{name} belongs to {' and '.join(owners)}"
        if PARALLEL & set(name.split(".")) and str(path) != PARALLEL_OWNER:
            yield f"{name} belongs to {PARALLEL_OWNER}"


def _definitions(tree):
    """Functions and classes at the top of a module, and methods: (node, is method)."""
    for node in tree.body:
        if isinstance(node, (*FUNCTION, ast.ClassDef)):
            yield node, False
        if isinstance(node, ast.ClassDef):
            yield from ((n, True) for n in node.body if isinstance(n, FUNCTION))


def _key_offences(path: Path, tree):
    """A loop body nested in a function has the signature that the loop wants, and
    the key of a mapping (``key: str``) is another matter.
    """
    for node, is_method in _definitions(tree):
        if isinstance(node, ast.ClassDef) or path.parts[0] == "experiments":
            continue
        positional = node.args.posonlyargs + node.args.args
        if is_method and positional and positional[0].arg in ("self", "cls"):
            positional = positional[1:]
        others = positional[1:] + node.args.kwonlyargs
        if any(a.arg == "key" and _dotted(a.annotation) != "str" for a in others):
            yield f"{node.name} takes key, but not first"


def _docstring_offences(path: Path, tree):
    is_public = not path.stem.startswith("_") or path.stem == "__init__"
    if is_public and tree.body and not ast.get_docstring(tree):
        yield "module without docstring"
    for node, is_method in _definitions(tree):
        if not (is_method or node.name.startswith("_") or ast.get_docstring(node)):
            yield f"{node.name} without docstring"


# Functions that open text, with the position of their encoding.
_TEXT = {"open": 3, ".open": 2, ".read_text": 0, ".write_text": 1}
# The same names elsewhere: binary by default, or no file at all.
_NO_TEXT = {"gzip.open", "Image.open", "drawing.write_text"}


def _encoding_offences(path: Path, tree):
    """On Windows the default is not UTF-8."""
    for node in ast.walk(tree):
        if not isinstance(node, ast.Call) or _dotted(node.func) in _NO_TEXT:
            continue
        method = isinstance(node.func, ast.Attribute)
        name = f".{node.func.attr}" if method else _dotted(node.func)
        keywords = {keyword.arg: keyword.value for keyword in node.keywords}
        if name in ("open", ".open"):
            mode = [*node.args[not method :], keywords.get("mode")][0]
            if isinstance(mode, ast.Constant) and "b" in mode.value:
                continue
        if len(node.args) <= _TEXT.get(name, -1) and "encoding" not in keywords:
            yield f"line {node.lineno}: {name} of text without an encoding"


def offences(path: str | Path, source: str) -> list[str]:
    """What is wrong with a file, a line for each."""
    path, tree = Path(path), ast.parse(source)
    checks = (
        *(_import_offences, _owner_offences, _key_offences, _docstring_offences),
        _encoding_offences,
    )
    return [line for check in checks for line in check(path, tree)]


@pytest.mark.parametrize("path", LIBRARY + BINARIES, ids=str)
def test_file_keeps_the_rules(path):
    assert offences(path, (ROOT / path).read_text("utf-8")) == []


OFFENDING = [
    ("geometry/a.py", "from regnet_jax.io import images", "geometry imports"),
    ("geometry/a.py", "from regnet_jax import models", "geometry imports"),
    ("models/a.py", "def _f():\n    import regnet_jax.synthesis", "models imports"),
    ("io/a.py", "from regnet_jax.registration.alignment.linear import x", "io imports"),
    ("training/a.py", "import regnet_jax.registration as r", "training imports"),
    (
        "registration/a.py",
        "from regnet_jax.training import loop",
        "registration imports",
    ),
    ("reporting/a.py", "from regnet_jax.io import read_image", "reporting imports"),
    ("errors.py", "from regnet_jax import io", "errors imports"),
    ("__init__.py", "from regnet_jax.geometry import warp", "__init__ imports"),
    ("unheard/a.py", "from regnet_jax import geometry", "no line for"),
    ("geometry/a.py", "from . import grids", "relative import"),
    ("geometry/a.py", "from ..io import images", "relative import"),
    ("registration/a.py", "from experiments import cli", "the library imports"),
    ("registration/a.py", "from regnet_jax.cli import output", "registration imports"),
    ("training/a.py", "import SimpleITK as sitk", "SimpleITK belongs"),
    ("evaluation/a.py", "from SimpleITK import Image", "SimpleITK.Image belongs"),
    ("training/loop.py", "import orbax.checkpoint as ocp", "orbax.checkpoint belongs"),
    ("training/loop.py", "from absl import flags", "absl.flags belongs"),
    ("training/loop.py", "import jax\nf = jax.pmap(g)", "jax.pmap belongs"),
    ("training/loop.py", "from jax import pmap as p", "jax.pmap belongs"),
    ("models/a.py", "from jax.sharding import Mesh", "jax.sharding.Mesh belongs"),
    ("models/a.py", "from jax.experimental import mesh_utils", "mesh_utils belongs"),
    ("training/a.py", "jax.distributed.initialize()", "jax.distributed belongs"),
    ("synthesis/a.py", "def _f(shape, key): ...", "_f takes key"),
    ("synthesis/a.py", "def _f(shape, *, key=None): ...", "_f takes key"),
    ("models/a.py", "class _A:\n    def f(self, x, key): ...", "f takes key"),
    ("models/a.py", "def f(x): ...", "f without docstring"),
    ("models/a.py", "class A: ...", "A without docstring"),
    ("io/a.py", "path.read_text()", ".read_text of text"),
    ("io/a.py", "path.write_text(text)", ".write_text of text"),
    ("io/a.py", "path.open()", ".open of text"),
    ("io/a.py", "path.open('a', buffering=1)", ".open of text"),
    ("io/a.py", "open(path, 'w')", "open of text"),
    ("io/a.py", "open(path, mode='w')", "open of text"),
]


@pytest.mark.parametrize(("path", "source", "message"), OFFENDING)
def test_the_checker_sees_an_offence(path, source, message):
    found = offences(f"regnet_jax/{path}", f'"""Module."""\n{source}\n')
    assert any(message in line for line in found), found
    assert "module without docstring" in offences(f"regnet_jax/{path}", source)


@pytest.mark.parametrize(
    ("path", "source"),
    [
        ("regnet_jax/io/a.py", "import SimpleITK\nfrom regnet_jax import spatial"),
        ("regnet_jax/training/parallel.py", "from jax import pmap\njax.sharding.Mesh"),
        ("regnet_jax/synthesis/a.py", "from jax.numpy import meshgrid\nimport absl"),
        ("regnet_jax/models/a.py", "def _f(key, x):\n    def g(x, key): ..."),
        ("regnet_jax/io/a.py", "def _f(header, key: str): ..."),
        ("regnet_jax/models/a.py", "from regnet_jax import __version__, errors"),
        ("regnet_jax/io/a.py", "path.read_text('utf-8')\nopen(path, encoding='ascii')"),
        ("regnet_jax/io/a.py", "path.write_text(t, 'utf-8')\nwrite_text(path, t)"),
        ("regnet_jax/io/a.py", "path.open('rb')\nopen(path, 'wb')\np.open(mode='rb')"),
        ("experiments/a.py", "from absl import flags\nfrom experiments import cli"),
        ("experiments/a.py", "import SimpleITK\nfrom regnet_jax import io"),
    ],
)
def test_the_checker_lets_good_code_pass(path, source):
    assert offences(path, f'"""Module."""\n{source}\n') == []


def _run_without_backend(source: str):
    """Runs Python where any computation fails: JAX finds no such platform."""
    environment = {**os.environ, "JAX_PLATFORMS": "there_is_no_such_platform"}
    return run_python(source, env=environment)


def test_importing_the_package_loads_next_to_nothing():
    source = "import sys, regnet_jax; print({'jax', 'SimpleITK'} & set(sys.modules))"
    assert _run_without_backend(source).stdout.strip() == "set()"


def test_loading_a_shipped_network_loads_no_library_of_trainings_and_figures():
    source = (
        "import sys\n"
        "from regnet_jax.registration.inference.network import load_network\n"
        "from regnet_jax.registration.refinement import refine\n"
        "load_network('lung')\n"
        "unwanted = {'orbax', 'optax', 'matplotlib', 'regnet_jax.training'}\n"
        "print(unwanted & {*sys.modules})"
    )
    run = _run_without_backend(source)
    assert run.stdout.strip() == "set()", run.stderr


def test_importing_the_library_starts_no_backend():
    names = [".".join(path.with_suffix("").parts) for path in LIBRARY]
    # Each command has flags of its own, which are not there at once.
    names = [n.removesuffix(".__init__") for n in names if ".cli." not in n]
    run = _run_without_backend("\n".join(f"import {name}" for name in names))
    assert run.returncode == 0, run.stderr


def test_a_computation_at_import_would_be_seen():
    run = _run_without_backend("import jax.numpy as jnp; jnp.zeros(1)")
    assert run.returncode != 0
    assert "there_is_no_such_platform" in run.stderr
