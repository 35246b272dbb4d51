"""Losses against torch's and scikit-learn's."""

from __future__ import annotations

import numpy as np
import pytest
import torch
import torch.nn.functional as F
from sklearn.metrics import log_loss
from sklearn.utils.class_weight import compute_class_weight

from retino_cli.training.losses import FOCAL_GAMMA, balanced_weights, build_loss

LOGITS = torch.randn(40, 5, generator=torch.Generator().manual_seed(0)) * 2
GRADE = torch.arange(40) % 5
WEIGHTS = torch.tensor([0.2, 1.0, 0.5, 3.0, 2.0])


def test_ce_is_cross_entropy_with_and_without_weights() -> None:
    probabilities = torch.softmax(LOGITS.double(), dim=1).numpy()
    assert float(build_loss("ce")(LOGITS, GRADE)) == pytest.approx(
        log_loss(GRADE.numpy(), probabilities, labels=range(5)), abs=1e-6
    )
    weighted = build_loss("ce", class_weights=WEIGHTS)(LOGITS, GRADE)
    torch.testing.assert_close(weighted, F.cross_entropy(LOGITS, GRADE, weight=WEIGHTS))


def test_focal_is_the_formula_of_the_paper() -> None:
    p = torch.softmax(LOGITS.double(), dim=1)[torch.arange(40), GRADE]
    expected = -((1 - p) ** FOCAL_GAMMA) * p.log()
    torch.testing.assert_close(build_loss("focal")(LOGITS, GRADE).double(), expected.mean(), rtol=1e-5, atol=1e-6)
    w = WEIGHTS.double()[GRADE]
    torch.testing.assert_close(
        build_loss("focal", class_weights=WEIGHTS)(LOGITS, GRADE).double(),
        (expected * w).sum() / w.sum(),
        rtol=1e-5,
        atol=1e-6,
    )


def test_focal_without_focus_is_cross_entropy(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr("retino_cli.training.losses.FOCAL_GAMMA", 0.0)
    torch.testing.assert_close(build_loss("focal")(LOGITS, GRADE), F.cross_entropy(LOGITS, GRADE))


@pytest.mark.parametrize("sigma", [0.4, 0.7])
def test_ordinal_is_cross_entropy_against_a_bell_that_sums_to_one(sigma: float) -> None:
    k = np.arange(5)
    bell = np.exp(-((k[:, None] - k[None, :]) ** 2) / (2 * sigma**2))
    bell /= bell.sum(axis=1, keepdims=True)
    logs = torch.log_softmax(LOGITS.double(), dim=1).numpy()
    expected = -(bell[GRADE.numpy()] * logs).sum(axis=1).mean()
    assert float(build_loss("ordinal", ordinal_sigma=sigma)(LOGITS, GRADE)) == pytest.approx(expected, rel=1e-5)


def test_ordinal_charges_a_far_miss_more_than_a_near_one() -> None:
    loss = build_loss("ordinal", ordinal_sigma=0.7)
    sure = torch.eye(5) * 8
    for true in range(5):
        costs = [float(loss(sure[said : said + 1], torch.tensor([true]))) for said in range(5)]
        by_distance = sorted(range(5), key=lambda said: abs(said - true))
        assert costs[true] == min(costs)
        for near, far in zip(by_distance, by_distance[1:], strict=False):
            if abs(near - true) < abs(far - true):
                assert costs[near] < costs[far]


@pytest.mark.parametrize("name", ["ce", "focal", "ordinal"])
def test_losses_are_finite_for_huge_logits_and_half_precision(name: str) -> None:
    loss = build_loss(name)
    huge = torch.tensor([[1e4, -1e4, 0, 0, 0]], requires_grad=True)
    value = loss(huge, torch.tensor([0]))
    value.backward()
    assert torch.isfinite(value)
    assert huge.grad is not None
    assert torch.isfinite(huge.grad).all()
    assert loss(LOGITS.bfloat16(), GRADE).dtype == torch.float32


def test_balanced_weights_equal_scikit_learns() -> None:
    grade = np.repeat(np.arange(5), [40, 3, 11, 2, 1])
    expected = compute_class_weight("balanced", classes=np.arange(5), y=grade)
    np.testing.assert_allclose(balanced_weights(np.bincount(grade, minlength=5)).numpy(), expected, rtol=1e-6)


def test_a_grade_that_does_not_occur_has_weight_zero() -> None:
    grade = np.repeat([0, 2, 4], [5, 2, 1])
    weights = balanced_weights(np.bincount(grade, minlength=5)).numpy()
    np.testing.assert_allclose(
        weights[[0, 2, 4]], compute_class_weight("balanced", classes=np.array([0, 2, 4]), y=grade), rtol=1e-6
    )
    assert weights[1] == weights[3] == 0
