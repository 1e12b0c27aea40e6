"""The families of artificial displacement fields, by name, and mixtures of them."""

from __future__ import annotations

import dataclasses
from collections.abc import Callable, Sequence
from typing import TYPE_CHECKING, Any

import jax
import jax.numpy as jnp

from regnet_jax.synthesis.fields.deformation import Deformation, limit_folding
from regnet_jax.synthesis.fields.linear import LinearFamily, affine, translation, zero
from regnet_jax.synthesis.fields.peaks import (
    FAMILIES_2017,
    ZERO_PEAKS,
    PeakFamily,
    peak_field,
    peaks_that_fit,
)
from regnet_jax.synthesis.fields.respiratory import (
    RespiratoryFamily,
    respiratory,
)
from regnet_jax.synthesis.fields.splines import (
    MixedFamily,
    SplineFamily,
    diffeomorphic,
    mixed_frequency,
    multiscale,
    single_frequency,
)

if TYPE_CHECKING:
    from jax import Array
    from jaxtyping import Float


@jax.tree_util.register_dataclass
@dataclasses.dataclass(frozen=True)
class Family:
    """A kind of field and its parameters.

    It is a pytree of the parameters, so that one compiled function serves all families
    of a kind.

    Attributes:
        sample: ``sample(key, volume, parameters, *, spacing) -> Deformation``.
        parameters: a named tuple of numbers.
    """

    sample: Callable = dataclasses.field(metadata={"static": True})
    parameters: Any

    @property
    def amplitude(self):
        """Largest component of any displacement, mm; 0 if nothing moves."""
        return getattr(self.parameters, "amplitude", 0.0)

    def scaled(self, factor) -> Family:
        """Return the same family with another amplitude.

        Args:
            factor: of the amplitude; may be traced.

        Returns:
            A family; one without amplitude is returned as it is.
        """
        if not hasattr(self.parameters, "amplitude"):
            return self
        amplitude = factor * self.amplitude
        return Family(self.sample, self.parameters._replace(amplitude=amplitude))


def _by_shape(sample: Callable) -> Callable:
    """Return a family of fields that depend on the shape of the volume alone."""
    return lambda key, volume, parameters, *, spacing: sample(
        key, volume.shape[:-1], parameters, spacing=spacing
    )


_peaks = _by_shape(peak_field)

FAMILIES = {
    **{name: Family(_peaks, numbers) for name, numbers in FAMILIES_2017.items()},
    "zero": Family(_by_shape(zero), ()),
    "translation": Family(_by_shape(translation), LinearFamily(20.0)),
    "affine": Family(_by_shape(affine), LinearFamily(20.0)),
    "single": Family(_by_shape(single_frequency), SplineFamily(20.0)),
    "multiscale": Family(_by_shape(multiscale), SplineFamily(20.0, held_border=0.0)),
    "mixed": Family(mixed_frequency, MixedFamily(20.0)),
    "respiratory": Family(respiratory, RespiratoryFamily(20.0)),
    "sliding": Family(
        respiratory,
        RespiratoryFamily(20.0, least_border=1.5, most_border=6.0, slip=10.0),
    ),
    "diffeomorphic": Family(_by_shape(diffeomorphic), SplineFamily(20.0)),
}
# Those that find the organs of a chest by Hounsfield units.
CHEST_FAMILIES = ("respiratory", "sliding")


def has_room(family: Family, shape: Sequence[int], *, spacing: float) -> bool | None:
    """Tell whether the fields of a family move anything in volumes of a shape.

    Args:
        family: its parameters are not traced.
        shape: spatial shape.
        spacing: isotropic voxel size, mm.

    Returns:
        True if all of its fields do, False if none does, and None if that depends on
        the volume or the random key, so that only a sampled field can tell.
    """
    if not family.amplitude:
        return True
    if not isinstance(family.parameters, PeakFamily):
        return None
    fewest, most = peaks_that_fit(shape, family.parameters, spacing=spacing)
    if most <= ZERO_PEAKS:
        return False
    return True if fewest > ZERO_PEAKS else None


def sample_field(
    key,
    volume: Float[Array, "*spatial 1"],
    family: Family,
    *,
    spacing: float,
    least_jacobian: float | None = None,
) -> Deformation:
    """Sample a field of a family.

    Args:
        key: random key.
        volume: ``[*spatial, 1]`` HU, the moving image.
        family: its parameters may be traced.
        spacing: isotropic voxel size, mm.
        least_jacobian: shrink the field until its Jacobian determinant is nowhere
            smaller; None leaves it.

    Returns:
        A ``Deformation``.
    """
    field, area = family.sample(key, volume, family.parameters, spacing=spacing)
    if least_jacobian is not None:
        field = limit_folding(field, least_jacobian)
    return Deformation(field, area)


def pick_family(families: Sequence[Family], index) -> Family:
    """Return one of several families by its number, which may be traced.

    Only this one is run. Each kind is compiled once, however many families of it
    there are.

    Args:
        families: the choices.
        index: number of the family.

    Returns:
        A family with the fields of the one that is picked; its parameters are traced.
    """
    kinds = list(dict.fromkeys(family.sample for family in families))
    kind_of = [kinds.index(family.sample) for family in families]
    row_of = [kind_of[:i].count(kind) for i, kind in enumerate(kind_of)]
    tables = [
        jax.tree.map(
            lambda *column: jnp.asarray(column, jnp.float32),
            *(family.parameters for family in families if family.sample is kind),
        )
        for kind in kinds
    ]

    def sample(key, volume, parameters, *, spacing):
        kind, row = parameters
        branches = [
            _from_table(one, table, spacing)
            for one, table in zip(kinds, tables, strict=True)
        ]
        return jax.lax.switch(kind, branches, key, volume, row)

    return Family(sample, (jnp.asarray(kind_of)[index], jnp.asarray(row_of)[index]))


def choose_family(key, families: Sequence[Family], weights: Sequence[float]) -> Family:
    """Pick one of several families at random.

    Args:
        key: random key.
        families: the choices.
        weights: probability of each, up to a common factor.

    Returns:
        A family as ``pick_family`` returns it.
    """
    given = jnp.asarray(weights, jnp.float32)
    index = jax.random.choice(key, len(families), p=given / jnp.sum(given))
    return pick_family(families, index)


def _from_table(sample, table, spacing):
    """Return the function that samples a kind of field by a row of its parameters."""

    def sample_row(key, volume, row):
        numbers = jax.tree.map(lambda column: column[row], table)
        return sample(key, volume, numbers, spacing=spacing)

    return sample_row
