"""Activation clustering: components, clusters and silhouettes by hand."""

import pytest
import torch
from torch import Tensor, nn

from closesesame.data import Dataset
from closesesame.detection import ActivationClustering
from closesesame.models import adapt
from closesesame.training.clusters import reduced, side, silhouette, two_means


def line(*places: float) -> Tensor:
    return torch.tensor(places).double()[:, None]


def noise(*shape: int) -> Tensor:
    return torch.randn(*shape, generator=torch.Generator().manual_seed(0), dtype=torch.float64)


def test_independent_components_have_variance_one_and_principal_ones_their_own() -> None:
    features = noise(500, 4) * torch.tensor([8.0, 4.0, 0.5, 0.0]) + 3
    white = reduced(features, 2, whiten=True)
    torch.testing.assert_close(white.T @ white / 500, torch.eye(2, dtype=torch.float64))
    principal = reduced(features, 10, whiten=False)
    assert principal.shape == (500, 3)  # along the fourth nothing varies
    torch.testing.assert_close(torch.pdist(principal), torch.pdist(features))
    assert reduced(torch.ones(5, 3).double(), 10, whiten=True).shape == (5, 0)


def test_the_smaller_cluster_is_marked() -> None:
    assert two_means(line(0, 1, 10, 11, 12)).tolist() == [True, True, False, False, False]
    assert two_means(-line(0, 1, 10, 11, 12)).tolist() == [True, True, False, False, False]
    assert not two_means(torch.zeros(4, 0, dtype=torch.float64)).any()
    assert not two_means(torch.zeros(1, 0, dtype=torch.float64)).any()


def test_the_best_of_the_partings_along_all_axes_counts() -> None:
    points = torch.stack([torch.linspace(-1, 1, 40), torch.ones(40)], 1).double()
    points[::4, 1] = -1
    assert two_means(points).tolist() == [row % 4 == 0 for row in range(40)]


def test_a_silhouette_is_the_mean_over_points() -> None:
    inside = torch.tensor([True, True, False])
    assert silhouette(line(0, 1, 10), inside) == pytest.approx((0.9 + 8 / 9 + 0) / 3)


def test_a_score_is_the_place_between_the_means_by_silhouette_and_size() -> None:
    points = line(0, 1, 10, 11, 12)
    weight = silhouette(points, two_means(points)) * (1 - 2 * 0.4)
    place = [(5.75 - x) / 5.25 for x in (0, 1, 10, 11, 12)]  # the means are 0.5 and 11
    assert side(points, two_means(points)).tolist() == pytest.approx(place)
    scores = ActivationClustering().of_class(points)
    assert scores.tolist() == pytest.approx([weight * x for x in place])


class Two(nn.Module):
    """A layer that makes logits of the first two samples; they are its features."""

    def __init__(self) -> None:
        super().__init__()
        self.head = nn.Linear(2, 2)

    def forward(self, wav: Tensor) -> Tensor:
        logits: Tensor = self.head(wav[:, :2])
        return logits


@pytest.mark.parametrize("reduction", ["ica", "pca"])
def test_it_finds_clips_of_another_kind_behind_one_label(reduction: str) -> None:
    wav = torch.zeros(100, 800)
    wav[:, :2] = 0.05 * noise(100, 2).float()
    wav[40:60, 0] += 0.8
    labels = (torch.arange(100) >= 60).long()
    data = Dataset.of(wav, labels, classes=("a", "b"), sample_rate=8_000)
    order = torch.randperm(100, generator=torch.Generator().manual_seed(1))
    method = ActivationClustering.parse({"reduction": reduction})
    scores = method.score(adapt(Two(), ("a", "b"), (800,), 8_000), data.take(order), None, 0).scores
    assert set(order[scores.topk(20).indices].tolist()) == set(range(40, 60))
    assert scores.topk(20).values.min() > 1.5 * scores[order >= 60].abs().max()


def test_independent_components_show_what_principal_ones_hide_in_a_large_variance() -> None:
    wav = torch.zeros(60, 800)
    wav[:, 0] = torch.linspace(-0.8, 0.8, 60)
    wav[:, 1] = 0.002 * noise(60).float()
    wav[::3, 1] += 0.1
    data = Dataset.of(wav, torch.zeros(60, dtype=torch.long), classes=("a", "b"), sample_rate=8_000)
    suspect, hidden = adapt(Two(), ("a", "b"), (800,), 8_000), set(range(0, 60, 3))
    ica, pca = (
        set(
            ActivationClustering.parse({"reduction": one})
            .score(suspect, data, None, 0)
            .scores.topk(20)
            .indices.tolist()
        )
        for one in ("ica", "pca")
    )
    assert ica == hidden
    assert pca != hidden


def test_a_class_of_one_clip_and_clips_that_are_all_alike_are_not_suspicious() -> None:
    data = Dataset.of(torch.zeros(4, 800), torch.tensor([0, 1, 1, 1]), classes=("a", "b"), sample_rate=8_000)
    scores = ActivationClustering().score(adapt(Two(), ("a", "b"), (800,), 8_000), data, None, 0).scores
    assert scores.tolist() == [0, 0, 0, 0]
