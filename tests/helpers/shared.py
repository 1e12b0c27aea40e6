"""Work that several workers of pytest-xdist need and only one of them should do."""

import fcntl
import os
import pickle
import shutil


def build_once(tmp_path_factory, name, build):
    """Build a folder once in a test run, whichever worker needs it first.

    Tests of one file may run in several workers, each with fixtures of its own.

    Args:
        tmp_path_factory: the fixture of pytest.
        name: of the folder; one name, one ``build``.
        build: takes the folder, which exists, and fills it.

    Returns:
        The folder, and what ``build`` returned, which has to be picklable.
    """
    root = tmp_path_factory.getbasetemp()
    if "PYTEST_XDIST_WORKER" in os.environ:
        root = root.parent
    folder, result = root / name, root / f"{name}.pickle"
    with open(root / f"{name}.lock", "w") as lock:
        fcntl.flock(lock, fcntl.LOCK_EX)
        if not result.exists():
            shutil.rmtree(folder, ignore_errors=True)
            folder.mkdir()
            content = pickle.dumps(build(folder))
            result.write_bytes(content)
    return folder, pickle.loads(result.read_bytes())
