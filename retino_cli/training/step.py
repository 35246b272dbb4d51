"""Forward and backward of one batch: whole, or in pieces whose gradients add up, where memory does not suffice."""

from __future__ import annotations

from collections.abc import Callable

import numpy as np
import torch
from torch import Tensor, nn

from retino_cli.errors import TrainingError
from retino_cli.runtime import Runtime, free_memory, is_out_of_memory
from retino_cli.training.events import Listener, Note

SMALLEST_PIECE = 2
"""Images that batch normalisation needs at once."""

Load = Callable[[np.ndarray], Tensor]
"""Images by index (b,) -> what the network gets, (b, 3, S, S) float32 on its device."""
PartOfLoss = Callable[[Tensor, slice], Tensor]
"""(logits (b, 5) of a piece, its place in the batch) -> its part of the batch's loss: all parts add up to it."""


class MicroBatch:
    """How many images go through the model at once, ``size`` at most, and what a failed attempt is to put back.

    A step that runs out of memory is repeated with pieces half as large, and the size stays for the steps after it. The
    optimizer sees the gradient of the whole batch all the same, so batch size, learning rate and schedule keep their
    meaning. Batch normalisation takes its means and variances over the images of a piece, which are fewer, and its
    running values move once a piece.
    """

    def __init__(self, model: nn.Module, *, size: int, listen: Listener) -> None:
        self.size = size
        self._said = size
        self._listen = listen
        buffers = list(model.buffers())
        kinds = {buffer.dtype for buffer in buffers}
        # By number format: each group is then copied at one go. Taken now, while there is memory.
        self._buffers = [[buffer for buffer in buffers if buffer.dtype == kind] for kind in kinds]
        self._copies = [[buffer.detach().clone() for buffer in group] for group in self._buffers]

    def split(self, n: int) -> list[slice]:
        """The pieces of a batch of ``n`` images: as equal as can be, and none of a single image."""
        count = max(1, min(-(-n // self.size), n // SMALLEST_PIECE))
        edges = [n * k // count for k in range(count + 1)]
        return [slice(start, stop) for start, stop in zip(edges[:-1], edges[1:], strict=True)]

    @torch.no_grad()
    def remember(self) -> None:
        """Keep the model's buffers (running means, variances, counters) as they are before an attempt."""
        for copies, buffers in zip(self._copies, self._buffers, strict=True):
            torch._foreach_copy_(copies, buffers)

    @torch.no_grad()
    def restore(self) -> None:
        """Put the buffers back as they were."""
        for copies, buffers in zip(self._copies, self._buffers, strict=True):
            torch._foreach_copy_(buffers, copies)

    def halve(self, n: int, error: BaseException) -> None:
        """Make the pieces of a batch of ``n`` images half as large. Raises TrainingError where they cannot be."""
        largest = max(piece.stop - piece.start for piece in self.split(n))
        if self.size <= SMALLEST_PIECE or largest <= SMALLEST_PIECE:
            raise TrainingError(
                f"Out of memory with {largest} images at once, the fewest that batch normalisation can do with: "
                f"{str(error).splitlines()[0]}",
                "Try a smaller --image-size or --arch, or end other programs that use the same memory.",
            ) from error
        self.size = max(SMALLEST_PIECE, -(-largest // 2))

    def announce(self, n: int) -> None:
        """Say, once for each size, that the batch of ``n`` images goes in pieces."""
        if self._said == self.size:
            return
        self._said = self.size
        self._listen(
            Note(
                f"Out of memory with {n} images at once: from here on a batch goes through the model in pieces of "
                f"{self.size} images or fewer, and their gradients add up to the whole batch's. Batch size and "
                "learning rate stay; batch normalisation sees the pieces.",
                "warning",
            )
        )


def forward_backward(
    model: nn.Module, index: np.ndarray, load: Load, part_of_loss: PartOfLoss, *, runtime: Runtime, micro: MicroBatch
) -> tuple[Tensor, Tensor]:
    """Leave the gradient of the batch's loss in ``model``'s parameters; the loss, a scalar, and the logits (B, 5).

    ``index`` (B,): the batch. Every image goes through the model once: whole, or in pieces (:class:`MicroBatch`). An
    attempt that runs out of memory leaves nothing behind: gradients are cleared, batch normalisation's buffers and the
    random numbers of dropout are put back. Raises :class:`~retino_cli.errors.TrainingError` where two images at once
    are too many.
    """
    micro.remember()
    random_state = _random_state(runtime.device)
    while True:
        try:
            loss, logits = _accumulate(model, index, load, part_of_loss, runtime, micro.split(len(index)))
        except (RuntimeError, MemoryError) as error:
            if not is_out_of_memory(error):
                raise
            micro.halve(len(index), error)
        else:
            micro.announce(len(index))
            return loss, logits
        # Outside of the handler: there the exception still holds on to what the failed attempt had computed.
        model.zero_grad(set_to_none=True)
        free_memory(runtime.device)
        micro.restore()
        _set_random_state(runtime.device, random_state)


def _accumulate(
    model: nn.Module, index: np.ndarray, load: Load, part_of_loss: PartOfLoss, runtime: Runtime, pieces: list[slice]
) -> tuple[Tensor, Tensor]:
    losses, parts = [], []
    for piece in pieces:
        images = load(index[piece])  # (b, 3, S, S)
        with runtime.autocast():
            logits = model(images)  # (b, 5)
        loss = part_of_loss(logits, piece)
        if piece.start == 0:
            # Not before the forward pass: the gradients to come then find the memory of these, still warm.
            model.zero_grad(set_to_none=True)
        loss.backward()  # type: ignore[no-untyped-call] # torch leaves it untyped
        losses.append(loss.detach())
        parts.append(logits.detach())
    if len(pieces) == 1:
        return losses[0], parts[0]
    return torch.stack(losses).sum(), torch.cat(parts)


def _random_state(device: torch.device) -> tuple[Tensor, ...]:
    """Of the generators that dropout draws from."""
    on_device = (torch.cuda.get_rng_state(device),) if device.type == "cuda" else ()
    return (torch.get_rng_state(), *on_device)


def _set_random_state(device: torch.device, state: tuple[Tensor, ...]) -> None:
    torch.set_rng_state(state[0])
    if device.type == "cuda":
        torch.cuda.set_rng_state(state[1], device)
