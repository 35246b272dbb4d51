"""How quickly the command line is there."""

from __future__ import annotations

import subprocess
import sys
from pathlib import Path

from benchmarks.measure import Row, paired, seconds

EMPTY = '''import typer
app = typer.Typer()
@app.command()
def main() -> None:
    """Do nothing."""
app()
'''


def measure_help(scratch: Path, *, repeats: int) -> Row:
    """``retino --help`` against an empty Typer program with the same Python."""
    empty = scratch / "empty.py"
    empty.write_text(EMPTY)

    def run(*arguments: str) -> float:
        return seconds(lambda: subprocess.run([sys.executable, *arguments], check=True, capture_output=True))

    for warm in (("-m", "retino_cli", "--help"), (str(empty), "--help")):
        run(*warm)
    ours, theirs, ratio = paired(
        lambda: run("-m", "retino_cli", "--help"), lambda: run(str(empty), "--help"), repeats=2 * repeats + 1
    )
    return Row(
        "help",
        "`retino --help`, wall time",
        "an empty Typer program",
        ratio,
        "<= 1.5x",
        ratio <= 1.5,
        ours,
        theirs,
        "s",
        2 * repeats + 1,
    )
