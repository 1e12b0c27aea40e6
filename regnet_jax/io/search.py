"""The images below a folder."""

from pathlib import Path

from regnet_jax.errors import InputError
from regnet_jax.io.dicom import is_dicom
from regnet_jax.io.images import IMAGE_SUFFIXES

# Of formats that are read. The data of a header without them lie in a second file.
_SUFFIXES = (*IMAGE_SUFFIXES, ".mhd", ".nhdr", ".hdr", ".gipl")


def find_images(folder: Path) -> list[Path]:
    """Find the images below a folder, by the names of files and the content of DICOM.

    Args:
        folder: an existing folder; what is hidden in it is left out.

    Returns:
        Image files, and folders that hold slices of DICOM, in alphabetical order.
        Whether they can be read is not checked.
    """
    found = set()
    for path in folder.rglob("*"):
        if not path.is_file() or path.name.startswith("."):
            continue
        if path.name.lower().endswith(_SUFFIXES):
            found.add(path)
        elif path.parent not in found and _may_be_dicom(path):
            found.add(path.parent)
    return sorted(found)


def _may_be_dicom(path: Path) -> bool:
    try:
        return is_dicom(path)
    except InputError:
        # Whoever reads the folder names the damaged file.
        return True
