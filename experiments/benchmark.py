"""Time the library as ratios to a named reference in the same run.

Example:
    python -m experiments.benchmark --suite conv --out conv.json

Suites: conv (convolutions against XLA's and, where it is installed, PyTorch's),
synthesis (artificial pairs against scipy and SimpleITK), loop (a training step alone
and in the whole loop; with --scans FILE also on real CTs), step (training steps against
the same networks in PyTorch), register (prediction of a pair of 160^3 voxels by every
network), tiles (a pair of 400 x 512 x 512 voxels within 6 GiB), device (training,
prediction and refinement on the device that JAX finds). Run nothing else on the
machine at the same time.
"""

import os
import platform

import jax
from absl import flags

from experiments.benchmarks import conv, device, loop, register, step, synthesis, tiles
from regnet_jax.cli import common
from regnet_jax.files import check_output, write_json

_SUITES = {
    "conv": conv.run,
    "device": device.run,
    "loop": lambda: loop.run(_SCANS.value),
    "register": register.run,
    "step": step.run,
    "synthesis": synthesis.run,
    "tiles": tiles.run,
}
_SUITE = flags.DEFINE_enum("suite", None, list(_SUITES), "Suite to run.", required=True)
_SCANS = flags.DEFINE_string("scans", None, "File that lists CTs, for loop.")
_OUT = flags.DEFINE_string("out", None, "JSON file for the figures.", required=True)


def _machine() -> dict:
    return {
        "jax": jax.__version__,
        "backend": jax.default_backend(),
        "cores": os.cpu_count(),
        "python": platform.python_version(),
    }


def _line(row: dict) -> str:
    """Return a row as text, with numbers of four digits."""
    numbers = (
        f"{key.replace('_', ' ')} {value:.4g}"
        for key, value in row.items()
        if isinstance(value, float)
    )
    texts = [value for value in row.values() if isinstance(value, str)]
    return f"{', '.join(texts):40s} {', '.join(numbers)}"


def main():
    """Run the suite, print its rows and write them."""
    check_output(_OUT.value)
    rows = _SUITES[_SUITE.value]()
    for row in rows:
        print(_line(row))
    write_json(_OUT.value, {"machine": _machine(), "rows": rows})
    print(f"wrote {_OUT.value}")


if __name__ == "__main__":
    common.run(main)
