"""Registration of a series of images over time: every phase to one reference."""

import functools
import os
from collections.abc import Callable, Collection
from dataclasses import dataclass
from pathlib import Path

import numpy as np
from tqdm import tqdm

from regnet_jax.errors import InputError
from regnet_jax.io.dicom import split_series
from regnet_jax.io.images import has_geometry, read_image
from regnet_jax.io.phases import Phase, as_phases, find_reference, read_phases
from regnet_jax.registration.inference.network import AUTO, Network, load_network
from regnet_jax.registration.motion import Summary, summarise
from regnet_jax.registration.options import check_switch
from regnet_jax.registration.register import register
from regnet_jax.registration.result import Registration
from regnet_jax.registration.start import read_start
from regnet_jax.spatial import Image


@dataclass(frozen=True, eq=False)
class SeriesRegistration:
    """Where every point of the reference lies in all phases of a series.

    Attributes:
        phases: of the series, in the order of time.
        reference: number of the reference, from 0.
        registrations: of each phase to the reference; None for the reference itself.
        cycle: whether the last phase is followed by the first.
        source: file or folder that the series was read from; None for images in memory.
    """

    phases: tuple[Phase, ...]
    reference: int
    registrations: tuple[Registration | None, ...]
    cycle: bool = True
    source: Path | None = None

    @functools.cached_property
    def fixed(self) -> Image:
        """The image of the reference."""
        return self.phases[self.reference].read()

    def displacement(self, number: int) -> np.ndarray:
        """Return the displacement from the reference to a phase.

        Args:
            number: of the phase, from 0.

        Returns:
            ``[*frame.shape, d]`` vectors, mm, x first, on the grid of the reference.
        """
        registration = self.registrations[number]
        if registration is None:
            frame = self.phases[self.reference].frame
            return np.zeros((*frame.shape, frame.ndim), np.float32)
        return registration.displacement

    @functools.cached_property
    def summary(self) -> Summary:
        """The amplitude, the path and the mid-position, see ``Summary``."""
        images = [phase.read for phase in self.phases]
        return summarise(self.fixed, images, self.displacement, cycle=self.cycle)

    @property
    def amplitude(self) -> np.ndarray:
        """``[*frame.shape]`` mm: the largest displacement from the reference."""
        return self.summary.motion.amplitude

    @property
    def path(self) -> np.ndarray:
        """``[*frame.shape]`` mm: the length of the way through all phases.

        With ``cycle`` it is closed, from the last phase back to the first.
        """
        return self.summary.motion.path

    @property
    def mid_position(self) -> Image:
        """The mean of all phases, each warped to the mean position of the anatomy."""
        return self.summary.mid_position

    def save(self, folder, formats: Collection[str] = ()) -> None:
        """Write what ``regnet register --series`` writes.

        Args:
            folder: of the files; each phase but the reference gets a folder in it.
            formats: as for ``Registration.save``.

        Raises:
            InputError: as ``Registration.save``.
        """
        from regnet_jax.registration.series_files import save_series

        save_series(self, folder, formats)


def register_series(
    series,
    reference: int | str | None = None,
    model: str | os.PathLike | Network | None = AUTO,
    *,
    spacing=None,
    fixed_mask=None,
    ignore_fixed=None,
    immobile=None,
    cycle: bool = True,
    load: Callable[[str], Network] = load_network,
    progress: bool = False,
    **options,
) -> SeriesRegistration:
    """Register all phases of a series, such as a 4D CT, to one of them.

    Each phase is registered to the reference by ``regnet_jax.register``, with one
    network that is loaded once.

    Args:
        series: the path of a 4D image, of a folder with an image for each phase, or of
            a DICOM folder, see ``io.phases.read_phases``; a SimpleITK image in 4D; or
            a sequence of images as ``regnet_jax.register`` takes them, such as an array
            ``[t, z, y, x]`` with ``spacing``. All are in the order of time.
        reference: number of the phase to which the others are registered, from 0, its
            name, or what the series calls it, such as a file name; None is the first.
        model: as for ``regnet_jax.register``.
        spacing: mm, x first, of bare arrays.
        fixed_mask: of the reference, as for ``regnet_jax.register``.
        ignore_fixed: likewise.
        immobile: likewise.
        cycle: whether the last phase is followed by the first, as in a breath.
        load: returns the network of a name.
        progress: show a progress bar.
        **options: the fields of ``RegistrationOptions``.

    Returns:
        The registrations, and what they say together: ``amplitude``, ``path`` and
        ``mid_position``.

    Raises:
        InputError: if there are fewer than two phases or no such reference, and as
            ``regnet_jax.register``.
    """
    check_switch("cycle", cycle)
    several = series if isinstance(series, list | tuple) else [series]
    if spacing is not None and several and all(map(has_geometry, several)):
        raise InputError(
            "spacing: is for phases that are bare arrays, and these have their own;"
            " leave it out"
        )
    source = None
    if isinstance(series, str | os.PathLike):
        phases = read_phases(series)
        source, _ = split_series(series)
    else:
        phases = as_phases(series, spacing=spacing)
    number = find_reference(phases, reference)
    fixed, cached = phases[number].read(), functools.cache(load)
    # What all phases need is read once.
    masks = {
        name: read_image(mask) if isinstance(mask, str | os.PathLike) else mask
        for name, mask in (
            ("fixed_mask", fixed_mask),
            ("ignore_fixed", ignore_fixed),
            ("immobile", immobile),
        )
    }
    if "initial" in options:
        options["initial"] = read_start(options["initial"])
    registrations: list[Registration | None] = []
    for k, phase in enumerate(
        tqdm(phases, "registering", unit="phase", disable=not progress)
    ):
        if k == number:
            registrations.append(None)
            continue
        result = register(
            fixed,
            phase.read(),
            model,
            load=cached,
            **masks,
            **options,
        )
        registrations.append(result)
    found = tuple(phases), number, tuple(registrations)
    return SeriesRegistration(*found, cycle, source)
