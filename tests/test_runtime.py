"""Device and precision."""

from __future__ import annotations

import os

import pytest
import torch

from retino_cli.errors import TrainingError, UsageError
from retino_cli.runtime import Runtime, choose_runtime, deterministic


def test_cpu_and_float32_as_asked() -> None:
    runtime = choose_runtime("cpu", "float32")
    assert (runtime.device, runtime.precision) == (torch.device("cpu"), "float32")
    assert runtime.name == f"cpu ({torch.get_num_threads()} threads)"
    with runtime.autocast():
        assert torch.nn.functional.linear(torch.ones(1, 2), torch.ones(3, 2)).dtype == torch.float32


def test_bfloat16_multiplies_in_bfloat16() -> None:
    with choose_runtime("cpu", "bfloat16").autocast():
        assert torch.nn.functional.linear(torch.ones(1, 2), torch.ones(3, 2)).dtype == torch.bfloat16


def test_auto_takes_what_the_machine_has(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(torch.cuda, "is_available", lambda: False)
    monkeypatch.setattr(torch.backends.mps, "is_available", lambda: False)
    assert choose_runtime().device.type == "cpu"
    for fast, precision in ((True, "bfloat16"), (False, "float32")):
        monkeypatch.setattr("retino_cli.runtime._has_fast_bfloat16", lambda _device, fast=fast: fast)
        assert choose_runtime("cpu").precision == precision


def test_auto_takes_bfloat16_only_where_the_processor_multiplies_it(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(torch.backends.cpu, "get_cpu_capability", lambda: "AVX2")
    assert choose_runtime("cpu").precision == "float32"
    monkeypatch.setattr(torch.backends.cpu, "get_cpu_capability", lambda: "AVX512")
    for has, precision in ((True, "bfloat16"), (False, "float32")):
        monkeypatch.setattr(torch.cpu, "_is_avx512_bf16_supported", lambda has=has: has)
        assert choose_runtime("cpu").precision == precision


@pytest.mark.parametrize("device", ["tpu9", "", "cpu:x", "meta", "cuda:99"])
def test_a_device_that_is_not_there_is_a_usage_error(device: str) -> None:
    with pytest.raises(UsageError, match=f"--device {device}") as caught:
        choose_runtime(device)
    assert "cpu" in caught.value.hint


def test_the_same_objects_give_nested_contexts() -> None:
    runtime = Runtime(torch.device("cpu"), "bfloat16")
    with runtime.autocast(), runtime.autocast():
        pass
    assert not torch.is_autocast_enabled("cpu")


def test_deterministic_holds_inside_and_nothing_of_it_stays(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.delenv("CUBLAS_WORKSPACE_CONFIG", raising=False)
    with deterministic(False):
        assert not torch.are_deterministic_algorithms_enabled()
    with deterministic(True):
        assert torch.are_deterministic_algorithms_enabled()
        assert not torch.is_deterministic_algorithms_warn_only_enabled()
        assert os.environ["CUBLAS_WORKSPACE_CONFIG"] == ":4096:8"
    assert not torch.are_deterministic_algorithms_enabled()
    assert "CUBLAS_WORKSPACE_CONFIG" not in os.environ


def test_an_operation_without_a_deterministic_algorithm_is_said_so() -> None:
    with pytest.raises(TrainingError, match="--deterministic") as caught, deterministic(True):
        # One of the few that have none on CPUs, either.
        torch.zeros(3).put_(torch.tensor([0]), torch.tensor([1.0]), accumulate=False)
    assert "without --deterministic" in caught.value.hint
    with pytest.raises(RuntimeError, match="something else"), deterministic(True):
        raise RuntimeError("something else")
    assert not torch.are_deterministic_algorithms_enabled()
