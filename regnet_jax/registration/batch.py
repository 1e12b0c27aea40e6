"""The registration of many pairs in one run, which can be resumed and sharded."""

import csv
import dataclasses
import functools
import re
import traceback
from collections.abc import Callable, Collection, Sequence
from pathlib import Path

from tqdm import tqdm

from regnet_jax.errors import InputError
from regnet_jax.files import check_folder, check_not_read, write_atomically
from regnet_jax.io import PairPaths, check_files, read_pairs
from regnet_jax.registration.files import (
    describe_request,
    find_finished,
    register_files,
)
from regnet_jax.registration.inference.network import (
    Network,
    load_network,
    named_network,
)
from regnet_jax.registration.options import RegistrationOptions
from regnet_jax.registration.saving import result_paths
from regnet_jax.registration.start import check_start, files_of_start
from regnet_jax.reporting.schema import RegistrationReport

# At most this number of problems is named in a message; the others are counted.
_NAMED = 10


def check_pairs(
    path,
    pairs: Sequence[PairPaths],
    dimensions: int | None = None,
    *,
    coordinates: str | None = None,
) -> None:
    """Refuse a list with unusable pairs, as far as the headers reveal them.

    Args:
        path: of the list.
        pairs: the pairs of the list that are to be registered.
        dimensions: of the network, see ``io.pairs.check_files``; None for any.
        coordinates: of the landmarks, see ``io.read_points``.

    Raises:
        InputError: names every such pair and its problems.
    """
    found = {
        pair.name: check_files(pair, dimensions, coordinates=coordinates)
        for pair in pairs
    }
    lines = [f"{name}: {line}" for name, each in found.items() for line in each]
    if lines:
        more = f"; and {len(lines) - _NAMED} more" if len(lines) > _NAMED else ""
        raise InputError(
            f"{path}: {sum(map(bool, found.values()))} of {len(pairs)} pairs cannot be"
            " used, so nothing was begun; correct the list"
            f" ({'; '.join(lines[:_NAMED])}{more})"
        )


_MEASURES = ("correlation", "lung_correlation", "lung_overlap")
_COLUMNS = (
    "name",
    "status",
    "seconds",
    *(f"{name}_{moment}" for name in _MEASURES for moment in ("before", "after")),
    "tre_before",
    "tre_after",
    "dice_before",
    "dice_after",
    "folding_fraction",
    "min_jacobian",
    *(f"error_bound_{region}" for region in ("body", "lungs")),
    "warnings",
    "error",
)


