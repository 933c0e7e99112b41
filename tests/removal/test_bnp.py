"""BNP: which channel is an outlier, on which side and by how much, and what a pruned one keeps."""

import pytest
import torch
from torch import Tensor, nn

from closesesame.core.errors import ModelError
from closesesame.core.seeding import isolated
from closesesame.data import Dataset
from closesesame.models import Classifier, adapt
from closesesame.models.channels import channels_in
from closesesame.models.statistics import pre_activations
from closesesame.removal import BNP
from closesesame.training import accuracy
from tests.conftest import WORDS
from tests.removal.pictures import pictures, plain
from tests.removal.stained import Stained, stained
from tests.removal.tiny import asr, vectors


class Ten(nn.Module):
    """Ten channels with a batch norm, all with shifts."""

    def __init__(self) -> None:
        super().__init__()
        self.conv = nn.Conv1d(10, 10, 1, groups=10)
        self.norm = nn.BatchNorm1d(10)
        self.head = nn.Linear(10, 4)
        with torch.no_grad():
            self.norm.bias.fill_(0.5)

    def forward(self, x: Tensor) -> Tensor:
        logits: Tensor = self.head(torch.relu(self.norm(self.conv(x))).mean(2))
        return logits


def noise(seed: int) -> Dataset:
    inputs = torch.randn(40, 10, 9, generator=torch.Generator().manual_seed(seed))
    return Dataset.of(inputs, torch.arange(40) % 4, classes=("a", "b", "c", "d"))


def ten() -> tuple[Classifier, nn.BatchNorm1d]:
    """A network whose batch norm saw the same clips that it will be judged on."""
    with isolated(0):
        net = Ten()
    model = adapt(net, ("a", "b", "c", "d"), (10, 9), None)
    (found,) = pre_activations(model, channels_in(model), [noise(0).inputs[:]])
    net.norm.running_mean, net.norm.running_var = found[0].clone(), found[1].clone()
    return model, net.norm


def pruned(model: Classifier, norm: nn.BatchNorm1d, u: float) -> list[int]:
    with torch.no_grad():
        norm.weight.fill_(1)
    chosen = BNP(u=u).repair(model, noise(0), noise(1), 0)
    gone = (norm.weight == 0).nonzero().flatten().tolist()
    assert chosen == {"pruned_channels": len(gone), "of": 10}
    assert (norm.bias == 0.5).all()
    return gone


def test_one_of_ten_is_9_over_the_root_of_10_deviations_off() -> None:
    model, norm = ten()
    assert norm.running_mean is not None
    norm.running_mean[6] += 3
    # With nine divergences of 0 and one of d: mean d / 10, deviation d / sqrt(10), so it is 2.846 above.
    assert pruned(model, norm, 2.84) == [6]
    assert pruned(model, norm, 2.85) == []


def test_a_channel_that_fits_better_than_all_others_stays() -> None:
    model, norm = ten()
    assert norm.running_mean is not None
    spread = norm.running_var
    assert spread is not None
    norm.running_mean += 3 * spread.sqrt()
    norm.running_mean[6] -= 3 * spread[6].sqrt()
    assert pruned(model, norm, 2.8) == []


def test_the_divergence_is_that_of_the_clean_clips_from_what_the_norm_saw() -> None:
    # The other way round channel 7 would be the outlier: 46 nats, against 1.8.
    model, norm = ten()
    assert norm.running_var is not None
    norm.running_var[2] /= 100
    norm.running_var[7] *= 100
    assert pruned(model, norm, 2.5) == [2]


def test_a_planted_backdoor_is_removed_by_clean_clips() -> None:
    model = stained()
    assert asr(model, vectors(60, 1)) == 1
    assert accuracy(model, vectors(60, 1)) > 0.9
    repair = BNP().remove(model, vectors(100), 0)
    assert isinstance(repair.model.body, Stained)
    assert (repair.model.body.norm.weight == 0).nonzero().flatten().tolist() == [11]
    assert asr(repair.model, vectors(60, 1)) < 0.1
    assert accuracy(repair.model, vectors(60, 1)) > 0.9


def test_the_published_number_of_deviations() -> None:
    assert BNP().u == pytest.approx(3)


def test_bnp_prunes_the_channel_whose_statistics_saw_something_else() -> None:
    model, net = plain()
    (found,) = pre_activations(model, channels_in(model), [pictures(300).inputs[:]])
    net.norm.running_mean, net.norm.running_var = found[0].clone(), found[1].clone()
    net.norm.running_mean[7] += 3 * found[1][7].sqrt()
    repair = BNP().remove(model, pictures(300), 0)
    norm = repair.model.body.norm
    assert isinstance(norm, nn.BatchNorm2d)
    assert repair.chosen == {"pruned_channels": 1, "of": 24}
    assert float(norm.weight[7].detach()) == 0
    assert torch.equal(norm.bias, net.norm.bias)  # the authors' code leaves the shift


def test_bnp_needs_batch_norm() -> None:
    net = nn.Sequential(nn.Flatten(), nn.Linear(192, 8), nn.ReLU(), nn.Linear(8, 4))
    model = adapt(net, WORDS, (3, 8, 8), None)
    with pytest.raises(ModelError, match="compares batch-norm statistics; this model has no batch norm"):
        BNP().remove(model, pictures(20), 0)
