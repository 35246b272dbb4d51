"""Measuring: paired repetitions, medians, and what machine it was."""

from __future__ import annotations

import os
import platform
import statistics
import time
from collections.abc import Callable
from dataclasses import asdict, dataclass
from typing import Any


@dataclass(frozen=True)
class Row:
    """One line of the table. ``ratio`` is the median over the pairs, in the direction that ``target`` names."""

    name: str
    what: str
    against: str
    ratio: float
    target: str
    reached: bool
    ours: float
    theirs: float
    unit: str
    repeats: int
    note: str = ""

    def to_dict(self) -> dict[str, Any]:
        return asdict(self)


def seconds(work: Callable[[], object]) -> float:
    """Wall time of one call."""
    began = time.perf_counter()
    work()
    return time.perf_counter() - began


def paired(ours: Callable[[], float], theirs: Callable[[], float], *, repeats: int) -> tuple[float, float, float]:
    """Measure in turn, A B A B ...; (median of ours, of theirs, of the ratios ours / theirs pair by pair).

    Pairs share the state of a noisy machine: their ratio holds where single times do not.
    """
    pairs = [(ours(), theirs()) for _ in range(repeats)]
    return (
        statistics.median(a for a, _ in pairs),
        statistics.median(b for _, b in pairs),
        statistics.median(a / b for a, b in pairs),
    )


def count_cores() -> int:
    """Cores that this process may use."""
    return len(os.sched_getaffinity(0)) if hasattr(os, "sched_getaffinity") else os.cpu_count() or 1


def peak_memory() -> int:
    """Bytes that this process has had in memory at most.

    Linux's VmHWM, which starts anew with the program; ``ru_maxrss`` would begin with the peak of whoever started it.
    """
    with open("/proc/self/status", encoding="utf-8") as file:
        return next(int(line.split()[1]) * 1024 for line in file if line.startswith("VmHWM:"))


def machine() -> dict[str, str]:
    """Processor, cores that may be used, system and versions."""
    import torch

    from retino_cli.runtime import choose_runtime

    model = platform.processor() or "unknown"
    try:
        with open("/proc/cpuinfo", encoding="utf-8") as file:
            model = next((line.split(":", 1)[1].strip() for line in file if line.startswith("model name")), model)
    except OSError:
        pass
    return {
        "processor": model,
        "cores": str(count_cores()),
        "bfloat16": "yes" if choose_runtime("cpu", "auto").precision == "bfloat16" else "no",
        "system": f"{platform.system()} {platform.machine()}",
        "python": platform.python_version(),
        "torch": torch.__version__,
        "gpu": torch.cuda.get_device_name(0) if torch.cuda.is_available() else "none",
    }
