"""DICOM folders as the phases of a series.

A 4D scan is exported either as several series of one volume each, which are in the
order of the per cent in their descriptions or of their numbers, or as one series with
several slices at each position, which the header tells apart in time.
"""

import dataclasses
import logging
import re
from pathlib import Path
from typing import cast

import numpy as np

from regnet_jax.errors import InputError
from regnet_jax.io.dicom import SCOUT, TIMES, Slice, Stack, describe_stacks, find_stacks

_LOG = logging.getLogger(__name__)

_PERCENT = re.compile(r"(\d+(?:\.\d+)?)\s*%")
# Without a further point, as in dates and UIDs.
_DECIMAL = r"(?<![\d.])\d+\.\d+(?!\.?\d)"
# Slices whose places along their normal differ by less, mm, lie at one position.
_SAME_PLACE = 0.01


def natural_key(text: str, *, decimals: bool = True) -> list:
    """Return a key that sorts texts by the numbers in them: T5, T10, T100.

    Args:
        text: any.
        decimals: take two numbers with a point between them for one, so that t1.25 is
            before t1.5; otherwise, as in versions, 1.5 is before 1.25.

    Returns:
        Words and numbers by turns.
    """
    number = rf"({_DECIMAL}|\d+)" if decimals else r"(\d+)"
    words: list = re.split(number, text.lower())
    words[1::2] = (float(word) if "." in word else int(word) for word in words[1::2])
    return words


def find_phases(path: Path, series: str) -> list[tuple[str, Stack]]:
    """Find the phases in a DICOM folder or in a file of several frames.

    Args:
        path: of a folder, whose folders are searched too, or of a file.
        series: number, description or UID of the one series to take; "" for all.

    Returns:
        What each phase is called, and its slices, in the order of time; a single one
        if nothing tells its slices apart.

    Raises:
        InputError: if there is no such series, if several series hold the same phase,
            or if a header cannot be read.
    """
    stacks = find_stacks(path, series)
    volumes = [stack for stack in stacks if len(stack.slices) > SCOUT] or stacks
    if len({stack.uid for stack in volumes}) < len(volumes):
        raise InputError(
            f"{path}: holds slices of several directions or sizes in one series:"
            f" {describe_stacks(volumes)}; move the phases to a folder of their own"
        )
    if len(volumes) == 1:
        _warn_of_others(path, stacks, volumes)
        return _split_in_time(volumes[0])
    percents = [_PERCENT.findall(stack.description) for stack in volumes]
    values = [float(found[-1]) if found else None for found in percents]
    named = [value for value in values if value is not None]
    if len(named) < 2:
        phases = sorted(volumes, key=lambda s: natural_key(f"{s.number} {s.uid}"))
        _warn_of_others(path, stacks, phases)
        return [(_label(stack), stack) for stack in phases]
    for value in named:
        if named.count(value) > 1:
            raise InputError(
                f"{path}: holds {named.count(value)} series of {value:g} %:"
                f" {describe_stacks(volumes)}; move those of one reconstruction to a"
                " folder of their own"
            )
    phases = [
        stack
        for value, stack in sorted(
            (pair for pair in zip(values, volumes, strict=True) if pair[0] is not None),
            key=lambda pair: cast(float, pair[0]),
        )
    ]
    _warn_of_others(path, stacks, phases)
    return [(_label(stack), stack) for stack in phases]


def _warn_of_others(path: Path, stacks: list[Stack], phases: list[Stack]) -> None:
    others = [stack for stack in stacks if stack not in phases]
    if others:
        _LOG.warning(
            "%s: holds series that are no phase, which are left out: %s",
            path,
            describe_stacks(others),
        )


def _label(stack: Stack) -> str:
    return stack.description or f"series {stack.number or stack.uid}"


def _split_in_time(stack: Stack) -> list[tuple[str, Stack]]:
    """Divide a stack by what tells the slices at each position apart."""
    positions = _group_by_position(stack.slices)
    count = len(positions[0])
    if count > 1 and all(len(group) == count for group in positions):
        for tag in TIMES:
            if all(_tells_apart(tag, group) for group in positions):
                return _phases(stack, positions, tag)
    return [(_label(stack), stack)]


def _group_by_position(slices: list[Slice]) -> list[list[Slice]]:
    """Return the slices at each position along their normal."""
    placed = [s for s in slices if s.position is not None and s.orientation is not None]
    if len(placed) < len(slices):
        return [[each] for each in slices]
    axes = cast(np.ndarray, slices[0].orientation)
    normal = np.cross(axes[0], axes[1])
    places = np.array([cast(np.ndarray, each.position) @ normal for each in slices])
    order = np.argsort(places, kind="stable")
    first = np.flatnonzero(np.diff(places[order]) > _SAME_PLACE) + 1
    return [[slices[k] for k in group] for group in np.split(order, first)]


def _tells_apart(tag: str, group: list[Slice]) -> bool:
    values = {each.times[tag] for each in group if tag in each.times}
    return len(values) == len(group)


def _phases(
    stack: Stack, positions: list[list[Slice]], tag: str
) -> list[tuple[str, Stack]]:
    """Return the phases by the rank of a time among the slices of a position.

    The trigger time of a phase may differ from slice to slice.
    """
    ranked = [sorted(group, key=lambda each: each.times[tag]) for group in positions]
    words = " ".join(re.findall("[A-Z][a-z]+", tag)).lower()
    return [
        (
            f"{words} {np.median([each.times[tag] for each in slices]):g}",
            dataclasses.replace(stack, slices=list(slices)),
        )
        for slices in zip(*ranked, strict=True)
    ]
