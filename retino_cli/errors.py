"""Every error that a person can cause, and the exit code that it ends a command with.

::

    RetinoError                  1   message + hint
    ├── UsageError               2   a flag or an argument that cannot be right
    ├── DataError                1   a label file, an image folder, a picture
    ├── WeightsError             1   a weights file or a checkpoint that cannot be used
    ├── TrackingError            1   the MLflow store cannot be opened, or does not answer
    │   └── RunNotFoundError     1   no run, or more than one, answers to the name
    └── TrainingError            1   the training itself cannot go on (loss not finite, no images)

    KeyboardInterrupt          130   Ctrl-C
    └── Terminated             143   SIGTERM

A message names the thing (file and line, flag, run), says what is wrong and what would be right; the hint is the next
step, as a command or an action. One handler, in ``cli/app.py``, prints both.
"""

from __future__ import annotations


class RetinoError(Exception):
    """An error with a cause that the user can act on.

    ``message`` says what is wrong and where; ``hint`` says what to do next (may be empty).
    """

    exit_code = 1

    def __init__(self, message: str, hint: str = "") -> None:
        super().__init__(message)
        self.message = message
        self.hint = hint


class UsageError(RetinoError):
    """A flag or an argument that cannot be right."""

    exit_code = 2


class DataError(RetinoError):
    """A label file, an image folder or a picture that cannot be used."""


class WeightsError(RetinoError):
    """A weights file or a checkpoint that cannot be used."""


class TrackingError(RetinoError):
    """The MLflow store cannot be opened, or does not answer."""


class RunNotFoundError(TrackingError):
    """No run, or more than one, answers to the given name."""


class TrainingError(RetinoError):
    """The training cannot go on."""


class Terminated(KeyboardInterrupt):
    """SIGTERM, raised in the main thread so that it is cleaned up after like Ctrl-C."""
