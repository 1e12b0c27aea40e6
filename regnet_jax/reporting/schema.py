"""The content of ``report.json``: the numbers of one registration, typed.

``RegistrationReport`` is the only representation of a report. A registration builds it;
the HTML page, the table of a batch and the printed summary read its attributes. In
JSON, numbers that are not finite are null and missing measures are omitted.
"""

import json
from collections.abc import Mapping
from dataclasses import dataclass, field
from typing import Any

from regnet_jax.evaluation import (
    BeforeAndAfter,
    ErrorStatistics,
    JacobianStatistics,
    LabelOverlap,
    Measures,
    Similarity,
)
from regnet_jax.files import strict_json

SCHEMA_VERSION = 1


@dataclass(frozen=True)
class RegistrationReport:
    """The numbers of one registration.

    Attributes:
        model: name of the network, or the folder of its run.
        seconds: duration of each phase, and ``total``.
        before: measures of the images without any transform.
        after: measures of the registration; its Jacobian is None where an axis has a
            single voxel.
        unmatched_fraction: fraction of the voxels shown by the fixed image that the
            moving image does not show.
        affine: the linear alignment, homogeneous ``[d + 1, d + 1]``, mm, x first.
        parameters: the settings that were used, nested, by name.
        versions: of the software, by name.
        warnings: sentences to read before trusting the result.
        request: the files and settings that were asked for; None if unknown.
        confidence: where errors were estimated, the distance in mm within which 95 % of
            each region lies, as ``{"body": 1.5, "lungs": 1.2}``.
        version: of the schema, ``schema`` in JSON.
    """

    model: str
    seconds: Mapping[str, float]
    before: Measures
    after: Measures
    unmatched_fraction: float
    affine: tuple[tuple[float, ...], ...]
    parameters: Mapping[str, Any]
    versions: Mapping[str, str]
    warnings: tuple[str, ...] = ()
    request: Mapping[str, Any] | None = None
    confidence: Mapping[str, float] | None = None
    version: int = field(default=SCHEMA_VERSION, kw_only=True)

    def to_dict(self) -> dict:
        """Return the report as nested dictionaries and lists.

        Returns:
            ``schema`` and the attributes by name. ``before`` and ``after`` are replaced
            by the measures: ``similarity``, ``tre``, ``tre_snapped`` and ``overlap``,
            each before and after, and ``jacobian``.
        """
        content = {
            "schema": self.version,
            "model": self.model,
            "seconds": dict(self.seconds),
            **BeforeAndAfter(self.before, self.after).to_dict(),
            "unmatched_fraction": self.unmatched_fraction,
            "affine": [list(row) for row in self.affine],
            "parameters": self.parameters,
            "versions": self.versions,
            "warnings": list(self.warnings),
        }
        optional = {"request": self.request, "confidence": self.confidence}
        return content | {k: v for k, v in optional.items() if v is not None}

    def to_json(self) -> str:
        """Return the text of ``report.json``, which ends with a newline."""
        return strict_json(self.to_dict(), indent=2) + "\n"

    @classmethod
    def from_json(cls, text: str) -> "RegistrationReport":
        """Parse the text of ``report.json``.

        Args:
            text: from ``to_json``; measures that are null become NaN.

        Returns:
            The report.

        Raises:
            ValueError: if the text is not JSON, or not a report of this version.
        """
        content = json.loads(text)
        version = content.get("schema") if isinstance(content, dict) else None
        if version != SCHEMA_VERSION:
            raise ValueError(f"schema {version!r} is not {SCHEMA_VERSION}")
        try:
            return cls(
                model=content["model"],
                seconds=content["seconds"],
                before=_parse_measures(content, "before"),
                after=_parse_measures(content, "after"),
                unmatched_fraction=_parse_number(content["unmatched_fraction"]),
                affine=tuple(map(tuple, content["affine"])),
                parameters=content["parameters"],
                versions=content["versions"],
                warnings=tuple(content["warnings"]),
                request=content.get("request"),
                confidence=content.get("confidence")
                and {k: _parse_number(v) for k, v in content["confidence"].items()},
            )
        except (AttributeError, KeyError, TypeError, ValueError) as error:
            raise ValueError(f"not a report: {error!r}") from error


def _parse_measures(content: Mapping, moment: str) -> Measures:
    """Return the measures before or after; the Jacobian belongs to those after."""
    measures = {
        name: _parse_numbers(kind, content[name][moment])
        for name, kind in (
            ("similarity", Similarity),
            ("tre", ErrorStatistics),
            ("tre_snapped", ErrorStatistics),
        )
        if name in content
    }
    if "overlap" in content:
        measures["overlap"] = {
            int(label): _parse_numbers(LabelOverlap, values)
            for label, values in content["overlap"][moment].items()
        }
    if "jacobian" in content and moment == "after":
        measures["jacobian"] = _parse_numbers(JacobianStatistics, content["jacobian"])
    return Measures(**measures)


def _parse_numbers(kind: type, values: Mapping):
    """Build a dataclass whose attributes are numbers, or tuples of them."""
    return kind(**{name: _parse_number(value) for name, value in values.items()})


def _parse_number(value) -> Any:
    if isinstance(value, list):
        return tuple(_parse_number(item) for item in value)
    return float("nan") if value is None else value
