"""Configs survive JSON, and overrides say what is wrong with them."""

import dataclasses
import json

import pytest

from experiments.configs import load, names
from regnet_jax.errors import InputError
from regnet_jax.training.config import from_json, override, to_json


@pytest.mark.parametrize("name", names())
def test_shipped_configs_survive_json(name):
    config = load(name)
    assert config.name == name
    again = from_json(to_json(config))
    assert again == config
    assert isinstance(again.data.shape, tuple)
    assert hash(again) == hash(config)


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
