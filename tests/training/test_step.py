"""A step in pieces: the gradient of the whole batch, each image once, and what is said when memory does not suffice."""

from __future__ import annotations

import math
from collections.abc import Callable
from pathlib import Path

import numpy as np
import pytest
import torch
from torch import Tensor, nn

from retino_cli.config import TrainConfig
from retino_cli.errors import RetinoError, TrainingError
from retino_cli.evaluation.inference import batch_logits
from retino_cli.preprocess import PreprocessSpec
from retino_cli.runtime import Runtime, is_out_of_memory
from retino_cli.tracking import open_store
from retino_cli.training import train as module
from retino_cli.training.events import Event, Note, ignore
from retino_cli.training.losses import balanced_weights, build_loss, divide_loss
from retino_cli.training.step import MicroBatch, forward_backward
from retino_cli.training.train import train

CPU = Runtime(device=torch.device("cpu"), precision="float32")
N = 13


class Small(nn.Module):
    """Raises when more than ``most`` images come at once, as a device with too little memory does: in the middle of the
    network, after batch normalisation has moved its running values."""

    def __init__(self, *, most: int = 10**6, normalised: bool = False, dropout: float = 0.0) -> None:
        super().__init__()
        self.most = most
        self.first = nn.BatchNorm2d(3) if normalised else nn.Identity()
        self.rest = nn.Sequential(nn.Flatten(), nn.Dropout(dropout), nn.Linear(3 * 4 * 4, 5))
        self.error: Exception = torch.OutOfMemoryError("CUDA out of memory. Tried to allocate 2.00 GiB.")
        self.seen: list[int] = []

    def forward(self, images: Tensor) -> Tensor:
        images = self.first(images)
        if len(images) > self.most:
            raise self.error
        self.seen.append(len(images))
        logits: Tensor = self.rest(images)
        return logits


def make(**options: object) -> Small:
    torch.manual_seed(3)
    return Small(**options)  # type: ignore[arg-type] # any of them


IMAGES = torch.rand((N, 3, 4, 4), generator=torch.Generator().manual_seed(0))
GRADE = torch.tensor([0, 0, 0, 0, 0, 0, 1, 2, 2, 3, 4, 4, 4])


def take_step(
    model: Small,
    *,
    loss: str = "ce",
    class_weights: Tensor | None = None,
    size: int = N,
    listen: Callable[[Event], None] = ignore,
) -> tuple[Tensor, Tensor, list[Tensor], MicroBatch]:
    """Loss, logits, gradients, and the piece size that remains."""
    micro = MicroBatch(model, size=size, listen=listen)
    part = divide_loss(build_loss(loss, class_weights=class_weights), GRADE, class_weights=class_weights)
    value, logits = forward_backward(
        model, np.arange(N), lambda index: IMAGES[torch.from_numpy(index)], part, runtime=CPU, micro=micro
    )
    gradients = [parameter.grad for parameter in model.parameters()]
    return value, logits, [gradient for gradient in gradients if gradient is not None], micro


WEIGHTS = balanced_weights(np.bincount(GRADE.numpy(), minlength=5))


@pytest.mark.parametrize("loss", ["ce", "focal", "ordinal"])
@pytest.mark.parametrize("weights", [None, WEIGHTS])
@pytest.mark.parametrize("most", [7, 5, 4, 12])
def test_the_pieces_add_up_to_the_whole_batch(loss: str, weights: Tensor | None, most: int) -> None:
    whole, pieces = make(), make(most=most)
    value, logits, gradients, _ = take_step(whole, loss=loss, class_weights=weights)
    again, others, sums, micro = take_step(pieces, loss=loss, class_weights=weights)
    assert whole.seen == [N]
    assert sum(pieces.seen) == N
    assert max(pieces.seen) <= micro.size <= most
    assert min(pieces.seen) >= 2
    torch.testing.assert_close(again, value, rtol=1e-6, atol=1e-6)
    torch.testing.assert_close(others, logits, rtol=1e-6, atol=1e-6)
    for one, other in zip(gradients, sums, strict=True):
        assert one.abs().max() > 1e-3
        torch.testing.assert_close(one, other, rtol=1e-5, atol=1e-6)


@pytest.mark.parametrize("size", range(2, 20))
@pytest.mark.parametrize("n", [2, 3, 4, 5, 7, 8, 9, 13, 16])
def test_every_image_is_in_one_piece_and_in_none_alone(size: int, n: int) -> None:
    pieces = MicroBatch(nn.Identity(), size=size, listen=ignore).split(n)
    assert np.concatenate([np.arange(n)[piece] for piece in pieces]).tolist() == list(range(n))
    sizes = [piece.stop - piece.start for piece in pieces]
    assert min(sizes) >= 2
    assert max(sizes) <= size or (size == 2 and n % 2 == 1 and max(sizes) == 3)


def test_a_failed_attempt_leaves_nothing_behind() -> None:
    """Running values, dropout's random numbers and gradients are those of a run that knew the size from the start."""
    failing, knowing = make(most=4, normalised=True, dropout=0.5), make(most=4, normalised=True, dropout=0.5)
    torch.manual_seed(11)
    _, logits, gradients, micro = take_step(failing)
    after = torch.rand(1)
    torch.manual_seed(11)
    _, others, wanted, _ = take_step(knowing, size=micro.size)
    assert torch.equal(after, torch.rand(1))
    assert torch.equal(logits, others)
    assert all(torch.equal(one, other) for one, other in zip(gradients, wanted, strict=True))
    for one, other in zip(failing.buffers(), knowing.buffers(), strict=True):
        assert torch.equal(one, other)
    assert isinstance(failing.first, nn.BatchNorm2d)
    assert int(failing.first.num_batches_tracked or 0) == len(failing.seen) == 4


