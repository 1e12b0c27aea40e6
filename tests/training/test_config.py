"""Configs survive JSON, and overrides say what is wrong with them."""

import dataclasses
import json

import pytest

from experiments.configs import load, names
from regnet_jax.errors import InputError
from regnet_jax.models import MODELS, make_model
from regnet_jax.training.checks import check
from regnet_jax.training.config import (
    FORMER_KEYS,
    difference,
    from_json,
    name_former_keys,
    override,
    to_json,
    with_model,
)


@pytest.mark.parametrize("name", names())
def test_shipped_configs_survive_json(name):
    config = load(name)
    assert config.name == name
    again = from_json(to_json(config))
    assert again == config
    assert isinstance(again.data.shape, tuple)
    assert hash(again) == hash(config)


@pytest.mark.parametrize("name", names())
def test_shipped_configs_can_be_run(name):
    config = load(name)
    if config.data.scan_probability:
        with pytest.raises(InputError, match=r"data\.scan_probability=.*needs scans"):
            check(config, devices=1)
        check(override(config, ["data.scan_probability=0"]), devices=1)
    check(override(config, ["scans.file=list.txt"]), devices=1)


def test_json_has_every_value(tiny):
    values = json.loads(to_json(tiny))
    assert set(values) == {field.name for field in dataclasses.fields(tiny)}
    assert set(values["data"]) == {f.name for f in dataclasses.fields(tiny.data)}
    assert values["data"]["shape"] == [48, 48]
    assert values["optimizer"]["learning_rate"] == 0.02


@pytest.mark.parametrize(
    ("text", "said"),
    [
        ("{", "Expecting"),
        ("[]", "not the config"),
        ('{"name": "a"}', "missing"),
        ('{"nonsense": 1}', "nonsense"),
        ('{"data": 3}', "not the config"),
        ('{"data": {"shapes": [1, 2]}}', "shapes"),
    ],
)
def test_other_text_is_refused(text, said):
    with pytest.raises(InputError, match=said):
        from_json(text)


@pytest.mark.parametrize(
    ("assignment", "path", "want"),
    [
        ("steps=100", "steps", 100),
        ("optimizer.learning_rate=3e-4", "optimizer.learning_rate", 3e-4),
        ("optimizer.learning_rate=1", "optimizer.learning_rate", 1.0),
        ("name=a=b", "name", "a=b"),
        ("data.shape=32,40,48", "data.shape", (32, 40, 48)),
        ("data.class_limits=2", "data.class_limits", (2.0,)),
        ("data.families=low,high", "data.families", ("low", "high")),
        ("data.spacing=2", "data.spacing", 2.0),
        ("data.patch_size=61", "data.patch_size", 61),
        ("scans.skip_unreadable=true", "scans.skip_unreadable", True),
        ("loss.balance_edges=1,2.5", "loss.balance_edges", (1.0, 2.5)),
    ],
)
def test_override_takes_the_type_of_the_key(tiny, assignment, path, want):
    config = override(tiny, [assignment])
    got = config
    for part in path.split("."):
        got = getattr(got, part)
    assert got == want
    assert type(got) is type(want)
    if isinstance(want, tuple):
        assert [type(a) for a in got] == [type(a) for a in want]
    # Nothing else changes.
    before, after = to_json(tiny), to_json(override(config, []))
    assert from_json(after) == config != from_json(before)
    group, _, key = path.rpartition(".")
    back = getattr(tiny, group) if group else tiny
    value = getattr(back, key)
    text = ",".join(map(str, value)) if isinstance(value, tuple) else str(value)
    assert override(config, [f"{path}={text}"]) == tiny


def test_later_overrides_win(tiny):
    assert override(
        tiny, ["steps=1", "batch_size=8", "steps=3"]
    ) == dataclasses.replace(tiny, steps=3, batch_size=8)


