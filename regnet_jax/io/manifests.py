"""Files that list scans: plain lists of paths, and manifests with checksums and roles.

A manifest is frozen: it says which patients a network is trained on, chosen by and
tested on, and the checksums in it tell whether a scan is still the one that it names.
"""

import csv
import hashlib
import io
import os
import re
from collections.abc import Sequence
from dataclasses import dataclass, fields
from pathlib import Path

from regnet_jax.errors import InputError
from regnet_jax.files import write_text
from regnet_jax.io.dicom import split_series
from regnet_jax.io.pairs import csv_rows, listed_path
from regnet_jax.io.text import is_comment, read_lines

# What the scans of a patient are for: to learn from, to choose by, to look at once.
ROLES = ("training", "validation", "test")

_SHA256 = re.compile(r"[0-9a-f]{64}")
# How the headers of MetaImage and NRRD name the file of the values.
_DATA_FILE = re.compile(rb"^(?:ElementDataFile\s*=|data ?file:)\s*(.*?)\s*$", re.M)
_WITH_DATA_FILES = (".mhd", ".nhdr")


def read_manifest(path) -> list[Path]:
    """Read a text file that names images, one path on each line.

    Args:
        path: of the file, UTF-8. Relative paths in it start from its folder, ``~/``
            from the home folder. Empty lines and lines that begin with ``#`` are
            skipped; a name that begins with ``#`` is written ``./#name``, and one that
            begins or ends with spaces is put in double quotes.

    Returns:
        Paths of existing files or folders; ``FOLDER::SERIES`` as in ``read_image``.

    Raises:
        InputError: if the file or an image is missing, or none is named.
    """
    path = Path(path)
    return _plain_paths(path, read_lines(path, "images, one path on each line"))


def _plain_paths(path: Path, lines: list[str]) -> list[Path]:
    lines = [line.strip() for line in lines if not is_comment(line)]
    images = [listed_path(path, line) for line in lines if line]
    if not images:
        raise InputError(f"{path}: names no image; list one path on each line")
    for image in images:
        try:
            split_series(image)
        except InputError as error:
            raise InputError(
                f"{path}: {image} does not exist; correct the line (a comment has a"
                " line of its own)"
            ) from error
    return images


@dataclass(frozen=True)
class ListedScan:
    """A scan that a file lists; a plain list gives nothing but the path.

    Attributes:
        path: of the image.
        sha256: its checksum, in hexadecimal digits, see ``checksum``.
        patient: name of the patient; equal for all scans of one patient.
        role: one of ``ROLES``.
        source: where the scan comes from, and its licence.
    """

    path: Path
    sha256: str = ""
    patient: str = ""
    role: str = ""
    source: str = ""


_COLUMNS = tuple(field.name for field in fields(ListedScan))
_OPTIONAL = "source"


def read_scans(path, role: str) -> list[ListedScan]:
    """Read a list of scans, and the scans of one role if it is a manifest.

    Args:
        path: of a plain list as for ``read_manifest``, or of a manifest: a CSV file
            whose first line names the columns ``path``, ``sha256``, ``patient``,
            ``role`` and, where it is known, ``source``. Paths in both are understood
            alike.
        role: one of ``ROLES``. A plain list has no roles, and all its scans are taken.

    Returns:
        The scans. Those of a manifest have the checksums that it gives.

    Raises:
        InputError: if the file cannot be understood, has no scan of the role, lists a
            scan twice or a patient in two roles, or if a scan of the role is missing
            or has another checksum.
    """
    path = Path(path)
    lines = read_lines(path, "scans")
    if not _is_manifest(lines):
        return [ListedScan(image) for image in _plain_paths(path, lines)]
    rows = csv_rows(path, lines, _COLUMNS)
    scans = [_listed_scan(path, where, row) for where, row in rows]
    _check_independence([where for where, _ in rows], scans)
    chosen = [scan for scan in scans if scan.role == role]
    if not chosen:
        counts = (f"{sum(s.role == r for s in scans)} for {r}" for r in ROLES)
        raise InputError(
            f"{path}: has no scan for {role}, but {', '.join(counts)}; take another"
            " list or role"
        )
    for scan in chosen:
        if (found := checksum(scan.path)) != scan.sha256:
            raise InputError(
                f"{scan.path}: is not the file that was frozen, as its sha256 is"
                f" {found} and {path} says {scan.sha256}; bring that file back, or"
                " freeze another manifest"
            )
    return chosen


