"""All networks side by side, as a table for the documentation."""

from regnet_jax.models.arithmetic import cost, parameters, window_of
from regnet_jax.models.registry import MODELS, make_model

_HEAD = (
    *("network", "parameters", "receptive field", "answers of a window"),
    *("kFLOP a voxel", "live", "kept for training"),
)
_MIB = 2**20


def table(dimensions: int, size: int) -> str:
    """What every network looks at and takes, in Markdown.

    Args:
        dimensions: 2 or 3.
        size: voxels along each axis for which there shall be answers.

    Returns:
        Lines of a table; operations are divided by the voxels answered for, memory is
        MiB for all of them at once.
    """
    rows = [_row(name, dimensions, size) for name in MODELS]
    lines = [_HEAD, ["---"] * len(_HEAD), *rows]
    return "\n".join(f"| {' | '.join(line)} |" for line in lines)


def _row(name, dimensions, size):
    model = make_model(name, dimensions=dimensions)
    support = model.support
    window = window_of(support, size // support.stride)
    spent = cost(model, (window,) * dimensions)
    places = f"{window} to {size}"
    if support.stride > 1:
        places += f", every {support.stride}nd"
    return (
        f"`{name}`",
        f"{parameters(model):,}",
        f"{support.receptive_field}",
        places,
        f"{spent.operations / size**dimensions / 1e3:,.0f}",
        f"{spent.live / _MIB:,.0f}",
        f"{spent.kept / _MIB:,.0f}",
    )