def make_row(pair: PairPaths, status: str, report: RegistrationReport) -> dict:
    """Return the row of the table for a pair that was registered.

    Args:
        pair: of the list.
        status: ``registered`` or ``finished before``.
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
    for region, bound in (report.confidence or {}).items():
        row[f"error_bound_{region}"] = bound
    return row


def write_rows(
    table: Path, rows: list[dict], columns: Sequence[str] = _COLUMNS
) -> None:
    """Write a table as CSV, atomically; what is in no column is left out."""

    def write(name):
        with Path(name).open("w", newline="", encoding="utf-8") as file:
            writer = csv.DictWriter(file, columns, extrasaction="ignore")
            writer.writeheader()
            for row in rows:
                writer.writerow({k: _cell(v) for k, v in row.items()})

    write_atomically(table, write)


def _cell(value):
    return f"{value:.6g}" if isinstance(value, float) else value


_SHARD = re.compile(r"(\d+)/(\d+)")


@dataclasses.dataclass(frozen=True)
class _Batch:
    """The settings that all pairs of a run share."""

    out: Path
    options: RegistrationOptions
    formats: tuple[str, ...]
    load: Callable[..., Network]
    page: bool

    def finished(self, pair: PairPaths) -> RegistrationReport | None:
        """Return the report of an earlier run of the same request, or None."""
        how = pair.files, self.load, self.options, self.formats
        asked = describe_request(*how, results=self.out)
        return find_finished(self.out / pair.name, asked, page=self.page)

    def register(self, pair: PairPaths) -> tuple[dict, dict]:
        """Register a pair.

        Returns:
            The row of the table, and the seconds of the phases.
        """
        folder = self.out / pair.name
        trace = self.out / f"{pair.name}.traceback.txt"
        try:
            report, seconds = register_files(
                *(pair, folder, self.load, self.options, self.formats),
                page=self.page,
            )
        except (InputError, OSError) as error:
            return _failed(pair, str(error)), {}
        except Exception as error:
            # Unexpected, so the traceback goes to a file; the other pairs go on.
            trace.write_text(traceback.format_exc(), "utf-8")
            line = (str(error).splitlines() or [""])[0]
            return _failed(pair, f"{type(error).__name__}: {line}; see {trace}"), {}
        trace.unlink(missing_ok=True)
        return make_row(pair, "registered", report), seconds


def _failed(pair: PairPaths, reason: str) -> dict:
    return {"name": pair.name, "status": "failed", "error": reason}


def run_batch(
    path,
    out,
    options: RegistrationOptions,
    formats: Collection[str] = (),
    *,
    shard: str = "1/1",
    page: bool = True,
    load: Callable[[str], Network] = load_network,
) -> dict:
    """Register the pairs of a file, each to a folder of its name below ``out``.

    A pair that an earlier run registered by the same request is skipped. The headers of
    all others are checked before the first is registered. A pair that fails later is
    listed, and the run goes on with the next. The table is rewritten after every pair.

    Args:
        path: of the list, see ``io.read_pairs``.
        out: folder.
        options: of every registration.
        formats: of further files, see ``Registration.save``.
        shard: ``I/N``: the I-th of N shards of the pairs.
        page: write a ``report.html`` for each.
        load: returns the network of a name; it is called once for each name.

    Returns:
        Seconds of the phases, summed over pairs.

    Raises:
        InputError: if the list or the shard cannot be parsed, if a header shows that a
            pair cannot be used, or at the end if a pair failed.
    """
    number, count = _parse_shard(shard)
    pairs = read_pairs(path)[number - 1 :: count]
    check_folder(out)
    out = Path(out)
    batch = _Batch(out, options, tuple(formats), functools.cache(load), page)
    # All checks come before the first folder is made.
    check_start(options.initial)
    network = named_network(options.model, batch.load)
    dimensions = None if network is None else network.dimensions
    reports = {pair.name: batch.finished(pair) for pair in pairs}
    unfinished = [pair for pair in pairs if reports[pair.name] is None]
    coordinates = options.point_coordinates
    check_pairs(path, unfinished, dimensions, coordinates=coordinates)
    table = out / ("pairs.csv" if count == 1 else f"pairs-{number}-of-{count}.csv")
    if table.name in [pair.name.casefold() for pair in pairs]:
        raise InputError(
            f"{path}: a pair has the name of the table of results, {table.name}; rename"
            " it"
        )
    sources = [f for pair in unfinished for f in pair.files.values()]
    results = [f for pair in unfinished for f in result_paths(out / pair.name)]
    check_not_read(
        [table, *results], [path, *files_of_start(options.initial), *sources]
    )
    out.mkdir(parents=True, exist_ok=True)
    rows, total = [], {}
    for pair in tqdm(pairs, "registering", unit="pair"):
        if (report := reports[pair.name]) is not None:
            row, seconds = make_row(pair, "finished before", report), {}
        else:
            row, seconds = batch.register(pair)
        rows.append(row)
        total = {k: total.get(k, 0) + seconds.get(k, 0) for k in total | seconds}
        write_rows(table, rows)
    if not pairs:
        # The table of an earlier run of this shard does not stay.
        write_rows(table, rows)
    _close(table, rows)
    return total


def _close(table: Path, rows: list[dict]) -> None:
    """Print the outcome, and raise InputError if a pair failed."""
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


def _parse_shard(text: str) -> tuple[int, int]:
    match = _SHARD.fullmatch(text)
    number, count = map(int, match.groups()) if match else (0, 0)
    if not 1 <= number <= count:
        raise InputError(f"--shard {text}: is not a shard; give I/N, such as 2/8")
    return number, count
