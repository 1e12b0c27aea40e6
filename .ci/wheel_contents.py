"""Check that a wheel holds the library with its data, and nothing else.

Usage: python .ci/wheel_contents.py WHEEL SOURCE
"""

import re
import sys
import zipfile
from pathlib import Path

FACE = re.compile(r"regnet_jax/|regnet_jax-[^/]*\.dist-info/")


def main(wheel: str, source: str) -> None:
    """Compare the names in a wheel with the files of the library."""
    with zipfile.ZipFile(wheel) as archive:
        names = set(archive.namelist())
    others = sorted(name for name in names if not FACE.match(name))
    if others:
        sys.exit(f"{wheel}: holds more than the library: {', '.join(others)}")
    files = {
        path.relative_to(source).as_posix()
        for path in Path(source, "regnet_jax").rglob("*")
        if path.is_file() and "__pycache__" not in path.parts
    }
    if missing := sorted(files - names):
        sys.exit(f"{wheel}: lacks {', '.join(missing)}")
    print(f"the wheel holds the {len(files)} files of the library and nothing else")


if __name__ == "__main__":
    main(*sys.argv[1:])
