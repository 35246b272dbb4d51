"""``retino train --repeats N``: the same training with several seeds, shown."""

from __future__ import annotations

from typing import TYPE_CHECKING

from retino_cli.cli.output import data_console, new_table, print_json

if TYPE_CHECKING:
    from rich.table import Table

    from retino_cli.config import TrainConfig
    from retino_cli.training.seeds import RepeatsResult


def run_repeats(config: TrainConfig, repeats: int, *, as_json: bool, quiet: bool) -> None:
    """Train, and print one row per seed, mean and standard deviation, and all together."""
    from retino_cli.cli.display import Display
    from retino_cli.training.repeats import train_repeats

    with Display(quiet=quiet or as_json) as display:
        try:
            result = train_repeats(config, repeats, listen=display)
        except KeyboardInterrupt:
            text = "Stopped. The same command goes on: it keeps the seeds that are finished, and takes up the one"
            display.note(f"{text} that was stopped.", warning=True)
            raise
    print_repeats(result, as_json=as_json)


def print_repeats(result: RepeatsResult, *, as_json: bool) -> None:
    """The table, those that collapsed, where the runs lie, and the next commands."""
    from retino_cli.cli.results import warn

    for row in result.collapsed:
        warn(f"COLLAPSED: seed {row.seed} predicts (almost) only grade {row.collapsed}; its accuracy means nothing.")
    if as_json:
        print_json(result.to_dict())
        return
    console = data_console()
    console.print(_table(result))
    short = result.run_id[:8]
    console.print("Ensemble: the mean of all seeds' probabilities, a grader of its own.", markup=False)
    console.print(f"Run    {result.run_name} ({result.run_id}), folder repeats/", markup=False)
    console.print(f"Store  {result.store}", markup=False)
    console.print("Next", markup=False)
    for command, what in (
        (f"retino compare {short} RUN", "against another run, or other repeats"),
        (f"retino compare {short} RUN RUN --group-by arch", "several repeats, those of one network together"),
        (f"retino confusion {short}", "the confusion matrix of each seed"),
        (f"retino report {result.ensemble.run_id[:8]}", "a page about the ensemble"),
        (f"retino predict {short} IMAGES", "grades by the ensemble; so do eval, explain, export"),
        (result.ui_command, "everything, in the browser"),
    ):
        console.print(f"  {command:<48} {what}", markup=False)


def _table(result: RepeatsResult) -> Table:
    from retino_cli.training.seeds import COLUMNS, format_seconds

    mean, deviation = result.mean, result.deviation
    table = new_table(
        "seed", "run", "best epoch", *(label for _name, label in COLUMNS), "seconds",
        title=f"{result.split}: {len(result.rows)} seeds, mean and standard deviation",
    )  # fmt: skip
    for row in result.rows:
        cells = [f"{row.metrics[name]:.4f}" if name in row.metrics else "n/a" for name, _label in COLUMNS]
        seed = str(row.seed) if row.collapsed is None else f"[bold red]{row.seed} collapsed[/]"
        table.add_row(seed, row.run_id[:8], str(row.best_epoch), *cells, format_seconds(row.seconds))
    table.add_section()
    cells = [f"{mean[name]:.4f} ± {deviation[name]:.4f}" if name in mean else "n/a" for name, _label in COLUMNS]
    table.add_row("mean", "", f"{result.mean_epoch:.1f}", *cells, format_seconds(result.mean_seconds), style="bold")
    together = result.ensemble
    cells = [f"{together.metrics[name]:.4f}" if name in together.metrics else "n/a" for name, _label in COLUMNS]
    table.add_row("ensemble", together.run_id[:8], "", *cells)
    for label, accuracy, qwk in result.baselines():
        table.add_row(label, "no pixel read", "", f"{accuracy:.4f}", f"{qwk:.4f}")
    return table
