"""What is fitted on validation and travels in the checkpoint: cut points, temperature, weight of the other eye."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass
from typing import Any

from retino_cli.evaluation.calibration import apply_cut_points, apply_temperature, fit_cut_points, fit_temperature
from retino_cli.evaluation.eyes import fit_eye_weight
from retino_cli.evaluation.metrics import (
    Undefined,
    confusion_matrix,
    quadratic_weighted_kappa,
    summarise,
)
from retino_cli.evaluation.predictions import Predictions

CutPointValues = tuple[float, float, float, float]


@dataclass(frozen=True)
class Fitted:
    """Fitted on the ``n_images`` of validation, never on test. ``None`` where validation could not say.

    ``cut_points``: four thresholds on the expected grade. ``temperature``: divides the logits. ``eye_weight``: of the
    other eye's probabilities, 0..1.
    """

    n_images: int
    cut_points: CutPointValues | None = None
    temperature: float | None = None
    eye_weight: float | None = None

    def to_dict(self) -> dict[str, Any]:
        """JSON-able; :meth:`from_dict` is its inverse."""
        return {
            "n_images": self.n_images,
            "cut_points": None if self.cut_points is None else list(self.cut_points),
            "temperature": self.temperature,
            "eye_weight": self.eye_weight,
        }

    @classmethod
    def from_dict(cls, fields: Mapping[str, Any]) -> Fitted | None:
        """What a checkpoint holds under ``calibration``; None for one that holds nothing."""
        if not fields:
            return None
        cuts = fields.get("cut_points")
        return cls(
            n_images=int(fields["n_images"]),
            cut_points=None if cuts is None else (cuts[0], cuts[1], cuts[2], cuts[3]),
            temperature=fields.get("temperature"),
            eye_weight=fields.get("eye_weight"),
        )


def fit(validation: Predictions) -> Fitted:
    """Fit everything on ``validation``. A temperature at the end of its range says nothing and is left out."""
    cuts, temperature, weight = fit_cut_points(validation), fit_temperature(validation), fit_eye_weight(validation)
    return Fitted(
        n_images=len(validation),
        cut_points=None if isinstance(cuts, Undefined) else cuts.values,
        temperature=None if temperature.at_limit else temperature.value,
        eye_weight=None if isinstance(weight, Undefined) else weight.value,
    )


def apply_fitted(predictions: Predictions, fitted: Fitted) -> dict[str, float | Undefined]:
    """What the fitted values make of ``predictions``, by name.

    ``qwk_cut_points``: QWK of the expected grade cut at the fitted points. ``nll_tempered``, ``ece_tempered``,
    ``brier_tempered``: those metrics after the temperature.
    """
    found: dict[str, float | Undefined] = {}
    if fitted.cut_points is not None:
        graded = apply_cut_points(predictions.expected_grade, fitted.cut_points)
        qwk = float(quadratic_weighted_kappa(confusion_matrix(predictions.grade, graded)))
        found["qwk_cut_points"] = qwk if qwk == qwk else Undefined("every true and every predicted grade is the same")
    if fitted.temperature is not None:
        tempered = summarise(apply_temperature(predictions, fitted.temperature))
        found |= {f"{name}_tempered": tempered[name] for name in ("nll", "brier", "ece")}
    return found
