"""What a registration loads: libraries of training and of figures only when needed."""

from tests.helpers.python import run_python

# They take up to a second each to import.
HEAVY = {"orbax", "optax", "matplotlib", "tensorboardX", "tensorstore"}
REGISTER = """
import sys
import numpy as np
import regnet_jax

rng = np.random.default_rng(0)
images = [1000.0 * rng.random((24, 28)) - 1000.0 for _ in "ab"]
result = regnet_jax.register(*images, "lung2d", spacing=4.0, initial="none")
assert np.isfinite(result.displacement).all() and np.isfinite(result.jacobian).all()
"""


def loaded(source):
    """The modules that are loaded after a program has run."""
    run = run_python(f"{source}\nprint(*sys.modules)")
    assert run.returncode == 0, run.stderr
    return set(run.stdout.split())


def test_registration_with_shipped_weights_loads_nothing_of_training_and_figures():
    modules = loaded(REGISTER)
    assert HEAVY & modules == set()
    ours = {name for name in modules if name.startswith("regnet_jax.")}
    assert "regnet_jax.registration.register" in ours
    rooms = {name.split(".")[1] for name in ours}
    assert not {"training", "synthesis", "cli"} & rooms
    report = {name for name in ours if name.startswith("regnet_jax.reporting.")}
    assert report == {"regnet_jax.reporting.schema"}
    assert len(ours) <= 105


def test_the_page_of_a_registration_loads_matplotlib():
    modules = loaded("import sys\nimport regnet_jax.reporting.registration_page")
    assert "matplotlib" in modules
