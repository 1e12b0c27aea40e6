"""The code of the tutorial runs, with the checks that stand in it."""

import re
from pathlib import Path

import pytest

PAGE = Path(__file__).resolve().parents[2] / "docs" / "synthesis.md"


@pytest.mark.slow
def test_the_tutorial_runs_from_top_to_bottom(capsys):
    blocks = re.findall(r"^```python\n(.*?)^```", PAGE.read_text("utf-8"), re.M | re.S)
    assert len(blocks) == 5
    names = {}
    for block in blocks:
        exec(compile(block, str(PAGE), "exec"), names)
    assert "mean magnitude, mm:" in capsys.readouterr().out
    for transformation in ("jax.vmap", "jax.jit", "jax.grad"):
        assert any(transformation in block for block in blocks)
