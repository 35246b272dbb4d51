"""``evaluate_predictions(file)``: what somebody else's predictions score. No model runs, no picture is read."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path

from retino_cli.errors import UsageError
from retino_cli.evaluation.artifacts import write_evaluation
from retino_cli.evaluation.descriptions import describe_evaluation
from retino_cli.evaluation.evaluation import OF_A_FILE, Evaluation, check_pairs, judge
from retino_cli.evaluation.fitted import fit
from retino_cli.evaluation.foreign import read_foreign
from retino_cli.evaluation.judged import Judged
from retino_cli.evaluation.operating_point import Ungradable, choose_threshold
from retino_cli.evaluation.operating_question import OperatingQuestion, check_operating
from retino_cli.evaluation.predictions import Predictions
from retino_cli.tracking import open_store


@dataclass(frozen=True)
class PredictionColumns:
    """Names of columns in a predictions file; None: recognised."""

    probabilities: Sequence[str] | None = None
    score: str | None = None
    grade: str | None = None
    label: str | None = None
    image: str | None = None
    patient: str | None = None
    eye: str | None = None


RECOGNISED = PredictionColumns()


def read_judged(path: Path, columns: PredictionColumns = RECOGNISED) -> Judged:
    """Read predictions of any origin; see :func:`~retino_cli.evaluation.foreign.read_foreign`."""
    return read_foreign(
        path,
        probability_columns=columns.probabilities,
        score_column=columns.score,
        grade_column=columns.grade,
        label_column=columns.label,
        id_column=columns.image,
        patient_column=columns.patient,
        eye_column=columns.eye,
    )


def evaluate_predictions(
    path: Path,
    *,
    columns: PredictionColumns = RECOGNISED,
    validation: Path | None = None,
    sensitivity: float | None = None,
    specificity: float | None = None,
    prevalence: float | None = None,
    ungradable: Ungradable = "exclude",
    pair_eyes: bool = False,
    experiment: str = "retino",
    tracking_uri: str | None = None,
) -> Evaluation:
    """Evaluate a file of predictions with their true grades: five probabilities, a score for referable DR, or grades.

    What cannot be computed from it is undefined, with the reason. ``validation`` is a file of the same kind for other
    images: cut points, temperature and threshold are chosen on it, and an operating point cannot be had without it.
    The evaluation is stored in MLflow as a run of kind ``eval``. A file holds gradable images only: ``ungradable`` can
    be nothing but "exclude".

    Raises :class:`~retino_cli.errors.RetinoError` for a file or a row that cannot be used, naming file and line.
    """
    check_operating(sensitivity, specificity, prevalence, ungradable)
    wants_point = sensitivity is not None or specificity is not None
    if wants_point and validation is None:
        raise UsageError(
            "A threshold is chosen on validation, and there is none.", "Name its predictions with --validation FILE."
        )
    if ungradable == "refer":
        raise UsageError(
            "--ungradable refer: a file of predictions does not say which images could not be graded.",
            "Leave it out: they are not counted.",
        )
    judged = read_judged(path, columns)
    chosen_on = read_judged(validation, columns) if validation is not None else None
    if chosen_on is not None:
        _refuse_same_images(judged, chosen_on, f"{validation} and {path}")
    if pair_eyes:
        check_pairs(judged)
    question = None
    if chosen_on is not None and wants_point:
        point = choose_threshold(chosen_on, sensitivity=sensitivity, specificity=specificity)
        question = OperatingQuestion(point, prevalence, ungradable)
    store = open_store(tracking_uri)
    with store.start_run(
        experiment=experiment,
        name=f"eval {path.name}",
        kind="eval",
        params={"predictions": str(path), "split": OF_A_FILE},
        tags={"retino.data": path.stem, "retino.split": OF_A_FILE},
    ) as active:
        evaluation = judge(
            judged,
            split=OF_A_FILE,
            data=path.stem,
            evaluation_run_id=active.run_id,
            fitted=fit(chosen_on) if isinstance(chosen_on, Predictions) else None,
            question=question,
            pair_eyes=pair_eyes,
        )
        active.write_folder(OF_A_FILE, lambda folder: write_evaluation(evaluation, folder))
        active.log_metrics(evaluation.defined(OF_A_FILE))
        active.describe(describe_evaluation(evaluation))
        active.set_tags({"retino.collapsed": "no" if evaluation.collapsed is None else f"grade {evaluation.collapsed}"})
    return evaluation


def _refuse_same_images(judged: Judged, validation: Judged, files: str) -> None:
    """What was chosen on the images that are judged would look better than it is."""
    mine = set(zip(judged.image_id.tolist(), judged.grade.tolist(), strict=True))
    theirs = set(zip(validation.image_id.tolist(), validation.grade.tolist(), strict=True))
    if mine <= theirs or theirs <= mine:
        raise UsageError(
            f"{files} hold the same images: what is chosen on them must be judged on others.",
            "Name predictions for other images of the same source with --validation.",
        )
