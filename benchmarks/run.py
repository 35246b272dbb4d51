"""``make bench``: measure, and write docs/benchmarks.json and docs/benchmarks.md.

``--only NAME`` (repeatable) measures some rows alone and leaves the others of the files as they are.
"""

from __future__ import annotations

import argparse
import json
import sys
import tempfile
from collections.abc import Iterator
from datetime import date
from pathlib import Path
from string import ascii_uppercase
from typing import Any

from benchmarks.measure import Row, machine

DOCS = Path(__file__).parents[1] / "docs"
LETTERS = ascii_uppercase
INTRODUCTION = """\
# Benchmarks

Written by `make bench` (`make bench ONLY="help epoch"` for some rows alone). Each line is a ratio within one run: the
two sides are measured in turn, A B A B, and the median of the ratios pair by pair is given, so that it holds on a noisy
machine. The photographs are IDRiD's (4288x2848) where `RETINO_REAL_DATA` names its folder, else synthetic ones. The
code of both sides is in `benchmarks/`; how a batch travels is in [architecture.md](architecture.md).

"""


def measure(names: list[str], *, repeats: int, scratch: Path) -> Iterator[Row]:
    """The rows, one by one."""

    def wanted(*prefixes: str) -> bool:
        return not names or any(name.startswith(prefix) for name in names for prefix in prefixes)

    from benchmarks import command_line, intervals, predicting, preparing, scale, training
    from benchmarks.photographs import load_photographs

    if wanted("help"):
        yield command_line.measure_help(scratch, repeats=repeats)
    if wanted("manifest"):
        yield scale.measure_manifest(scratch)
    if wanted("intervals"):
        yield from intervals.measure_intervals()
    if wanted("memory-prepare"):
        yield scale.measure_memory(scratch)
    if not wanted("prepare", "epoch", "evaluation", "logging", "first", "predict", "exported", "memory-predict"):
        return
    manifest = load_photographs(scratch)
    if wanted("prepare"):
        yield from preparing.measure_preparing(manifest, scratch, repeats=repeats)
    if wanted("epoch"):
        yield from training.measure_epoch(manifest, repeats=repeats)
    if wanted("evaluation"):
        yield training.measure_evaluation(manifest, repeats=repeats)
    if wanted("logging"):
        yield training.measure_logging(manifest, scratch, repeats=repeats)
    if wanted("predict"):
        yield predicting.measure_predicting(manifest, scratch, repeats=repeats)
    if wanted("exported"):
        yield predicting.measure_exported(manifest, scratch, repeats=repeats)
    if wanted("memory-predict"):
        yield predicting.measure_memory(manifest, scratch)
    if wanted("first"):
        for peer in ("lab", "timm"):
            yield training.measure_first_training(manifest, scratch, repeats=repeats, peer=peer)


def write(rows: list[dict[str, Any]]) -> None:
    """Both files, from the rows; each knows the machine that it was measured on."""
    (DOCS / "benchmarks.json").write_text(json.dumps({"rows": rows}, indent=2) + "\n")
    machines: list[dict[str, str]] = []
    for row in rows:
        if row["machine"] not in machines:
            machines.append(row["machine"])
    lines = [INTRODUCTION]
    for letter, about in zip(LETTERS, machines, strict=False):
        lines.append(f"- {letter}: " + ", ".join(f"{name} {value}" for name, value in about.items()))
    lines += [
        "",
        "| what | against | ratio | to reach | | ours | theirs | repeats | machine |",
        "|---|---|---:|---|---|---:|---:|---:|---|",
    ]
    for row in rows:
        mark = "reached" if row["reached"] else "**not reached**"
        mark = mark if row["target"][0] in "<>" else ""
        lines.append(
            f"| {row['what']} | {row['against']} | {row['ratio']:.2f}x | {row['target']} | {mark} | "
            f"{row['ours']:.4g} {row['unit']} | {row['theirs']:.4g} {row['unit']} | {row['repeats']} | "
            f"{LETTERS[machines.index(row['machine'])]} |"
        )
    notes = [f"- {row['what']}: {row['note']}." for row in rows if row["note"]]
    (DOCS / "benchmarks.md").write_text("\n".join([*lines, "", *notes]).rstrip() + "\n")


def main() -> int:
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("--only", nargs="*", default=[], help="names of rows")
    parser.add_argument("--repeats", type=int, default=5)
    chosen = parser.parse_args()
    rows: list[dict[str, Any]] = []
    stored = DOCS / "benchmarks.json"
    if chosen.only and stored.exists():
        rows = json.loads(stored.read_text())["rows"]
    with tempfile.TemporaryDirectory(prefix="retino-bench-") as scratch:
        for row in measure(chosen.only, repeats=chosen.repeats, scratch=Path(scratch)):
            sys.stderr.write(f"{row.name}: {row.ratio:.2f}x ({row.target})\n")
            measured = row.to_dict() | {"machine": machine() | {"date": date.today().isoformat()}}
            places = {old["name"]: place for place, old in enumerate(rows)}
            if row.name in places:
                rows[places[row.name]] = measured
            else:
                rows.append(measured)
            write(rows)
    return 0


if __name__ == "__main__":
    sys.exit(main())
