"""The learning-rate range test: which learning rate suits a network, its data, its optimizer and its batch size."""

from __future__ import annotations

import copy
import math
from dataclasses import dataclass, replace
from functools import partial
from pathlib import Path
from typing import Final

import numpy as np
import torch

from retino_cli.data.labelled import to_device_async
from retino_cli.figures import style
from retino_cli.figures.range_test import draw_range_test
from retino_cli.training.augment import draw_order, draw_parameters
from retino_cli.training.events import Listener, Note, Preparing
from retino_cli.training.finetuning import hold_frozen
from retino_cli.training.loop import TrainingSetup, batch_starts, load_batch
from retino_cli.training.losses import divide_loss
from retino_cli.training.optimizer import build_optimizer
from retino_cli.training.step import MicroBatch, forward_backward

FOLDER: Final = "lr_range"
"""Artifact folder of the run."""
LOWEST, HIGHEST = 1e-6, 1.0
"""The learning rates that the sweep goes through, at equal ratios."""
STEPS: Final = 100
MEMORY: Final = 0.9
"""Of the moving average of the losses: about ten steps."""
DIVERGED: Final = 4.0
"""The sweep ends where the smoothed loss is this many times the lowest one."""
BELOW_EDGE: Final = 10.0
"""The learning rate chosen is the one from which on the loss rises, divided by this."""
FEWEST: Final = 10
"""Steps that say something."""
SIGNAL: Final = 5.0
"""How many of its standard deviations the smoothed loss must fall by: the lowest of a hundred values that only noise
moves is more than two below their mean."""


@dataclass(frozen=True, eq=False)
class RangeTest:
    """A sweep of K steps: learning rates (K,), losses (K,), and their moving average (K,).

    ``edge``: the learning rate from which on the loss rises; ``chosen``: the one to train with, or None with the
    ``reason``. ``micro_batch`` as in :class:`~retino_cli.training.loop.TrainingSetup`.
    """

    rates: np.ndarray
    losses: np.ndarray
    smoothed: np.ndarray
    edge: float | None
    chosen: float | None
    reason: str = ""
    micro_batch: int | None = None


def sweep_rates(setup: TrainingSetup, *, listen: Listener) -> RangeTest:
    """Train a copy of ``setup.model`` while the learning rate grows from 1e-6 to 1, and choose one from the losses.

    The copy takes the first steps of the training itself, with its batches, augmentation, loss, optimizer and batch
    size: the model, the optimizer, the average and the random numbers of ``setup`` are left
    as they are, bit for bit. 100 steps, or as many as the training has where these are fewer. Source: Smith 2017,
    "Cyclical Learning Rates for Training Neural Networks", section 3.3 (a linear sweep); an exponential one over a
    smoothed loss as in fastai's ``lr_find``.
    """
    config, device = setup.config, setup.runtime.device
    n = len(setup.train)
    grades = torch.from_numpy(setup.train.grade).to(device)  # (n,)
    starts = batch_starts(n, int(config.batch_size or 0))
    count = min(STEPS, int(config.epochs or 0) * len(starts))
    rates = np.geomspace(LOWEST, HIGHEST, count)
    whole = max(stop - start for start, stop in starts)
    losses: list[float] = []
    with torch.random.fork_rng(devices=[device] if device.type == "cuda" else []):
        model = copy.deepcopy(setup.model)
        optimizer = build_optimizer(model, config)
        micro = MicroBatch(model, size=setup.micro_batch or whole, listen=listen)
        torch.manual_seed(config.seed)  # dropout
        model.train()
        hold_frozen(model)
        for step, rate in enumerate(rates):
            epoch, batch = divmod(step, len(starts))
            if batch == 0:
                order = draw_order(seed=config.seed, epoch=epoch + 1, n_images=n)
                parameters = draw_parameters(seed=config.seed, epoch=epoch + 1, n_images=n)
                load = partial(load_batch, setup, torch.from_numpy(parameters))
            start, stop = starts[batch]
            index = np.sort(order[start:stop])  # (B,)
            rows = to_device_async(torch.from_numpy(index), device)
            part_of_loss = divide_loss(setup.loss, grades[rows], class_weights=setup.class_weights)
            for group in optimizer.param_groups:
                group["lr"] = rate
            loss, _ = forward_backward(model, index, load, part_of_loss, runtime=setup.runtime, micro=micro)
            losses.append(float(loss))
            if not math.isfinite(losses[-1]) or has_diverged(smooth(np.array(losses))):
                break
            optimizer.step()
            listen(Preparing(step + 1, count, verb="tried", what="learning rates"))
    # A sweep that ended early is whole all the same.
    listen(Preparing(len(losses), len(losses), verb="tried", what="learning rates"))
    pieces = micro.size if micro.size < whole else None
    return choose_rate(rates[: len(losses)], np.array(losses), micro_batch=pieces)


