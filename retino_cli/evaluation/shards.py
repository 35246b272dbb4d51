"""One list of images predicted by several processes: shards, each written whole, put together by whoever is last.

Shard i of n holds the rows from floor(i * N / n) to floor((i + 1) * N / n) of the N images, and lies beside the wanted
file, as Parquet under ``NAME.shard-i-of-n``. Its metadata says which grader and which list it was made from: a shard
that is finished is not made again, one of another grader or list is.
"""

from __future__ import annotations

import os
from collections.abc import Mapping
from dataclasses import dataclass
from pathlib import Path
from typing import Final

from filelock import FileLock

from retino_cli.errors import UsageError
from retino_cli.evaluation.prediction_files import read_parquet, writing

KEY: Final = "retino.shard"
"""Name of the metadata that says what a shard was made from."""

_LAUNCHERS: Final = (("RANK", "WORLD_SIZE"), ("SLURM_PROCID", "SLURM_STEP_NUM_TASKS"))
# Not SLURM_NTASKS: a batch script sees it too, outside of srun, and would wait for tasks that nobody has started.


@dataclass(frozen=True)
class Shard:
    """Part ``index`` (0 to ``count`` - 1) of ``count``. Raises ``UsageError`` where there is no such part."""

    index: int = 0
    count: int = 1

    def __post_init__(self) -> None:
        if self.count < 1 or not 0 <= self.index < self.count:
            raise UsageError(
                f"--shard {self.index}/{self.count}: there is no such part.",
                "Give I/N with I from 0 to N - 1, such as 0/4, 1/4, 2/4 and 3/4.",
            )

    @classmethod
    def parse(cls, text: str) -> Shard:
        """ "2/8" -> part 2 of 8. Raises ``UsageError``."""
        index, slash, count = text.partition("/")
        if not (slash and index.strip().isdecimal() and count.strip().isdecimal()):
            raise UsageError(f"--shard {text} is no part of a whole.", "Give I/N, such as 0/4.")
        return cls(int(index), int(count))

    @classmethod
    def from_launcher(cls, environment: Mapping[str, str] = os.environ) -> Shard:
        """The part that torchrun or srun has given this process: its rank, of their number. Without them: the whole."""
        for rank, size in _LAUNCHERS:
            if environment.get(rank, "").isdecimal() and environment.get(size, "").isdecimal():
                return cls(int(environment[rank]), int(environment[size]))
        return cls()

    @property
    def is_whole(self) -> bool:
        """Whether there is only one part."""
        return self.count == 1

    def rows(self, total: int) -> range:
        """The rows of this part, of ``total``."""
        return range(self.index * total // self.count, (self.index + 1) * total // self.count)

    def file(self, out: Path) -> Path:
        """Where this part of ``out`` is written."""
        return out if self.is_whole else out.with_name(f"{out.name}.shard-{self.index}-of-{self.count}")


def is_finished(file: Path, key: str) -> bool:
    """Whether ``file`` is a whole shard that was made from what ``key`` stands for."""
    import pyarrow as pa
    import pyarrow.parquet as pq

    try:
        metadata = pq.read_schema(file).metadata or {}
    except (OSError, pa.ArrowException):
        return False
    return bool(metadata.get(KEY.encode()) == key.encode())


def merge(out: Path, count: int, key: str) -> bool:
    """Put the shards of ``out`` together, in order, and delete them; False where some are not finished yet.

    May be called by all processes: the one that comes when all shards are there does it.
    """
    files = [Shard(index, count).file(out) for index in range(count)]
    if not all(is_finished(file, key) for file in files):
        return False
    lock = FileLock(out.with_name(f".{out.name}.merge"))
    with lock:
        if not all(is_finished(file, key) for file in files):  # another process has done it meanwhile
            return out.exists()
        with writing(out) as writer:
            for file in files:
                for rows in read_parquet(file):
                    writer.write(rows)
        for file in files:
            file.unlink(missing_ok=True)
        Path(lock.lock_file).unlink(missing_ok=True)
    return True
