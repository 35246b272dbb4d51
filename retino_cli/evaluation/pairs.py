"""What the data say of two models on the same images: differences with intervals, tests, and a sentence."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import asdict, dataclass, replace
from itertools import combinations
from typing import Any, Final

import numpy as np

from retino_cli.evaluation.bootstrap import Resamples
from retino_cli.evaluation.judged import Judged, is_referable
from retino_cli.evaluation.metrics import Undefined
from retino_cli.evaluation.resampling import Interval, cluster_codes, percentile_interval
from retino_cli.evaluation.significance import DeLong, McNemar, delong, holm, mcnemar
from retino_cli.evaluation.verdict import describe_differences, is_better, is_settled

HEADLINE: Final = ("qwk", "accuracy", "referable_auc")
"""The metrics that the sentence is about."""


@dataclass(frozen=True, eq=False)
class Pair:
    """Model ``b`` against model ``a`` (places in the comparison): differences b - a.

    ``p_values``: of the tests, by metric (accuracy: McNemar's exact test; referable_auc: DeLong's; qwk: the paired
    bootstrap's), adjusted by Holm over all pairs where there are several (``adjusted``). Where patients are known the
    patient is the unit. ``sentence`` says it in words.
    """

    a: int
    b: int
    differences: dict[str, Interval | Undefined]
    mcnemar: McNemar | None
    delong: DeLong | None
    p_values: dict[str, float]
    adjusted: bool
    sentence: str

    def settled(self, metric: str) -> bool:
        """Whether the data tell the two apart on ``metric``."""
        difference = self.differences[metric]
        if isinstance(difference, Undefined):
            return False
        return is_settled(difference, p_value=self.p_values.get(metric))

    def winner(self, metric: str) -> int | None:
        """The better one's place, where the data can tell."""
        difference = self.differences[metric]
        if isinstance(difference, Undefined) or not self.settled(metric):
            return None
        return self.b if is_better(metric, difference.estimate) else self.a

    def to_dict(self) -> dict[str, Any]:
        """JSON-able."""
        return {
            "a": self.a,
            "b": self.b,
            "differences": {
                name: {"undefined": one.reason} if isinstance(one, Undefined) else one.to_dict()
                for name, one in self.differences.items()
            },
            "mcnemar": None if self.mcnemar is None else asdict(self.mcnemar),
            "delong": None if self.delong is None else asdict(self.delong),
            "p_values": self.p_values,
            "holm_adjusted": self.adjusted,
            "sentence": self.sentence,
        }


def compare_pairs(judged: Sequence[Judged], resamples: Resamples, names: Sequence[str]) -> tuple[Pair, ...]:
    """Every pair of models, the earlier one being ``a``."""
    pairs = []
    for a, b in combinations(range(len(judged)), 2):
        differences = resamples.differences(a, b)
        exact, areas = _test(judged[a], judged[b])
        p_values = _p_values(differences, exact, areas)
        pairs.append(Pair(a, b, differences, exact, areas, p_values, adjusted=False, sentence=""))
    return _finish(pairs, names)


def compare_groups(resamples: Resamples, groups: Sequence[Sequence[int]], names: Sequence[str]) -> tuple[Pair, ...]:
    """Every pair of groups of models: the difference of the groups' mean metrics, on the same resamples.

    The intervals tell how much the images matter, not how much the seeds do: that is what the standard deviation within
    a group is for. There is no McNemar and no DeLong test of a mean.
    """
    pairs = []
    for a, b in combinations(range(len(groups)), 2):
        differences = {name: _group_difference(resamples, groups[a], groups[b], name) for name in resamples.names}
        pairs.append(Pair(a, b, differences, None, None, _p_values(differences, None, None), False, ""))
    return _finish(pairs, names)


def _test(a: Judged, b: Judged) -> tuple[McNemar | None, DeLong | None]:
    orders = [np.argsort(one.image_id, kind="stable") for one in (a, b)]
    ids = a.image_id[orders[0]]
    patients = np.where(a.patient_id[orders[0]] != "", a.patient_id[orders[0]], b.patient_id[orders[1]])
    codes = cluster_codes(ids, patients) if (patients != "").any() else None
    exact = None
    if a.predicted is not None and b.predicted is not None and not (a.binary or b.binary):
        right = [
            np.equal(np.asarray(one.predicted), one.grade)[order] for one, order in zip((a, b), orders, strict=True)
        ]
        exact = mcnemar(right[0], right[1], cluster=codes)
    areas = None
    if a.referable_score is not None and b.referable_score is not None:
        positive = is_referable(a)[orders[0]]
        found = delong(positive, a.referable_score[orders[0]], b.referable_score[orders[1]], cluster=codes)
        areas = None if isinstance(found, Undefined) else found
    return exact, areas


def _p_values(
    differences: dict[str, Interval | Undefined], exact: McNemar | None, areas: DeLong | None
) -> dict[str, float]:
    found: dict[str, float] = {}
    for name in HEADLINE:
        difference = differences.get(name)
        if isinstance(difference, Interval) and difference.p_value is not None:
            found[name] = difference.p_value
    if exact is not None:
        found["accuracy"] = exact.p_value if exact.patient_p_value is None else exact.patient_p_value
    if areas is not None:
        found["referable_auc"] = areas.p_value
    return found


def _finish(pairs: list[Pair], names: Sequence[str]) -> tuple[Pair, ...]:
    """Adjust the p-values over the pairs, metric by metric, and write the sentences."""
    several = len(pairs) > 1
    adjusted: list[dict[str, float]] = [dict(pair.p_values) for pair in pairs]
    if several:
        for name in HEADLINE:
            places = [place for place, pair in enumerate(pairs) if name in pair.p_values]
            for place, value in zip(places, holm([pairs[place].p_values[name] for place in places]), strict=True):
                adjusted[place][name] = value
    return tuple(
        replace(
            pair,
            p_values=p_values,
            adjusted=several,
            sentence=describe_differences(
                names[pair.a],
                names[pair.b],
                {name: pair.differences[name] for name in HEADLINE if name in pair.differences},
                p_values=p_values,
                p_name="Holm-adjusted p" if several else "p",
            ),
        )
        for pair, p_values in zip(pairs, adjusted, strict=True)
    )


def _group_difference(
    resamples: Resamples, first: Sequence[int], second: Sequence[int], name: str
) -> Interval | Undefined:
    column = resamples.names.index(name)
    means = []
    for members in (first, second):
        values = [resamples.estimates[place][name] for place in members]
        undefined = next((value for value in values if isinstance(value, Undefined)), None)
        if undefined is not None:
            return undefined
        means.append(float(np.mean(np.array(values, dtype=np.float64))))
    samples = resamples.samples[list(second), :, column].mean(axis=0) - resamples.samples[list(first), :, column].mean(
        axis=0
    )
    centred = name in ("ece", "ece_equal_mass")
    return percentile_interval(samples, means[1] - means[0], level=resamples.level, centred=centred, difference=True)
