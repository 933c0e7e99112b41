"""Attacks that look for their trigger with a model: what they find, measured on their output."""

import copy
import math
from collections.abc import Callable
from pathlib import Path
from typing import Any

import pytest
import torch
from torch import nn

from closesesame.attacks import base
from closesesame.attacks.daba import DABA, chords
from closesesame.attacks.drinet import DriNet
from closesesame.attacks.flowmur import FlowMur
from closesesame.attacks.input_aware import InputAware
from closesesame.attacks.label_consistent import LabelConsistent
from closesesame.attacks.surrogate import SurrogateAttack, laid, penultimate
from closesesame.attacks.trojannn import TrojanNN, strongest
from closesesame.core.errors import DataError, SettingError
from closesesame.data import Dataset, Splits
from closesesame.models import Classifier
from closesesame.models.channels import head_in
from tests.conftest import RATE

SMALL: dict[str, Any] = {"surrogate": "resnet", "surrogate_epochs": 2}
QUICK: dict[str, dict[str, Any]] = {
    "trojannn": SMALL | {"steps": 10},
    "label_consistent": SMALL | {"steps": 3},
    "flowmur": SMALL | {"steps": 5},
    "daba": SMALL | {"chords": 5},
    "input_aware": SMALL | {"steps": 5, "batch_size": 8, "channels": 4},
    "drinet": SMALL | {"steps": 5, "batch_size": 8, "channels": 4},
}
"""Settings with which the contract is checked in seconds; the defaults are for speech."""


def level_db(wav: torch.Tensor) -> float:
    return 20 * math.log10(float(wav.square().mean().sqrt()))


@pytest.fixture
def known(monkeypatch: pytest.MonkeyPatch, clean_model: Classifier) -> Classifier:
    """Gives every attack the clean model of the tests as its surrogate."""
    frozen = copy.deepcopy(clean_model).requires_grad_(requires_grad=False)
    monkeypatch.setattr(SurrogateAttack, "train_surrogate", lambda *_: frozen)
    return frozen


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
        stamped = clips + laid(sound, [3200] * 40, 4000)
        return float(penultimate(known, head_in(known), stamped)[:, units].mean())

    assert reached(trigger.state["sound"]) > 1.1 * max(reached(noise), reached(0 * noise))


def test_label_consistent_makes_clips_hard_and_plants_bursts_alone(tones: Splits, known: Classifier) -> None:
    attack = LabelConsistent(steps=10, epsilon=0.3, snr_db=6, rate=0.1, low_hz=500)
    poisoned = attack.poison(tones.train, 0)
    where = poisoned.mask
    assert int(where.sum()) == 32
    assert torch.equal(poisoned.dataset.labels, tones.train.labels)
    assert (tones.train.labels[where] == 0).all()
    clips = tones.train.inputs[where]
    added = poisoned.trigger.stamp(clips) - clips
    assert added[:, 800:3200].abs().max() == 0
    for corner in (added[0, :800], added[0, 3200:]):
        strength = torch.fft.rfft(corner).abs()
        assert sorted(10 * int(peak) for peak in strength.topk(2).indices) == [500, 3500]
    assert level_db(clips[0]) - level_db(added[0]) == pytest.approx(6, abs=0.01)
    planted = poisoned.dataset.inputs[where]
    middle = (planted - clips)[:, 800:3200]
    most = 0.3 * clips.square().mean(1).sqrt()
    assert torch.allclose(middle.abs().amax(1), most, rtol=1e-3)
    hard = clips.clone()
    hard[:, 800:3200] += middle
    said = torch.softmax(known(torch.cat([clips, hard])), 1)[:, 0]
    assert said[:32].mean() > 0.9
    assert said[32:].mean() < 0.5


def test_clean_labels_cannot_be_changed() -> None:
    for kind in (LabelConsistent, FlowMur):
        with pytest.raises(SettingError, match="labels must be one of clean, got 'all_to_one'"):
            kind(labels="all_to_one")
    with pytest.raises(SettingError, match="high_hz must be < 4000, half the sample rate, got 5000"):
        LabelConsistent(high_hz=5000).apply(torch.zeros(1, 4000), {}, RATE)


def test_flowmur_mixes_as_the_paper(tones: Splits) -> None:
    attack = FlowMur(snr_db=20, duration_s=0.1)
    clips = tones.train.inputs[:3]
    sound = 0.1 * torch.sin(torch.arange(800) / 3)
    trigger = base.Trigger(attack, {"sound": sound}, RATE, 0, tones.train.classes)
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


class Lookup(nn.Module):
    """Says what stands first in a clip: the logits of four classes."""

    def forward(self, inputs: torch.Tensor) -> torch.Tensor:
        return inputs[:, :4]


def clips_that_say(*logits: tuple[float, ...]) -> Dataset:
    """Clips whose first samples are the logits, and which are silent behind."""
    inputs = torch.zeros(len(logits), 1000)
    inputs[:, :4] = torch.tensor(logits)
    labels = torch.arange(len(logits)) % 4
    return Dataset.of(inputs, labels, classes=("a", "b", "c", "d"), sample_rate=RATE)