def _is_manifest(lines: list[str]) -> bool:
    """Tell whether the first line is the header of a table with a column of paths."""
    header = next((x for x in lines if x.strip() and not is_comment(x)), "")
    cells = re.split("[,;\t]", header)
    return len(cells) > 1 and "path" in (cell.strip(' "').lower() for cell in cells)


def _listed_scan(path: Path, where: str, row: dict[str, str]) -> ListedScan:
    for name in _COLUMNS:
        if name != _OPTIONAL and not row.get(name):
            raise InputError(f"{where}: has no {name}; give it")
    if row["role"] not in ROLES:
        known = ", ".join(ROLES)
        raise InputError(f"{where}: {row['role']!r} is no role; there are {known}")
    sha256 = row["sha256"].lower()
    if not _SHA256.fullmatch(sha256):
        raise InputError(
            f"{where}: {row['sha256']!r} is no sha256; give its 64 hexadecimal digits"
        )
    values = {**row, "sha256": sha256, "path": listed_path(path, row["path"])}
    return ListedScan(**values)


def _check_independence(places: Sequence[str], scans: Sequence[ListedScan]) -> None:
    """Refuse scans that are listed twice, and patients in two roles."""
    contents: dict[str, ListedScan] = {}
    files: dict[str, ListedScan] = {}
    patients: dict[str, ListedScan] = {}
    for where, scan in zip(places, scans, strict=True):
        twin = contents.setdefault(scan.sha256, scan)
        if twin is scan:
            twin = files.setdefault(os.path.normpath(scan.path), scan)
        if twin is not scan:
            raise InputError(
                f"{where}: is the same scan as {twin.path}, which is there for"
                f" {twin.role}; list each scan once"
            )
        other = patients.setdefault(scan.patient.casefold(), scan)
        if other.role != scan.role:
            raise InputError(
                f"{where}: the patient {scan.patient} is there for {other.role} and for"
                f" {scan.role}; give all scans of a patient one role"
            )


def checksum(path) -> str:
    """Return the SHA-256 of a scan.

    Args:
        path: of a file, whose checksum is that of ``sha256sum``; of a folder or of a
            header whose values are in another file, whose checksum is that of all
            their bytes, in the order of the files' names and the header first; or
            ``FOLDER::SERIES``, for which the series is added at the end.

    Returns:
        64 hexadecimal digits.

    Raises:
        InputError: if there is no such file, or it cannot be read.
    """
    path, series = split_series(path)
    digest = hashlib.sha256()
    try:
        for file in files_of_image(path):
            with file.open("rb") as opened:
                while block := opened.read(1 << 22):
                    digest.update(block)
    except OSError as error:
        reason = error.strerror or error
        raise InputError(f"{path}: cannot be read ({reason}); check it") from error
    digest.update(series.encode())
    return digest.hexdigest()


def files_of_image(path: Path) -> list[Path]:
    """Return the files that an image is read from.

    Args:
        path: of an image, or of a folder.

    Returns:
        All files of a folder; a header and the file of its values; else the path.

    Raises:
        InputError: if a header names no file of values, several, or a missing one.
    """
    if path.is_dir():
        return sorted(p for p in path.rglob("*") if p.is_file())
    if path.suffix.lower() not in _WITH_DATA_FILES:
        return [path]
    with path.open("rb") as file:
        found = _DATA_FILE.search(file.read(1 << 16))
    if found and found[1].upper() == b"LOCAL":
        return [path]
    data = path.parent / os.fsdecode(found[1] if found else b"")
    if not data.is_file():
        raise InputError(
            f"{path}: does not name one file of its values, so it has no checksum;"
            " convert it to .nii.gz or .mha"
        )
    return [path, data]


def write_scans(path, scans: Sequence[ListedScan]) -> None:
    """Write a manifest, see ``read_scans``.

    Args:
        path: of the CSV file, UTF-8.
        scans: with checksums, patients and roles. Their paths are written relative to
            the folder of the manifest.

    Raises:
        InputError: if a scan is there twice or a patient has two roles, or if the file
            cannot be written.
    """
    _check_independence([str(scan.path) for scan in scans], scans)
    folder = Path(path).resolve().parent
    text = io.StringIO()
    writer = csv.writer(text, lineterminator="\n")
    writer.writerow(_COLUMNS)
    for scan in scans:
        relative = os.path.relpath(os.path.abspath(scan.path), folder)
        # The characters that mean something in a list.
        if relative != relative.strip():
            relative = f'"{relative}"'
        elif relative[0] == "#" or relative.startswith("~/"):
            relative = f"./{relative}"
        row = (relative, scan.sha256, scan.patient, scan.role, scan.source)
        writer.writerow(row)
    write_text(path, text.getvalue())
