"""Running the command line: in this process for speed, in one of its own for signals and exit codes."""

from __future__ import annotations

import os
import signal
import subprocess
import sys
from collections.abc import Iterator
from pathlib import Path

import numpy as np
import pytest
from commands import Ended, Retino, SignalInEpoch, Spawn, hear_interrupts

COMMAND = (sys.executable, "-c", "from retino_cli.cli.app import main; main()")


@pytest.fixture
def retino(monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]) -> Iterator[Retino]:
    """Runs ``retino ARGUMENTS`` in this process."""
    from retino_cli.cli import app

    before = signal.getsignal(signal.SIGTERM)

    def run(*arguments: object) -> Ended:
        monkeypatch.setattr(sys, "argv", ["retino", *map(str, arguments)])
        monkeypatch.setitem(app._state, "debug", False)
        monkeypatch.setitem(app._state, "terminated", False)
        capsys.readouterr()
        with pytest.raises(SystemExit) as caught:
            app.main()
        out, err = capsys.readouterr()
        code = caught.value.code
        return Ended(code if isinstance(code, int) else int(code is not None), out, err)

    yield run
    signal.signal(signal.SIGTERM, before)


@pytest.fixture
def spawn(workplace: Path) -> Iterator[Spawn]:
    """Starts ``retino ARGUMENTS`` as a process of its own, in the current folder, on one thread."""
    processes: list[subprocess.Popen[str]] = []

    def start(*arguments: object, **environment: str) -> subprocess.Popen[str]:
        process = subprocess.Popen(
            [*COMMAND, *map(str, arguments)],
            stdout=subprocess.PIPE,
            stderr=subprocess.PIPE,
            text=True,
            cwd=workplace,
            env={**os.environ, "OMP_NUM_THREADS": "1", "MLFLOW_DISABLE_TELEMETRY": "true", **environment},
            preexec_fn=hear_interrupts,
        )
        processes.append(process)
        return process

    yield start
    for process in processes:
        if process.poll() is None:
            process.kill()
        process.communicate()


@pytest.fixture
def signal_in_epoch(monkeypatch: pytest.MonkeyPatch) -> Iterator[SignalInEpoch]:
    """Arranges that a training in this process gets a signal as an epoch begins: quicker than a process of its own."""
    from retino_cli.training import augment

    def arrange(number: signal.Signals, wanted: int) -> None:
        def draw_order(*, seed: int, epoch: int, n_images: int) -> np.ndarray:
            if epoch == wanted:
                signal.raise_signal(number)
            return augment.draw_order(seed=seed, epoch=epoch, n_images=n_images)

        monkeypatch.setattr("retino_cli.training.loop.draw_order", draw_order)

    before = signal.signal(signal.SIGINT, signal.default_int_handler)  # a shell's background ignores it
    yield arrange
    signal.signal(signal.SIGINT, before)


@pytest.fixture
def quick_flags(synthetic_data: Path) -> tuple[object, ...]:
    """Flags of a training that takes a second or two."""
    return (
        *("--data", synthetic_data, "--arch", "resnet18", "--stem", "7x7", "--image-size", 32, "--epochs", 1),
        *(
            "--recipe",
            "strong",
            "--batch-size",
            16,
            "--lr",
            0.01,
            "--precision",
            "float32",
            "--device",
            "cpu",
            "--val-fraction",
            0.25,
        ),
        *("--workers", 1),
    )
