"""Showing a training on stderr: a live line in a terminal, one plain line per epoch elsewhere."""

from __future__ import annotations

import logging
import time
from types import TracebackType
from typing import TYPE_CHECKING, Self

from retino_cli.cli.output import notes_console
from retino_cli.cli.sparkline import can_draw, draw_sparkline

if TYPE_CHECKING:
    from retino_cli.training.events import EpochDone, Event, Preparing, StepDone

COLLAPSED_SHARE = 0.99
LONGEST_LINE = 40
"""Blocks of the sparkline beside the progress of an epoch."""


class Display:
    """A context manager that is called with events. ``quiet`` shows warnings only."""

    def __init__(self, *, quiet: bool = False) -> None:
        self._console = notes_console()
        self._quiet = quiet
        self._status = self._console.status("") if self._console.is_terminal and not quiet else None
        self._majority: dict[str, float] = {}
        self._epoch_seconds: list[float] = []
        self._course: list[float | None] = []
        self._draws = self._status is not None and can_draw(self._console)
        self._announced = 0
        self._preparing: tuple[float, int] | None = None
        self.run_id: str | None = None
        self.run_name = ""

    def __enter__(self) -> Self:
        handler = _LogLines(self)
        self._handler = handler
        logger = logging.getLogger("retino")
        self._logging_before = (logger.level, logger.propagate)
        logger.addHandler(handler)
        logger.setLevel(logging.INFO)
        logger.propagate = False
        if self._status:
            self._status.start()
        return self

    def __exit__(
        self, kind: type[BaseException] | None, error: BaseException | None, traceback: TracebackType | None
    ) -> None:
        logger = logging.getLogger("retino")
        logger.removeHandler(self._handler)
        level, logger.propagate = self._logging_before
        logger.setLevel(level)
        if self._status:
            self._status.stop()

    def __call__(self, event: Event) -> None:
        from retino_cli.training import events

        match event:
            case events.Note(text=text, level=level):
                self.note(text, warning=level == "warning")
            case events.Preparing():
                self._show_preparing(event)
            case events.RunStarted(run_id=run_id, run_name=name, config=config, n_train=n_train, majority=majority):
                self.run_id, self.run_name, self._majority = run_id, name, majority
                self._epoch_seconds, self._course = [], []
                self.note(
                    f"Run {name} ({run_id[:8]}): {config.arch}, recipe {config.recipe}, {config.image_size} px, "
                    f"{n_train} training images, {config.epochs} epochs, batch {config.batch_size}, "
                    f"{config.optimizer} lr {config.lr:g}, loss {config.loss}, seed {config.seed}."
                )
            case events.StepDone():
                self._show_step(event)
            case events.EpochDone():
                self._show_epoch(event)

    def note(self, text: str, *, warning: bool = False) -> None:
        """Print a sentence; a warning in red, whatever ``quiet`` says."""
        if warning:
            self._console.print(text, style="bold red", markup=False, soft_wrap=True)
        elif not self._quiet:
            self._console.print(text, markup=False, soft_wrap=True)

    def _show_preparing(self, event: Preparing) -> None:
        if self._preparing is None or event.done < self._preparing[1]:
            self._preparing = (time.monotonic(), event.done)  # another task: its time is measured anew
        text = f"{event.verb} {event.done} of {event.total} {event.what}"
        began, before = self._preparing
        if before < event.done < event.total:
            left = (time.monotonic() - began) / (event.done - before) * (event.total - event.done)
            text += f", {clock(left)} left"
        if event.done == event.total:
            self._preparing = None
        if self._status:
            self._status.update(text)
        elif not self._quiet and (
            event.done == event.total or event.done >= self._announced + max(event.total // 4, 1)
        ):
            self._announced = 0 if event.done == event.total else event.done
            self._console.print(text)

    def _show_step(self, event: StepDone) -> None:
        if not self._status:
            return
        rate = event.images / event.seconds if event.seconds else 0.0
        loss = "" if event.loss is None else f"  loss {event.loss:.3f}"
        share = event.images / event.n_images
        usual = sum(self._epoch_seconds) / len(self._epoch_seconds) if self._epoch_seconds else event.seconds / share
        left = usual * (event.epochs - event.epoch) + max(usual - event.seconds, 0.0)
        text = f"epoch {event.epoch}/{event.epochs}  {share:4.0%}{loss}  {rate:.1f} images/s  {clock(left)} left"
        self._status.update(text + self._draw_course(self._console.width - len(text) - 3))  # 3: the spinner

    def _draw_course(self, room: int) -> str:
        """The validation QWK so far, in at most ``room`` characters; nothing where they are too few for it."""
        label, last = "  val QWK ", self._course[-1] if self._course else None
        number = "" if last is None else f" {last:.3f}"
        width = min(room - len(label) - len(number), LONGEST_LINE)
        if not self._draws or len(self._course) < 2 or width < 4:
            return ""
        return label + draw_sparkline(self._course, width) + number

    def _show_epoch(self, event: EpochDone) -> None:
        self._epoch_seconds.append(event.seconds)
        self._course.append(event.metrics.get("val/qwk"))
        if self._quiet:
            return
        usual = sum(self._epoch_seconds) / len(self._epoch_seconds)
        parts = [f"epoch {event.epoch}/{event.epochs}"]
        for prefix, label in (("train", "train"), ("val", "val"), ("epoch_test", "test")):
            parts.append(self._part(event, prefix, label))
        parts.append(f"{event.images_per_second:.1f} images/s, {clock(usual * (event.epochs - event.epoch))} left")
        line = "  |  ".join(part for part in parts if part)
        self._console.print(line + ("  * best" if event.best else ""), markup=False, soft_wrap=True)

    def _part(self, event: EpochDone, prefix: str, label: str) -> str:
        metrics = event.metrics
        if f"{prefix}/accuracy" not in metrics:
            return ""
        majority = f" (majority {self._majority[prefix]:.3f})" if prefix in self._majority else ""
        qwk = metrics.get(f"{prefix}/qwk")
        text = (
            f"{label} loss {metrics[f'{prefix}/loss']:.3f} acc {metrics[f'{prefix}/accuracy']:.3f}{majority} "
            f"QWK {'n/a' if qwk is None else f'{qwk:.3f}'}"
        )
        one_grade = prefix != "train" and metrics.get(f"{prefix}/top_prediction_share", 0) >= COLLAPSED_SHARE
        return text + (" ONE GRADE" if one_grade else "")


class _LogLines(logging.Handler):
    """What the library logs becomes a note."""

    def __init__(self, display: Display) -> None:
        super().__init__(level=logging.INFO)
        self._display = display

    def emit(self, record: logging.LogRecord) -> None:
        self._display.note(record.getMessage(), warning=record.levelno >= logging.WARNING)


def clock(seconds: float) -> str:
    """``75`` -> ``1:15``, ``3700`` -> ``1:01:40``."""
    minutes, rest = divmod(round(seconds), 60)
    hours, minutes = divmod(minutes, 60)
    return f"{hours}:{minutes:02}:{rest:02}" if hours else f"{minutes}:{rest:02}"
