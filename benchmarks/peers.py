"""The other ways of doing it, written as people write them: the lab's own, and timm's."""

from __future__ import annotations

import time
from pathlib import Path
from typing import Any

import torch
from PIL import Image
from torch import nn
from torch.utils.data import DataLoader, Dataset


class PhotographDataset(Dataset[tuple[torch.Tensor, int]]):
    """PIL open and convert in every epoch, then torchvision's or timm's transforms."""

    def __init__(self, paths: list[str], grades: list[int], transform: Any) -> None:
        self.paths, self.grades, self.transform = paths, grades, transform

    def __len__(self) -> int:
        return len(self.paths)

    def __getitem__(self, index: int) -> tuple[torch.Tensor, int]:
        with Image.open(self.paths[index]) as image:
            return self.transform(image.convert("RGB")), self.grades[index]


def lab_loader(paths: list[str], grades: list[int], *, size: int, batch_size: int) -> DataLoader[Any]:
    """The lab's way: Resize, both flips, ToTensor, a DataLoader with two workers."""
    from torchvision import transforms

    transform = transforms.Compose(
        [
            transforms.Resize((size, size)),
            transforms.RandomHorizontalFlip(),
            transforms.RandomVerticalFlip(),
            transforms.ToTensor(),
        ]
    )
    return DataLoader(PhotographDataset(paths, grades, transform), batch_size=batch_size, shuffle=True, num_workers=2)


def lab_model() -> nn.Module:
    """torchvision's ResNet18 with the lab's head: contiguous float32."""
    from torchvision.models import resnet18

    model = resnet18()
    model.fc = nn.Sequential(nn.Linear(512, 50), nn.ReLU(), nn.Dropout(0.25), nn.Linear(50, 5))
    return model


def timm_loader(paths: list[str], grades: list[int], *, size: int, batch_size: int) -> Any:
    """timm's own transforms and loader with their defaults for training, and two workers."""
    from timm.data import create_loader, create_transform

    dataset = PhotographDataset(paths, grades, create_transform(input_size=size, is_training=True))
    dataset_with_transform: Any = dataset
    return create_loader(
        dataset_with_transform,
        input_size=(3, size, size),
        batch_size=batch_size,
        is_training=True,
        num_workers=2,
        device=torch.device("cpu"),
        use_prefetcher=False,
    )


def timm_model() -> nn.Module:
    import timm

    model: nn.Module = timm.create_model("resnet18", num_classes=5)
    return model


def train_peer(model: nn.Module, loader: Any, *, epochs: int) -> float:
    """Seconds for ``epochs`` passes of SGD with cross-entropy."""
    optimizer = torch.optim.SGD(model.parameters(), lr=1e-3, momentum=0.9, weight_decay=5e-4)
    loss_of = nn.CrossEntropyLoss()
    began = time.perf_counter()
    model.train()
    for _ in range(epochs):
        for images, grades in loader:
            loss = loss_of(model(images), grades)
            optimizer.zero_grad()
            loss.backward()
            optimizer.step()
    return time.perf_counter() - began


def predict_one_by_one(model: nn.Module, paths: list[Path], *, size: int) -> list[int]:
    """Open, resize, predict with a batch of one, as in many an example."""
    from torchvision import transforms

    transform = transforms.Compose([transforms.Resize((size, size)), transforms.ToTensor()])
    model.eval()
    grades = []
    with torch.no_grad():
        for path in paths:
            with Image.open(path) as image:
                tensor = transform(image.convert("RGB"))[None]
            grades.append(int(model(tensor).argmax(dim=1)))
    return grades
