"""Pictures that resemble each other by their colours, where no file says which of them show the same patient.

The same camera, pupil and pigment give all pictures of a patient much the same colours, and both eyes of a patient
mostly have the same grade. A network that knows a patient's colours knows much of the grade without having seen a
lesion. So an image that was held out of training at random can be easier than a new patient, where its patient has
other images in training.
"""

from __future__ import annotations

import warnings
from collections.abc import Callable
from dataclasses import dataclass
from typing import Final

import numpy as np

from retino_cli.data.manifest import SPLITS, Manifest
from retino_cli.data.prepared import PreparedImages, prepare
from retino_cli.preprocess import PreprocessSpec

AUDIT_SIZE: Final = 64
"""Side in pixels of the small pictures that are looked at."""
FEWEST: Final = 100
"""Training images that it takes to say anything about likeness."""
FIELD_LEVEL: Final = 60
"""A pixel belongs to the retina where its three channels sum to more than this, of 765."""
GROUP_SIZE: Final = 6
"""Mean number of images in a group of look-alikes. Over 100 cuts by such groups the excess of validation was half of
that of random cuts on RetinaMNIST and a quarter on IDRiD; larger groups were not clearly better."""
_NEAREST: Final = 20
_CLOSE: Final = 5
_SPARE: Final = 20


@dataclass(frozen=True)
class Likeness:
    """How much the colours of a picture say about its grade because of *whose* picture it is.

    ``images``: of the official ``split``, those that were compared. ``nearest``: the share of them whose nearest
    picture in train (by colours; its own and identical ones apart, and others of a patient who is known) has the same
    grade. ``farther``: the same for the sixth to twentieth nearest, the mean: what colours say in general.
    ``low``, ``high``: 95 % interval of ``excess``.
    """

    split: str
    images: int
    nearest: float
    farther: float
    low: float
    high: float

    @property
    def excess(self) -> float:
        """``nearest`` - ``farther``: about 0 where no patient of the split has another picture in train."""
        return self.nearest - self.farther

    @property
    def shows_patients(self) -> bool:
        """Whether the nearest picture has the same grade more often than chance can explain."""
        return self.low > 0


def prepare_small(
    manifest: Manifest, *, workers: int | None = None, on_progress: Callable[[int, int], None] | None = None
) -> PreparedImages:
    """The small pictures (64 px, uncropped) of ``manifest``, whose images all have files; unreadable ones are left
    out. Each is decoded once and kept in the cache."""
    spec = PreprocessSpec(image_size=AUDIT_SIZE, crop="none")
    return prepare(manifest, spec, workers=workers, skip_unreadable=True, on_progress=on_progress)


def colour_statistics(pictures: np.ndarray) -> np.ndarray:
    """What stays the same when a picture is turned or mirrored: (N, S, S, 3) uint8 -> (N, 24) float64.

    Of the pixels of the retina: the 5th, 25th, 50th, 75th and 95th percentile of each channel, and the 10th, 50th and
    90th of green to red and of blue to red, in percent; the retina's share of the frame in percent, and its width and
    height, each times 100 / S.
    """
    rows = np.empty((len(pictures), 24))
    for row, picture in zip(rows, pictures.astype(np.float32), strict=True):
        field = picture.sum(axis=2) > FIELD_LEVEL  # (S, S)
        if field.mean() < 0.01:
            field[:] = True
        pixels = picture[field]  # (P, 3)
        ratios = 100 * pixels[:, 1:] / (pixels[:, :1] + 1)  # (P, 2)
        row[:15] = _quantiles(pixels, (0.05, 0.25, 0.5, 0.75, 0.95))
        row[15:21] = _quantiles(ratios, (0.1, 0.5, 0.9))
        row[21:] = 100 * field.mean(), 100 * field.any(axis=0).mean(), 100 * field.any(axis=1).mean()
    return rows


def _quantiles(values: np.ndarray, shares: tuple[float, ...]) -> np.ndarray:
    """The nearest-rank quantiles of each column of (P, C), channels last, (len(shares) * C,)."""
    ordered = np.sort(values, axis=0)
    return np.asarray(ordered[[round(share * (len(values) - 1)) for share in shares]].ravel())


