"""Files of predictions: three formats with the same content, read back by others than retino."""

from __future__ import annotations

import csv
import json
from pathlib import Path

import pyarrow.parquet as pq
import pytest
from hypothesis import HealthCheck, given, settings
from hypothesis import strategies as st

from retino_cli.errors import DataError, UsageError
from retino_cli.evaluation import prediction_files as module
from retino_cli.evaluation.prediction_files import COLUMNS, ImagePrediction, check_format, read_parquet, writing
from retino_cli.evaluation.shards import Shard

ROW = ImagePrediction("a, b.png", (0.1, 0.2, 0.3, 0.15, 0.25), score=2.25, grade=2, referable=0.7, refer=True)
BAD = ImagePrediction('c "d"\n.png', error="c: no such file")


def write(path: Path, rows: list[ImagePrediction]) -> None:
    with writing(path) as writer:
        for row in rows:
            writer.write([row])


def test_csv(tmp_path: Path) -> None:
    write(tmp_path / "p.csv", [ROW, BAD])
    with (tmp_path / "p.csv").open(newline="", encoding="utf-8") as file:
        header, first, second = csv.reader(file)
    assert tuple(header) == COLUMNS
    assert first == ["a, b.png", "0.1", "0.2", "0.3", "0.15", "0.25", "2.25", "2", "0.7", "true", ""]
    assert second == ['c "d"\n.png', *[""] * 9, "c: no such file"]


def test_json_lines(tmp_path: Path) -> None:
    write(tmp_path / "p.jsonl", [ROW, BAD])
    first, second = map(json.loads, (tmp_path / "p.jsonl").read_text(encoding="utf-8").splitlines())
    assert first == {
        "image": "a, b.png", "p0": 0.1, "p1": 0.2, "p2": 0.3, "p3": 0.15, "p4": 0.25,
        "score": 2.25, "grade": 2, "referable": 0.7, "refer": True, "error": "",
    }  # fmt: skip
    assert second == dict.fromkeys(COLUMNS) | {"image": 'c "d"\n.png', "error": "c: no such file"}


