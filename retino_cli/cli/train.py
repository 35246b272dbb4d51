"""``retino train``."""

from __future__ import annotations

from pathlib import Path
from typing import Annotated, Any

import typer

from retino_cli.cli import options as o
from retino_cli.config import (
    ARCHITECTURES,
    AUGMENTATIONS,
    CLASS_WEIGHTS,
    CROPS,
    HEADS,
    LOSSES,
    NORMALISATIONS,
    OPTIMIZERS,
    SCHEDULES,
    SELECT_BY,
    STEMS,
    TIMM_PREFIX,
    TrainConfig,
)
from retino_cli.errors import UsageError
from retino_cli.figures.formats import figure_formats
from retino_cli.recipes import RECIPES

D = TrainConfig
NO_SETTINGS = ("repeats", "resume", "figure_format", "as_json", "quiet")
RESUMABLE = (
    "resume",
    "epochs",
    "patience",
    "data",
    "device",
    "workers",
    "figure_format",
    "tracking_uri",
    "as_json",
    "quiet",
)


def _model(*names: str, help: str, choices: tuple[str, ...] = (), default: str | bool = True) -> Any:
    metavar = "|".join(choices) or None
    env = f"RETINO_{names[0].split('/')[0].lstrip('-').replace('-', '_').upper()}"
    return typer.Option(
        *names, metavar=metavar, envvar=env, help=help, show_default=default, rich_help_panel=o.MODEL_PANEL
    )


def _training(*names: str, help: str, choices: tuple[str, ...] = (), default: str | bool = o.FROM_RECIPE) -> Any:
    metavar = "|".join(choices) or None
    env = f"RETINO_{names[0].split('/')[0].lstrip('-').replace('-', '_').upper()}"
    return typer.Option(
        *names, metavar=metavar, envvar=env, help=help, show_default=default, rich_help_panel=o.TRAINING_PANEL
    )


