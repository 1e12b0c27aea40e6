"""The Dockerfile names files, versions and a command that exist; no build is needed."""

import json
import re
import shlex
import tomllib
from pathlib import Path

import pytest

ROOT = Path(__file__).resolve().parents[1]
FOLDER = ROOT / "docs" / "docker"
PROJECT = tomllib.loads((ROOT / "pyproject.toml").read_text("utf-8"))["project"]


def instructions():
    """(instruction, rest) of each step, with continued lines joined."""
    text = (FOLDER / "Dockerfile").read_text("utf-8")
    lines = [x for x in text.splitlines() if x.strip() and not x.startswith("#")]
    joined = "\n".join(lines).replace("\\\n", " ")
    return [tuple(line.split(maxsplit=1)) for line in joined.splitlines()]


def of(name):
    return [rest for instruction, rest in instructions() if instruction == name]


def copied():
    """Sources of all COPY steps."""
    return [word for rest in of("COPY") for word in shlex.split(rest)[:-1]]


def test_every_step_is_one_that_docker_knows():
    known = {"FROM", "ARG", "WORKDIR", "COPY", "RUN", "ENV", "USER", "ENTRYPOINT"}
    assert {name for name, _ in instructions()} == known | {"CMD"}
    assert instructions()[0][0] == "FROM"


def test_copied_files_exist_and_are_all_that_reaches_the_builder():
    assert [name for name in copied() if not (ROOT / name).exists()] == []
    patterns = (FOLDER / "Dockerfile.dockerignore").read_text("utf-8").splitlines()
    sent = {line[1:] for line in patterns if line.startswith("!")}
    assert "*" in patterns
    assert sent == set(copied())


def test_the_package_can_be_built_of_what_is_copied():
    assert {"pyproject.toml", PROJECT["readme"], "LICENSE", "regnet_jax"} <= {*copied()}


def test_requirements_are_copied_before_they_are_installed():
    steps = instructions()
    for place, (name, rest) in enumerate(steps):
        for file in re.findall(r"-r (\S+)", rest) if name == "RUN" else ():
            before = [r for n, r in steps[:place] if n == "COPY"]
            assert any(file in shlex.split(r) for r in before), file
    assert any("-r requirements.txt" in rest for rest in of("RUN"))
    assert any("pip install" in r and "--no-deps ." in r for r in of("RUN"))


def test_the_image_runs_the_command_and_not_as_root():
    (entry,), (default,) = of("ENTRYPOINT"), of("CMD")
    assert [json.loads(entry), json.loads(default)] == [["regnet"], ["--help"]]
    assert "regnet" in PROJECT["scripts"]
    (user,) = of("USER")
    assert any(f"useradd --create-home {user} " in rest for rest in of("RUN"))
    names = [name for name, _ in instructions()]
    assert names.index("USER") > max(i for i, n in enumerate(names) if n == "RUN")


def test_python_of_the_image_is_one_of_the_package():
    (image,) = of("FROM")
    version = re.fullmatch(r"python:3\.(\d+)-slim-bookworm", image)
    least = re.fullmatch(r">=3\.(\d+)", PROJECT["requires-python"])
    assert int(version[1]) >= int(least[1])


@pytest.mark.parametrize("extra", ["", "--build-arg ACCELERATOR=cuda12 "])
def test_the_commands_of_the_page_name_the_dockerfile_and_its_argument(extra):
    page = (ROOT / "BUILD.md").read_text("utf-8")
    assert f"docker build -f docs/docker/Dockerfile {extra}-t regnet" in page
    assert any(rest.startswith("ACCELERATOR=") for rest in of("ARG"))