def test_the_size_is_said_once_with_its_numbers() -> None:
    heard: list[Event] = []
    model = make(most=4)
    _, _, _, micro = take_step(model, listen=heard.append)
    part = divide_loss(build_loss("ce"), GRADE)
    for _ in range(3):
        forward_backward(
            model, np.arange(N), lambda index: IMAGES[torch.from_numpy(index)], part, runtime=CPU, micro=micro
        )
    (note,) = heard
    assert isinstance(note, Note)
    assert note.level == "warning"
    assert f"with {N} images" in note.text
    assert "pieces of 4" in note.text


@pytest.mark.parametrize("most", [1, 0])
def test_two_images_are_the_fewest(most: int) -> None:
    with pytest.raises(TrainingError, match="Out of memory with [23] images") as caught:
        take_step(make(most=most))
    assert "--image-size" in caught.value.hint


@pytest.mark.parametrize(
    ("error", "expected"),
    [
        (torch.OutOfMemoryError("CUDA out of memory."), True),
        (MemoryError(), True),
        (
            RuntimeError("[enforce fail at alloc_cpu.cpp:127] err == 0. DefaultCPUAllocator: can't allocate memory"),
            True,
        ),
        (RuntimeError("could not create a primitive"), True),  # oneDNN, on CPUs
        (RuntimeError("could not create a primitive descriptor for a convolution"), False),
        (RuntimeError("MPS backend out of memory (MPS allocated: 8.00 GB)"), True),
        (RuntimeError("shape '[3]' is invalid for input of size 4"), False),
        (ValueError("out of memory"), False),
    ],
)
def test_only_a_lack_of_memory_is_answered_with_pieces(error: Exception, expected: bool) -> None:
    assert is_out_of_memory(error) == expected
    model = make(most=4)
    model.error = error
    if expected:
        take_step(model)
    else:
        with pytest.raises(type(error)):
            take_step(model)
        assert model.seen == []


def test_a_real_lack_of_memory_is_recognised() -> None:
    with pytest.raises(RuntimeError) as caught:
        torch.empty(10**15)
    assert is_out_of_memory(caught.value)


# -- in a whole training -----------------------------------------------------------------------------------------------


def starve(monkeypatch: pytest.MonkeyPatch, *, most: int) -> list[int]:
    """Let networks in training fail above ``most`` images; the sizes that went through."""
    seen: list[int] = []
    start_model = module.starting.start_model

    def check(network: nn.Module, arguments: tuple[Tensor, ...]) -> None:
        if network.training:
            if len(arguments[0]) > most:
                raise torch.OutOfMemoryError("CUDA out of memory.")
            seen.append(len(arguments[0]))

    def start(*arguments: object, **options: object) -> object:
        model, report = start_model(*arguments, **options)  # type: ignore[arg-type] # passed on as they are
        model.register_forward_pre_hook(check)
        return model, report

    monkeypatch.setattr(module.starting, "start_model", start)
    return seen


def test_a_training_goes_on_in_pieces_and_a_resumed_one_too(
    workplace: Path, quick: Callable[..., TrainConfig], monkeypatch: pytest.MonkeyPatch
) -> None:
    seen = starve(monkeypatch, most=9)
    result = train(quick(epochs=1))
    record = open_store().find(result.run_id)
    assert record.tags["retino.micro_batch"] == "8"
    assert record.params["batch_size"] == "16"
    assert len([note for note in result.notes if "Out of memory" in note]) == 1
    assert max(seen) <= 9
    n = sum(seen)
    seen.clear()
    again = train(TrainConfig(epochs=2), resume=result.run_id)
    assert sum(seen) == n
    assert not [note for note in again.notes if "Out of memory" in note]
    assert all(math.isfinite(row["train/loss"]) for row in again.history)


# -- in evaluation -----------------------------------------------------------------------------------------------------


def test_evaluation_halves_its_batch_says_so_once_and_gives_the_same_numbers(caplog: pytest.LogCaptureFixture) -> None:
    spec = PreprocessSpec(image_size=8)
    images = (IMAGES * 255).to(torch.uint8)
    wanted = batch_logits(make().eval(), images, spec, CPU)
    model = make(most=3).eval()
    for _ in range(2):
        torch.testing.assert_close(batch_logits(model, images, spec, CPU), wanted, rtol=1e-6, atol=1e-6)
    assert model.seen == [2, 2, 2, 2, 2, 2, 1] * 2
    (message,) = [record.getMessage() for record in caplog.records]
    assert "with 13 images at once: 2 at a time" in message


def test_evaluation_that_cannot_hold_one_image_says_what_to_do() -> None:
    with pytest.raises(RetinoError, match="one image of 8 px") as caught:
        batch_logits(make(most=0).eval(), (IMAGES * 255).to(torch.uint8), PreprocessSpec(image_size=8), CPU)
    assert "--device cpu" in caught.value.hint
