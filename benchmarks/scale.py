"""A million rows, and memory that does not grow with the number of images."""

from __future__ import annotations

import json
import subprocess
import sys
import textwrap
from pathlib import Path

from benchmarks.measure import Row

ROWS = 1_000_000
MOST_SECONDS, MOST_BYTES = 15.0, 1.5e9

_MANIFEST = """
import json, sys, time
from pathlib import Path
from retino_cli.data.inspect import inspect_manifest
from retino_cli.data.manifest import load_manifest
began = time.perf_counter()
inspect_manifest(load_manifest(Path(sys.argv[1]), layout="eyepacs"))
took = time.perf_counter() - began
from benchmarks.measure import peak_memory
print(json.dumps({"seconds": took, "bytes": peak_memory()}))
"""

_PREPARE = """
import json, os, sys
os.environ["RETINO_CACHE"] = sys.argv[2]
from retino_cli.config import TrainConfig
from retino_cli.training.preparation import prepare_data
prepare_data(TrainConfig(data=sys.argv[1], image_size=128, crop="retina"))  # what `retino data prepare` calls
from benchmarks.measure import peak_memory
print(json.dumps({"bytes": peak_memory()}))
"""


def measure_manifest(scratch: Path) -> Row:
    """Manifest, inspection and split of a million rows: seconds and peak memory."""
    folder = scratch / "million"
    folder.mkdir(parents=True, exist_ok=True)
    lines = (f"{i // 2}_{'right' if i % 2 else 'left'},{(i // 2 * 7919 % 100) // 73}\n" for i in range(ROWS))
    (folder / "trainLabels.csv").write_text("image,level\n" + "".join(lines))
    found = _run(_MANIFEST, str(folder))
    reached = found["seconds"] <= MOST_SECONDS and found["bytes"] <= MOST_BYTES
    return Row(
        "manifest", f"manifest, inspection and split of {ROWS:,} rows", f"{MOST_SECONDS:g} s and 1.5 GB",
        found["seconds"] / MOST_SECONDS, "<= 15 s, <= 1.5 GB", reached, found["seconds"], MOST_SECONDS, "s", 1,
        note=f"peak memory {found['bytes'] / 1e9:.2f} GB",
    )  # fmt: skip


def link_photographs(scratch: Path, count: int) -> Path:
    """An EyePACS folder of ``count`` names for the same 16 synthetic photographs."""
    from retino_cli.data.synth import write_dataset

    source = scratch / "memory-source"
    write_dataset(source, patients=8, size=512, test_fraction=0)
    pictures = sorted((source / "train").iterdir())
    folder = scratch / f"memory-{count}"
    (folder / "train").mkdir(parents=True, exist_ok=True)
    with (folder / "trainLabels.csv").open("w") as file:
        file.write("image,level\n")
        for i in range(count):
            link = folder / "train" / f"{i}_left{pictures[0].suffix}"
            if not link.exists():
                link.symlink_to(pictures[i % len(pictures)])
            file.write(f"{i}_left,{i % 5}\n")
    return folder


def measure_memory(scratch: Path, small: int = 100, large: int = 10_000) -> Row:
    """Peak memory of preparing many images against few."""
    peaks = [
        _run(_PREPARE, str(link_photographs(scratch, count)), str(scratch / f"memory-cache-{count}"))["bytes"]
        for count in (small, large)
    ]
    ratio = peaks[1] / peaks[0]
    return Row(
        "memory-prepare", f"peak memory of `prepare`, {large:,} images", f"{small} images", ratio, "<= 1.1x",
        ratio <= 1.1, peaks[1] / 1e6, peaks[0] / 1e6, "MB", 1,
        note=f"most of it is torch itself, which resizes; the images add "
        f"{(peaks[1] - peaks[0]) / (large - small) / 1e3:.1f} kB each",
    )  # fmt: skip


def _run(program: str, *arguments: str) -> dict[str, float]:
    done = subprocess.run(
        [sys.executable, "-c", textwrap.dedent(program), *arguments], check=True, capture_output=True, text=True
    )
    values: dict[str, float] = json.loads(done.stdout.strip().splitlines()[-1])
    return values
