"""One method on one pair, in a process that does nothing else.

    python -m experiments.comparison.worker REQUEST.json

Called by ``experiments.compare``, which writes the request and reads the results.
"""

import json
import os
import sys
import time
from pathlib import Path

# Keeps XLA from logging its own tuning flags as missing CPU features on every start.
os.environ.setdefault("TF_CPP_MIN_LOG_LEVEL", "3")

from experiments.comparison import methods
from regnet_jax.cli.common import peak_gib
from regnet_jax.errors import InputError
from regnet_jax.io import read_image, read_mask, write_displacement
from regnet_jax.spatial import check_pair

FIELD, COSTS = "displacement.nii", "costs.json"


def _register(request: dict) -> None:
    """Register as requested; write the field, the seconds and the peak memory."""
    images = [read_image(request[side]) for side in ("fixed", "moving")]
    check_pair(*images)
    masks = [
        path and read_mask(path, image.frame)
        for path, image in zip(request["masks"], images, strict=True)
    ]
    method = methods.load(
        request["method"], model=request["model"], refine=request["refine"]
    )
    began = time.perf_counter()
    field = method(*images, setting=request["setting"], masks=masks)
    seconds = time.perf_counter() - began
    folder = Path(request["folder"])
    write_displacement(folder / FIELD, field, images[0].frame)
    costs = {
        "registration_seconds": seconds,
        "peak_gib": peak_gib(),
        # Summed over threads; it hardly depends on other load of the machine.
        "cpu_seconds": time.process_time(),
    }
    (folder / COSTS).write_text(json.dumps(costs), "utf-8")


if __name__ == "__main__":
    try:
        _register(json.loads(Path(sys.argv[1]).read_text("utf-8")))
    except InputError as error:
        sys.exit(f"error: {error}")