@pytest.mark.parametrize(
    ("assignment", "said"),
    [
        ("steps", "steps: write KEY=VALUE"),
        ("step=3", "no key 'step'; there are name, model"),
        ("data.shap=3,3", "no key 'shap'; there are shape, spacing"),
        ("data=3", "'data' is a group"),
        ("steps.more=3", "'steps' is no group"),
        ("steps=1.5", "steps=1.5: .*int"),
        ("steps=many", "steps=many: .*int"),
        ("optimizer.learning_rate=fast", "learning_rate=fast: .*float"),
        ("scans.skip_unreadable=1", "skip_unreadable=1: '1' is neither true nor false"),
        ("optimizer.learning_rate=nan", "learning_rate=nan: not a number"),
        ("data.shape=48,x", "data.shape=48,x: .*int"),
        ("=3", "no key ''"),
    ],
)
def test_bad_overrides_name_the_key(tiny, assignment, said):
    with pytest.raises(InputError, match=said) as caught:
        override(tiny, [assignment])
    assert f"--override {assignment}" in str(caught.value)
    assert "\n" not in str(caught.value)


def test_keys_that_a_json_lacks_get_their_defaults(tiny):
    values = json.loads(to_json(tiny))
    del values["scans"], values["inflate"], values["optimizer"]["max_grad_norm"]
    del values["data"]["scales"], values["data"]["predeform_probability"]
    assert from_json(json.dumps(values)) == tiny


def _leaf(config, path):
    for part in path.split("."):
        config = getattr(config, part)
    return config


@pytest.mark.parametrize("key", FORMER_KEYS)
def test_former_keys_do_what_their_present_names_do(tiny, key):
    """By --override and in the JSON of a run."""
    path = FORMER_KEYS[key]
    kind = type(_leaf(tiny, path))
    text = {bool: "true", str: "name", tuple: "3,4"}.get(kind, "3")
    if key in ("data.weights", "data.limits", "balance", "data.amplitudes"):
        text = "3.0,4.0"
    want = override(tiny, [f"{path}={text}"])
    assert want != tiny
    assert override(tiny, [f"{key}={text}"]) == want
    values = json.loads(to_json(want))
    *groups, name = path.split(".")
    place = values
    for group in groups:
        place = place[group]
    value = place.pop(name)
    if "." not in key and groups and groups[0] == "scans":
        del values["scans"]
    place = values["data"] if key.startswith("data.") else values
    place[key.split(".")[-1]] = value
    assert from_json(json.dumps(values)) == want


def test_one_former_limit_balanced_nothing(tiny):
    assert override(tiny, ["data.limits=1000"]).data.class_limits == ()
    values = json.loads(to_json(tiny))
    del values["data"]["class_limits"]
    values["data"]["limits"] = [1000.0]
    values["data"] |= {"margin": 8, "stride": 2}
    values["plane_steps"] = 0
    assert from_json(json.dumps(values)).data.class_limits == ()


@pytest.mark.parametrize(
    "assignment", ["data.margin=-1", "data.stride=0", "plane_steps=5"]
)
def test_removed_keys_are_refused_unless_they_changed_nothing(tiny, assignment):
    same = ["data.margin=8", "data.stride=2", "plane_steps=0"]
    assert override(tiny, same) == tiny
    with pytest.raises(InputError, match=f"--override {assignment}: this key is gone"):
        override(tiny, [assignment])


def test_former_keys_are_named_in_an_error_or_a_warning(caplog):
    given = ["pairs=0", "steps=3", "clip=1"]
    names = "pairs is now batch_size; clip is now optimizer.max_grad_norm"
    said = f"refused [(]{names}[)]"
    with pytest.raises(InputError, match=said), name_former_keys(given):
        raise InputError("refused")
    assert not caplog.text
    with name_former_keys(given):
        pass
    assert names in caplog.text


def test_a_difference_names_the_keys(tiny):
    other = override(tiny, ["seed=3", "data.families=low"])
    said = "seed: 0 -> 3; data.families: ('medium', 'high') -> ('low',)"
    assert set(difference(tiny, other).split("; ")) == set(said.split("; "))


