"""Whatever is wrong with the input: one line, status 2, and nothing is touched."""

import gzip
import json
import struct

import numpy as np
import pytest
import SimpleITK as sitk

from tests.helpers.networks import smooth_image

PLANE = smooth_image((20, 24))
VOLUME = smooth_image((10, 12, 14))
MODULES = [
    *("ablate", "assess", "benchmark", "chests", "compare", "demo", "evaluate"),
    *("export", "manifest", "models", "register", "synthesize", "train", "warp"),
]


def store(path, array=PLANE, spacing=2.0, **options):
    image = sitk.GetImageFromArray(array, **options)
    image.SetSpacing([spacing] * image.GetDimension())
    sitk.WriteImage(image, str(path))
    return path


def truncated(path, array):
    store(path, array)
    data = path.read_bytes()
    path.write_bytes(data[: len(data) // 2])
    return path


def zero_spacing(path):
    store(path, VOLUME)
    data = bytearray(gzip.decompress(path.read_bytes()))
    struct.pack_into("<f", data, 84, 0.0)
    path.write_bytes(gzip.compress(bytes(data)))
    return path


def with_nan(values, share):
    result = values.copy()
    result[tuple(slice(max(1, int(n * share))) for n in values.shape)] = np.nan
    return result


def text(path, content):
    path.write_text(content)
    return path


def broken_h5(path):
    path.write_bytes(b"\x89HDF\r\n\x1a\n" + bytes(64))
    return path


def linear_3d(path):
    sitk.WriteTransform(sitk.AffineTransform(3), str(path))
    return path


def not_a_number(path):
    field = sitk.Image((4, 4), sitk.sitkVectorFloat64) + np.nan
    sitk.WriteTransform(sitk.DisplacementFieldTransform(field), str(path))
    return path


# What --fixed is given; the moving image is a good plane.
IMAGES = {
    "missing": ("gone.mha", lambda p: p),
    "empty-file": ("empty.nii.gz", lambda p: text(p, "")),
    "no-image": ("notes.txt", lambda p: text(p, "no image\n")),
    "truncated-nifti": ("cut.nii.gz", lambda p: truncated(p, VOLUME)),
    "truncated-nifti-2d": ("cut.nii.gz", lambda p: truncated(p, PLANE)),
    "truncated-mha": ("cut.mha", lambda p: truncated(p, PLANE)),
    "three-dimensions": ("volume.nii.gz", lambda p: store(p, VOLUME)),
    "four-dimensions": (
        "four.nii.gz",
        lambda p: store(p, smooth_image((3, 5, 6, 7)), isVector=False),
    ),
    "vectors": (
        "vectors.mha",
        lambda p: store(p, np.stack([PLANE] * 2, -1), isVector=True),
    ),
    "rgb": (
        "photo.png",
        lambda p: store(p, np.full((9, 9, 3), 7, np.uint8), 1.0, isVector=True),
    ),
    "all-nan": ("nan.mha", lambda p: store(p, with_nan(PLANE, 1.0))),
    "some-nan": ("nan.mha", lambda p: store(p, with_nan(PLANE, 0.2))),
    "zero-spacing": ("flat.nii.gz", zero_spacing),
    "zero-spacing-mha": (
        "flat.mha",
        lambda p: text(
            p,
            "ObjectType = Image\nNDims = 2\nBinaryData = False\n"
            "ElementSpacing = 0 1\nDimSize = 2 2\nElementType = MET_SHORT\n"
            "ElementDataFile = LOCAL\n1 2 3 4\n",
        ),
    ),
    "constant": ("constant.mha", lambda p: store(p, np.zeros_like(PLANE))),
    "folder": ("folder", lambda p: (p.mkdir(), p)[1]),
}

INITIALS = {
    "unknown-kind": ("deformable", lambda p: p),
    "missing": ("gone.tfm", lambda p: p),
    "text": ("notes.tfm", lambda p: text(p, "no transform\n")),
    "broken": ("broken.h5", broken_h5),
    "other-dimension": ("affine3d.tfm", linear_3d),
    "not-a-number": ("field.h5", not_a_number),
}


@pytest.fixture
def plane(tmp_path):
    return store(tmp_path / "plane.mha")


def contents(folder):
    """All that is there, with the content and the time of each file."""
    return {
        str(path.relative_to(folder)): (path.stat().st_mtime_ns, path.read_bytes())
        if path.is_file()
        else None
        for path in folder.rglob("*")
    }


@pytest.fixture
def refused(command, tmp_path):
    """Check that a command line is refused by one line and leaves no trace."""

    def check(module, *arguments, names, start=False):
        before = contents(tmp_path)
        if start:
            result = command.start(module, *arguments)
        else:
            result = command(module, *arguments)
        assert result.status == 2, result
        assert len(result.errors) == 1, result.err
        assert result.errors[0].startswith("error: ")
        assert len(result.errors[0]) > len(f"error: {names}") + 10
        assert str(names) in result.errors[0]
        assert contents(tmp_path) == before

    return check


@pytest.fixture
def refused_pair(refused, plane, run2d, tmp_path):
    """The same for a registration that is right but for some flags."""

    def check(names, start=False, **changes):
        flags = {
            "fixed": plane,
            "moving": store(tmp_path / "moving.mha", PLANE[::-1]),
            "model": run2d,
            "out": tmp_path / "out",
        }
        flags = {k: v for k, v in (flags | changes).items() if v is not None}
        arguments = [f"--{name}={value}" for name, value in flags.items()]
        refused("register", *arguments, names=names, start=start)

    return check


@pytest.mark.parametrize("case", IMAGES)
def test_unusable_fixed_image_is_refused(refused_pair, tmp_path, case):
    name, make = IMAGES[case]
    path = make(tmp_path / name)
    refused_pair(path, fixed=path)


@pytest.mark.parametrize("case", ["missing", "some-nan", "three-dimensions"])
def test_unusable_moving_image_is_refused(refused_pair, tmp_path, case):
    name, make = IMAGES[case]
    path = make(tmp_path / name)
    refused_pair(path, moving=path)


def test_nan_in_nifti_is_refused(refused_pair, tmp_path):
    path = store(tmp_path / "nan.nii.gz", with_nan(PLANE, 0.2))
    # The unknown alignment ends the command before it registers.
    refused_pair(path, fixed=path, initial="deformable")


def test_missing_image_is_refused_in_a_process_of_its_own(refused_pair, tmp_path):
    refused_pair(tmp_path / "gone.mha", fixed=tmp_path / "gone.mha", start=True)


@pytest.mark.parametrize("case", INITIALS)
def test_unusable_initial_transform_is_refused(refused_pair, tmp_path, case):
    name, make = INITIALS[case]
    value = name if case == "unknown-kind" else make(tmp_path / name)
    refused_pair(value, initial=value)


MASKS = ("fixed_mask", "moving_mask", "ignore_fixed", "ignore_moving", "immobile")


@pytest.mark.parametrize("which", MASKS)
def test_empty_mask_is_refused(refused_pair, tmp_path, which):
    mask = store(tmp_path / "mask.mha", np.zeros((20, 24), np.uint8))
    refused_pair(mask, **{which: mask})


@pytest.mark.parametrize("which", MASKS[2:])
def test_mask_that_covers_everything_is_refused(refused_pair, tmp_path, which):
    mask = store(tmp_path / "mask.mha", np.ones((20, 24), np.uint8))
    refused_pair(mask, **{which: mask})


def test_mask_beside_the_image_is_refused(refused_pair, tmp_path):
    image = sitk.GetImageFromArray(np.ones((5, 5), np.uint8))
    image.SetOrigin((900.0, 900.0))
    sitk.WriteImage(image, str(tmp_path / "mask.mha"))
    mask = tmp_path / "mask.mha"
    refused_pair(mask, fixed_mask=mask)


def test_mask_of_another_dimension_is_refused(refused_pair, tmp_path):
    mask = store(tmp_path / "mask.mha", np.ones((3, 4, 5), np.uint8))
    refused_pair(mask, fixed_mask=mask)


def test_file_as_output_folder_is_refused(refused_pair, tmp_path):
    out = text(tmp_path / "results", "of last year")
    refused_pair(out, out=out)


def test_output_folder_below_a_file_is_refused(refused_pair, tmp_path):
    out = text(tmp_path / "results", "of last year") / "deep" / "down"
    refused_pair(out, out=out)


def test_refusal_keeps_earlier_results(refused_pair, tmp_path):
    out = tmp_path / "out"
    out.mkdir()
    text(out / "warped.nii.gz", "of last year")
    refused_pair(tmp_path / "gone.mha", moving=tmp_path / "gone.mha")


def test_folder_in_the_place_of_a_result_is_refused(refused_pair, tmp_path):
    """Found only when the results are moved into place."""
    out = tmp_path / "out"
    (out / "warped.nii.gz").mkdir(parents=True)
    text(out / "displacement.nii.gz", "of last year")
    refused_pair(out, initial="none")


def test_missing_model_is_refused(refused_pair, tmp_path):
    refused_pair(tmp_path / "run", model=tmp_path / "run")


def test_model_without_config_is_refused(refused_pair, tmp_path):
    (tmp_path / "run").mkdir()
    refused_pair(tmp_path / "run", model=tmp_path / "run")


def test_model_without_checkpoint_is_refused(refused_pair, run2d, tmp_path):
    run = tmp_path / "run"
    run.mkdir()
    text(run / "config.json", (run2d / "config.json").read_text("utf-8"))
    refused_pair("inference.json", model=run)
    text(run / "inference.json", (run2d / "inference.json").read_text("utf-8"))
    refused_pair(run, model=run)
    (run / "checkpoints").mkdir()
    refused_pair(run, model=run)


def test_model_with_a_foreign_config_is_refused(refused_pair, tmp_path):
    run = tmp_path / "run"
    run.mkdir()
    for content in (json.dumps({"layers": 3}), "{"):
        text(run / "config.json", content)
        text(run / "inference.json", content)
        refused_pair("inference.json", model=run)


def test_model_of_another_dimension_is_refused(refused_pair, plane, run3d):
    refused_pair(plane, model=run3d, start=True)


def synthesize(**changes):
    flags = {"family": "low", "shape": "32,32", "count": 1} | changes
    return [f"--{name}={value}" for name, value in flags.items()]


SYNTHESES = {
    "family": {"family": "low,sideways"},
    "shape": {"shape": "40"},
    "shape-zero": {"shape": "0,40"},
    "shape-negative": {"shape": "-40,40"},
    "shape-fraction": {"shape": "40.5,40"},
    "shape-word": {"shape": "big,40"},
    "shape-superscript": {"shape": "4²,40"},
    "shape-four": {"shape": "40,40,40,40"},
    "count": {"count": 0},
    "count-word": {"count": "many"},
    "spacing": {"spacing": 0},
    "spacing-nan": {"spacing": "nan"},
    "spacing-inf": {"spacing": "inf"},
    "seed": {"seed": "x"},
}


@pytest.mark.parametrize("case", SYNTHESES)
def test_bad_flags_of_synthesize_are_refused(refused, tmp_path, case):
    out = tmp_path / "pairs"
    name = case.partition("-")[0]
    arguments = synthesize(out=out, **SYNTHESES[case])
    refused("synthesize", *arguments, names=f"--{name}")


def test_synthesize_refuses_in_a_process_of_its_own(refused, tmp_path):
    arguments = synthesize(out=tmp_path / "pairs", family="sideways")
    refused("synthesize", *arguments, names="sideways", start=True)


@pytest.mark.parametrize("case", ["missing", "truncated-nifti", "three-dimensions"])
def test_unusable_volume_of_synthesize_is_refused(refused, tmp_path, case):
    name, make = IMAGES[case]
    path = make(tmp_path / name)
    arguments = synthesize(out=tmp_path / "pairs", volume=path)
    refused("synthesize", *arguments, names=path)


@pytest.mark.parametrize("below", ["", "deep"])
def test_file_as_output_folder_of_synthesize_is_refused(refused, tmp_path, below):
    out = text(tmp_path / "pairs", "of last year") / below
    refused("synthesize", *synthesize(out=out), names=out)


TRAININGS = {
    "config": (["--config=regnet4d"], "--config regnet4d"),
    "key": (["--override=data.colour=3"], "--override data.colour=3"),
    "type": (["--override=steps=many"], "--override steps=many"),
    "nan": (["--override=data.spacing=nan"], "--override data.spacing=nan"),
    "group": (["--override=data=3"], "--override data=3"),
    "no-group": (["--override=steps.a=3"], "--override steps.a=3"),
    "no-value": (["--override=steps"], "--override steps"),
    "negative-steps": (["--steps=-3"], "--steps"),
    "steps-word": (["--steps=all"], "--steps"),
    "model": (["--override=model=unet9"], "unet9"),
}


@pytest.mark.parametrize("case", TRAININGS)
def test_bad_flags_of_train_are_refused(refused, tmp_path, case):
    arguments, names = TRAININGS[case]
    arguments = ["--config=regnet2d_2017", f"--workdir={tmp_path / 'run'}", *arguments]
    refused("train", *arguments, names=names)


# Values of the right type that no run can have.
IMPOSSIBLE = {
    "family": "data.families=sideways",
    "window": "data.shape=64,64",
    "pairs": "pairs=0",
    "windows": "data.windows=0",
    "spacing": "data.spacing=0",
    "shape": "data.shape=224",
    "save": "save_every=0",
    "no-family": "data.families=",
    "limits": "data.limits=4,1.5",
    "small-window": "data.window=51",
    "margin": "data.margin=-1",
    "stride": "data.stride=0",
    "rate": "learning_rate=-0.001",
    "weights": "data.weights=1",
    "no-weight": "data.weights=0,0,0",
    "amplitude": "data.amplitude=0",
    "plane": "plane_steps=5",
    "intensity": "data.intensity=magic",
}


@pytest.mark.parametrize("case", IMPOSSIBLE)
def test_impossible_values_of_train_are_refused(refused, tmp_path, case):
    arguments = ["--config=regnet2d_2017", f"--workdir={tmp_path / 'run'}"]
    key = IMPOSSIBLE[case].partition("=")[0]
    refused("train", *arguments, f"--override={IMPOSSIBLE[case]}", names=key)


def test_train_refuses_in_a_process_of_its_own(refused, tmp_path):
    arguments = ["--config=nothing", f"--workdir={tmp_path / 'run'}"]
    refused("train", *arguments, names="nothing", start=True)


def test_train_refuses_the_folder_of_another_config(refused, run2d, tmp_path):
    run = tmp_path / "run"
    run.mkdir()
    text(run / "config.json", (run2d / "config.json").read_text("utf-8"))
    refused("train", "--config=demo2d", f"--workdir={run}", names=run)


def test_train_refuses_a_folder_below_a_file(refused, tmp_path):
    run = text(tmp_path / "file", "of last year") / "run"
    refused("train", "--config=demo2d", f"--workdir={run}", names=run)


@pytest.mark.parametrize("module", MODULES)
def test_unknown_flag_is_refused(refused, module):
    refused(module, "--colour=red", names="colour")


@pytest.mark.parametrize("module", MODULES)
def test_value_without_a_flag_is_refused(refused, plane, module):
    required = {
        "register": ["--fixed=a", "--moving=b", "--out=c", "--model=d"],
        "synthesize": ["--family=low", "--out=c"],
        "train": ["--config=demo2d", "--workdir=c"],
        "demo": [],
        "models": [],
        "ablate": ["--out=c"],
        "assess": ["--volumes=a", "--out=c"],
        "manifest": ["--scans=a", "--out=c"],
        "chests": ["--scans=a", "--out=c"],
        "compare": ["--pairs=a", "--out=c"],
        "benchmark": ["--suite=conv", "--out=c"],
        "evaluate": ["--out=c"],
        "export": ["--workdir=a", "--name=b"],
        "warp": ["--transform=a", "--image=b", "--out=c"],
    }
    refused(module, *required[module], plane, names=plane)


def test_images_without_flags_are_refused_before_missing_flags(refused, plane):
    fact = "follows no flag; write the flag of each value before it, as in --fixed"
    refused("register", plane, plane, "--out=a", names=f"{str(plane)!r}: {fact}")
    refused("register", "--fixed", plane, plane, names=f"{str(plane)!r}: {fact}")
    refused("register", "--nocycle", plane, names=f"{str(plane)!r}: {fact}")
    refused("register", "--", "a", "b", names=f"'b': {fact}")


FLAGS = {
    "missing": ("warp", ["--image=a"], "--transform: is missing; give it"),
    "empty": ("register", ["--fixed_mask="], "--fixed_mask: is empty; give a value"),
    "empty-word": ("register", ["--fixed_mask", ""], "--fixed_mask: is empty; give a"),
    "empty-of-many": ("warp", ["--transform", "a", ""], "--transform: is empty; give"),
    "no-value": ("warp", ["--image"], "--image: has no value; give one"),
    "unknown": ("register", ["--cycles", "--memory", "4"], "--cycles: is no flag"),
    "value-of-a-switch": ("warp", ["--noinverse=3"], "--noinverse: takes no value"),
    "no-truth": ("warp", ["--inverse=3"], "--inverse 3: is neither true nor false"),
    "no-whole-number": ("register", ["--refine=x"], "--refine x: is no whole number"),
    "no-number": ("warp", ["--fill=x"], "--fill x: is no number; give one"),
    "other-word": (
        "warp",
        ["--interpolation=x"],
        "--interpolation x: is unknown; give one of nearest, linear, bspline",
    ),
    "out-of-bounds": ("train", ["--minutes=-1"], "--minutes -1: is not a"),
    "two-masks": (
        "register",
        [*("--fixed=a", "--moving=b", "--out=c"), "--immobile=d", "--immobile=e"],
        "--immobile: is there twice",
    ),
    "of-a-series": (
        "register",
        ["--fixed=a", "--moving=b", "--out=c", "--reference=2"],
        "--reference: is for --series",
    ),
    "misspelt": ("warp", ["--tansform=x"], "--tansform: is no flag; perhaps it is"),
}


@pytest.mark.parametrize("case", FLAGS)
def test_bad_flag_is_named_in_plain_words(refused, case):
    module, arguments, message = FLAGS[case]
    refused(module, *arguments, names=message)


@pytest.mark.parametrize("flag", ["fixed", "moving", "out"])
def test_missing_flag_of_register_is_refused(refused_pair, flag):
    refused_pair(f"--{flag}", **{flag: None})


@pytest.mark.parametrize("module", MODULES)
def test_help_shows_an_example(command, module):
    result = command(module, "--help")
    assert result.status == 0
    assert "Example:\n" in result.out
    assert f"python -m experiments.{module} --" in result.out
    assert not result.errors
    # A line that goes on says so.
    lines = result.out.splitlines()
    assert all(len(line) < 100 for line in lines[: lines.index("flags:")] if line)
