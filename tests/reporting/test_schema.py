"""The schema of report.json."""

import dataclasses
import json
import math
import subprocess
import sys

import pytest

from regnet_jax.evaluation import (
    ErrorStatistics,
    JacobianStatistics,
    LabelOverlap,
    Similarity,
)
from regnet_jax.reporting.schema import SCHEMA_VERSION, RegistrationReport
from tests.helpers.reports import make_report

ERRORS = ErrorStatistics(2, 1.0, 0.5, 1.0, 1.4, 1.5, (0.5, 1.5))
FULL = make_report(
    before={
        "tre": ERRORS,
        "tre_snapped": ERRORS,
        "overlap": {1: LabelOverlap(0.5, 3.0)},
    },
    after={
        "tre": ERRORS,
        "tre_snapped": ERRORS,
        "overlap": {1: LabelOverlap(0.9, 1.0)},
        "jacobian": JacobianStatistics(0.1, 2.0, 0.0, 0.2),
    },
    request={"fixed": "/a.nii", "memory": None, "formats": ["ants"]},
    parameters={"intensity": {"fixed": "ct", "moving": "ct"}},
    warnings=("one", "two"),
)


@pytest.mark.parametrize("report", [make_report(), FULL], ids=["least", "full"])
def test_json_keeps_every_value(report):
    assert RegistrationReport.from_json(report.to_json()) == report


def test_json_has_its_version_and_the_keys_that_scripts_read():
    content = json.loads(FULL.to_json())
    assert content["schema"] == SCHEMA_VERSION
    assert content["seconds"]["total"] == FULL.seconds["total"]
    assert content["similarity"]["before"]["correlation"] == 0.5
    assert content["jacobian"]["folding_fraction"] == 0.0
    assert content["tre"]["after"]["mean_ci95"] == [0.5, 1.5]
    assert content["overlap"]["after"]["1"] == {"dice": 0.9, "hd95": 1.0}
    assert content["request"]["memory"] is None


def test_json_leaves_out_what_was_not_measured():
    content = json.loads(make_report().to_json())
    assert {"jacobian", "tre", "tre_snapped", "overlap", "request"} & set(content) == (
        set()
    )
    assert list(content["similarity"]["after"]) == ["correlation"]


def test_numbers_that_are_not_finite_are_null_in_json_and_nan_when_read():
    text = make_report(
        after={"similarity": Similarity(math.nan, 0.4, 0.3)},
        before={"similarity": Similarity(0.5, 0.4, 0.3)},
    ).to_json()
    assert json.loads(text)["similarity"]["after"]["correlation"] is None
    assert math.isnan(RegistrationReport.from_json(text).after.similarity.correlation)


@pytest.mark.parametrize(
    "text",
    [
        "",
        "[]",
        "{}",
        '{"schema": 99}',
        f'{{"schema": {SCHEMA_VERSION}}}',
        f'{{"schema": {SCHEMA_VERSION}, "other": 1}}',
        f'{{"schema": {SCHEMA_VERSION}, "similarity": {{"before": 1}}}}',
    ],
)
def test_text_that_is_not_a_report_is_refused(text):
    with pytest.raises(ValueError, match=r"schema|report|Expecting value"):
        RegistrationReport.from_json(text)


def test_report_cannot_be_changed():
    with pytest.raises(dataclasses.FrozenInstanceError):
        FULL.model = "other"


def test_schema_and_the_registration_load_no_matplotlib():
    source = (
        "import sys, regnet_jax.reporting.schema, regnet_jax.registration.report;"
        "print({'matplotlib', 'jinja2', 'PIL'} & set(sys.modules))"
    )
    run = subprocess.run(
        [sys.executable, "-c", source], capture_output=True, text=True, check=False
    )
    assert run.stdout.strip() == "set()", run.stderr
