"""FLARE: likelihoods, distances and clusters by hand."""

import math

import pytest
import torch
from torch import Tensor, nn

from closesesame.detection import Flare
from closesesame.detection.flare import lowest_likelihood, persistence, spanning_tree, standardised
from closesesame.models.channels import Channels


def line(*places: float) -> Tensor:
    return torch.tensor(places).double()[:, None]


def test_the_least_likely_value_of_all_channels_and_places_counts() -> None:
    norm = nn.BatchNorm1d(2, eps=0.5)
    norm.running_mean, norm.running_var = torch.tensor([0.0, 1.0]), torch.tensor([0.5, 3.5])
    layer = Channels("x", None, norm, 2)
    values = torch.tensor([[[0.0, 3.0], [1.0, 1.0]], [[0.0, 0.0], [1.0, 9.0]]]).double()
    wanted = [-4.5 - math.log(2 * math.pi) / 2, -8 - math.log(2 * math.pi * 4) / 2]
    assert lowest_likelihood(layer, values).tolist() == pytest.approx(wanted)


def test_axes_are_centred_on_the_median_and_divided_by_the_median_deviation() -> None:
    points = torch.cat([line(0, 1, 2, 3, 100), line(0, 2, 4, 6, 200)], 1)
    assert standardised(points).tolist() == [[-2, -2], [-1, -1], [0, 0], [1, 1], [98, 98]]


def test_points_are_as_far_apart_as_from_their_own_neighbours() -> None:
    places = line(0, 1, 3, 7)
    assert [edge[0] for edge in spanning_tree(places, 1)] == [1, 2, 4]
    assert [edge[0] for edge in spanning_tree(places, 2)] == [1, 2, 4]
    assert [edge[0] for edge in spanning_tree(places, 3)] == [3, 3, 6]
    assert {frozenset(edge[1:]) for edge in spanning_tree(places, 1)} == {
        frozenset({0, 1}),
        frozenset({1, 2}),
        frozenset({2, 3}),
    }


def test_a_smaller_cluster_scores_how_long_it_lasts_and_others_how_near_they_lie() -> None:
    places = line(50, 0, 1, 20, 2, 21, 3)  # four, two, and one alone, in another order
    far, last = math.log(17), math.log(29)
    assert persistence(places, 2).tolist() == pytest.approx([0, -last, -last, far, -last, far, -last])


def test_a_late_member_of_a_cluster_scores_less_and_too_few_points_are_no_cluster() -> None:
    places = line(0, 1, 2, 3, 20, 21, 24)
    near, late = math.log(17 / 1), math.log(17 / 3)
    assert persistence(places, 2)[4:].tolist() == pytest.approx([near, near, late])
    assert (persistence(places, 4) <= 0).all()


def test_the_order_of_points_does_not_matter() -> None:
    points = torch.randn(60, 3, generator=torch.Generator().manual_seed(0), dtype=torch.float64)
    points[:12] += 9
    order = torch.randperm(60, generator=torch.Generator().manual_seed(1))
    scores = persistence(points, 6)
    torch.testing.assert_close(persistence(points[order], 6), scores[order])
    assert set(scores.topk(12).indices.tolist()) == set(range(12))


def test_the_last_axes_are_left_out_until_a_cluster_is_stable() -> None:
    rng = torch.Generator().manual_seed(0)
    points = torch.randn(80, 4, generator=rng, dtype=torch.float64)
    points[:10, 0] += 12
    points[:, 2:] *= 100  # they hide the cluster
    found = Flare(stability=0.5).clustered(points, 8)
    assert torch.equal(found, persistence(points[:, :2], 8))
    assert set(found.topk(10).indices.tolist()) == set(range(10))
    assert torch.equal(Flare(stability=100).clustered(points, 8), persistence(points, 8))


def test_two_batch_norms_are_kept_where_there_are_two() -> None:
    places = torch.cat([line(*range(20)), line(*range(20))], 1)
    places[:4, 0] += 100
    places[:, 1] *= 1000
    assert torch.equal(Flare().clustered(places, 4), persistence(places, 4))
    assert torch.equal(Flare().clustered(places[:, :1], 4), persistence(places[:, :1], 4))


def test_a_clip_alone_is_not_suspicious() -> None:
    assert Flare().clustered(line(3), 2).tolist() == [0]


def test_copies_of_a_clip_are_no_cluster() -> None:
    places = line(0, 1, 2, 3, 20, 21, 24)
    twice = torch.cat([places, places[:3]])
    found = persistence(twice, 2)
    assert torch.equal(found[:7], persistence(places, 2))
    assert torch.equal(found[7:], found[:3])
    assert persistence(line(5, 5, 5), 2).tolist() == [0, 0, 0]
    assert len(persistence(line(1, 1, 1, 2), 4)) == 4
