"""Arrays of every type and layout: the image that they are, or one line."""

import contextlib

import jax
import jax.numpy as jnp
import ml_dtypes
import numpy as np
import pytest
import SimpleITK as sitk
from hypothesis import given, settings
from hypothesis import strategies as st

from regnet_jax.errors import InputError
from regnet_jax.io import as_image
from regnet_jax.spatial import (
    Frame,
    Image,
    as_array,
    as_mask,
    check_pair,
    from_sitk,
    resample,
    to_sitk,
    warn_if_same,
    warp_image,
)
from regnet_jax.spatial.images import round_to
from tests.helpers.frames import FRAMES

# The type that ITK holds for each that NumPy and JAX can make.
HELD = {
    **{f"{order}{name}": name for name in ("i2", "u2", "i4", "u4") for order in "<>"},
    **{f"{order}{name}": name for name in ("i8", "u8", "f4", "f8") for order in "<>"},
    **{"?": "u1", "i1": "i1", "u1": "u1", "<f2": "f4", ">f2": "f4", "g": "f8"},
}
SMALL = {
    **dict.fromkeys((ml_dtypes.int4, ml_dtypes.int2), "i1"),
    **dict.fromkeys((ml_dtypes.uint4, ml_dtypes.uint2), "u1"),
    **dict.fromkeys((ml_dtypes.bfloat16, ml_dtypes.float8_e4m3fn), "f4"),
}
LAYOUTS = {
    "C": lambda a: a,
    "Fortran": np.asfortranarray,
    "reversed": lambda a: np.flip(np.flip(a).copy()),
    "strided": lambda a: np.repeat(a, 3, axis=-1)[..., ::3],
    "transposed": lambda a: np.ascontiguousarray(a.T).T,
    "read only": lambda a: np.frombuffer(a.tobytes(), a.dtype).reshape(a.shape),
    "nested lists": lambda a: a.tolist(),
    "nested tuples": lambda a: tuple(a.tolist()),
    "matrix of lists": lambda a: list(a),
}


@contextlib.contextmanager
def refused(*fragments):
    with pytest.raises(InputError) as caught:
        yield
    message = str(caught.value)
    assert "\n" not in message
    for fragment in fragments:
        assert fragment in message