def test_parquet_in_row_groups(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(module, "ROW_GROUP", 2)
    write(tmp_path / "p.parquet", [ROW, BAD, ROW, ROW, BAD])
    table = pq.read_table(tmp_path / "p.parquet")
    assert tuple(table.column_names) == COLUMNS
    assert table["grade"].to_pylist() == [2, None, 2, 2, None]
    assert str(table.schema.field("grade").type) == "int8"
    assert table["refer"].to_pylist() == [True, None, True, True, None]
    assert pq.ParquetFile(tmp_path / "p.parquet").num_row_groups == 3
    assert list(read_parquet(tmp_path / "p.parquet")) == [[ROW, BAD], [ROW, ROW], [BAD]]


@pytest.mark.parametrize("suffix", [".csv", ".jsonl", ".parquet"])
def test_a_name_that_is_no_utf8_can_be_written(tmp_path: Path, suffix: str) -> None:
    path = tmp_path / f"p{suffix}"
    write(path, [ImagePrediction("bj\udcf6rk.png", error="bj\udcf6rk.png: gone")])
    content = path.read_bytes()
    assert b"bj\\xf6rk.png" in content.replace(b"\\\\", b"\\")


@pytest.mark.parametrize("suffix", [".csv", ".jsonl", ".parquet"])
def test_the_file_appears_at_the_end_or_not_at_all(tmp_path: Path, suffix: str) -> None:
    path = tmp_path / f"p{suffix}"

    def begin(outcome: float) -> None:
        with writing(path) as writer:
            writer.write([ROW])
            assert not path.exists()
            assert len(list(tmp_path.iterdir())) == 1
            1 / outcome

    with pytest.raises(ZeroDivisionError):
        begin(0)
    assert list(tmp_path.iterdir()) == []
    begin(1)
    assert list(tmp_path.iterdir()) == [path]


def test_a_full_disk_is_a_data_error(tmp_path: Path) -> None:
    with pytest.raises(DataError, match=r"p\.csv: .*No space left"), writing(tmp_path / "p.csv"):
        raise OSError(28, "No space left on device")
    assert list(tmp_path.iterdir()) == []


def test_formats_that_are_not_known() -> None:
    for name in ("p.csv", "p.CSV", "p.parquet", "p.jsonl"):
        check_format(Path(name))
    with pytest.raises(UsageError, match=r"p\.xlsx") as caught:
        check_format(Path("p.xlsx"))
    assert ".csv, .jsonl, .parquet" in caught.value.hint


def test_a_parquet_file_that_is_none(tmp_path: Path) -> None:
    (tmp_path / "p.parquet").write_text("no")
    with pytest.raises(DataError, match=r"p\.parquet"):
        list(read_parquet(tmp_path / "p.parquet"))


numbers = st.floats(0, 1)
predictions = st.builds(
    ImagePrediction,
    image=st.text(st.characters(codec="utf-8")),
    probabilities=st.tuples(*[numbers] * 5),
    score=st.floats(0, 4),
    grade=st.integers(0, 4),
    referable=numbers,
) | st.builds(ImagePrediction, image=st.text(st.characters(codec="utf-8")), error=st.text(min_size=1))


@settings(max_examples=30, deadline=None, suppress_health_check=[HealthCheck.function_scoped_fixture])
@given(st.lists(predictions.filter(lambda row: max(row.error, default="") < "\ud800" and "\0" not in row.image)))
def test_every_number_comes_back_as_it_was(tmp_path: Path, rows: list[ImagePrediction]) -> None:
    for suffix in (".csv", ".jsonl", ".parquet"):
        write(tmp_path / f"p{suffix}", rows)
    assert [row for group in read_parquet(tmp_path / "p.parquet") for row in group] == rows
    expected = [dict(zip(COLUMNS, row.cells(), strict=True)) for row in rows]
    lines = (tmp_path / "p.jsonl").read_text(encoding="utf-8").split("\n")[:-1]
    assert [json.loads(line) for line in lines] == expected
    with (tmp_path / "p.csv").open(newline="", encoding="utf-8") as file:
        for found, row in zip(csv.DictReader(file), expected, strict=True):
            for name in COLUMNS:
                cell = found[name]
                if name in ("image", "error"):
                    assert cell == row[name]
                else:
                    assert (float(cell) if cell else None) == row[name]


# -- shards ------------------------------------------------------------------------------------------------------------


@given(st.integers(0, 500), st.integers(1, 40))
def test_shards_cover_every_row_once_and_in_order(total: int, count: int) -> None:
    parts = [Shard(index, count).rows(total) for index in range(count)]
    assert [row for part in parts for row in part] == list(range(total))
    assert max(map(len, parts)) - min(map(len, parts)) <= 1


def test_shards_are_read_from_text_and_from_launchers() -> None:
    assert Shard.parse("2/8") == Shard(2, 8)
    assert Shard.from_launcher({}) == Shard(0, 1)
    assert Shard.from_launcher({"RANK": "3", "WORLD_SIZE": "4"}) == Shard(3, 4)
    assert Shard.from_launcher({"SLURM_PROCID": "1", "SLURM_STEP_NUM_TASKS": "2"}) == Shard(1, 2)
    # A batch script, outside of srun: one process, whatever was asked for.
    assert Shard.from_launcher({"SLURM_PROCID": "0", "SLURM_NTASKS": "8"}).is_whole
    assert Shard.from_launcher({"RANK": "0"}).is_whole


@pytest.mark.parametrize("text", ["", "3", "a/b", "1/", "/4", "4/4", "0/0", "-1/4", "1/2/3", "1.0/2"])
def test_shards_that_are_none(text: str) -> None:
    with pytest.raises(UsageError, match="--shard"):
        Shard.parse(text)