def train(
    context: typer.Context,
    data: o.Data = D.data,
    layout: o.Format = D.layout,
    image_column: o.ImageColumn = D.image_column,
    label_column: o.LabelColumn = D.label_column,
    split_column: o.SplitColumn = D.split_column,
    patient_column: o.PatientColumn = D.patient_column,
    val_fraction: o.ValFraction = D.val_fraction,
    split: o.Splitting = D.split,
    duplicates: o.Duplicates = D.duplicates,
    skip_unreadable: o.SkipUnreadable = D.skip_unreadable,
    arch: Annotated[
        str,
        _model("--arch", help="Network; timm:NAME is one of timm's.", choices=(*ARCHITECTURES, f"{TIMM_PREFIX}NAME")),
    ] = D.arch,
    pretrained: Annotated[
        bool, _model("--pretrained/--no-pretrained", help="Start from torchvision's ImageNet weights, or timm's own.")
    ] = D.pretrained,
    weights: Annotated[
        Path | None, _model("--weights", help="Start from a .pth or .safetensors file.", default="none")
    ] = D.weights,
    init: Annotated[
        str | None, _model("--init", help="Start from another run's weights (id, name or latest).", default="none")
    ] = D.init,
    head: Annotated[str | None, _model("--head", help="Classifier.", choices=HEADS, default=o.FROM_RECIPE)] = D.head,
    stem: Annotated[
        str | None,
        _model("--stem", help="First convolution.", choices=STEMS, default="3x3 for 64 px and less"),
    ] = D.stem,
    freeze: Annotated[
        int,
        _model("--freeze", help="How many stages, from the input on, stay as they are. A ResNet has 5, then the head."),
    ] = D.freeze,
    recipe: Annotated[
        str | None,
        _training(
            "--recipe", help="Named set of choices.", choices=tuple(RECIPES), default="by size and number of the images"
        ),
    ] = D.recipe,
    epochs: Annotated[int | None, _training("--epochs", help="Passes over the training images.")] = D.epochs,
    batch_size: Annotated[int | None, _training("--batch-size", help="Images per step.")] = D.batch_size,
    lr: Annotated[
        str | None,
        _training(
            "--lr", help="Learning rate; auto: found by a range test before the training.", choices=("NUMBER", "auto")
        ),
    ] = D.lr,  # type: ignore[assignment] # a number given from Python stays one
    momentum: Annotated[float | None, _training("--momentum", help="Momentum of SGD.")] = D.momentum,
    weight_decay: Annotated[float | None, _training("--weight-decay", help="Weight decay.")] = D.weight_decay,
    optimizer: Annotated[str | None, _training("--optimizer", help="Optimizer.", choices=OPTIMIZERS)] = D.optimizer,
    schedule: Annotated[
        str | None, _training("--schedule", help="Learning rate over the run.", choices=SCHEDULES)
    ] = D.schedule,
    warmup: Annotated[
        float | None,
        _training("--warmup", help="Share of the steps in which the rate rises; helps where it is high."),
    ] = D.warmup,
    ema: Annotated[
        float | None, _training("--ema", help="Decay of the moving average of the weights that is kept; 0: none.")
    ] = D.ema,
    loss: Annotated[str | None, _training("--loss", help="Loss.", choices=LOSSES)] = D.loss,
    ordinal_sigma: Annotated[
        float | None, _training("--ordinal-sigma", help="Width, in grades, that the ordinal loss spreads a label over.")
    ] = D.ordinal_sigma,
    class_weights: Annotated[
        str | None, _training("--class-weights", help="Weight of each grade in the loss.", choices=CLASS_WEIGHTS)
    ] = D.class_weights,
    image_size: Annotated[int | None, _training("--image-size", help="Side of the input in pixels.")] = D.image_size,
    crop: Annotated[str | None, _training("--crop", help="What is cut away.", choices=CROPS)] = D.crop,
    normalisation: Annotated[
        str | None, _training("--normalisation", help="Mean and deviation taken out.", choices=NORMALISATIONS)
    ] = D.normalisation,
    augmentation: Annotated[
        str | None, _training("--augmentation", help="Changes to training images.", choices=AUGMENTATIONS)
    ] = D.augmentation,
    select_by: Annotated[
        str | None, _training("--select-by", help="Validation metric that picks the checkpoint.", choices=SELECT_BY)
    ] = D.select_by,
    tta: Annotated[
        bool | None,
        _training("--tta/--no-tta", help="Evaluate on the mean over the eight flips and quarter turns of each image."),
    ] = D.tta,
    patience: Annotated[
        int, _training("--patience", help="Stop after this many epochs without a better one; 0: never.", default=True)
    ] = D.patience,
    seed: o.Seed = D.seed,
    split_seed: o.SplitSeed = D.split_seed,
    repeats: Annotated[
        int,
        typer.Option(
            "--repeats",
            min=1,
            max=100,
            help="Train so many seeds, from --seed on, as child runs of one; give mean and standard deviation.",
            rich_help_panel=o.RUN_PANEL,
        ),
    ] = 1,
    device: o.Device = D.device,
    precision: o.Precision = D.precision,
    deterministic: Annotated[
        bool,
        typer.Option(
            "--deterministic",
            envvar="RETINO_DETERMINISTIC",
            help="Only algorithms that repeat bit for bit; on a CPU, with as many threads, so does the run.",
            rich_help_panel=o.RUN_PANEL,
        ),
    ] = D.deterministic,
    workers: o.Workers = D.workers,
    experiment: o.Experiment = D.experiment,
    run_name: o.RunName = D.run_name,
    figure_format: o.FigureFormat = o.FIGURE_FORMAT,
    tracking_uri: o.TrackingUri = D.tracking_uri,
    resume: Annotated[
        str | None,
        typer.Option(
            "--resume",
            help="Continue this run with its own settings; --epochs, --patience, --data, --device may change.",
            rich_help_panel=o.RUN_PANEL,
        ),
    ] = None,
    as_json: o.Json = False,
    quiet: o.Quiet = False,
) -> None:
    """Train one grader, keep the checkpoint that validation likes best, and evaluate it on test.

    Everything is stored in MLflow: settings, curves, predictions, figures, checkpoints. What is not given comes from
    the recipe: `small` (pictures of 64 px and less), `few` (less than 5,000 photographs), `strong` (512 px, after Huang
    et al. 2023), or `lab` (the course lab's own setting). Which of the first three is chosen from the data and printed.

    Examples:

    retino train --arch resnet18 --pretrained

    retino train --data idrid --arch resnet50 --image-size 224 --epochs 30 --seed 1

    retino train --data idrid --repeats 5
    """
    settings = {name: value for name, value in context.params.items() if name not in NO_SETTINGS}
    if resume is not None:
        if repeats > 1:
            raise UsageError(
                "--repeats and --resume cannot go together: one is about several runs, the other about one.",
                "Repeats that were stopped go on when their command is given again.",
            )
        _refuse_changes(context)
    config = TrainConfig(**settings)  # before anything heavy is imported: a wrong flag is answered at once
    if repeats > 1:
        from retino_cli.cli.repeats import run_repeats

        with figure_formats(figure_format):
            run_repeats(config, repeats, as_json=as_json, quiet=quiet)
        return
    from retino_cli.cli.display import Display
    from retino_cli.training.train import train as run_training

    with figure_formats(figure_format), Display(quiet=quiet or as_json) as display:
        try:
            result = run_training(config, resume=resume, listen=display)
        except KeyboardInterrupt:
            if display.run_id:
                display.note(f"Stopped. Continue with: retino train --resume {display.run_id[:8]}", warning=True)
            raise
    from retino_cli.cli.results import print_training

    print_training(result, as_json=as_json)


def _refuse_changes(context: typer.Context) -> None:
    for name in context.params:
        source = context.get_parameter_source(name)
        if name not in RESUMABLE and source is not None and source.name == "COMMANDLINE":
            flag = "--" + {"layout": "format"}.get(name, name).replace("_", "-")
            raise UsageError(
                f"{flag} cannot be changed when a run is resumed.",
                "These can: --epochs, --patience, --data, --device, --workers.",
            )
