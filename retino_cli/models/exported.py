"""What an exported grader says of itself: everything that is needed to use its file, inside the file.

An ONNX file keeps it as one JSON object, under the key ``retino`` of its metadata.
"""

from __future__ import annotations

import json
from collections.abc import Mapping
from dataclasses import asdict, dataclass
from typing import Any, Final

from retino_cli.errors import WeightsError
from retino_cli.grades import GRADE_NAMES
from retino_cli.preprocess import PreprocessSpec

METADATA_KEY: Final = "retino"
FORMAT: Final = 1
"""Version of this description and of the graph's inputs and outputs, raised when an older retino could not use it."""

INPUT: Final = "images"
OUTPUTS: Final = ("probabilities", "score", "grade", "referable")
REFER_OUTPUT: Final = "refer"
"""A further output, of files that have an operating point."""


@dataclass(frozen=True)
class ExportedInfo:
    """Where an exported grader comes from, and how it is to be used.

    ``run_id``, ``run_name``, ``epoch``: the training, and the completed epochs of its checkpoint. ``arch``: its
    network. ``tta``: whether it looks at each picture in eight ways. ``preprocess``: how a photograph becomes its
    input. ``metrics``: of that epoch, by name. ``data``: name and fingerprints of the training data. ``calibration``:
    what was fitted on validation (see :class:`~retino_cli.evaluation.fitted.Fitted`). ``operating_point``: the fields
    of :class:`~retino_cli.evaluation.operating_point.OperatingPoint`, ``{}`` without. ``seeds``: of repeats, whose
    networks answer together, with commas; then ``epoch`` is 0 and ``metrics`` are empty.
    """

    run_id: str
    run_name: str
    epoch: int
    arch: str
    tta: bool
    preprocess: PreprocessSpec
    metrics: dict[str, float]
    data: dict[str, Any]
    calibration: dict[str, Any]
    operating_point: dict[str, Any]
    retino_version: str
    seeds: str = ""

    @property
    def threshold(self) -> float | None:
        """Of the operating point: an image is to be referred where its probability of referable DR is at least it."""
        return None if not self.operating_point else float(self.operating_point["threshold"])

    def to_json(self) -> str:
        """One JSON object; :meth:`from_json` is its inverse."""
        fields = asdict(self) | {"preprocess": self.preprocess.to_dict()}
        grades = list(GRADE_NAMES)
        return json.dumps({"format": FORMAT, "grades": grades, **fields}, indent=1, allow_nan=False)

    @classmethod
    def from_json(cls, text: str) -> ExportedInfo:
        """What :meth:`to_json` wrote. Raises WeightsError saying what does not fit."""
        try:
            fields = json.loads(text)
        except ValueError as error:
            raise WeightsError(f"its description is not JSON ({error})") from error
        if not isinstance(fields, Mapping) or fields.get("format") != FORMAT:
            found = fields.get("format") if isinstance(fields, Mapping) else fields
            raise WeightsError(
                f"it was exported in format {found!r}; this retino reads format {FORMAT}",
                "Use the version of retino that exported it, or export the run again.",
            )
        fields = {"seeds": ""} | dict(fields)  # which files of single trainings did not always say
        missing = sorted(set(cls.__dataclass_fields__) - set(fields))
        if missing:
            raise WeightsError(f"its description lacks {', '.join(missing)}", "Export the run again.")
        known = {name: fields[name] for name in cls.__dataclass_fields__}
        return cls(**known | {"preprocess": PreprocessSpec.from_dict(fields["preprocess"])})
