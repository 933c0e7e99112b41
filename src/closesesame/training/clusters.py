"""Two clusters of the features of a class: where two kinds of clips share a label, they lie apart.

Chen et al., "Detecting Backdoor Attacks on Deep Neural Networks by Activation Clustering", 2018,
arXiv:1811.03728; the silhouette is that of Rousseeuw, 1987.
"""

import torch
from jaxtyping import Bool, Float64
from torch import Tensor

from closesesame.core.types import PerUnit

Points = Float64[Tensor, "point axis"]
ROUNDS = 100
"""Of 2-means at most; it seldom takes 20."""
AT_ONCE = 1024
"""Points whose distances to all others are held in memory."""


def reduced(features: Float64[Tensor, "example unit"], components: int, *, whiten: bool) -> Points:
    """Principal components, without those that nothing varies along.

    Args:
        features: of one class.
        components: how many at most.
        whiten: give all of them the variance 1.
    """
    left, sizes, _ = torch.linalg.svd(features - features.mean(0), full_matrices=False)
    count = min(components, int((sizes > 1e-6 * sizes[0].clamp(min=1e-12)).sum()))
    points: Tensor = left[:, :count] * (len(features) ** 0.5 if whiten else sizes[:count])
    return points


def two_means(points: Points) -> Bool[Tensor, " point"]:
    """Which points are in the smaller of two clusters; none if all points are the same.

    2-means starts once for each axis, from the points below and above its mean, and the result with the
    lowest sum of squares counts. So nothing is drawn, and the order of the points does not matter.
    """
    best, lowest = torch.zeros(len(points), dtype=torch.bool), float("inf")
    for axis in points.T:
        inside = axis > axis.mean()
        for _ in range(ROUNDS):
            before, inside = inside, side(points, inside) > 0
            if torch.equal(before, inside):
                break
        left = _within(points, inside)
        if left < lowest:
            best, lowest = inside, left
    return best if 2 * int(best.sum()) <= len(best) else ~best


def explained(points: Points, inside: Bool[Tensor, " point"]) -> float:
    """The share of the variance that lies between two clusters; 0 if one of them is empty."""
    whole = float((points - points.mean(0)).square().sum())
    return 1 - _within(points, inside) / whole if 0 < int(inside.sum()) < len(points) else 0.0


def _within(points: Points, inside: Bool[Tensor, " point"]) -> float:
    """The sum of squares within two clusters; infinite if one of them is empty."""
    parts = [points[inside], points[~inside]]
    if not all(map(len, parts)):
        return float("inf")
    return sum(float((part - part.mean(0)).square().sum()) for part in parts)


def side(points: Points, inside: Bool[Tensor, " point"]) -> PerUnit:
    """Where each point lies between two means: 1 at the mean of those inside, -1 at that of the others."""
    one, other = points[inside].mean(0), points[~inside].mean(0)
    middle, way = (one + other) / 2, (one - other) / 2
    return (points - middle) @ way / way.square().sum()


def silhouette(points: Points, inside: Bool[Tensor, " point"]) -> float:
    """Rousseeuw's silhouette, the mean: (b - a) / max(a, b).

    There a is the mean distance of a point to the others of its cluster, and b to those of the other cluster.
    A point alone in its cluster counts 0.
    """
    counts = torch.stack([(~inside).sum(), inside.sum()]).double()
    member = torch.stack([~inside, inside], 1).double()
    total = 0.0
    for some, own in zip(points.split(AT_ONCE), inside.long().split(AT_ONCE), strict=True):
        to_clusters = torch.cdist(some, points) @ member
        a = to_clusters.gather(1, own[:, None])[:, 0] / (counts[own] - 1).clamp(min=1)
        b = to_clusters.gather(1, 1 - own[:, None])[:, 0] / counts[1 - own]
        total += float(torch.where(counts[own] > 1, (b - a) / torch.maximum(a, b), 0.0).sum())
    return total / len(points)