_OWN = """
import dataclasses
from experiments.configs import demo2d
CONFIG = dataclasses.replace(demo2d.CONFIG, name="own", seed=5)
"""


def test_a_config_is_loaded_by_the_path_of_a_file(tmp_path):
    path = tmp_path / "own.py"
    path.write_text(_OWN)
    config = load(str(path))
    assert config.name == "own"
    assert config == dataclasses.replace(load("demo2d"), name="own", seed=5)


@pytest.mark.parametrize(
    ("text", "said"),
    [
        (None, "there is no such file"),
        ("CONFIG = 1 +", "cannot be run .SyntaxError"),
        ("CONFIG = missing", "cannot be run .NameError"),
        ("CONFIG = 3", "has no CONFIG that is"),
        ("config = 3", "has no CONFIG that is"),
    ],
)
def test_a_config_file_that_cannot_be_used_is_refused(tmp_path, text, said):
    path = tmp_path / "own.py"
    if text is not None:
        path.write_text(text)
    with pytest.raises(InputError, match=said) as caught:
        load(str(path))
    assert str(caught.value).startswith(f"--config {path}: ")
    assert "\n" not in str(caught.value)


@pytest.mark.parametrize(
    "assignments",
    [
        (),
        (
            "data.scales=1,2,4",
            "optimizer.max_grad_norm=1",
            "data.sponge_probability=0.5",
            "data.unseen_weight=0",
        ),
        ("data.scan_probability=0.5", "scans.file=list.txt"),
        (
            "optimizer.ema_decay=0.99",
            "loss.balance_edges=1,3",
            "precision=bfloat16",
            "microbatches=2",
            "steps_per_call=9",
        ),
        ("data.class_limits=", "scans.file=list.txt"),
        (
            "data.scales=1,2",
            "data.scale_amplitudes=0.4,1",
            "data.regions_probability=0.5",
        ),
    ],
)
def test_what_can_be_run_is_not_refused(tiny, assignments):
    check(override(tiny, assignments), devices=4)


@pytest.mark.parametrize(
    ("assignments", "said"),
    [
        (("data.slice_axis=oblique",), "give one of axial, coronal, sagittal, or none"),
        (("data.slice_axis=axial",), "needs volumes in 3D"),
        (("data.through_plane=1",), "give data.slice_axis, too"),
        (
            ("data.through_plane=1", "data.sponge_probability=0.5"),
            "give data.sponge_probability=0",
        ),
    ],
)
def test_slices_are_of_volumes_and_keep_their_density(tiny, assignments, said):
    if len(assignments) == 2:
        shape = ("data.shape=48,48,48", "data.slice_axis=axial")
        assignments = (*shape, *assignments)
    with pytest.raises(InputError, match=said):
        check(override(tiny, assignments), devices=4)


