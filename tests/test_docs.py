"""The page of messages, ``docs/warnings.md``, holds every message in the source."""

import ast
import re
from pathlib import Path

import pytest

ROOT = Path(__file__).resolve().parents[1]
SOURCES = sorted(
    path.relative_to(ROOT)
    for folder in ("regnet_jax", "experiments")
    for path in ROOT.glob(f"{folder}/**/*.py")
)
PAGE = ROOT / "docs" / "warnings.md"

# What is called with a message, and which of its arguments that is.
CALLS = {
    "InputError": 0,
    "DivergenceError": 0,
    "warning": 0,
    "warnings.append": 0,
    "_fail": 0,
}
# Variables and functions whose texts become messages elsewhere.
TEXTS = {
    *("_MEANINGS", "_UNREADABLE", "unreadable", "otherwise", "failure", "fact"),
    *("notice", "_explain"),
}
# Shorter pieces may stand anywhere.
SHORTEST = 12
# Where ``logging`` puts its arguments.
PLACEHOLDER = re.compile(r"%[\d.]*[a-z]")


def _dotted(node) -> str:
    """``a.b.c`` for such an expression, an empty string for any other."""
    if isinstance(node, ast.Name):
        return node.id
    if isinstance(node, ast.Attribute):
        return f"{_dotted(node.value)}.{node.attr}"
    return ""


def _messages(tree):
    """The expressions of all messages, and the lines they are on."""
    for node in ast.walk(tree):
        if isinstance(node, ast.Call):
            name = f".{_dotted(node.func)}"
            for called, index in CALLS.items():
                if name.endswith(f".{called}") and len(node.args) > index:
                    yield node.args[index], node.lineno
        elif isinstance(node, ast.Assign):
            if TEXTS & {_dotted(target) for target in node.targets}:
                texts = [node.value]
                if isinstance(node.value, ast.Dict):
                    texts = node.value.keys
                yield from ((text, text.lineno) for text in texts)
        elif isinstance(node, ast.FunctionDef) and node.name in TEXTS:
            for each in ast.walk(node):
                if isinstance(each, ast.Return):
                    yield each.value, each.lineno


def _constants(node):
    """The constant pieces of a message; adjacent literals are one in the tree."""
    if isinstance(node, ast.Constant) and isinstance(node.value, str):
        yield from PLACEHOLDER.split(node.value)
    elif isinstance(node, ast.JoinedStr):
        yield from (v.value for v in node.values if isinstance(v, ast.Constant))
    elif isinstance(node, ast.BinOp):
        yield from (*_constants(node.left), *_constants(node.right))
    elif isinstance(node, ast.IfExp):
        yield from (*_constants(node.body), *_constants(node.orelse))


def pieces(source: str) -> list[tuple[int, str]]:
    """The longest constant piece of each message of a file, with its line."""
    found = []
    for message, line in _messages(ast.parse(source)):
        constants = (" ".join(p.split()).strip(" ,;:.()'") for p in _constants(message))
        longest = max(constants, key=len, default="")
        if len(longest) >= SHORTEST:
            found.append((line, longest))
    return found


def missing(source: str, page: str) -> list[str]:
    """The pieces that a page lacks, a line for each."""
    page = " ".join(page.replace("`", "").replace("\\|", "|").split())
    return [f"line {line}: {text}" for line, text in pieces(source) if text not in page]


def test_the_page_holds_every_message():
    page = PAGE.read_text("utf-8")
    lines = [
        f"{path}, {line}"
        for path in SOURCES
        for line in missing((ROOT / path).read_text("utf-8"), page)
    ]
    assert not lines, "docs/warnings.md lacks:\n" + "\n".join(lines)


def test_the_page_is_linked_from_the_readme():
    assert "(docs/warnings.md)" in (ROOT / "README.md").read_text("utf-8")


@pytest.mark.parametrize(
    ("source", "text"),
    [
        ('raise InputError("x.nii: glows in the dark")', "x.nii: glows in the dark"),
        ('raise InputError(f"{p}: glows "\n  f"in the {q}")', "glows in the"),
        ('raise errors.InputError(f"{p}: a" + " b glows in the dark")', "b glows in"),
        ('raise InputError(f"{p}: " + ("glows brightly" if a else "b"))', "glows"),
        ('def f():\n  return InputError(f"{p}: glows in the dark")', "glows in the"),
        ('raise DivergenceError(f"{p}: glows in the dark")', "glows in the dark"),
        ('_LOG.warning("%s: glows in the dark by %.2g mm", a, b)', "in the dark by"),
        ('logging.warning(\n  "%d of %s glow in the dark", *a)', "glow in the dark"),
        ('warnings.append(f"the field glows at {a:.0%}")', "the field glows at"),
        ('_MEANINGS = {"glows in the dark": ("x",), "hums softly": ()}', "glows in"),
        ('def _explain(a):\n  return f"{a}: glows in the dark"', "glows in the dark"),
    ],
)
def test_a_message_that_the_page_lacks_is_seen(source, text):
    (line,) = missing(source, "`NAME: hums softly` means that it hums.")
    assert text in line
    assert missing(source, line.partition(": ")[2]) == []


@pytest.mark.parametrize(
    "source",
    [
        'raise InputError(f"{p}: {reason}")',
        "raise InputError(str(error)) from None",
        "_LOG.warning(notice)",
        'raise ValueError(f"{p}: glows in the dark")',
        'names.append("glows in the dark")',
        'raise InputError(f"{p}: glows in\\n  the dark | {q}")',
    ],
)
def test_what_the_page_holds_or_need_not_hold_is_no_fault(source):
    page = "| `NAME: glows\n  in the dark \\| X` | It glows. |"
    assert missing(source, page) == []
