"""Configs survive JSON, and overrides say what is wrong with them."""

import dataclasses
import json

import pytest

from experiments.configs import load, names
from regnet_jax.errors import InputError
from regnet_jax.training.config import check, from_json, in_the_plane, override, to_json


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
    if config.data.real:
        with pytest.raises(InputError, match=r"data\.real=.*needs scans"):
            check(config, devices=1)
        check(override(config, ["data.real=0"]), devices=1)
    check(override(config, ["scans=list.txt"]), devices=1)


def test_json_has_every_value(tiny):
    values = json.loads(to_json(tiny))
    assert set(values) == {field.name for field in dataclasses.fields(tiny)}
    assert set(values["data"]) == {f.name for f in dataclasses.fields(tiny.data)}
    assert values["data"]["shape"] == [48, 48]
    assert values["learning_rate"] == 0.02


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
        ("learning_rate=3e-4", "learning_rate", 3e-4),
        ("learning_rate=1", "learning_rate", 1.0),
        ("name=a=b", "name", "a=b"),
        ("data.shape=32,40,48", "data.shape", (32, 40, 48)),
        ("data.limits=2", "data.limits", (2.0,)),
        ("data.families=low,high", "data.families", ("low", "high")),
        ("data.spacing=2", "data.spacing", 2.0),
        ("data.window=61", "data.window", 61),
        ("skip_unreadable=true", "skip_unreadable", True),
        ("balance=1,2.5", "balance", (1.0, 2.5)),
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
    assert override(tiny, ["steps=1", "pairs=8", "steps=3"]) == dataclasses.replace(
        tiny, steps=3, pairs=8
    )


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
        ("learning_rate=fast", "learning_rate=fast: .*float"),
        ("skip_unreadable=1", "skip_unreadable=1: '1' is neither true nor false"),
        ("learning_rate=nan", "learning_rate=nan: not a number"),
        ("data.shape=48,x", "data.shape=48,x: .*int"),
        ("=3", "no key ''"),
    ],
)
def test_bad_overrides_name_the_key(tiny, assignment, said):
    with pytest.raises(InputError, match=said) as caught:
        override(tiny, [assignment])
    assert f"--override {assignment}" in str(caught.value)
    assert "\n" not in str(caught.value)


def test_configs_of_before_mean_what_they_meant(tiny):
    """What a run did not know of yet is left out."""
    values = json.loads(to_json(tiny))
    for key in ("clip", "scans"):
        del values[key]
    new = ("amplitudes", "regions", "multiplied")
    for key in ("sponge", "unseen", "real", "scales", *new):
        del values["data"][key]
    assert from_json(json.dumps(values)) == tiny


@pytest.mark.parametrize(
    "assignments",
    [
        (),
        ("data.scales=1,2,4", "clip=1", "data.sponge=0.5", "data.unseen=0"),
        ("data.real=0.5", "scans=list.txt"),
        ("average=0.99", "balance=1,3", "precision=bfloat16", "parts=2", "dispatch=9"),
        ("data.sponge=1", "data.unseen=1", "scans=list.txt"),
        ("data.scales=1,2", "data.amplitudes=0.4,1", "data.regions=0.5"),
    ],
)
def test_what_can_be_run_is_not_refused(tiny, assignments):
    check(override(tiny, assignments), devices=4)


@pytest.mark.parametrize(
    ("assignment", "said"),
    [
        ("data.real=0.5", "needs scans; .*--override scans=FILE"),
        ("data.real=1.5", "from 0 to 1"),
        ("data.real=-0.5", "zero or a positive"),
        ("data.sponge=2", "from 0 to 1"),
        ("data.unseen=-1", "zero or a positive"),
        ("data.unseen=1.01", "from 0 to 1"),
        ("residuals=0.5", "a target at every voxel"),
        ("huber_delta=0", "a positive"),
        ("clip=-1", "zero or a positive"),
        ("clip=inf", "zero or a positive"),
        ("average=1", "an average below 1"),
        ("average=-1", "zero or a positive"),
        ("balance=3,1", "increasing edges"),
        ("precision=float16", "give float32 or bfloat16"),
        ("parts=3", "a divisor of the 8 windows"),
        ("dispatch=0", "a positive"),
        ("rotate_every=0", "a positive"),
        ("resident=-1", "zero or a positive"),
        ("bending=-0.1", "zero or a positive"),
        ("data.scales=0", "positive factors"),
        ("data.scales=1.0,-2.0", "positive factors"),
        ("data.scales=inf", "positive factors"),
        ("data.amplitudes=1,2", "each of the 1 scales, or none"),
        ("data.amplitudes=-1", "a positive factor"),
        ("data.regions=1.5", "from 0 to 1"),
        ("data.multiplied=-1", "zero or a positive"),
    ],
)
def test_what_cannot_be_run_is_refused_in_a_line(tiny, assignment, said):
    with pytest.raises(InputError, match=said) as caught:
        check(override(tiny, [assignment]), devices=1)
    assert str(caught.value).startswith(assignment.partition("=")[0])
    assert "\n" not in str(caught.value)


def test_a_run_without_scales_is_refused(tiny):
    data = dataclasses.replace(tiny.data, scales=())
    with pytest.raises(InputError, match=r"data\.scales=: give"):
        check(dataclasses.replace(tiny, data=data), devices=1)


def test_a_start_in_the_plane_needs_no_scans(tiny):
    """Scans are volumes, so slices are of procedural chests."""
    data = dataclasses.replace(tiny.data, shape=(24, 26, 28), real=0.5)
    config = dataclasses.replace(tiny, data=data, scans="list.txt", plane_steps=3)
    plane = in_the_plane(config)
    assert plane.data.shape == (26, 28)
    assert plane.data.real == 0
    check(plane, devices=1)