def compare_likeness(manifest: Manifest, prepared: PreparedImages) -> tuple[Likeness, ...]:
    """One :class:`Likeness` for each official split, train first; none where train has fewer than 100 images.

    ``prepared``: what :func:`prepare_small` made of ``manifest``. Distances are Euclidean between
    :func:`colour_statistics`, each divided by its standard deviation in train. The interval is that of a mean of
    (nearest has the same grade) - (share of the sixth to twentieth that have it), 1.96 standard errors to either side,
    where images that are linked as nearest neighbours count as one cluster.
    """
    from sklearn.neighbors import NearestNeighbors

    rows = np.flatnonzero(prepared.readable)
    official = manifest.official_split.to_numpy(dtype=object)[rows]
    grade = manifest.table["grade"].to_numpy()[rows]
    patient = manifest.table["patient_id"].to_numpy(dtype=object)[rows]
    picture = np.unique(prepared.index["sha256"][rows], axis=0, return_inverse=True)[1].ravel()  # equal for copies
    in_train = np.flatnonzero(official == "train")
    if len(in_train) < FEWEST:
        return ()
    values = _scaled(_statistics(prepared, rows), in_train)
    # In so many dimensions brute force is ten times as fast as a tree.
    search = NearestNeighbors(n_neighbors=min(_NEAREST + _SPARE, len(in_train)), algorithm="brute")
    search.fit(values[in_train])
    found = []
    for split in SPLITS:
        judged = np.flatnonzero(official == split)
        if not len(judged):
            continue
        near = in_train[search.kneighbors(values[judged], return_distance=False)]  # (n, k)
        other = picture[near] != picture[judged][:, None]  # neither itself nor a copy
        other &= (patient[near] != patient[judged][:, None]) | (patient[near] == "")
        found.append(_agreement(split, judged, near, other, grade))
    return tuple(found)


def group_look_alikes(manifest: Manifest, prepared: PreparedImages) -> np.ndarray:
    """A group for each row of ``manifest``, (M,) int64: pictures with like colours share one, of six on average.

    Ward's clusters of :func:`colour_statistics`, over the graph of ten nearest neighbours. A function of the pictures
    alone. A row without a readable picture is a group of its own.
    """
    from sklearn.cluster import AgglomerativeClustering
    from sklearn.neighbors import kneighbors_graph

    groups = np.arange(len(manifest.table)) + len(manifest.table)
    rows = np.flatnonzero(prepared.readable)
    if len(rows) < 2 * GROUP_SIZE:
        groups[rows] = 0
        return groups
    values = _scaled(_statistics(prepared, rows), np.arange(len(rows)))
    graph = kneighbors_graph(values, n_neighbors=10, include_self=False)
    clusters = AgglomerativeClustering(len(rows) // GROUP_SIZE, connectivity=graph.maximum(graph.T), linkage="ward")
    with warnings.catch_warnings():
        warnings.simplefilter("ignore", UserWarning)  # that the graph is in pieces, which are joined
        groups[rows] = clusters.fit_predict(values)
    return groups


def _statistics(prepared: PreparedImages, rows: np.ndarray) -> np.ndarray:
    parts = [colour_statistics(prepared.gather(rows[start : start + 512])) for start in range(0, len(rows), 512)]
    return np.concatenate(parts)


def _scaled(values: np.ndarray, reference: np.ndarray) -> np.ndarray:
    spread = values[reference].std(axis=0)
    return values / np.where(spread > 0, spread, 1)


def _agreement(split: str, judged: np.ndarray, near: np.ndarray, other: np.ndarray, grade: np.ndarray) -> Likeness:
    """``near`` (n, k): rows in the order of distance; ``other`` (n, k): which of them count."""
    order = np.argsort(~other, axis=1, kind="stable")[:, :_NEAREST]
    chosen = np.take_along_axis(near, order, axis=1)  # (n, 20)
    counts = np.take_along_axis(other, order, axis=1).astype(float)
    same = (grade[chosen] == grade[judged][:, None]) * counts
    farther = same[:, _CLOSE:].sum(axis=1) / np.maximum(counts[:, _CLOSE:].sum(axis=1), 1)
    gain = same[:, 0] - farther
    clusters = _linked(judged, chosen[:, 0])
    error = np.sqrt((np.bincount(clusters, weights=gain - gain.mean()) ** 2).sum()) / len(gain)
    return Likeness(
        split=split,
        images=len(judged),
        nearest=float(same[:, 0].mean()),
        farther=float(farther.mean()),
        low=float(gain.mean() - 1.96 * error),
        high=float(gain.mean() + 1.96 * error),
    )


def _linked(judged: np.ndarray, nearest: np.ndarray) -> np.ndarray:
    """A cluster for each judged image, (n,): those that hang together as nearest neighbours."""
    from scipy.sparse import coo_matrix
    from scipy.sparse.csgraph import connected_components

    size = int(max(judged.max(), nearest.max())) + 1
    graph = coo_matrix((np.ones(len(judged)), (judged, nearest)), shape=(size, size))
    label: np.ndarray = connected_components(graph, directed=False)[1]
    cluster: np.ndarray = label[judged]
    return cluster
