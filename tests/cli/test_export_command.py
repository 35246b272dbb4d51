"""``retino export``, and ``retino predict`` with what it wrote."""

from __future__ import annotations

import json
from pathlib import Path

from commands import Retino


def test_export_and_predict(trained_place: Path, retino: Retino, synthetic_data: Path, tmp_path: Path) -> None:
    file = tmp_path / "g.onnx"
    ended = retino("export", "first", "--out", file, "--sensitivity", 0.8)
    assert ended.code == 0, ended.err
    assert f"Written: {file}" in ended.out
    assert "On 5 drawn photographs its probabilities differ from the checkpoint's by at most" in ended.out
    assert "Refers where referable is at least 0." in ended.out
    assert f"retino predict {file} IMAGES" in ended.out
    assert "Exporting first" in ended.err
    predicted = retino("predict", file, synthetic_data / "test", "--out", tmp_path / "p.csv", "--json")
    assert predicted.code == 0, predicted.err
    report = json.loads(predicted.out)
    assert (report["run_name"], report["precision"], report["errors"]) == ("first", "float32", 0)
    shown = retino("predict", file, synthetic_data / "test", "--out", tmp_path / "p.csv")
    assert f"refer where referable is at least {report['threshold']:.4f}" in shown.out
    assert 0 < report["threshold"] < 1
    for flags in (("--device", "cuda"), ("--precision", "bfloat16"), ("--no-tta",), ("--tracking-uri", "sqlite:///x")):
        refused = retino("predict", file, synthetic_data / "test", "--out", tmp_path / "q.csv", *flags)
        assert refused.code == 2
        assert f"Leave {flags[0] if flags[0] != '--no-tta' else '--tta/--no-tta'} out" in refused.err
    refused = retino("predict", file, synthetic_data / "test", "--out", tmp_path / "q.csv", "--specificity", 0.9)
    assert refused.code == 2
    assert "retino export RUN --sensitivity" in refused.err
    assert not (tmp_path / "q.csv").exists()


def test_wrong_input(trained_place: Path, retino: Retino, synthetic_data: Path, tmp_path: Path) -> None:
    assert retino("export", "nobody", "--out", tmp_path / "g.onnx").code == 1
    unknown = retino("export", "first", "--format", "pickle")
    assert unknown.code == 2
    assert "onnx, mlflow" in unknown.err
    missing = retino("predict", tmp_path / "no.onnx", synthetic_data / "test")
    assert missing.code == 1
    assert "no such file" in missing.err
    (tmp_path / "bad.onnx").write_text("text")
    damaged = retino("predict", tmp_path / "bad.onnx", synthetic_data / "test", "--out", tmp_path / "p.csv")
    assert damaged.code == 1
    assert "bad.onnx cannot be used as an ONNX file" in damaged.err
