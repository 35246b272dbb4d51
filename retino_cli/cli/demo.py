"""The demonstration behind ``make demo``: the main job, typed as a user would type it, on synthetic photographs."""

from __future__ import annotations

import argparse
import shlex
import subprocess
import sys
from pathlib import Path

PATIENTS, SIZE, EPOCHS = 160, 160, 14
SMOKE_PATIENTS, SMOKE_SIZE, SMOKE_EPOCHS = 16, 64, 1


def main() -> int:
    """Draw, train twice, evaluate, compare; the exit code of the first command that fails, else 0."""
    parser = argparse.ArgumentParser(prog="python -m retino_cli.cli.demo", description=__doc__)
    parser.add_argument("folder", type=Path, help="where data, mlflow.db and mlruns/ of the demonstration go")
    parser.add_argument("--smoke", action="store_true", help="the same, as small as it can be")
    chosen = parser.parse_args()
    folder: Path = chosen.folder
    folder.mkdir(parents=True, exist_ok=True)
    patients, size, epochs = (SMOKE_PATIENTS, SMOKE_SIZE, SMOKE_EPOCHS) if chosen.smoke else (PATIENTS, SIZE, EPOCHS)
    common = f"--data data --epochs {epochs} --image-size {size * 4 // 5} --experiment demo"
    commands = (
        (
            f"data synth data --patients {patients} --size {size} --grade-distribution 3,1,2,2,2",
            "Draw SYNTHETIC photographs.",
        ),
        ("data inspect data", "What is in them?"),
        (f"train {common} --recipe lab --run-name lab-recipe", "Train by the course lab's recipe."),
        (
            f"train {common} --optimizer adamw --lr 0.001 --batch-size 16 --augmentation flips --run-name own-recipe",
            "Train another way.",
        ),
        ("eval own-recipe", "Evaluate the second on test."),
        ("confusion lab-recipe own-recipe --out figures", "Where do they go wrong?"),
        ("compare lab-recipe own-recipe", "Which is better?"),
        ("runs -n 6", "All that is stored."),
    )
    for command, why in commands:
        sys.stdout.write(f"\n# {why}\n$ retino {command}\n")
        sys.stdout.flush()
        done = subprocess.run([sys.executable, "-m", "retino_cli", *shlex.split(_newest(command, folder))], cwd=folder)
        if done.returncode:
            return done.returncode
    sys.stdout.write(
        f"\nThe photographs are drawn, so the numbers say nothing about a clinic.\n"
        f"Pictures:           {folder}/figures/\n"
        f"Browse the runs:    cd {folder} && {Path(sys.executable).with_name('mlflow')} ui\n"
        "                    then choose Model training, top left, and the experiment\n"
    )
    return 0


def _newest(command: str, folder: Path) -> str:
    """``command`` with names of runs replaced by the newest ones' ids: a repeated demo has several of a name."""
    if command.split()[0] not in ("eval", "confusion", "compare"):
        return command
    import json

    listed = subprocess.run(
        [sys.executable, "-m", "retino_cli", "runs", "--kind", "train", "--json"],
        cwd=folder, capture_output=True, text=True, check=True,
    )  # fmt: skip
    newest: dict[str, str] = {}
    for run in json.loads(listed.stdout)["runs"]:
        newest.setdefault(run["name"], run["run_id"])
    return " ".join(newest.get(word, word) for word in command.split())


if __name__ == "__main__":
    sys.exit(main())