@settings(max_examples=80, deadline=None)
@given(
    st.sampled_from([*HELD, *SMALL]),
    st.sampled_from(list(LAYOUTS)),
    st.sampled_from(list(FRAMES)),
)
def test_arrays_of_every_type_and_layout_give_the_same_image(dtype, layout, frame):
    frame = FRAMES[frame]
    values = np.random.default_rng(0).integers(0, 2, frame.shape)
    array = LAYOUTS[layout](values.astype(dtype))
    image = as_image(Image(array, frame, "array"), "")
    np.testing.assert_array_equal(image.array, values)
    assert image.array.dtype.isnative
    if "lists" not in layout and "tuples" not in layout:
        assert image.array.dtype == (HELD | SMALL)[dtype]
    # ITK takes it, and each voxel lies where the array says.
    itk = to_sitk(array, frame)
    np.testing.assert_array_equal(sitk.GetArrayFromImage(itk), values)
    index = tuple(n // 2 for n in frame.shape)
    assert itk[index[::-1]] == values[index]


def test_arrays_in_native_layout_are_not_copied(tmp_path):
    array = np.arange(12.0).reshape(3, 4)
    assert np.shares_memory(as_array(array, ""), array)
    np.save(tmp_path / "a.npy", array)
    mapped = np.load(tmp_path / "a.npy", mmap_mode="r")
    assert np.shares_memory(as_array(mapped, ""), mapped)


@pytest.mark.parametrize("dtype", [jnp.bfloat16, jnp.float16, jnp.int4, jnp.bool_])
def test_arrays_of_jax_are_taken(dtype):
    # NumPy converts: XLA cannot convert half precision on CPUs without F16C.
    array = jnp.asarray(np.asarray([[0, 1, 1], [1, 0, 1]]).astype(dtype))
    assert array.dtype == dtype
    np.testing.assert_array_equal(as_array(array, ""), [[0, 1, 1], [1, 0, 1]])


class Tensor:
    """What another library hands out: only ``__array__``, and errors of its own."""

    def __init__(self, array):
        self.array = array

    def __array__(self, dtype=None, copy=None):
        if self.array is None:
            raise RuntimeError("Can't call numpy() on a tensor\nthat requires grad")
        return self.array


def test_tensors_of_other_libraries_are_taken():
    array = np.arange(6.0).reshape(2, 3)
    assert as_array(Tensor(array), "") is array
    with refused("moving", "Can't call numpy()"):
        as_array(Tensor(None), "moving")


def deleted():
    array = jnp.zeros((2, 2)) + 1
    array.delete()
    return array


NO_NUMBERS = {
    "complex": (np.ones((2, 2), complex), "magnitude"),
    "complex of jax": (jnp.ones((2, 2), jnp.complex64), "magnitude"),
    "object": (np.ones((2, 2), object), "holds object"),
    "large integers": ([[2**70, 1], [2, 3]], "holds object"),
    "text": (np.array([["a", "b"]]), "real numbers are needed"),
    "bytes": (np.array([[b"a", b"b"]]), "real numbers are needed"),
    "dates": (np.zeros((2, 2), "M8[s]"), "datetime64"),
    "durations": (np.zeros((2, 2), "m8[s]"), "timedelta64"),
    "records": (np.zeros((2, 2), [("a", "f4"), ("b", "i4")]), "real numbers"),
    "void": (np.zeros((2, 2), "V4"), "real numbers"),
    "float0": (np.zeros((2, 2), jax.dtypes.float0), "real numbers"),
    "masked": (np.ma.masked_less(np.eye(2), 0.5), "2 of 4 values are masked; fill"),
    "masked rows": ([np.ma.masked_less(r, 0.5) for r in np.eye(2)], "2 of 4 values"),
    "ragged": ([[1, 2], [3]], "no array can be made of it"),
    "None": (None, "of type NoneType; give a SimpleITK or nibabel image"),
    "a generator": ((n for n in range(3)), "of type generator"),
    "a set": ({1, 2}, "of type set"),
    "a key": (jax.random.key(0), "no array can be made of it"),
    "deleted": (deleted(), "no array can be made of it"),
}


@pytest.mark.parametrize("case", NO_NUMBERS)
def test_inputs_without_numbers_are_refused(case):
    given, fragment = NO_NUMBERS[case]
    with refused("moving: ", fragment):
        as_image(given, "moving", spacing=1.0)


def test_masked_arrays_without_a_masked_value_are_taken():
    array = np.ma.array([[1.0, 2.0]], mask=[[False, False]])
    np.testing.assert_array_equal(as_array(array, ""), [[1.0, 2.0]])


def test_a_traced_array_is_refused():
    @jax.jit
    def traced(x):
        with refused("no array can be made of it"):
            as_array(x, "moving")
        return x

    traced(jnp.zeros((2, 2)))


@pytest.mark.parametrize("frame", FRAMES.values(), ids=FRAMES)
def test_image_from_array_has_the_points_of_itk(frame):
    array = np.random.default_rng(0).normal(size=frame.shape)
    image = Image.from_array(
        array, frame.spacing, frame.origin, frame.direction, name="mine"
    )
    assert image.frame == frame
    assert image.name == "mine"
    nested = np.reshape(frame.direction, (frame.ndim, -1)).tolist()
    again = Image.from_array(array, jnp.asarray(frame.spacing), frame.origin, nested)
    np.testing.assert_allclose(again.frame.spacing, frame.spacing, rtol=1e-6)
    assert again.frame.direction == frame.direction


@pytest.mark.parametrize("shape", [(3, 4), (2, 3, 4)])
def test_image_from_array_takes_one_spacing_for_all_axes(shape):
    d = len(shape)
    array = np.zeros(shape, np.uint8)
    plain = Frame(shape, (1.5,) * d, (0,) * d, np.eye(d))
    assert Image.from_array(array, 1.5).frame == plain
    assert as_image(array, "", spacing=np.float32(1.5)).frame == plain
    # SimpleITK agrees about the order.
    spacing = (0.5, 2.0, 3.0)[:d]
    image = sitk.GetImageFromArray(array)
    image.SetSpacing(spacing)
    assert Image.from_array(array, spacing).frame == from_sitk(image, "").frame


BAD_GRIDS = {
    "no spacing": ({"spacing": None}, "spacing"),
    "zero": ({"spacing": 0}, "(x, y, z) order, in mm"),
    "negative": ({"spacing": (1, 1, -1)}, "above zero"),
    "two": ({"spacing": (1, 1)}, "3 of them"),
    "nested": ({"spacing": [[1, 1, 1]]}, "3 of them"),
    "a matrix": ({"spacing": np.eye(3)}, "3 of them"),
    "not finite": ({"spacing": (1, 1, np.nan)}, "NaN"),
    "text": ({"spacing": "1"}, "'1' is of type str; give numbers"),
    "truth": ({"spacing": True}, "truth values"),
    "complex": ({"spacing": 1j}, "complex"),
    "metres as nanometres": ({"spacing": 1e9}, "which no image has"),
    "too small": ({"spacing": 1e-9}, "which no image has"),
    "origin": ({"origin": (0, 0)}, "its origin 2"),
    "origin of text": ({"origin": "here"}, "origin: 'here'"),
    "origin not finite": ({"origin": (0, np.inf, 0)}, "origin"),
    "direction": ({"direction": np.eye(2)}, "its direction 4"),
    "direction of text": ({"direction": "up"}, "frame: "),
    "shear": ({"direction": np.eye(3) + 0.2 * np.eye(3, k=1)}, "not orthonormal"),
    "singular": ({"direction": np.zeros((3, 3))}, "not orthonormal"),
    "NaN": ({"direction": np.full((3, 3), np.nan)}, "not orthonormal"),
}


@pytest.mark.parametrize("case", BAD_GRIDS)
def test_image_from_array_refuses_impossible_grids(case):
    given, fragment = BAD_GRIDS[case]
    with refused(fragment):
        Image.from_array(np.zeros((2, 3, 4)), **{"spacing": 1.0, **given})


@pytest.mark.parametrize(
    "shape", [(), (4,), (1, 4, 5, 1), (1, 2, 4, 5, 3), (0, 4), (3, 0, 4), (0,)]
)
def test_image_from_array_refuses_other_shapes(shape):
    with refused("mine: has shape ("):
        Image.from_array(np.zeros(shape), 1.0, name="mine")


@pytest.mark.parametrize("channels", [3, 4])
def test_pictures_in_colour_are_not_taken_for_volumes(channels):
    array = np.zeros((20, 30, channels), np.uint8)
    array[0, 0] = 1
    with refused("mine: has shape (20, 30", "as pictures in colour have; give grey"):
        Image.from_array(array, 1.0, name="mine")
    # Scans have other types, and slabs their short axis elsewhere.
    for other in (array.astype(np.int16), np.moveaxis(array, -1, 0)):
        assert Image.from_array(other, 1.0).frame.ndim == 3


@pytest.mark.parametrize("value", [np.nan, np.inf, -np.inf, np.longdouble("1e4000")])
def test_values_that_are_not_finite_are_refused(value):
    array = np.zeros((4, 5), np.longdouble)
    array[1, 2] = value
    with refused("mine: 1 of 20 of its values are NaN or infinite"):
        Image.from_array(array, 1.0, name="mine")


PLANE = Frame((4, 5), (1, 1), (0, 0), np.eye(2))


@pytest.mark.parametrize(
    ("image", "fragment"),
    [
        (
            Image(np.zeros((3, 5)), PLANE, "mine"),
            "has shape (3, 5) on a grid of (4, 5)",
        ),
        (Image(np.zeros((4, 5, 2)), PLANE, "mine"), "one value for each voxel"),
        (Image(np.zeros((4, 5)), None, "mine"), "of type NoneType"),
        (Image(None, PLANE, "mine"), "of type NoneType"),
        (
            Image(np.zeros((4, 5)), Frame((4, 5), (0, 1), (0, 0), np.eye(2)), "mine"),
            "above zero",
        ),
    ],
)
def test_as_image_refuses_images_with_a_wrong_frame(image, fragment):
    with refused("mine", fragment):
        as_image(image, "")


@pytest.mark.parametrize(
    "values",
    [
        ((2, 3.5), (1, 1), (0, 0), np.eye(2)),
        ((2, "a"), (1, 1), (0, 0), np.eye(2)),
        ((2, np.nan), (1, 1), (0, 0), np.eye(2)),
        (5, (1, 1), (0, 0), np.eye(2)),
        ((2, 3), (1, None), (0, 0), np.eye(2)),
        ((2, 3), (1, 1), None, np.eye(2)),
        ((2, 3), (1, 1), (0, 0), np.eye(3)),
        ((2, 3), (1, 1), (0, 0), [[1, 0], [0]]),
    ],
)
def test_frame_refuses_impossible_values(values):
    with refused("frame: "):
        Frame(*values)


SITK = {
    **{f"sitk{sign}Int{bits}": 1 for sign in ("", "U") for bits in (8, 16, 32, 64)},
    **{f"sitk{kind}": 1 for kind in ("Float32", "Float64")},
    **{f"sitkLabelUInt{bits}": 1 for bits in (8, 16, 32, 64)},
    **{f"sitkComplexFloat{bits}": "complex" for bits in (32, 64)},
    **{f"sitkVector{kind}": "components" for kind in ("UInt8", "Float32", "Float64")},
}


@pytest.mark.parametrize("kind", SITK)
@pytest.mark.parametrize("size", [(5, 4), (5, 4, 3)])
def test_as_image_takes_every_type_of_simpleitk(kind, size):
    image = sitk.Image(size, getattr(sitk, kind))
    if SITK[kind] != 1:
        with refused("fixed", SITK[kind]):
            as_image(image, "fixed")
        return
    if "Label" in kind:
        binary = sitk.Image(size, sitk.sitkUInt8)
        binary[(1,) * len(size)] = 1
        image = sitk.Cast(binary, getattr(sitk, kind))
    else:
        image[(1,) * len(size)] = 1
    found = as_image(image, "fixed").array
    assert found.sum() == 1
    assert found[(1,) * len(size)] == 1
    assert as_mask(as_image(image, "fixed")).array.sum() == 1


@pytest.mark.parametrize(
    "image", [sitk.Image(), sitk.Image((3, 3, 3, 3), sitk.sitkUInt8)]
)
def test_as_image_refuses_bad_images_of_simpleitk(image):
    with refused("fixed: "):
        as_image(image, "fixed")


@pytest.mark.parametrize(
    ("values", "fragment"),
    [
        (np.full(20, 7), "same value everywhere"),
        (1e10 + np.arange(20), "subtract 1e+10"),
        (10**15 + np.arange(20), "subtract 1e+15"),
        (5 + 1e-8 * np.arange(20), "subtract 5"),
        (1e200 * np.arange(20), "scale them"),
        (1e-40 * np.arange(20), "scale them"),
        (-1e35 * np.arange(20), "scale them"),
    ],
)
def test_check_pair_refuses_contrast_that_single_precision_loses(values, fragment):
    good = Image.from_array(np.arange(20.0).reshape(4, 5), 1.0, name="good")
    bad = Image.from_array(values.reshape(4, 5), 1.0, name="bad")
    for pair in ((good, bad), (bad, good)):
        with refused("bad: ", fragment):
            check_pair(*pair)
    check_pair(good, good)


def test_the_same_image_twice_gets_a_warning(caplog):
    """Under another name, too; another place is another image."""
    values = np.arange(60.0).reshape(3, 4, 5)
    first = Image.from_array(values, 2.0, name="first")
    moved = Image.from_array(values, 2.0, (0.0, 0.0, 5.0), name="moved")
    warn_if_same(first, moved)
    warn_if_same(first, Image.from_array(values + 1, 2.0, name="brighter"))
    assert not caplog.text
    warn_if_same(first, Image.from_array(values.copy(), 2.0, name="second"))
    assert "second: is the same image as first, so that nothing moves" in caplog.text


SHIFT = sitk.TranslationTransform(2, (1.0, 0.0))


@pytest.mark.parametrize("dtype", [*HELD, *SMALL])
def test_warped_images_keep_their_type_or_the_one_of_itk(dtype):
    values = np.random.default_rng(0).integers(0, 2, (4, 5))
    for interpolation in ("linear", "nearest"):
        warped = warp_image(
            Image(values.astype(dtype), PLANE, ""), PLANE, SHIFT,
            interpolation=interpolation,
        )  # fmt: skip
        np.testing.assert_array_equal(warped.array[:, :-1], values[:, 1:])
        assert warped.array.dtype == (HELD | SMALL)[dtype]


@pytest.mark.parametrize("dtype", ["u4", "i4", "u8", "i8"])
def test_warped_images_keep_the_largest_whole_numbers(dtype):
    """They are no floats, and the next float above is another number."""
    info = np.iinfo(dtype)
    values = np.full((4, 5), info.max, dtype)
    values[:2] = info.min
    for image in (Image(values, PLANE, ""), Image(values[::-1], PLANE, "")):
        warped = warp_image(image, PLANE, sitk.TranslationTransform(2, (0.5, 0.0)))
        difference = warped.array[:, :-1].astype(float) - image.array[:, :-1]
        assert np.abs(difference).max() <= 1e-6 * float(info.max)


def test_warped_mask_of_bool_is_not_larger():
    mask = np.zeros((4, 8), bool)
    mask[:, 2:5] = True
    frame = Frame((4, 8), (1, 1), (0, 0), np.eye(2))
    shift = sitk.TranslationTransform(2, (0.75, 0.0))
    warped = warp_image(Image(mask, frame, ""), frame, shift)
    np.testing.assert_array_equal(warped.array[0], [0, 1, 1, 1, 0, 0, 0, 0])
    assert resample(Image(mask, frame, ""), frame, shift).array[0, 1] == 0.75


@pytest.mark.parametrize("kind", [np.float32, np.float64])
@pytest.mark.parametrize("dtype", [np.int8, np.uint16, np.int32, np.int64])
def test_numbers_beyond_a_type_become_its_ends(kind, dtype):
    info = np.iinfo(dtype)
    values = np.array([-1e30, -3.0, -0.6, 0.0, 2.4, 100.0, 1e30], kind)
    found = round_to(values, dtype)
    assert found.dtype == dtype
    expected = [max(info.min, v) for v in (-3, -1)]
    np.testing.assert_array_equal(found[1:6], [*expected, 0, 2, 100])
    assert found[0] == info.min
    # The largest number of the type may have no float.
    assert found[-1] == pytest.approx(float(info.max), rel=1e-6)
