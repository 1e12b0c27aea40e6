"""Check that every public name of the library has its place in the built site.

Usage: python .ci/docs_names.py SITE
"""

import importlib
import pkgutil
import sys
import zlib
from pathlib import Path

import regnet_jax


def public_names() -> set[str]:
    """Return the names in ``__all__`` of each package, with their package."""
    names = set()
    for module in pkgutil.walk_packages(regnet_jax.__path__, "regnet_jax."):
        if module.ispkg:
            package = importlib.import_module(module.name)
            found = getattr(package, "__all__", ())
            names |= {f"{module.name}.{name}" for name in found}
    return names | {f"regnet_jax.{name}" for name in getattr(regnet_jax, "__all__", ())}


def documented_names(site: str) -> set[str]:
    """Return the names in the inventory that mkdocstrings writes beside a site."""
    content = Path(site, "objects.inv").read_bytes()
    # Four lines of plain text, then the rest in zlib.
    lines = zlib.decompress(content.split(b"\n", 4)[4]).decode().splitlines()
    return {line.split(" ", 1)[0] for line in lines}


def main(site: str) -> None:
    """Name what is missing, and leave with status 1 if anything is."""
    public = public_names()
    if missing := sorted(public - documented_names(site)):
        sys.exit(f"no page of {site} documents {', '.join(missing)}")
    print(f"all {len(public)} public names are documented")


if __name__ == "__main__":
    main(*sys.argv[1:])
