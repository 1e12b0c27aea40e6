"""Records of finished registrations, by which an interrupted comparison goes on."""

import functools
import hashlib
import json
from importlib import metadata
from pathlib import Path

import regnet_jax
from experiments.comparison.methods import OURS, Variant
from experiments.comparison.network import network_of
from experiments.comparison.runs import Options
from regnet_jax.errors import InputError
from regnet_jax.files import write_json

# The code of this project behind every measure, and behind its own registrations.
_MEASURING = ("evaluation", "geometry", "hounsfield.py", "io", "spatial")
_REGISTERING = ("intensity.py", "models", "pretrained", "registration")
# The packages that measure.
_PACKAGES = ("numpy", "scipy", "SimpleITK")


@functools.cache
def code_checksum(*, registers: bool) -> str:
    """Return the checksum of the code that a result depends on.

    Args:
        registers: whether this project registers or aligns the pair; otherwise it only
            runs the tool and measures.

    Returns:
        64 hexadecimal digits, which code for trainings and tables does not change.
    """
    library, here = Path(regnet_jax.__file__).parent, Path(__file__).parent
    tables = ("tables", "report")
    files = [path for path in here.glob("*.py") if not path.stem.endswith(tables)]
    for name in _MEASURING + _REGISTERING * registers:
        place = library / name
        files += place.rglob("*.py") if place.is_dir() else [place]
    contents = b"".join(path.read_bytes() for path in sorted(files))
    return hashlib.sha256(contents).hexdigest()


def describe_run(
    variant: Variant, version: str, options: Options, dimensions: int, initial=None
) -> dict:
    """Return what the result of a method depends on, apart from the pair.

    Args:
        variant: of the method.
        version: of the package of the method.
        options: for all pairs. Those that the method does not use are left out, and so
            are the time limit and the folder of compiled programs.
        dimensions: of the images.
        initial: ``alignment`` of an earlier run, for methods that start from it; None
            where the run computes it.

    Returns:
        The description, of types that JSON gives back as they were: with the checksum
        of the code of this project, and of its weights if they are used, and with the
        versions of the packages that compute for it.

    Raises:
        InputError: if the network is used and cannot be read.
    """
    used: dict = {"setting": options.setting}
    ours, shared = variant.method in OURS, variant.alignment == "shared"
    if shared and initial:
        used["initial"] = initial["matrix"]
    registers = ours or (shared and not initial)
    used["code"] = code_checksum(registers=registers)
    packages = _PACKAGES + ("jax", "jaxlib") * registers
    used["packages"] = {name: metadata.version(name) for name in packages}
    if ours or variant.resolution == "network":
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
