"""Frames of every kind: anisotropic, oblique, flipped, permuted, 2D and 3D."""

import numpy as np
from hypothesis import strategies as st
from scipy.spatial.transform import Rotation

from regnet_jax.spatial import Frame


def rotation(d, angle, axis=(1.0, 2.0, -1.5)):
    if d == 2:
        return Rotation.from_euler("z", angle).as_matrix()[:2, :2]
    axis = np.asarray(axis) / np.linalg.norm(axis)
    return Rotation.from_rotvec(angle * axis).as_matrix()


FRAMES = {
    "3d plain": Frame((5, 6, 7), (1, 1, 1), (0, 0, 0), np.eye(3)),
    "3d anisotropic": Frame((5, 6, 7), (0.7, 0.9, 2.5), (-80, 12, 300), np.eye(3)),
    "3d oblique": Frame((5, 6, 7), (0.7, 0.9, 2.5), (-80, 12, 300), rotation(3, 0.4)),
    "3d flipped": Frame((5, 6, 7), (1, 2, 3), (9, 8, 7), np.diag([-1, 1, -1])),
    "3d left-handed": Frame((5, 6, 7), (1, 2, 3), (9, 8, 7), np.diag([1, 1, -1])),
    "3d permuted": Frame((5, 6, 7), (1, 2, 3), (9, 8, 7), np.eye(3)[[1, 2, 0]]),
    "3d all": Frame(
        (5, 6, 7),
        (1, 2, 3),
        (9, 8, 7),
        rotation(3, 0.3) @ np.eye(3)[[2, 0, 1]] @ np.diag([1, -1, 1]),
    ),
    "2d anisotropic": Frame((6, 7), (0.7, 2.5), (-80, 12), np.eye(2)),
    "2d oblique": Frame((6, 7), (0.7, 2.5), (-80, 12), rotation(2, 0.6)),
    "2d flipped": Frame((6, 7), (0.7, 2.5), (-80, 12), np.diag([-1, 1])),
    "2d permuted": Frame((6, 7), (0.7, 2.5), (-80, 12), np.eye(2)[::-1]),
}


@st.composite
def frames(draw):
    """Any frame at all, left-handed ones included."""
    d = draw(st.sampled_from([2, 3]))

    def several(elements):
        return draw(st.tuples(*[elements] * d))

    axis = draw(st.sampled_from([(1, 0, 0), (0, 1, 0), (1, 2, -1.5), (-2, 1, 1)]))
    turn = rotation(d, draw(st.floats(-np.pi, np.pi)), axis)
    mirror = np.diag(several(st.sampled_from([-1.0, 1.0])))
    return Frame(
        shape=several(st.integers(1, 9)),
        spacing=several(st.floats(0.1, 10)),
        origin=several(st.floats(-500, 500)),
        direction=turn @ mirror,
    )
