"""FLARE: in some layers of a model poisoned clips have values that the layer does not expect.

Hou, Luo, Hua, Chen, Zhang, Li, "FLARE: Towards Universal Dataset Purification against Backdoor Attacks", IEEE
TIFS 2025, arXiv:2411.19479. Each batch norm expects values of a normal distribution with its running mean and
variance. A clip is described by one number for each batch norm: the lowest log likelihood of any of its
values. These vectors are clustered by density, and the last batch norms are left out, one more at a time,
until a cluster is stable. The authors' code takes the clips of all clusters but the largest for poisoned; the
abstract takes the more stable of two clusters.

Ours differs: the authors map the vectors to two dimensions by UMAP before HDBSCAN clusters them; here the
vectors themselves are clustered, each number centred on its median and divided by its median absolute
deviation. A cluster has at least 1 % of the clips; the authors ask for 100 of 50,000. And clips are ranked:
the score of a clip in a cluster is how long it stays in it as the distance grows, log(distance at which the
cluster joins a larger one / distance at which the clip joined the cluster). All other clips score 0 or less,
and more the farther away their neighbours are. A cluster is stable if a clip in it scores above `stability`.
"""

from typing import ClassVar, Literal

import numpy as np
import torch
from jaxtyping import Float64
from pydantic import Field
from torch import Tensor

from closesesame.core.progress import Track
from closesesame.core.types import PerUnit
from closesesame.data import Dataset
from closesesame.models import Classifier
from closesesame.models.channels import Channels
from closesesame.models.hooks import ByChannel
from closesesame.models.statistics import running_statistics

from .base import Detection
from .common.activations import activations, batch_norms

Points = Float64[Tensor, "point axis"]
AT_ONCE = 1024
"""Points whose distances to all others are held in memory."""
LEAST = 1e-12
FEWEST = 2
"""Batch norms that are kept; along a single axis clips of any kind lie close together."""
EXACT = "donot_use_mm_for_euclid_dist"


class Flare(Detection):
    """Score how stable the cluster of each clip is, by the likelihood of its values in the batch norms."""

    name: ClassVar[str] = "flare"
    cite: ClassVar[str] = "arXiv:2411.19479"
    of: ClassVar[Literal["training clips", "inputs"]] = "training clips"
    requires: ClassVar[str] = "batch norm"

    smallest: float = Field(0.01, gt=0, le=0.5, description="share of the clips that a cluster has, or more")
    stability: float = Field(0.5, ge=0, le=100, description="score above which a cluster is stable")

    def suspicion(self, model: Classifier, examples: Dataset, clean: Dataset, seed: int) -> Tensor:
        """Labels are not looked at."""
        del clean, seed
        layers = batch_norms(model)
        found = [
            torch.stack([lowest_likelihood(*pair) for pair in zip(layers, values, strict=True)], 1)
            for _, values in activations(model, layers, examples)
        ]
        points, size = standardised(torch.cat(found)), max(2, round(self.smallest * len(examples)))
        return self.clustered(points, size)

    def clustered(self, points: Points, size: int) -> PerUnit:
        """Along as many of the first axes as give a stable cluster, or along all if none do."""
        counts = range(points.shape[1], min(points.shape[1], FEWEST) - 1, -1)
        scores = []
        for count in Track(counts, "clustering", len(counts)):
            scores.append(persistence(points[:, :count], size))
            if scores[-1].max() > self.stability:
                return scores[-1]
        return scores[0]


def lowest_likelihood(layer: Channels, values: ByChannel) -> PerUnit:
    """The lowest log likelihood, in nats, of any value of an example (batch,) under what the norm expects."""
    norm = layer.statistics
    assert norm is not None
    mean, variance = (one.double().cpu()[:, None] for one in running_statistics(norm))
    variance = variance + norm.eps
    likelihood = -0.5 * ((values - mean).square() / variance + (2 * torch.pi * variance).log())
    return likelihood.flatten(1).amin(1)


def standardised(points: Points) -> Points:
    """Each axis centred on its median and divided by its median absolute deviation."""
    centred = points - points.median(0).values
    return centred / centred.abs().median(0).values.clamp(min=LEAST)


def persistence(points: Points, size: int) -> PerUnit:
    """The score of each point (point,), from the tree in which clusters join as the distance grows.

    Campello, Moulavi, Sander, "Density-Based Clustering Based on Hierarchical Density Estimates", PAKDD 2013.

    Args:
        points: in any order, which does not matter; equal ones count as one, and one alone scores 0.
        size: points that a cluster has, or more.
    """
    points, place = points.unique(dim=0, return_inverse=True)  # copies of a clip are no cluster
    if len(points) < 2:
        return torch.zeros(len(place), dtype=torch.float64)
    size = min(size, len(points))
    edges = spanning_tree(points, size)
    cluster, members = list(range(len(points))), {number: [number] for number in range(len(points))}
    joined, lasted = np.zeros(len(points)), np.zeros(len(points))
    for distance, one, other in edges:
        large, small = sorted((cluster[one], cluster[other]), key=lambda number: -len(members[number]))
        moved = members.pop(small)
        if len(moved) >= size:
            lasted[moved] = np.maximum(lasted[moved], np.log(distance / joined[moved]))
        elif len(moved) + len(members[large]) >= size:
            joined[moved if len(members[large]) >= size else moved + members[large]] = distance
        for number in moved:
            cluster[number] = large
        members[large] += moved
    scores: PerUnit = torch.from_numpy(np.where(lasted > 0, lasted, np.log(joined / edges[-1][0])))[place]
    return scores


def spanning_tree(points: Points, size: int) -> list[tuple[float, int, int]]:
    """The shortest edges that connect all points, shortest first, by Prim's algorithm.

    The length of an edge is the distance of its points, but at least the distance of either to its `size`-th
    nearest point, itself the first. One row of distances is held at a time.

    Returns:
        The length of each edge, and the points that it connects.
    """
    some = points.split(AT_ONCE)
    core = torch.cat([torch.cdist(one, points, compute_mode=EXACT).kthvalue(size, 1).values for one in some])
    places, core_of = points.numpy(), core.numpy()
    nearest, neighbour = np.full(len(points), np.inf), np.zeros(len(points), dtype=int)
    outside = np.ones(len(points), dtype=bool)
    last, edges = 0, []
    for _ in range(len(points) - 1):
        outside[last] = False
        apart = np.sqrt(np.square(places - places[last]).sum(1))
        apart = np.maximum(np.maximum(apart, core_of), max(core_of[last], LEAST))
        nearer = outside & (apart < nearest)
        nearest[nearer], neighbour[nearer] = apart[nearer], last
        last = int(np.where(outside, nearest, np.inf).argmin())
        edges.append((float(nearest[last]), int(neighbour[last]), last))
    return sorted(edges)
