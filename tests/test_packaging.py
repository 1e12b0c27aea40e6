"""Ranges, lock and oldest versions agree; lists of files name files that exist."""

import re
import tomllib
from pathlib import Path

import pytest
from packaging.requirements import Requirement
from packaging.version import Version

ROOT = Path(__file__).resolve().parents[1]


def _pins(path):
    """(name, version) of every line ``name==version`` of a file."""
    lines = (ROOT / path).read_text("utf-8").splitlines()
    pinned = [Requirement(line) for line in lines if line and line[0] not in "#-"]
    return [
        (each.name.lower(), Version(next(iter(each.specifier)).version))
        for each in pinned
    ]


@pytest.fixture(scope="module")
def ranges():
    project = tomllib.loads((ROOT / "pyproject.toml").read_text("utf-8"))["project"]
    allowed = [Requirement(text) for text in project["dependencies"]]
    return {each.name.lower(): each.specifier for each in allowed}


def test_the_lock_names_the_dependencies_of_the_package(ranges):
    assert {name for name, _ in _pins("requirements.txt")} == set(ranges)


@pytest.mark.parametrize("path", ["requirements.txt", ".ci/oldest.txt"])
def test_pinned_versions_lie_within_the_ranges(ranges, path):
    assert [p for p in _pins(path) if not ranges[p[0]].contains(p[1])] == []


def test_the_oldest_versions_tested_are_the_oldest_allowed(ranges):
    floors = {
        name: Version(part.version)
        for name, specifier in ranges.items()
        for part in specifier
        if part.operator == ">="
    }
    assert dict(_pins(".ci/oldest.txt")) == floors


@pytest.mark.parametrize("version", ["0.10.0", "0.10.2", "0.11.0", "0.11.2", "0.13.0"])
def test_versions_of_jax_with_known_faults_are_not_allowed(ranges, version):
    for name in ("jax", "jaxlib"):
        assert not ranges[name].contains(version)


def test_the_numeric_tests_of_the_makefile_exist():
    text = (ROOT / "Makefile").read_text("utf-8").replace("\\\n", " ")
    (names,) = re.findall(r"^NUMERIC := \$\(addprefix tests/,(.*)\)$", text, re.M)
    assert len(names.split()) > 3
    assert [n for n in names.split() if not (ROOT / "tests" / n).exists()] == []
