"""The command ``regnet``: ``register``, ``warp`` and ``evaluate``."""

import importlib
import os
import sys

import regnet_jax

_COMMANDS = {
    "register": "register a moving to a fixed image, many pairs, or a 4D series",
    "warp": "apply a transform to an image, a label map or points",
    "evaluate": "measure a registration by landmarks, labels and images",
}


def main() -> None:
    """Run ``regnet COMMAND --flags``, the entry point of the package."""
    name = sys.argv[1] if len(sys.argv) > 1 else "--help"
    if name in ("-h", "--help", "help"):
        print("usage: regnet COMMAND --FLAG VALUE ...\n")
        for command, purpose in _COMMANDS.items():
            print(f"  {command:10}{purpose}")
        print("\nregnet COMMAND --help shows its flags and an example.")
        return
    if name == "--version":
        print(regnet_jax.__version__)
        return
    if name not in _COMMANDS:
        print(
            f"error: {name!r} is not a command; there are {', '.join(_COMMANDS)}"
            " (see regnet --help)",
            file=sys.stderr,
        )
        sys.exit(2)
    try:
        # Imported late, as JAX takes a second to import.
        common = importlib.import_module("regnet_jax.cli.common")
        module = importlib.import_module(f"regnet_jax.cli.{name}")
    except KeyboardInterrupt:
        print("error: interrupted", file=sys.stderr)
        # Half-imported modules may fail at a normal exit.
        os._exit(130)
    sys.argv[:2] = [f"regnet {name}"]
    common.run(module.main)


if __name__ == "__main__":
    main()
