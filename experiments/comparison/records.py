"""Records of finished registrations, by which an interrupted comparison goes on."""

import json
from pathlib import Path

import regnet_jax
from experiments.comparison.methods import OURS, Variant
from experiments.comparison.network import network_of
from experiments.comparison.runs import Options
from regnet_jax.errors import InputError
from regnet_jax.files import write_json


def describe_run(
    variant: Variant, version: str, options: Options, dimensions: int
) -> dict:
    """Return what the result of a method depends on, apart from the pair.

    Args:
        variant: of the method.
        version: of the package of the method.
        options: for all pairs. Those that the method does not use are left out, and so
            are the time limit and the folder of compiled programs.
        dimensions: of the images.

    Returns:
        The description, of types that JSON gives back as they were. The version of
        this project is in it for all methods, as it aligns and measures.

    Raises:
        InputError: if the network is used and cannot be read.
    """
    used = {"setting": options.setting, "regnet_jax": regnet_jax.__version__}
    if variant.method in OURS or variant.resolution == "network":
        used["weights"] = network_of(options.model, dimensions).checksum
    return {**variant._asdict(), "version": version, **used}


def make_folder(path: Path) -> None:
    """Make a folder for records; InputError if that fails."""
    try:
        path.mkdir(parents=True, exist_ok=True)
    except OSError as error:
        reason = error.strerror or error
        raise InputError(
            f"{path}: cannot be made ({reason}); choose another --out"
        ) from error


def read_record(path: Path, request: dict) -> dict | None:
    """Return the record of an earlier run.

    Args:
        path: of its file.
        request: what the registration depends on, as JSON gives it back.

    Returns:
        The record; None if there is none, if it is damaged, or of another request.
    """
    try:
        record = json.loads(path.read_text("utf-8"))
    except (OSError, ValueError):
        return None
    is_record = isinstance(record, dict) and record.get("request") == request
    return record if is_record else None


def write_record(path: Path, request: dict, found: dict) -> dict:
    """Write what a registration gave, so that it need not be repeated.

    Args:
        path: of its file, in a folder that exists.
        request: as for ``read_record``.
        found: its results, of types of JSON.

    Returns:
        The record, as ``read_record`` returns it.

    Raises:
        InputError: if it cannot be written.
    """
    write_json(path, {"request": request} | found)
    return json.loads(path.read_text("utf-8"))
