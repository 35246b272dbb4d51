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
from typing import Any

from benchmarks.measure import Row, machine

DOCS = Path(__file__).parents[1] / "docs"
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
    if not wanted("prepare", "epoch", "evaluation", "logging", "first", "predict", "memory-predict"):
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
    if wanted("memory-predict"):
        yield predicting.measure_memory(manifest, scratch)
    if wanted("first"):
        for peer in ("lab", "timm"):
            yield training.measure_first_training(manifest, scratch, repeats=repeats, peer=peer)


def write(rows: list[dict[str, Any]], about: dict[str, str]) -> None:
    """Both files, from the rows."""
    (DOCS / "benchmarks.json").write_text(json.dumps({"machine": about, "rows": rows}, indent=2) + "\n")
    lines = [INTRODUCTION, ", ".join(f"{name} {value}" for name, value in about.items()), ""]
    lines += [
        "| what | against | ratio | to reach | | ours | theirs | repeats |",
        "|---|---|---:|---|---|---:|---:|---:|",
    ]
    for row in rows:
        mark = "reached" if row["reached"] else "**not reached**"
        mark = mark if row["target"][0] in "<>" else ""
        lines.append(
            f"| {row['what']} | {row['against']} | {row['ratio']:.2f}x | {row['target']} | {mark} | "
            f"{row['ours']:.4g} {row['unit']} | {row['theirs']:.4g} {row['unit']} | {row['repeats']} |"
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
            places = {old["name"]: place for place, old in enumerate(rows)}
            if row.name in places:
                rows[places[row.name]] = row.to_dict()
            else:
                rows.append(row.to_dict())
            write(rows, machine() | {"date": date.today().isoformat()})
    return 0


if __name__ == "__main__":
    sys.exit(main())
