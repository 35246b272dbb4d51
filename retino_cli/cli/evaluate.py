"""``retino eval``."""

from __future__ import annotations

from pathlib import Path
from typing import Annotated, Any

import typer

from retino_cli.cli import options as o
from retino_cli.errors import UsageError
from retino_cli.figures.formats import figure_formats

FILE_PANEL, POINT_PANEL = "Somebody else's predictions", "Operating point and eyes"


OF_A_RUN = ("data", "layout", "split", "skip_unreadable", "tta")
OF_A_FILE = (
    "validation", "probability_columns", "score_column", "grade_column", "label_column", "id_column", "patient_column",
    "eye_column",
)  # fmt: skip


def _column(name: str, help: str) -> Any:
    return typer.Option(name, help=help, show_default="recognised", rich_help_panel=FILE_PANEL)


def _point(*names: str, help: str, default: str | bool = "not asked") -> Any:
    return typer.Option(*names, help=help, show_default=default, rich_help_panel=POINT_PANEL)


def evaluate(
    context: typer.Context,
    run: Annotated[
        str | None,
        typer.Argument(help="Training run, or repeats: id, first characters, name, or latest.", show_default=False),
    ] = None,
    data: Annotated[
        Path | None,
        typer.Option("--data", "-d", help="Another data set.", show_default="the one it was trained on"),
    ] = None,
    layout: o.Format = None,
    split: Annotated[str, typer.Option("--split", metavar="test|val|train|all", help="Which images.")] = "test",
    skip_unreadable: o.SkipUnreadable = False,
    sensitivity: Annotated[
        float | None, _point("--sensitivity", help="Choose the threshold on validation that reaches this.")
    ] = None,
    specificity: Annotated[float | None, _point("--specificity", help="The same, for this specificity.")] = None,
    prevalence: Annotated[
        float | None,
        _point("--prevalence", help="Share of referable DR among those screened.", default="that of the images"),
    ] = None,
    ungradable: Annotated[
        str,
        _point(
            "--ungradable",
            help="Ungradable or unreadable images: exclude, or refer (counted as referred).",
            default=True,
        ),
    ] = "exclude",
    pair_eyes: Annotated[
        bool, _point("--pair-eyes", help="Also blend the two eyes of a patient, and report by patient.", default=True)
    ] = False,
    predictions: Annotated[
        Path | None,
        typer.Option(
            "--predictions",
            help="Evaluate this CSV or Parquet file instead of a run.",
            show_default="none",
            rich_help_panel=FILE_PANEL,
        ),
    ] = None,
    validation: Annotated[
        Path | None,
        typer.Option(
            "--validation",
            help="The same for validation images: what thresholds and cut points are chosen on.",
            show_default="none",
            rich_help_panel=FILE_PANEL,
        ),
    ] = None,
    probability_columns: Annotated[
        str | None, _column("--probability-columns", help="Five columns, with commas: the probability of each grade.")
    ] = None,
    score_column: Annotated[str | None, _column("--score-column", help="A score for referable DR.")] = None,
    grade_column: Annotated[str | None, _column("--grade-column", help="The predicted grade.")] = None,
    label_column: Annotated[str | None, _column("--label-column", help="The true grade.")] = None,
    id_column: Annotated[str | None, _column("--id-column", help="The image.")] = None,
    patient_column: Annotated[str | None, _column("--patient-column", help="The patient.")] = None,
    eye_column: Annotated[str | None, _column("--eye-column", help="The eye: left or right.")] = None,
    device: o.Device = "auto",
    precision: o.Precision = "auto",
    tta: o.Tta = None,
    workers: o.Workers = None,
    figure_format: o.FigureFormat = o.FIGURE_FORMAT,
    tracking_uri: o.TrackingUri = None,
    as_json: o.Json = False,
    quiet: o.Quiet = False,
) -> None:
    """Evaluate a trained run on a split of its own data or of another data set, or a file of predictions.

    Every metric comes with a 95 % bootstrap interval, by patient where patients are known; accuracy stands beside the
    baselines that read no pixel; QWK is given by the most probable grade, by rounding, and by the cut points fitted on
    validation. Preprocessing comes from the checkpoint. Of repeats (`train --repeats`), the mean of all seeds'
    probabilities is judged. Everything is stored in MLflow as a run of its own.

    Examples:

    retino eval latest --sensitivity 0.95 --prevalence 0.1

    retino eval 3f2a91c0 --data messidor2 --split all --json

    retino eval --predictions theirs.csv --label-column gt
    """
    if (run is None) == (predictions is None):
        what = "Both a run and --predictions were given" if run is not None else "Nothing was given to evaluate"
        raise UsageError(f"{what}.", "Give one: retino eval RUN, or retino eval --predictions FILE.")
    _refuse_others(context, OF_A_FILE if predictions is None else OF_A_RUN, of_run=predictions is not None)
    asked: dict[str, Any] = {
        "sensitivity": sensitivity,
        "specificity": specificity,
        "prevalence": prevalence,
        "ungradable": ungradable,
        "pair_eyes": pair_eyes,
        "tracking_uri": tracking_uri,
    }
    from retino_cli.cli.display import Display
    from retino_cli.cli.results import print_evaluation

    with figure_formats(figure_format), Display(quiet=quiet or as_json) as display:
        if predictions is not None:
            from retino_cli.evaluation.evaluate_file import PredictionColumns, evaluate_predictions

            columns = PredictionColumns(
                probabilities=None if probability_columns is None else probability_columns.split(","),
                score=score_column,
                grade=grade_column,
                label=label_column,
                image=id_column,
                patient=patient_column,
                eye=eye_column,
            )
            evaluation = evaluate_predictions(predictions, columns=columns, validation=validation, **asked)
        else:
            from retino_cli.evaluation.evaluate import evaluate as run_evaluation

            evaluation = run_evaluation(
                str(run),
                data=data,
                layout=layout,
                split=split,
                device=device,
                precision=precision,
                tta=tta,
                workers=workers,
                skip_unreadable=skip_unreadable,
                listen=display,
                **asked,
            )
    print_evaluation(evaluation, as_json=as_json)


def _refuse_others(context: typer.Context, names: tuple[str, ...], *, of_run: bool) -> None:
    """Raise UsageError for a flag that would silently do nothing."""
    for name in names:
        source = context.get_parameter_source(name)
        if source is not None and source.name == "COMMANDLINE":
            flag = "--" + {"layout": "format"}.get(name, name).replace("_", "-")
            whose, other = ("a run", "a file of predictions") if of_run else ("--predictions", "a run")
            raise UsageError(f"{flag} belongs to {whose}, and {other} is evaluated.", f"Leave {flag} out.")
