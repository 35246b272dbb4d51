"""The command ``retino``: its commands, and the one place where errors become messages and exit codes."""

from __future__ import annotations

import signal
import sys
from types import FrameType
from typing import Annotated, NoReturn

import typer

from retino_cli import __version__
from retino_cli.cli import compare, confusion, data, evaluate, explain, export, lab, predict, report, runs, train, ui
from retino_cli.errors import RetinoError, Terminated

app = typer.Typer(
    name="retino",
    help="Train, judge and compare graders of diabetic retinopathy on fundus photographs. Not a medical device.",
    no_args_is_help=True,
    pretty_exceptions_enable=False,
    context_settings={"help_option_names": ["-h", "--help"], "max_content_width": 120},
    add_completion=True,
)
app.command("train")(train.train)
app.command("eval")(evaluate.evaluate)
app.command("predict")(predict.predict)
app.command("explain")(explain.explain)
app.command("export")(export.export)
app.command("confusion")(confusion.confusion)
app.command("compare")(compare.compare)
app.command("report")(report.report)
app.command("runs")(runs.runs)
app.command("ui")(ui.ui)
app.command("lab")(lab.lab)
app.add_typer(data.app, name="data")

_state = {"debug": False, "terminated": False}


def _show_version(wanted: bool) -> None:
    if wanted:
        typer.echo(f"retino {__version__}")
        raise typer.Exit


@app.callback()
def retino(
    debug: Annotated[
        bool, typer.Option("--debug", help="Show a traceback for an error.", envvar="RETINO_DEBUG")
    ] = False,
    version: Annotated[
        bool, typer.Option("--version", help="Print the version and end.", is_eager=True, callback=_show_version)
    ] = False,
) -> None:
    """Train, judge and compare graders of diabetic retinopathy on fundus photographs. Not a medical device."""
    _state["debug"] = debug


def main() -> NoReturn:
    """Run the command line. Exit codes: 0, 1 failure, 2 usage, 130 Ctrl-C, 143 SIGTERM."""
    signal.signal(signal.SIGTERM, _terminate)
    try:
        app(prog_name="retino")
    except RetinoError as error:
        if _state["debug"]:
            raise
        _show_error(error)
        sys.exit(error.exit_code)
    except SystemExit as error:
        if _state["terminated"]:
            sys.exit(143)
        raise error from None
    except OSError as error:
        if _state["debug"]:
            raise
        # A full disk, a lost network folder: the system's own words, with the file.
        place = f" ({error.filename})" if error.filename else ""
        _show_error(
            RetinoError(f"{error.strerror or error}{place}", "Run again with `retino --debug ...` for details.")
        )
        sys.exit(1)
    sys.exit(0)


def _terminate(_signal: int, _frame: FrameType | None) -> NoReturn:
    _state["terminated"] = True
    raise Terminated


def _show_error(error: RetinoError) -> None:
    from retino_cli.cli.output import notes_console

    console = notes_console()
    console.print("[bold red]Error:[/]", end=" ", highlight=False)
    console.print(error.message, markup=False, highlight=False, soft_wrap=True)
    if error.hint:
        console.print(error.hint[0].upper() + error.hint[1:], markup=False, highlight=False, soft_wrap=True)
