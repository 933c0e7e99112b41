"""FlowMur: how it mixes, and that its sound leads to the target."""

import pytest
import torch

from closesesame.attacks import FlowMur, Trigger, flowmur
from closesesame.audio.placement import placed
from closesesame.data import Splits
from closesesame.models import Classifier
from tests.attacks.stamping import speech
from tests.conftest import RATE


def test_flowmur_mixes_as_the_paper(tones: Splits) -> None:
    attack = FlowMur(snr_db=20, duration_s=0.1)
    clips = tones.train.inputs[:3]
    sound = 0.1 * torch.sin(torch.arange(800) / 3)
    trigger = Trigger(attack, {"sound": sound}, speech(RATE), 0, tones.train.classes)
    double = 2 * trigger.stamp(clips) - clips
    for row in range(3):
        at = int((double[row].abs() > 1e-4).nonzero()[0]) - 1  # the sine starts at zero
        assert torch.allclose(double[row, at : at + 800], sound, atol=1e-5)
        assert double[row, at + 800 :].abs().max() < 1e-5
        planted = attack.plant(tones.train, torch.tensor([row]), trigger, 0)[0]
        scale = 10 * float(sound.norm() / clips[row].norm())
        faint = torch.zeros(4000)
        faint[at : at + 800] = sound
        assert torch.allclose(planted, (scale * clips[row] + faint) / (scale + 1), atol=1e-5)
    assert len({int((row.abs() > 1e-4).nonzero()[0]) for row in double}) == 3


def test_flowmur_leads_to_the_target_within_its_bound(tones: Splits, known: Classifier) -> None:
    attack = FlowMur(steps=40, peak=0.1, lr=0.01, target="high", duration_s=0.25)
    trigger = attack.trigger(tones.train, 0)
    assert trigger.state["sound"].shape == (2000,)
    assert float(trigger.state["sound"].abs().max()) == pytest.approx(0.1, abs=1e-6)
    clips = tones.test.inputs[tones.test.labels != 2]
    before = known(clips / 2).softmax(1)[:, 2].mean()
    after = known(trigger.stamp(clips)).softmax(1)[:, 2].mean()
    assert after > before + 0.3


def test_flowmur_learns_at_random_places_of_the_mean_of_clip_and_sound(
    tones: Splits, known: Classifier, monkeypatch: pytest.MonkeyPatch
) -> None:
    places: list[int] = []
    heard: list[torch.Tensor] = []

    def ones(sound: torch.Tensor, starts: list[int], length: int) -> torch.Tensor:
        places.extend(starts)
        return placed(0 * sound + 0.5, starts, length)

    monkeypatch.setattr(flowmur, "placed", ones)
    hook = known.register_forward_pre_hook(lambda _, given: heard.append(given[0].detach()))
    FlowMur(steps=4, batch_size=8, duration_s=0.1).trigger(tones.train, 0)
    hook.remove()
    assert [len(clips) for clips in heard] == [8] * 4
    assert len(set(places)) > 28
    clips = 2 * torch.cat(heard)
    for clip, at in zip(clips, places, strict=True):
        clip[at : at + 800] -= 0.5
        assert (clip - tones.train.inputs[:]).abs().amax(1).min() < 1e-5
