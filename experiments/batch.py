"""Many registrations in one run: each on its own, and none twice."""

import csv
import json
import re
import traceback
from pathlib import Path

from tqdm import tqdm

from experiments.jobs import Options, register_files, request
from regnet_jax.errors import InputError
from regnet_jax.io import Pair, read_pairs, write_atomically
from regnet_jax.registration import load_network

_SHARD = re.compile(r"(\d+)/(\d+)")
_MEASURES = ("correlation", "lung_correlation", "lung_overlap")
_COLUMNS = (
    *("name", "status", "seconds"),
    *(f"{name}_{moment}" for name in _MEASURES for moment in ("before", "after")),
    *("tre_before", "tre_after", "dice_before", "dice_after"),
    *("folding_fraction", "min_jacobian", "error"),
)


def run_batch(path, out, options: Options, *, shard: str = "1/1") -> dict:
    """Registers the pairs of a file, each to a folder of its name below ``out``.

    A pair that was registered before, by the same request, is left as it is; one
    that fails is listed and the others go on. The table of rows is rewritten after
    every pair.

    Args:
        path: of the list, see ``io.read_pairs``.
        out: folder.
        options: how to register.
        shard: ``I/N``: the I-th of N parts of the pairs.

    Returns:
        Seconds of the phases, summed over pairs.

    Raises:
        InputError: if the list or the shard cannot be understood, and at the end if
            a pair failed.
    """
    part, parts = _parse_shard(shard)
    pairs = read_pairs(path)[part - 1 :: parts]
    out = Path(out)
    if out.exists() and not out.is_dir():
        raise InputError(f"{out}: is a file; give a folder for the results")
    network = load_network(options.model)
    out.mkdir(parents=True, exist_ok=True)
    table = out / ("pairs.csv" if parts == 1 else f"pairs-{part}-of-{parts}.csv")
    rows, total = [], {}
    for pair in tqdm(pairs, "registering", unit="pair"):
        row, seconds = _row(pair, out, network, options)
        rows.append(row)
        total = {k: total.get(k, 0) + seconds.get(k, 0) for k in total | seconds}
        _write_rows(table, rows)
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


def _row(pair: Pair, out: Path, network, options: Options) -> tuple[dict, dict]:
    """What happened to a pair, and the seconds of its phases."""
    folder = out / pair.name
    if (report := _finished(folder, pair, options)) is not None:
        return _measures(pair, "finished before", report), {}
    trace = out / f"{pair.name}.traceback.txt"
    try:
        report, seconds = register_files(pair, folder, network, options)
    except (InputError, OSError) as error:
        return {"name": pair.name, "status": "failed", "error": str(error)}, {}
    except Exception as error:
        # Nobody foresaw it, so what is known goes to a file; the others go on.
        trace.write_text(traceback.format_exc())
        line = (str(error).splitlines() or [""])[0]
        message = f"{type(error).__name__}: {line}; see {trace}"
        return {"name": pair.name, "status": "failed", "error": message}, {}
    trace.unlink(missing_ok=True)
    return _measures(pair, "registered", report), seconds


def _finished(folder: Path, pair: Pair, options: Options) -> dict | None:
    """The report of an earlier run that was asked for the same."""
    files = ("displacement.nii.gz", "report.html", "transform.h5", "warped.nii.gz")
    if not all((folder / name).is_file() for name in files):
        return None
    try:
        report = json.loads((folder / "report.json").read_text())
    except (OSError, ValueError):
        return None
    return report if report.get("request") == request(pair, options) else None


def _measures(pair: Pair, status: str, report: dict) -> dict:
    row = {"name": pair.name, "status": status, "seconds": report["seconds"]["total"]}
    for moment in ("before", "after"):
        for name, value in report["similarity"][moment].items():
            row[f"{name}_{moment}"] = value
        if "tre" in report:
            row[f"tre_{moment}"] = report["tre"][moment]["mean"]
        if labels := report.get("overlap", {}).get(moment):
            scores = [label["dice"] for label in labels.values()]
            row[f"dice_{moment}"] = sum(scores) / len(scores)
    if jacobian := report.get("jacobian"):
        row["folding_fraction"] = jacobian["folding_fraction"]
        row["min_jacobian"] = jacobian["min"]
    return row


def _write_rows(table: Path, rows: list[dict]) -> None:
    def write(name):
        with Path(name).open("w", newline="") as file:
            writer = csv.DictWriter(file, _COLUMNS, extrasaction="ignore")
            writer.writeheader()
            for row in rows:
                writer.writerow({k: _cell(v) for k, v in row.items()})

    write_atomically(table, write)


def _cell(value):
    return f"{value:.6g}" if isinstance(value, float) else value


def _parse_shard(text: str) -> tuple[int, int]:
    match = _SHARD.fullmatch(text)
    part, parts = map(int, match.groups()) if match else (0, 0)
    if not 1 <= part <= parts:
        raise InputError(f"--shard {text}: is no part; give I/N, such as 2/8")
    return part, parts
