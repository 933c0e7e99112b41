"""TrojanNN: its neurons, its bound and its steps."""

import pytest
import torch
from torch import nn

from closesesame.attacks import TrojanNN, trojannn
from closesesame.attacks.common.surrogate import head_inputs
from closesesame.attacks.trojannn import strongest
from closesesame.audio.placement import placed
from closesesame.data import Splits
from closesesame.models import Classifier
from closesesame.models.channels import head_in
from tests.attacks.planting import assert_plants


def test_trojannn_takes_the_strongest_neurons(clean_model: Classifier) -> None:
    weight = head_in(clean_model).weight.detach()
    wanted = sorted(range(weight.shape[1]), key=lambda unit: -float(weight[:, unit].abs().sum()))[:3]
    assert strongest(head_in(clean_model), 3).tolist() == wanted
    signed = sorted(range(weight.shape[1]), key=lambda unit: -float(weight[:, unit].sum()))[:3]
    assert signed != wanted  # or the test would not see a missing absolute value


def test_trojannn_drives_its_neurons_within_its_bound(tones: Splits, known: Classifier) -> None:
    attack = TrojanNN(steps=15, peak=0.03, duration_s=0.1)
    trigger = attack.trigger(tones.train, 0)
    clips = tones.test.inputs[:40]
    added = trigger.stamp(clips) - clips
    assert added[:, :3200].abs().max() == 0
    assert float(added.abs().max()) == pytest.approx(0.03, abs=1e-6)
    noise = 0.03 * torch.sign(torch.randn(800, generator=torch.Generator().manual_seed(0)))
    units = strongest(head_in(known), 2)

    def reached(sound: torch.Tensor) -> float:
        stamped = clips + placed(sound, [3200] * 40, 4000)
        return float(head_inputs(known, head_in(known), stamped)[:, units].mean())

    assert reached(trigger.state["sound"]) > 1.1 * max(reached(noise), reached(0 * noise))


def test_trojannn_asks_for_its_neurons_their_value_and_its_place(
    tones: Splits, known: Classifier, monkeypatch: pytest.MonkeyPatch
) -> None:
    counts, places = [], []

    def strongest_of(head: nn.Linear, count: int) -> torch.Tensor:
        counts.append(count)
        return strongest(head, count)

    def placed_at(sound: torch.Tensor, starts: list[int], length: int) -> torch.Tensor:
        places.extend(starts)
        return placed(sound, starts, length)

    monkeypatch.setattr(trojannn, "strongest", strongest_of)
    monkeypatch.setattr(trojannn, "placed", placed_at)
    attack = TrojanNN(steps=10, neurons=3, position="middle", duration_s=0.1, peak=0.2, step_size=0.02)
    loud = attack.trigger(tones.train, 0)
    assert counts == [3]
    assert set(places) == {1600}
    added = (loud.stamp(tones.test.inputs[:1]) - tones.test.inputs[:1])[0]
    assert added[:1600].abs().max() == added[2400:].abs().max() == 0
    quiet = attack.model_copy(update={"activation": 0.01}).trigger(tones.train, 0)
    units, clips = strongest(head_in(known), 3), tones.test.inputs[:40]
    reached = [
        head_inputs(known, head_in(known), trigger.stamp(clips))[:, units].mean() for trigger in (loud, quiet)
    ]
    assert reached[0] > 1.2 * reached[1]


def test_trojannn_changes_each_sample_by_one_step(tones: Splits, known: Classifier) -> None:
    states = [
        TrojanNN(steps=steps, step_size=0.004, peak=0.05).trigger(tones.train, 0).state["sound"]
        for steps in (0, 1)
    ]
    assert torch.allclose((states[1] - states[0]).abs(), torch.tensor(0.004), atol=1e-6)


def test_trojannn_plants_a_backdoor(tones: Splits, clean_model: Classifier) -> None:
    assert_plants(TrojanNN(**TrojanNN.quick, rate=0.15, target="low"), tones, clean_model)