def choose_rate(rates: np.ndarray, losses: np.ndarray, *, micro_batch: int | None = None) -> RangeTest:
    """The learning rate to train with, from the learning rates (K,) and losses (K,) of a sweep.

    It is a tenth of the one from which on the loss rises again: the first after the lowest smoothed loss at which half
    of the descent is lost, or the last of the sweep where none is. With a few hundred images the loss is nearly flat
    and noisy between the steepest descent and there, so that the place of the minimum moves by a factor of ten from one
    seed to the next; the place where it rises is sharp.

    No rate is chosen where the loss was not finite early on, and where it did not fall by more than noise does.
    """
    finite = int(np.argmin(np.isfinite(losses))) if not np.isfinite(losses).all() else len(losses)
    rates, losses = rates[:finite], losses[:finite]
    smoothed = smooth(losses)
    if finite < FEWEST:
        reason = f"there are {finite} steps with a finite loss, and {FEWEST} are the fewest that say something"
        return RangeTest(rates, losses, smoothed, None, None, reason, micro_batch)
    early = max(FEWEST, finite // 5)  # learning rates that change nothing yet, and an average that is none yet
    start = float(losses[:early].mean())
    best = early - 1 + int(smoothed[early - 1 :].argmin())
    drop = start - float(smoothed[best])
    noise = float(losses[:early].std(ddof=1)) * math.sqrt((1 - MEMORY) / (1 + MEMORY))  # of the moving average
    if drop < max(SIGNAL * noise, 0.01 * start):
        return RangeTest(rates, losses, smoothed, None, None, "the loss did not fall at any of them", micro_batch)
    risen = np.flatnonzero(smoothed[best:] > smoothed[best] + drop / 2)
    edge = float(rates[best + risen[0]] if len(risen) else rates[-1])
    return RangeTest(rates, losses, smoothed, edge, edge / BELOW_EDGE, "", micro_batch)


def has_diverged(smoothed: np.ndarray) -> bool:
    """Whether the latest smoothed loss is more than four times the lowest one."""
    return bool(smoothed[-1] > DIVERGED * smoothed.min())


def smooth(losses: np.ndarray) -> np.ndarray:
    """The exponential moving average of (K,) losses, without its bias towards zero: s_k = (1 - m) sum_j m^(k-j) l_j /
    (1 - m^(k+1)), with m = 0.9."""
    average, values = 0.0, []
    for k, loss in enumerate(losses, start=1):
        average = MEMORY * average + (1 - MEMORY) * float(loss)
        values.append(average / (1 - MEMORY**k))
    return np.array(values)


def write_range_test(test: RangeTest, title: str, folder: Path) -> None:
    """Write into ``folder``: lr_range.csv, a line a step, and the curve as a figure."""
    folder.mkdir(parents=True, exist_ok=True)
    rows = zip(test.rates.tolist(), test.losses.tolist(), test.smoothed.tolist(), strict=True)
    lines = ["lr,loss,smoothed_loss", *(f"{rate!r},{loss!r},{smoothed!r}" for rate, loss, smoothed in rows)]
    (folder / "lr_range.csv").write_text("\n".join(lines) + "\n", encoding="utf-8")
    figure = draw_range_test(test.rates, test.losses, test.smoothed, chosen=test.chosen, edge=test.edge, title=title)
    style.save(figure, folder / "lr_range")


def find_rate(setup: TrainingSetup, *, listen: Listener) -> tuple[TrainingSetup, RangeTest]:
    """``setup`` with the learning rate that a range test chooses, and the test. Where none can be chosen, a warning
    says why, and the learning rate stays as it was."""
    test = sweep_rates(setup, listen=listen)
    if test.chosen is None:
        usual = float(setup.config.lr or 0)
        listen(Note(f"--lr auto found no learning rate: {test.reason}. The recipe's is used: {usual:g}.", "warning"))
        return replace(setup, micro_batch=test.micro_batch), test
    chosen = float(f"{test.chosen:.2g}")  # more digits than two would mean nothing
    config = replace(setup.config, lr=chosen)
    listen(
        Note(
            f"--lr auto: learning rate {chosen:g}, a tenth of {test.edge:.2g}, from which on the loss rises "
            f"({len(test.rates)} steps; the curve is in the run's artifacts, {FOLDER}/)."
        )
    )
    optimizer = build_optimizer(setup.model, config)
    return replace(setup, config=config, optimizer=optimizer, micro_batch=test.micro_batch), replace(
        test, chosen=chosen
    )
