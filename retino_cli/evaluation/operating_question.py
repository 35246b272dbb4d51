"""What a person asks about an operating point, and what cannot be asked."""

from __future__ import annotations

from dataclasses import dataclass

from retino_cli.errors import UsageError
from retino_cli.evaluation.operating_point import OperatingPoint, Ungradable


@dataclass(frozen=True)
class OperatingQuestion:
    """What is asked about the operating point: the ``point`` chosen on validation, and for whom it is shown.

    ``prevalence``: of referable DR among those to be screened; None: as among the images. ``ungradable`` images that
    could not be judged are left out ("exclude") or counted as referred ("refer").
    """

    point: OperatingPoint
    prevalence: float | None = None
    ungradable: Ungradable = "exclude"


def check_operating(
    sensitivity: float | None, specificity: float | None, prevalence: float | None, ungradable: str
) -> None:
    """Raise UsageError, naming the flag, for an operating point that cannot be asked for."""
    if sensitivity is not None and specificity is not None:
        raise UsageError("--sensitivity and --specificity cannot both be wanted.", "Give one of them.")
    wanted = sensitivity if sensitivity is not None else specificity
    if wanted is not None and not 0 < wanted <= 1:
        raise UsageError(f"The wanted value {wanted:g} is out of range.", "Give a share above 0, at most 1: 0.95.")
    if prevalence is not None and not 0 <= prevalence <= 1:
        raise UsageError(f"--prevalence {prevalence:g} is out of range.", "Give a share from 0 to 1, such as 0.1.")
    if ungradable not in ("exclude", "refer"):
        raise UsageError(f"--ungradable {ungradable} is not known.", "Choose one of: exclude, refer.")
    if wanted is None and (prevalence is not None or ungradable == "refer"):
        raise UsageError(
            "--prevalence and --ungradable belong to an operating point.", "Give --sensitivity or --specificity too."
        )
