"""A 3D network that starts from what its 2D sibling has learned.

Source of the idea: J. Carreira and A. Zisserman, "Quo vadis, action recognition? A new
model and the Kinetics dataset", CVPR 2017, who repeat 2D kernels along the new axis.
Here they become the middle planes: at first the 3D network sees each plane as the 2D
network does.
"""

import jax
import jax.numpy as jnp


def inflate(plane, volume, *, noise: float = 0.3):
    """Puts the weights of a 2D network into its 3D sibling.

    Kernels become the middle planes along z, and what was predicted for (y, x) still
    is; all that is new, the other taps and the displacement along z, starts from
    small random numbers.

    Args:
        plane: variables of the 2D network.
        volume: variables of the 3D network, freshly drawn; of the same layers, all
            of whose kernels are ``[*taps, c_in, c_out]``.
        noise: factor of the fresh kernels where there is nothing to put. Without
            noise no feature would tell up from down.

    Returns:
        Variables like ``volume``.
    """

    def fill(path, old, new):
        new = jnp.asarray(new)
        if path[-1].key != "kernel":
            # A bias of the last layer has an entry for each component.
            return new.at[new.shape[0] - old.shape[0] :].set(old)
        outputs = slice(new.shape[-1] - old.shape[-1], None)
        return (noise * new).at[new.shape[0] // 2, ..., outputs].set(old)

    return jax.tree_util.tree_map_with_path(fill, plane, volume)
