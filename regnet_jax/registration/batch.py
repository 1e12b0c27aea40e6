"""Many registrations in one run: each on its own, and none twice."""

import csv
import functools
import re
import traceback
from collections.abc import Sequence
from pathlib import Path

from tqdm import tqdm

from regnet_jax.errors import InputError
from regnet_jax.files import write_atomically
from regnet_jax.io import Pair, check_files, read_pairs
from regnet_jax.registration.files import Options, register_files, request
from regnet_jax.registration.inference.network import load_network
from regnet_jax.reporting.schema import RegistrationReport

# Problems that are told; the others are counted.
_TOLD = 10


def check_pairs(path, pairs: Sequence[Pair], dimensions: int | None = None) -> None:
    """Refuses a list with pairs that cannot be used, as far as headers tell.

    Args:
        path: of the list.
        pairs: those of the list that are to be worked on.
        dimensions: that all images must have; None for any.

    Raises:
        InputError: names every such pair, and what is wrong with it.
    """
    found = {pair.name: check_files(pair, dimensions) for pair in pairs}
    lines = [f"{name}: {line}" for name, each in found.items() for line in each]
    if lines:
        more = f"; and {len(lines) - _TOLD} more" if len(lines) > _TOLD else ""
        raise InputError(
            f"{path}: {sum(map(bool, found.values()))} of {len(pairs)} pairs cannot be"
            f" used, so nothing was begun; correct the list ({'; '.join(lines[:_TOLD])}"
            f"{more})"
        )


_MEASURES = ("correlation", "lung_correlation", "lung_overlap")
_COLUMNS = (
    *("name", "status", "seconds"),
    *(f"{name}_{moment}" for name in _MEASURES for moment in ("before", "after")),
    *("tre_before", "tre_after", "dice_before", "dice_after"),
    *("folding_fraction", "min_jacobian", "warnings", "error"),
)


def make_row(pair: Pair, status: str, report: RegistrationReport) -> dict:
    """What the table says of a pair that was registered.

    Args:
        pair: of the list.
        status: how it came to its result.
        report: of its registration.

    Returns:
        Values by column; some columns may be missing.
    """
    row = {"name": pair.name, "status": status, "seconds": report.seconds["total"]}
    row["warnings"] = "; ".join(report.warnings)
    for moment, measures in (("before", report.before), ("after", report.after)):
        for name in _MEASURES:
            row[f"{name}_{moment}"] = getattr(measures.similarity, name)
        if measures.tre is not None:
            row[f"tre_{moment}"] = measures.tre.mean
        if measures.overlap:
            row[f"dice_{moment}"] = measures.dice
    if report.after.jacobian is not None:
        row["folding_fraction"] = report.after.jacobian.folding_fraction
        row["min_jacobian"] = report.after.jacobian.min
    return row


def write_rows(table: Path, rows: list[dict]) -> None:
    """Writes the table as CSV, whole or not at all."""

    def write(name):
        with Path(name).open("w", newline="", encoding="utf-8") as file:
            writer = csv.DictWriter(file, _COLUMNS, extrasaction="ignore")
            writer.writeheader()
            for row in rows:
                writer.writerow({k: _cell(v) for k, v in row.items()})

    write_atomically(table, write)


def _cell(value):
    return f"{value:.6g}" if isinstance(value, float) else value


_SHARD = re.compile(r"(\d+)/(\d+)")


def run_batch(path, out, options: Options, *, shard: str = "1/1") -> dict:
    """Registers the pairs of a file, each to a folder of its name below ``out``.

    A pair that was registered before, by the same request, is left as it is. The files
    of all others are looked at before the first is registered. One that fails all the
    same is listed and the others go on. The table of rows is rewritten after
    every pair.

    Args:
        path: of the list, see ``io.read_pairs``.
        out: folder.
        options: how to register.
        shard: ``I/N``: the I-th of N parts of the pairs.

    Returns:
        Seconds of the phases, summed over pairs.

    Raises:
        InputError: if the list or the shard cannot be understood, if a pair cannot be
            used as far as headers tell, and at the end if a pair failed.
    """
    part, parts = _parse_shard(shard)
    pairs = read_pairs(path)[part - 1 :: parts]
    out = Path(out)
    if out.exists() and not out.is_dir():
        raise InputError(f"{out}: is a file; give a folder for the results")
    load = functools.cache(load_network)
    # Before anything is made.
    dimensions = None if options.model is None else load(options.model).dimensions
    begun = [
        pair for pair in pairs if _finished(out / pair.name, pair, options) is None
    ]
    check_pairs(path, begun, dimensions)
    out.mkdir(parents=True, exist_ok=True)
    table = out / ("pairs.csv" if parts == 1 else f"pairs-{part}-of-{parts}.csv")
    rows, total = [], {}
    for pair in tqdm(pairs, "registering", unit="pair"):
        row, seconds = _row(pair, out, load, options)
        rows.append(row)
        total = {k: total.get(k, 0) + seconds.get(k, 0) for k in total | seconds}
        write_rows(table, rows)
    _close(table, rows)
    return total


def _close(table: Path, rows: list[dict]) -> None:
    """Says what came out; failures make the run fail, after all had their turn."""
    states = [row["status"] for row in rows]
    counts = ", ".join(f"{states.count(s)} {s}" for s in dict.fromkeys(states))
    print(f"{len(rows)} pairs: {counts or 'none in this shard'}")
    print(f"wrote {table}")
    failed = [row["name"] for row in rows if row["status"] == "failed"]
    if failed:
        names = ", ".join(failed[:5]) + ", ..." * (len(failed) > 5)
        raise InputError(
            f"{table}: {len(failed)} of {len(rows)} pairs failed ({names}); its column"
            " error says why, and the same command tries them again"
        )


def _row(pair: Pair, out: Path, load, options: Options) -> tuple[dict, dict]:
    """What happened to a pair, and the seconds of its phases."""
    folder = out / pair.name
    if (report := _finished(folder, pair, options)) is not None:
        return make_row(pair, "finished before", report), {}
    trace = out / f"{pair.name}.traceback.txt"
    try:
        report, seconds = register_files(pair, folder, load, options)
    except (InputError, OSError) as error:
        return {"name": pair.name, "status": "failed", "error": str(error)}, {}
    except Exception as error:
        # Nobody foresaw it, so what is known goes to a file; the others go on.
        trace.write_text(traceback.format_exc(), "utf-8")
        line = (str(error).splitlines() or [""])[0]
        message = f"{type(error).__name__}: {line}; see {trace}"
        return {"name": pair.name, "status": "failed", "error": message}, {}
    trace.unlink(missing_ok=True)
    return make_row(pair, "registered", report), seconds


def _finished(folder: Path, pair: Pair, options: Options) -> RegistrationReport | None:
    """The report of an earlier run that was asked for the same."""
    files = ("displacement.nii.gz", "report.html", "transform.h5", "warped.nii.gz")
    if not all((folder / name).is_file() for name in files):
        return None
    try:
        text = (folder / "report.json").read_text("utf-8")
        report = RegistrationReport.from_json(text)
    except (OSError, ValueError):
        return None
    return report if report.request == request(pair, options) else None


def _parse_shard(text: str) -> tuple[int, int]:
    match = _SHARD.fullmatch(text)
    part, parts = map(int, match.groups()) if match else (0, 0)
    if not 1 <= part <= parts:
        raise InputError(f"--shard {text}: is no part; give I/N, such as 2/8")
    return part, parts