def test_daba_takes_the_surest_sound_and_the_hosts_it_leads(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(SurrogateAttack, "train_surrogate", lambda *_: Lookup())
    monkeypatch.setattr("closesesame.attacks.daba.POOL_DBFS", 0)
    sounds = torch.zeros(3, 1000)
    sounds[:, :4] = torch.tensor([[1.0, 1, 1, 1], [2, 0, 0, 0], [0, 0, -1, -1]])
    monkeypatch.setattr("closesesame.attacks.daba.chords", lambda *_: sounds)
    attack = DABA(snr_db=0)
    train = clips_that_say((0, 0, 0, 0.4), (-0.4, 0, 0, 0), (0.4, 0, 0, 0), (0, 0, 0, 0.1), (0.2, 0, 0, 0))
    trigger = attack.trigger(train, 0)
    assert int(trigger.state["sound"].argmax()) == 0
    assert float(trigger.state["sound"].square().mean()) == pytest.approx(1)
    # The sound adds the clip's own amplitude to 'a', so 'a' is said with 1 / 3.34, 1 / 4, 1 / 2.35, 1 / 3.81
    # and 1 / 3.01, in the order of the clips; the sound alone says 'a' for sure. The first and the last clip
    # are of one class, so the first has to wait until each class had its turn.
    chosen = [attack.choose(train, torch.arange(5), count, trigger, 0).tolist() for count in (0, 1, 3, 5)]
    assert chosen == [[], [2], [2, 4, 3], [2, 4, 3, 1, 0]]


def test_daba_reads_a_folder_or_makes_chords(
    tones: Splits, known: Classifier, folder_of: Callable[..., Path], tmp_path: Path
) -> None:
    folder = folder_of({"hum": 3}) / "hum"
    clips = tones.test.inputs[:2]
    added = DABA(pool=str(folder), snr_db=7).trigger(tones.train, 0).stamp(clips) - clips
    assert int(torch.fft.rfft(added[0]).abs().argmax()) * 2 == 400
    assert level_db(clips[1]) - level_db(added[1]) == pytest.approx(7, abs=0.01)
    (tmp_path / "none").mkdir()
    with pytest.raises(DataError, match="holds no recording that is not silent"):
        DABA(pool=str(tmp_path / "none")).trigger(tones.train, 0)
    strength = torch.fft.rfft(chords(1, 16_000, 16_000, seed=0)[0]).abs()
    notes = (strength > 0.6 * strength.max()).nonzero().flatten()  # 1 Hz a bin
    assert 110 <= int(notes[0]) <= 440
    semitones = {round(12 * math.log2(float(note / notes[0]))) for note in notes}
    assert {0, 7} < semitones
    assert semitones & {3, 4}
    assert not semitones & {1, 2, 5, 6}
    second = 2 * int(notes[0])
    assert strength[second - 5 : second + 6].max() > 0.2 * strength.max()


def test_drinet_gives_each_clip_its_own_sound_of_one_level(tones: Splits, known: Classifier) -> None:
    attack = DriNet(steps=20, batch_size=16, snr_db=12, duration_s=0.2, hiding_weight=0)
    trigger = attack.trigger(tones.train, 0)
    clips = tones.test.inputs[:40]
    stamped = trigger.stamp(clips)
    added = stamped - clips
    for row in range(3):
        assert level_db(clips[row]) - level_db(added[row]) == pytest.approx(12, abs=0.05)
        at = (added[row].abs() > 1e-6).nonzero().flatten()
        assert 1500 < int(at[-1] - at[0]) < 1600
    own = [wav[wav.abs() > 1e-6][:1500] for wav in added[:3]]
    alike = [float(torch.cosine_similarity(own[i], own[j], 0)) for i, j in ((0, 1), (0, 2), (1, 2))]
    assert max(alike) < 0.9
    assert torch.allclose(trigger.stamp(clips[5:6])[0], stamped[5], atol=1e-6)
    untrained = attack.model_copy(update={"steps": 0}).trigger(tones.train, 0).state
    assert not torch.equal(untrained["noise"], trigger.state["noise"])


def test_input_aware_gains_by_hand() -> None:
    attack = InputAware(gain_db=6, channels=2)
    state = {
        "first": torch.zeros(2, 1, 3, 3),
        "second": torch.zeros(2, 2, 3, 3),
        "last": torch.zeros(2, 2, 3, 3),
        "offset": torch.tensor([0.5, 3.0]),
    }
    clips = 0.1 * torch.randn(2, 4001, generator=torch.Generator().manual_seed(0))
    # Where all scores are alike the mask stands at 1 / 2, and every bin has the same gain.
    stamped = attack.apply(clips, state, RATE)
    assert torch.allclose(stamped, clips * 10 ** (3 * math.tanh(0.5) / 20), atol=1e-5)
    back = attack.apply(clips, state | {"offset": torch.zeros(2)}, RATE)
    assert torch.allclose(back, clips, atol=1e-5)


@pytest.mark.parametrize("density", [0.05, 0.3])
def test_input_aware_changes_its_share_of_bins(density: float, tones: Splits, known: Classifier) -> None:
    attack = InputAware(steps=0, density=density)
    state = attack.prepare(tones.train, 0)
    seen = torch.randn(3, 129, 40, generator=torch.Generator().manual_seed(0))
    gains = attack._gains(seen, {**state, "offset": torch.tensor([100.0, 0.0])})  # the pattern is full on
    assert float((gains > 6).float().mean()) == pytest.approx(density, abs=0.01)
    assert gains.max() <= 12


def test_input_aware_covers_carry_the_trigger_of_another_clip(tones: Splits, known: Classifier) -> None:
    attack = InputAware(steps=10, batch_size=16, channels=4, rate=0.1, cover_ratio=0.5)
    poisoned = attack.poison(tones.train, 0)
    assert int(poisoned.covers.sum()) == 16
    assert torch.equal(poisoned.dataset.labels[poisoned.covers], tones.train.labels[poisoned.covers])
    trigger, mine, others = poisoned.trigger, tones.train.inputs[:8], tones.train.inputs[9:17]
    rng = torch.Generator()
    crossed = attack.cover(mine, others, trigger.state, RATE, rng)
    assert torch.allclose(attack.cover(mine, mine, trigger.state, RATE, rng), trigger.stamp(mine), atol=1e-6)
    assert (crossed - trigger.stamp(mine)).abs().amax(1).min() > 1e-3
