"""What the machine offers: device, number format, random seeds."""

from __future__ import annotations

import contextlib
import os
from collections.abc import Iterator
from dataclasses import dataclass
from typing import Final

import torch

from retino_cli.errors import TrainingError, UsageError

_WORKSPACE: Final = "CUBLAS_WORKSPACE_CONFIG"
_OUT_OF_MEMORY: Final = (
    "out of memory",  # CUDA (torch.OutOfMemoryError), and Apple's MPS
    "DefaultCPUAllocator: can't allocate memory",
    "DefaultCPUAllocator: not enough memory",  # on Windows
    "could not create a memory object",  # oneDNN
    "std::bad_alloc",
    "CUBLAS_STATUS_ALLOC_FAILED",
    "CUDNN_STATUS_ALLOC_FAILED",
)
"""What the messages of RuntimeErrors hold that torch raises where memory does not suffice."""


@dataclass(frozen=True)
class Runtime:
    """Where and how the arithmetic runs. ``precision`` is ``float32`` or ``bfloat16`` (autocast; weights stay
    float32)."""

    device: torch.device
    precision: str

    @property
    def name(self) -> str:
        """The device in words, for the run's tags."""
        if self.device.type == "cuda":
            return torch.cuda.get_device_name(self.device)
        return (
            f"{self.device.type} ({torch.get_num_threads()} threads)" if self.device.type == "cpu" else str(self.device)
        )

    @property
    def room_for_pictures(self) -> int:
        """Bytes of the device's own memory that prepared pictures may take: 40 % of what is free on a GPU, else 0."""
        if self.device.type != "cuda":
            return 0
        free, _total = torch.cuda.mem_get_info(self.device)
        return int(0.4 * free)

    def autocast(self) -> contextlib.AbstractContextManager[None]:
        """The context that the forward pass runs in."""
        if self.precision == "bfloat16":
            return torch.autocast(self.device.type, dtype=torch.bfloat16)
        return contextlib.nullcontext()


@contextlib.contextmanager
def deterministic(wanted: bool) -> Iterator[None]:
    """The context in which every operation gives the same bits for the same input, where ``wanted``.

    On CPUs the same number of threads is part of "the same input". Raises
    :class:`~retino_cli.errors.TrainingError` for an operation that has no such algorithm on the device.
    """
    if not wanted:
        yield
        return
    before = torch.are_deterministic_algorithms_enabled(), torch.is_deterministic_algorithms_warn_only_enabled()
    benchmark, workspace = torch.backends.cudnn.benchmark, os.environ.get(_WORKSPACE)
    os.environ[_WORKSPACE] = workspace or ":4096:8"  # cuBLAS needs it (CUDA's documentation, "Results reproducibility")
    torch.backends.cudnn.benchmark = False
    torch.use_deterministic_algorithms(True)
    try:
        yield
    except RuntimeError as error:
        if "deterministic" not in str(error):
            raise
        raise TrainingError(
            f"--deterministic cannot be had on this device: {str(error).splitlines()[0]}",
            "Train on the CPU, or without --deterministic.",
        ) from error
    finally:
        torch.use_deterministic_algorithms(before[0], warn_only=before[1])
        torch.backends.cudnn.benchmark = benchmark
        if workspace is None:
            os.environ.pop(_WORKSPACE, None)


def choose_runtime(device: str = "auto", precision: str = "auto") -> Runtime:
    """The device (``auto``: CUDA, else Apple's MPS, else CPU) and the precision.

    ``auto`` takes bfloat16 where the hardware multiplies it (CUDA with compute capability 8 or more, x86 with
    AVX512-BF16 or AMX), else float32. Raises :class:`~retino_cli.errors.UsageError` for a device that is not there.
    """
    if device == "auto":
        device = "cuda" if torch.cuda.is_available() else "mps" if torch.backends.mps.is_available() else "cpu"
    try:
        chosen = torch.device(device)
        torch.empty(1, device=chosen)
    except (RuntimeError, AssertionError, NotImplementedError) as error:
        cause = str(error).splitlines()[0]
        raise UsageError(
            f"--device {device} cannot be used: {cause}", "Choose auto, cpu, cuda, cuda:N or mps."
        ) from error
    if chosen.type == "meta":
        raise UsageError("--device meta holds no data.", "Choose auto, cpu, cuda, cuda:N or mps.")
    if precision == "auto":
        precision = "bfloat16" if _has_fast_bfloat16(chosen) else "float32"
    return Runtime(device=chosen, precision=precision)


def is_out_of_memory(error: BaseException) -> bool:
    """Whether ``error`` says that there is too little memory, on the device or on the computer."""
    if isinstance(error, MemoryError | torch.OutOfMemoryError):
        return True
    text = str(error).strip()
    if text == "could not create a primitive":  # oneDNN without memory; more words follow where it lacks an algorithm
        return isinstance(error, RuntimeError)
    return isinstance(error, RuntimeError) and any(known in text for known in _OUT_OF_MEMORY)


def free_memory(device: torch.device) -> None:
    """Give back what torch keeps of ``device``'s memory for later: blocks of the wrong size are then no obstacle."""
    if device.type == "cuda":
        torch.cuda.empty_cache()
    elif device.type == "mps":
        torch.mps.empty_cache()


def _has_fast_bfloat16(device: torch.device) -> bool:
    if device.type == "cuda":
        return torch.cuda.get_device_capability(device) >= (8, 0)
    if device.type == "cpu":
        capabilities = torch.backends.cpu.get_cpu_capability()
        cpu = torch.cpu
        has = getattr(cpu, "_is_avx512_bf16_supported", None)
        return capabilities.startswith("AVX512") and bool(has and has())
    return False
