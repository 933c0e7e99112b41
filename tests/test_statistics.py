"""Statistics of channels and of batch norms, against independent formulas."""

import numpy as np
import pytest
import torch
from torch import nn
from torch.distributions import Normal, kl_divergence

from closesesame.data import Splits
from closesesame.models import Classifier
from closesesame.models.channels import channels_in
from closesesame.models.statistics import (
    freeze_statistics,
    gaussian_kl,
    histogram_entropy,
    pre_activations,
    renew_statistics,
)
from tests.removal.pictures import drawn, pictures, plain
from tests.removal.rules import model_of, part
from tests.removal.tiny import BrokenError, body_of, breaks, moved, state, tiny, vectors


def test_renewed_statistics_leave_dropout_and_weights_alone(clean_model: Classifier, tones: Splits) -> None:
    body = nn.Sequential(nn.Flatten(), nn.Dropout(0.9), nn.BatchNorm1d(40 * 51))
    model = model_of(body, clean_model).train()
    renew_statistics(model, tones.validation)
    maps = model.front_end(tones.validation.inputs[:]).flatten(1)
    mean = part(body, "2", nn.BatchNorm1d).running_mean
    assert mean is not None
    assert torch.allclose(mean, maps.mean(0), atol=1e-5)


def test_the_divergence_is_that_of_two_gaussians() -> None:
    mean1, mean2 = drawn(9), drawn(9, seed=1)
    spread1, spread2 = 0.5 + drawn(9, seed=2).abs(), 0.5 + drawn(9, seed=3).abs()
    expected = kl_divergence(Normal(mean1, spread1), Normal(mean2, spread2))
    assert torch.allclose(gaussian_kl(mean1, spread1**2, mean2, spread2**2), expected, atol=1e-5)


def test_pre_activations_are_those_of_all_examples_and_places() -> None:
    model, net = plain()
    data = pictures(300)
    batches = [inputs for inputs, _ in data.batches(256)]  # of which the second is smaller
    (found,) = pre_activations(model, channels_in(model), batches)
    values = net.conv(data.inputs[:]).detach()
    assert torch.allclose(found.mean, values.mean((0, 2, 3)), atol=1e-5)
    assert torch.allclose(found.variance, values.var((0, 2, 3), correction=0), rtol=1e-4)
    assert torch.allclose(found.maxima, values.amax((2, 3)), atol=1e-5)


def test_the_entropy_is_that_of_standardised_values_in_shared_bins() -> None:
    # Standardised: channel 0 is half -s, half +s; channel 1 has four values that are equally frequent.
    values = torch.tensor([[0.0, 0.0], [0.0, 1.0], [1.0, 2.0], [1.0, 3.0]])
    assert histogram_entropy(values, 0.1).tolist() == pytest.approx([np.log(2), np.log(4)])
    # One bin for everything holds no information.
    assert histogram_entropy(values, 100).tolist() == pytest.approx([0, 0])


def test_frozen_statistics_are_used_and_kept() -> None:
    body = body_of(tiny()).train()
    before, x = state(body), vectors(8).inputs[:]
    freeze_statistics(body)
    logits = body(x)
    assert not moved(body, before)
    assert body.head.training
    assert torch.equal(logits, body.eval()(x))


def test_renewed_statistics_leave_the_momentum_alone_when_the_run_breaks() -> None:
    model = tiny()
    model.body.register_forward_pre_hook(lambda *_: breaks())
    with pytest.raises(BrokenError):
        renew_statistics(model, vectors(8))
    assert body_of(model).norm.momentum == 0.1
    assert not any(module.training for module in model.modules())
