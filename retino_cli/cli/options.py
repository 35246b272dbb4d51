"""Options that several commands share, each declared once."""

from __future__ import annotations

from pathlib import Path
from typing import Annotated

import typer

from retino_cli.config import TrainConfig
from retino_cli.errors import UsageError
from retino_cli.figures.formats import DEFAULT_FORMATS, FORMATS, parse_formats

LAYOUT_NAMES = "lab|eyepacs|aptos|idrid|messidor2|deepdrid|ddr|medmnist|painted|folders|csv"
FROM_RECIPE = "from the recipe"
DATA_PANEL, MODEL_PANEL, TRAINING_PANEL, RUN_PANEL = "Data", "Model", "Training", "Run"


def _check_formats(given: list[str]) -> list[str]:
    """An unknown format is answered before anything is computed."""
    return list(parse_formats(given))


def parse_shares(text: str) -> list[float]:
    """The numbers of --grade-distribution. Raises UsageError where one of them is none."""
    try:
        return [float(part) for part in text.split(",")]
    except ValueError:
        raise UsageError(
            f"--grade-distribution {text} is not a list of numbers.", "Give five shares, such as 1,1,1,1,1."
        ) from None


Data = Annotated[
    Path,
    typer.Option(
        "--data", "-d", envvar="RETINO_DATA", help="Folder or file of the data set.", rich_help_panel=DATA_PANEL
    ),
]
Format = Annotated[
    str | None,
    typer.Option(
        "--format",
        metavar=LAYOUT_NAMES,
        envvar="RETINO_FORMAT",
        help="Layout of the data set.",
        show_default="recognised",
        rich_help_panel=DATA_PANEL,
    ),
]
ImageColumn = Annotated[
    str | None,
    typer.Option("--image-column", help="Column of any CSV that names the image.", rich_help_panel=DATA_PANEL),
]
LabelColumn = Annotated[
    str | None, typer.Option("--label-column", help="Column that holds the grade, 0-4.", rich_help_panel=DATA_PANEL)
]
SplitColumn = Annotated[
    str | None,
    typer.Option("--split-column", help="Column that holds train, val or test.", rich_help_panel=DATA_PANEL),
]
PatientColumn = Annotated[
    str | None, typer.Option("--patient-column", help="Column that names the patient.", rich_help_panel=DATA_PANEL)
]
ValFraction = Annotated[
    float,
    typer.Option(
        "--val-fraction",
        envvar="RETINO_VAL_FRACTION",
        help="Share of the training images cut off as validation where the data has none; by grade and patient.",
        rich_help_panel=DATA_PANEL,
    ),
]
Splitting = Annotated[
    str,
    typer.Option(
        "--split",
        metavar="official|patient|likeness",
        envvar="RETINO_SPLIT",
        help="patient: cut the data anew, so that no patient is in two splits. likeness: where no patients are named, "
        "cut validation anew, so that pictures of like colours stay together.",
        rich_help_panel=DATA_PANEL,
    ),
]
Duplicates = Annotated[
    str,
    typer.Option(
        "--duplicates",
        metavar="keep|drop",
        envvar="RETINO_DUPLICATES",
        help="drop: leave out training images whose picture is in validation or test, too.",
        rich_help_panel=DATA_PANEL,
    ),
]
SkipUnreadable = Annotated[
    bool,
    typer.Option(
        "--skip-unreadable",
        help="Leave out images that are missing or cannot be decoded, instead of stopping.",
        rich_help_panel=DATA_PANEL,
    ),
]
Seed = Annotated[
    int,
    typer.Option("--seed", envvar="RETINO_SEED", help="Seed of everything that is random.", rich_help_panel=RUN_PANEL),
]
SplitSeed = Annotated[
    int | None,
    typer.Option(
        "--split-seed",
        envvar="RETINO_SPLIT_SEED",
        help="Seed of the cuts (validation, --split patient) alone.",
        show_default="--seed",
        rich_help_panel=RUN_PANEL,
    ),
]
Device = Annotated[
    str,
    typer.Option(
        "--device", metavar="auto|cpu|cuda|cuda:N|mps", envvar="RETINO_DEVICE", help="Where to compute.",
        rich_help_panel=RUN_PANEL,
    ),
]  # fmt: skip
Precision = Annotated[
    str,
    typer.Option(
        "--precision",
        metavar="auto|float32|bfloat16",
        envvar="RETINO_PRECISION",
        help="Number format of the arithmetic; auto takes bfloat16 where the hardware multiplies it.",
        rich_help_panel=RUN_PANEL,
    ),
]
Sensitivity = Annotated[
    float | None,
    typer.Option(
        "--sensitivity",
        help="Refer from the threshold on that reaches this on the training's validation images.",
        show_default="no threshold",
    ),
]
Specificity = Annotated[
    float | None,
    typer.Option("--specificity", help="The same, for this specificity.", show_default="no threshold"),
]
Tta = Annotated[
    bool | None,
    typer.Option(
        "--tta/--no-tta",
        envvar="RETINO_TTA",
        help="Average each image's probabilities over its eight flips and quarter turns (eight times the arithmetic).",
        show_default="as trained",
        rich_help_panel=RUN_PANEL,
    ),
]
Workers = Annotated[
    int | None,
    typer.Option(
        "--workers",
        envvar="RETINO_WORKERS",
        help="Images decoded at the same time.",
        show_default="one per core",
        rich_help_panel=RUN_PANEL,
    ),
]
Experiment = Annotated[
    str,
    typer.Option(
        "--experiment", envvar="RETINO_EXPERIMENT", help="MLflow experiment of the run.", rich_help_panel=RUN_PANEL
    ),
]
RunName = Annotated[
    str | None,
    typer.Option(
        "--run-name", help="Name of the run.", show_default="made from what is trained", rich_help_panel=RUN_PANEL
    ),
]
TrackingUri = Annotated[
    str | None,
    typer.Option(
        "--tracking-uri",
        help="MLflow store, in place of ./mlflow.db or MLFLOW_TRACKING_URI.",
        show_default="MLflow's own",
        rich_help_panel=RUN_PANEL,
    ),
]
Json = Annotated[bool, typer.Option("--json", help="Print one JSON object on stdout.", rich_help_panel=RUN_PANEL)]
Quiet = Annotated[
    bool, typer.Option("--quiet", "-q", help="No progress on stderr; warnings stay.", rich_help_panel=RUN_PANEL)
]
Split = Annotated[str | None, typer.Option("--split", metavar="test|val|train|all", help="Which images.")]

FigureFormat = Annotated[
    list[str],
    typer.Option(
        "--figure-format",
        metavar="|".join(FORMATS),
        envvar="RETINO_FIGURE_FORMAT",
        help="Formats of the figures, with commas or repeated.",
        callback=_check_formats,
        rich_help_panel=RUN_PANEL,
    ),
]

EPOCHS_HELP = "Passes over the training images."
DEFAULTS = TrainConfig
FIGURE_FORMAT = list(DEFAULT_FORMATS)