@pytest.mark.parametrize(
    ("assignment", "said"),
    [
        ("data.scan_probability=0.5", "needs scans; .*--override scans.file=FILE"),
        ("data.scan_probability=1.5", "from 0 to 1"),
        ("data.scan_probability=-0.5", "zero or a positive"),
        ("data.sponge_probability=2", "from 0 to 1"),
        ("data.unseen_weight=-1", "zero or a positive"),
        ("data.unseen_weight=1.01", "from 0 to 1"),
        ("residual_probability=0.5", "a target at every voxel"),
        ("loss.huber_delta=0", "a positive"),
        ("optimizer.max_grad_norm=-1", "zero or a positive"),
        ("optimizer.max_grad_norm=inf", "zero or a positive"),
        ("optimizer.ema_decay=1", "a decay below 1"),
        ("optimizer.ema_decay=-1", "zero or a positive"),
        ("loss.balance_edges=3,1", "increasing edges"),
        ("loss.balance_edges=-1,1", "positive, increasing edges"),
        ("seed=-1", "from 0 to 4294967295"),
        ("seed=4294967296", "from 0 to 4294967295"),
        ("data.families=low,low", "name each once"),
        ("schedule.final_fraction=3", "from 0 to 1"),
        ("precision=float16", "give float32 or bfloat16"),
        ("microbatches=3", "a divisor of the 8 patches"),
        ("pairs_at_once=3", "a divisor of the"),
        ("steps_per_call=0", "a positive"),
        ("scans.rotate_every=0", "a positive"),
        ("scans.resident=-1", "zero or a positive"),
        ("loss.bending_weight=-0.1", "zero or a positive"),
        ("data.scales=0", "positive factors"),
        ("data.scales=1.0,-2.0", "positive factors"),
        ("data.scales=inf", "positive factors"),
        ("data.scale_amplitudes=1,2", "each of the 1 scales, or none"),
        ("data.scale_amplitudes=-1", "a positive factor"),
        ("data.regions_probability=1.5", "from 0 to 1"),
        ("data.predeform_probability=-1", "zero or a positive"),
        ("data.class_limits=4,2", "increasing millimetres"),
        ("inflate=true", "needs a 2D run"),
    ],
)
def test_what_cannot_be_run_is_refused_in_a_line(tiny, assignment, said):
    with pytest.raises(InputError, match=said) as caught:
        check(override(tiny, [assignment]), devices=1)
    assert str(caught.value).startswith(assignment.partition("=")[0])
    assert "\n" not in str(caught.value)


@pytest.mark.parametrize(
    ("key", "least"), [("loss.bending_weight", 3), ("loss.folding_weight", 2)]
)
def test_losses_of_derivatives_need_targets(tiny, key, least):
    """Of RegNet, which predicts every second voxel within its margin."""
    margin = make_model("regnet", dimensions=2).support.margin
    for targets in (least - 1, least):
        size = 2 * margin + 2 * targets - 1
        assignments = [
            *("model=regnet", f"data.patch_size={size}", "data.shape=120,120"),
            f"{key}=1",
        ]
        config = override(tiny, assignments)
        if targets < least:
            with pytest.raises(InputError, match=f"{key}: needs {least} targets"):
                check(config, devices=1)
        else:
            check(config, devices=1)


def test_targets_are_balanced_only_where_there_are_classes(changed):
    config = changed("data.class_limits=", "data.balance_targets=true")
    with pytest.raises(InputError, match=r"needs classes; give data\.class_limits"):
        check(config, devices=1)
    check(changed("data.balance_targets=true"), devices=1)


def test_a_run_without_scales_is_refused(tiny):
    data = dataclasses.replace(tiny.data, scales=())
    with pytest.raises(InputError, match=r"data\.scales=: give"):
        check(dataclasses.replace(tiny, data=data), devices=1)


@pytest.mark.parametrize(
    ("assignments", "said"),
    [
        ((), "only 3D runs start from a 2D one"),
        *(
            (("data.shape=64,64,64", "data.patch_size=64", f"model={m}"), f"of {m} in")
            for m in ("corrnet", "corrnet_confident")
        ),
    ],
)
def test_inflation_that_cannot_be_is_refused(tiny, assignments, said):
    config = override(tiny, ["inflate=true", "init_from=lung2d", *assignments])
    with pytest.raises(InputError, match=f"inflate=true: .*{said}"):
        check(config, devices=1)


def test_margin_and_stride_come_from_the_model():
    for name, grid in (("demo2d", (0, 1)), ("regnet2d_2017", (26, 2))):
        assert load(name).targets == grid


@pytest.mark.parametrize("name", MODELS)
def test_with_model_gives_patches_that_can_be_trained_on(name):
    stride = MODELS[name].support.stride
    config = with_model(load("demo2d"), name, 32 // stride)
    assert config.model == name
    check(config, devices=1)
    size = config.data.patch_size
    (targets, *_) = config.targets.slices(size, 2)
    assert len(range(size)[targets]) == 32 // stride


def test_with_model_leaves_the_thickness_of_slabs():
    config = with_model(load("regnet3d_axial"), "regnet", 40)
    assert config.data.shape == (48, 131, 131)
    assert config.data.patch_size == 131
