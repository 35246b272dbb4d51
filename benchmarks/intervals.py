"""Time and memory of all confidence intervals for the largest public test set, with one thread and with two.

    python -m benchmarks.intervals [--images 53576] [--patients]

Each number of threads runs in a process of its own. Exits 1 where the results differ in any digit, or where a run takes
60 s or 1 GB.
"""

from __future__ import annotations

import argparse
import json
import os
import resource
import subprocess
import sys
import time
from collections.abc import Iterator
from pathlib import Path
from typing import Any

from benchmarks.measure import Row

IMAGES = 53_576
"""The test set of Kaggle's EyePACS."""
SECONDS, MEGABYTES = 60.0, 1000.0
THREADS = (1, 2)


def measure(images: int, *, patients: bool) -> None:
    """Make predictions, compute every interval, and print time, peak memory and all digits as JSON."""
    import numpy as np

    from retino_cli.evaluation.bootstrap import bootstrap_intervals
    from retino_cli.evaluation.metrics import Undefined
    from retino_cli.evaluation.predictions import Predictions

    rng = np.random.default_rng(0)
    grade = rng.choice(5, images, p=[0.735, 0.07, 0.15, 0.025, 0.02])  # as frequent as in EyePACS
    logits = rng.normal(size=(images, 5)) + 2.0 * np.eye(5)[grade]
    weights = np.exp(logits)
    predictions = Predictions(
        image_id=np.array([f"{i // 2}_{('left', 'right')[i % 2]}" for i in range(images)]),
        patient_id=np.array([f"{i // 2}" if patients else "" for i in range(images)]),
        eye=np.array([("left", "right")[i % 2] for i in range(images)]),
        grade=grade,
        probabilities=weights / weights.sum(axis=1, keepdims=True),
    )
    start, start_cpu = time.perf_counter(), time.process_time()
    intervals = bootstrap_intervals(predictions)
    values = {
        name: str(value) if isinstance(value, Undefined) else [value.estimate.hex(), value.low.hex(), value.high.hex()]
        for name, value in intervals.items()
    }
    print(
        json.dumps(
            {
                "seconds": time.perf_counter() - start,
                "cpu_seconds": time.process_time() - start_cpu,
                "megabytes": peak_megabytes(),
                "values": values,
            }
        )
    )


def peak_megabytes() -> float:
    """The most memory that this process has held."""
    try:
        # Not getrusage: on Linux it counts the process that started this one, too.
        status = Path("/proc/self/status").read_text()
        return float(status.split("VmHWM:")[1].split()[0]) * 1.024e-3
    except OSError:
        return resource.getrusage(resource.RUSAGE_SELF).ru_maxrss / 1e6  # bytes on macOS


def run(images: int, *, patients: bool) -> list[dict[str, Any]]:
    """What ``measure`` prints, with one thread and with two, each in a process of its own."""
    results = []
    for threads in THREADS:
        names = ("OMP_NUM_THREADS", "OPENBLAS_NUM_THREADS", "MKL_NUM_THREADS", "VECLIB_MAXIMUM_THREADS")
        root = Path(__file__).resolve().parents[1]
        environment = {**os.environ, **dict.fromkeys(names, str(threads)), "PYTHONPATH": str(root)}
        command = [sys.executable, "-m", "benchmarks.intervals", "--measure", "--images", str(images)]
        command += ["--patients"] if patients else []
        done = subprocess.run(command, env=environment, capture_output=True, text=True, check=True)
        results.append(json.loads(done.stdout))
    return results


def measure_intervals(images: int = IMAGES) -> Iterator[Row]:
    """Two rows: every image a cluster of its own, and two images a patient."""
    for name, patients in (("intervals", False), ("intervals-patients", True)):
        results = run(images, patients=patients)
        took, peak = (max(result[key] for result in results) for key in ("seconds", "megabytes"))
        same = results[0]["values"] == results[1]["values"]
        yield Row(
            name,
            f"all {len(results[0]['values'])} intervals of {images:,} predictions, "
            + ("two a patient" if patients else "no patients"),
            f"{SECONDS:g} s and 1 GB",
            took / SECONDS,
            f"<= {SECONDS:g} s, <= 1 GB",
            same and took <= SECONDS and peak <= MEGABYTES,
            took,
            SECONDS,
            "s",
            1,
            note=f"peak memory {peak / 1e3:.2f} GB; 1 and 2 threads "
            + ("give the same digits" if same else "DIFFER in some digit"),
        )


def main() -> int:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--images", type=int, default=IMAGES)
    parser.add_argument("--patients", action="store_true", help="two images a patient; else each image is a cluster")
    parser.add_argument("--measure", action="store_true", help=argparse.SUPPRESS)
    arguments = parser.parse_args()
    if arguments.measure:
        measure(arguments.images, patients=arguments.patients)
        return 0
    results = run(arguments.images, patients=arguments.patients)
    for threads, result in zip(THREADS, results, strict=True):
        print(
            f"{arguments.images} images, {threads} thread(s): {result['seconds']:.1f} s "
            f"({result['cpu_seconds']:.1f} s of CPU), {result['megabytes']:.0f} MB"
        )
    same = results[0]["values"] == results[1]["values"]
    quick = all(result["seconds"] < SECONDS and result["megabytes"] < MEGABYTES for result in results)
    print(f"{len(results[0]['values'])} intervals, {'the same in every digit' if same else 'WHICH DIFFER'}")
    return 0 if same and quick else 1


if __name__ == "__main__":
    sys.exit(main())
