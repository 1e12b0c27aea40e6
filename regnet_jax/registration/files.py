"""One registration from files to files, as ``regnet register`` does it."""

import dataclasses
import logging
import os
from collections.abc import Callable, Collection
from pathlib import Path
from typing import cast

from regnet_jax.files import staged_folder
from regnet_jax.io import PairPaths, read_pair
from regnet_jax.registration.inference.network import Network
from regnet_jax.registration.options import RegistrationOptions
from regnet_jax.registration.register import collect_warnings, register, timed
from regnet_jax.reporting.schema import RegistrationReport

_LOG = logging.getLogger(__name__)


def describe_request(
    pair: PairPaths, options: RegistrationOptions, formats: Collection[str] = ()
) -> dict:
    """Return the request of a registration, as ``report.json`` stores it.

    Args:
        pair: the images.
        options: of the registration.
        formats: of further files.

    Returns:
        Absolute paths by the attributes of ``PairPaths``, the options, and the formats.
    """
    given = dataclasses.asdict(pair)
    del given["name"]
    paths = {key: str(Path(path).absolute()) for key, path in given.items() if path}
    return paths | options.to_dict() | {"formats": sorted(formats)}


def register_files(
    pair: PairPaths,
    out,
    load: Callable[[str], Network],
    options: RegistrationOptions,
    formats: Collection[str] = (),
    *,
    progress: bool = False,
) -> tuple[RegistrationReport, dict]:
    """Register a pair of files and write the results atomically.

    Args:
        pair: paths of its images; points and labels are measured and reported.
        out: folder for the results.
        load: returns the network of a name; it should cache the networks.
        options: of the registration.
        formats: of further files, see ``Registration.save``.
        progress: show progress bars.

    Returns:
        The report, and the seconds of every phase, including reading and writing.

    Raises:
        InputError: if a file or an option cannot be used.
    """
    seconds: dict = {}

    def load_in_time(name):
        with timed(seconds, "network"):
            return load(name)

    if isinstance(options.model, str | os.PathLike):
        # A wrong name is refused before the images are read.
        load_in_time(options.model)
    with staged_folder(out) as folder, collect_warnings() as logged:
        with timed(seconds, "reading"):
            known = read_pair(pair)
        registration = register(
            known.fixed,
            known.moving,
            fixed_mask=known.fixed_mask,
            moving_mask=known.moving_mask,
            load=load_in_time,
            progress=progress,
            log_warnings=False,
            **options.to_keywords(),
        )
        seconds |= registration.seconds
        # Warnings of reading come first.
        notices = tuple(dict.fromkeys((*logged, *registration.notices)))
        registration = dataclasses.replace(registration, notices=notices)
        with timed(seconds, "measuring and writing"):
            report = registration.save(
                folder,
                formats,
                landmarks=known.points,
                labels=known.labels,
                request=describe_request(pair, options, formats),
            )
    report = cast(RegistrationReport, report)
    for warning in report.warnings:
        if warning not in logged:
            _LOG.warning("%s: %s", pair.fixed, warning)
    return report, seconds
