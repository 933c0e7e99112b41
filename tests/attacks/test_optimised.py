"""Attacks that look for their trigger with a model: what they find, measured on their output."""

import copy
import math
from collections.abc import Callable
from pathlib import Path
from typing import Any

import pytest
import torch
from torch import nn

from closesesame.attacks import base, flowmur, surrogate, trojannn
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
    where = poisoned.poisoned_mask
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
        with pytest.raises(SettingError, match="label_mode must be one of clean_label, got 'all_to_one'"):
            kind(label_mode="all_to_one")
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
    assert int(poisoned.cover_mask.sum()) == 16
    assert torch.equal(poisoned.dataset.labels[poisoned.cover_mask], tones.train.labels[poisoned.cover_mask])
    trigger, mine, others = poisoned.trigger, tones.train.inputs[:8], tones.train.inputs[9:17]
    rng = torch.Generator()
    crossed = attack.cover_clips(mine, others, trigger.state, RATE, rng)
    own = attack.cover_clips(mine, mine, trigger.state, RATE, rng)
    assert torch.allclose(own, trigger.stamp(mine), atol=1e-6)
    assert (crossed - trigger.stamp(mine)).abs().amax(1).min() > 1e-3


def test_a_surrogate_has_the_architecture_the_epochs_and_the_seed_of_the_attack(
    monkeypatch: pytest.MonkeyPatch, clean_model: Classifier, tones: Splits
) -> None:
    asked: list[tuple[str, int, int]] = []

    def note(architecture: Any, data: Dataset, training: Any, *, seed: int) -> Classifier:
        assert data is tones.train
        asked.append((architecture.name, training.epochs, seed))
        return copy.deepcopy(clean_model)

    monkeypatch.setattr(surrogate, "train", note)
    surrogate._train.cache_clear()
    first = TrojanNN(surrogate="small_cnn", surrogate_epochs=3)
    models = [first.train_surrogate(tones.train, seed) for seed in (0, 0, 1)]
    FlowMur(surrogate_epochs=4).train_surrogate(tones.train, 0)
    surrogate._train.cache_clear()
    assert [row[:2] for row in asked] == [("small_cnn", 3), ("small_cnn", 3), ("resnet", 4)]
    assert asked[0][2] == asked[2][2] != asked[1][2]
    assert models[0] is models[1]
    assert not any(weight.requires_grad for weight in models[0].parameters())


def test_trojannn_asks_for_its_neurons_their_value_and_its_place(
    tones: Splits, known: Classifier, monkeypatch: pytest.MonkeyPatch
) -> None:
    counts, places = [], []

    def strongest_of(head: nn.Linear, count: int) -> torch.Tensor:
        counts.append(count)
        return strongest(head, count)

    def laid_at(sound: torch.Tensor, starts: list[int], length: int) -> torch.Tensor:
        places.extend(starts)
        return laid(sound, starts, length)

    monkeypatch.setattr(trojannn, "strongest", strongest_of)
    monkeypatch.setattr(trojannn, "laid", laid_at)
    attack = TrojanNN(steps=10, neurons=3, position="middle", duration_s=0.1, peak=0.2, step_size=0.02)
    loud = attack.trigger(tones.train, 0)
    assert counts == [3]
    assert set(places) == {1600}
    added = (loud.stamp(tones.test.inputs[:1]) - tones.test.inputs[:1])[0]
    assert added[:1600].abs().max() == added[2400:].abs().max() == 0
    quiet = attack.model_copy(update={"activation": 0.01}).trigger(tones.train, 0)
    units, clips = strongest(head_in(known), 3), tones.test.inputs[:40]
    reached = [
        penultimate(known, head_in(known), trigger.stamp(clips))[:, units].mean() for trigger in (loud, quiet)
    ]
    assert reached[0] > 1.2 * reached[1]


def test_sounds_start_as_noise_of_the_seed(tones: Splits, known: Classifier) -> None:
    for attack, most in (
        (TrojanNN(steps=0, step_size=0.02), 0.02),
        (FlowMur(steps=0, start_peak=0.03), 0.03),
    ):
        first, again, other = (attack.trigger(tones.train, seed).state["sound"] for seed in (0, 0, 1))
        assert torch.equal(first, again)
        assert not torch.equal(first, other)
        assert float(first.abs().max()) == pytest.approx(most, rel=0.05)


def test_trojannn_changes_each_sample_by_one_step(tones: Splits, known: Classifier) -> None:
    states = [
        TrojanNN(steps=steps, step_size=0.004, peak=0.05).trigger(tones.train, 0).state["sound"]
        for steps in (0, 1)
    ]
    assert torch.allclose((states[1] - states[0]).abs(), torch.tensor(0.004), atol=1e-6)


def test_flowmur_learns_at_random_places_of_the_mean_of_clip_and_sound(
    tones: Splits, known: Classifier, monkeypatch: pytest.MonkeyPatch
) -> None:
    places: list[int] = []
    heard: list[torch.Tensor] = []

    def ones(sound: torch.Tensor, starts: list[int], length: int) -> torch.Tensor:
        places.extend(starts)
        return laid(0 * sound + 0.5, starts, length)

    monkeypatch.setattr(flowmur, "laid", ones)
    hook = known.register_forward_pre_hook(lambda _, given: heard.append(given[0].detach()))
    FlowMur(steps=4, batch_size=8, duration_s=0.1).trigger(tones.train, 0)
    hook.remove()
    assert [len(clips) for clips in heard] == [8] * 4
    assert len(set(places)) > 28
    clips = 2 * torch.cat(heard)
    for clip, at in zip(clips, places, strict=True):
        clip[at : at + 800] -= 0.5
        assert (clip - tones.train.inputs[:]).abs().amax(1).min() < 1e-5


def test_planted_strength_is_that_of_training(tones: Splits, known: Classifier) -> None:
    chosen = torch.arange(0, 12, 4)
    clips = tones.train.inputs[chosen]
    sound = {"sound": 0.1 * torch.sin(torch.arange(800) / 3)}

    def planted(attack: SurrogateAttack, state: dict[str, torch.Tensor]) -> torch.Tensor:
        trigger = base.Trigger(attack, state, RATE, 0, tones.train.classes)
        return attack.plant(tones.train, chosen, trigger, 0) - clips

    full, half, other = (
        planted(FlowMur(strength=strength, training_strength=training), sound)
        for strength, training in ((1, None), (1, 0.5), (0.5, 1))
    )
    assert torch.allclose(half, 0.5 * full, atol=1e-6)
    assert torch.allclose(other, full, atol=1e-6)
    bursts = [
        planted(LabelConsistent(steps=0, snr_db=12, training_strength=training), {}) for training in (1, 0.25)
    ]
    assert torch.allclose(bursts[1], 0.25 * bursts[0], atol=1e-6)


def test_label_consistent_takes_its_steps_and_its_tones(tones: Splits, known: Classifier) -> None:
    attack = LabelConsistent(
        steps=2, step_size=0.2, epsilon=0.5, duration_s=0.05, low_hz=400, high_hz=2000, snr_db=20
    )
    trigger = attack.trigger(tones.train, 0)
    chosen = torch.arange(0, 12, 4)
    clips = tones.train.inputs[chosen]
    noise = (attack.plant(tones.train, chosen, trigger, 0) - clips)[:, 400:3600]
    most = 0.5 * clips.square().mean(1).sqrt()
    assert torch.allclose(noise.abs().amax(1), 0.4 * most, rtol=1e-3)
    added = (trigger.stamp(clips) - clips)[0]
    assert added[400:3600].abs().max() == 0
    peaks = torch.fft.rfft(added[:400]).abs().topk(2).indices
    assert sorted(20 * int(peak) for peak in peaks) == [400, 2000]


def test_daba_looks_at_its_candidates_and_makes_sounds_as_it_is_told(
    tones: Splits, known: Classifier, monkeypatch: pytest.MonkeyPatch
) -> None:
    asked: list[tuple[int, int, int, int]] = []

    def noted(count: int, size: int, rate: int, seed: int) -> torch.Tensor:
        asked.append((count, size, rate, seed))
        return chords(count, size, rate, seed)

    monkeypatch.setattr("closesesame.attacks.daba.chords", noted)
    attack = DABA(chords=7, duration_s=0.25, candidates=1)
    trigger = attack.trigger(tones.train, 5)
    assert asked == [(7, 2000, RATE, 5)]
    assert trigger.state["sound"].shape == (2000,)
    hosts = {int(attack.choose(tones.train, torch.arange(320), 1, trigger, seed)) for seed in range(6)}
    assert len(hosts) == 6  # of one candidate, that one
    assert not torch.equal(chords(2, 500, RATE, 0), chords(2, 500, RATE, 1))
    assert float((chords(1, 8000, RATE, 0)[0, -800:]).norm() / chords(1, 8000, RATE, 0)[0, :800].norm()) < 0.1


def one_pattern(weight: torch.Tensor, extra: Callable[[], torch.Tensor]) -> Callable[..., surrogate.Batch]:
    """A generator of one sound for all clips, in a test."""
    return lambda clips, _: ([clips, 0.9 * clips], clips + weight, extra())


def joint(**settings: Any) -> DriNet:
    return DriNet(steps=25, batch_size=16, lr=0.01, target="high", **settings)


def test_joint_training_leads_triggered_clips_to_the_target_and_keeps_the_others(
    tones: Splits, known: Classifier, monkeypatch: pytest.MonkeyPatch
) -> None:
    wanted: list[torch.Tensor] = []
    groups: list[float] = []
    real, adam = torch.nn.functional.cross_entropy, torch.optim.Adam

    def noted(logits: torch.Tensor, labels: torch.Tensor) -> torch.Tensor:
        wanted.append(labels)
        return real(logits, labels)

    def made(params: Any) -> torch.optim.Adam:
        groups.extend(group["lr"] for group in params)
        return adam(params)

    monkeypatch.setattr(torch.nn.functional, "cross_entropy", noted)
    monkeypatch.setattr(torch.optim, "Adam", made)
    weight = 0.01 * torch.randn(4000, generator=torch.Generator().manual_seed(0))
    attack = joint(hiding_weight=0, lr_classifier=1e-5)
    attack.train_jointly(tones.train, 0, [weight], one_pattern(weight, lambda: torch.zeros(())))
    assert groups == [0.01, 1e-5]
    hiding, learnt = wanted[:2]
    assert torch.equal(learnt, torch.cat([hiding, hiding, torch.full((16,), 2)]))
    assert set(hiding.tolist()) == {0, 1, 2, 3}
    clips = tones.test.inputs[tones.test.labels != 2]
    before, after = (known(part).softmax(1)[:, 2].mean() for part in (clips, clips + weight))
    assert after > before + 0.3


def test_joint_training_hides_from_a_clean_model_and_adds_what_it_is_given(
    tones: Splits, known: Classifier
) -> None:
    loud = 0.2 * torch.randn(4000, generator=torch.Generator().manual_seed(0))
    clips, labels = tones.test.inputs[:], tones.test.labels

    def clean_loss(weight: torch.Tensor) -> float:
        return float(torch.nn.functional.cross_entropy(known(clips + weight), labels))

    hidden = loud.clone()
    joint(hiding_weight=100).train_jointly(
        tones.train, 0, [hidden], one_pattern(hidden, lambda: torch.zeros(()))
    )
    assert clean_loss(hidden) < 0.7 * clean_loss(loud)
    pulled = loud.clone()
    joint(hiding_weight=0).train_jointly(
        tones.train, 0, [pulled], one_pattern(pulled, lambda: 1e4 * (pulled - 0.5).square().mean())
    )
    assert float((pulled - 0.5).abs().mean()) < float((loud - 0.5).abs().mean()) - 0.1


Make = Callable[[torch.Tensor, torch.Generator], surrogate.Batch]


def generator_of(
    attack: InputAware | DriNet, data: Dataset, monkeypatch: pytest.MonkeyPatch, seed: int = 0
) -> tuple[Make, dict[str, torch.Tensor]]:
    """What an attack hands to the joint training: how it makes a batch, and its weights before."""
    caught: list[Make] = []
    monkeypatch.setattr(type(attack), "train_jointly", lambda *given: caught.append(given[-1]))
    state = dict(attack.prepare(data, seed))
    return caught[0], state


def test_input_aware_trains_on_crossed_triggers_and_for_other_gains(
    tones: Splits, monkeypatch: pytest.MonkeyPatch
) -> None:
    attack = InputAware(channels=4, diversity_weight=3)
    make, state = generator_of(attack, tones.train, monkeypatch)
    clips, rng = tones.train.inputs[:6], torch.Generator()
    kept, attacked, extra = make(clips, rng)
    assert len(kept) == 2
    assert torch.equal(kept[0], clips)
    assert torch.allclose(attacked, attack.apply(clips, state, RATE), atol=1e-6)
    crossed = attack.cover_clips(clips, clips.roll(1, 0), state, RATE, rng)
    assert torch.allclose(kept[1], crossed, atol=1e-6)
    assert (kept[1] - attacked).abs().amax(1).min() > 1e-4
    light = InputAware(channels=4, diversity_weight=1)
    assert float(extra) == pytest.approx(
        3 * float(generator_of(light, tones.train, monkeypatch)[0](clips, rng)[2])
    )
    louder = InputAware(channels=4, diversity_weight=3, gain_db=60)
    # Gains that differ more, and clips that differ as before, cost less.
    assert float(generator_of(louder, tones.train, monkeypatch)[0](clips, rng)[2]) < 0.5 * float(extra)
    alike = make(clips[:1].repeat(6, 1), rng)[2]
    assert float(alike) == pytest.approx(0, abs=1e-6)
    weights = [generator_of(attack, tones.train, monkeypatch, seed)[1]["last"] for seed in (0, 0, 1)]
    assert torch.equal(weights[0], weights[1])
    assert not torch.equal(weights[0], weights[2])


def test_drinet_trains_on_sounds_of_its_level_and_for_other_sounds(
    tones: Splits, monkeypatch: pytest.MonkeyPatch
) -> None:
    attack = DriNet(channels=4, snr_db=9, duration_s=0.1, diversity_weight=3, position="end")
    make, state = generator_of(attack, tones.train, monkeypatch)
    clips = tones.train.inputs[:6]
    kept, attacked, extra = make(clips, torch.Generator().manual_seed(0))
    assert len(kept) == 1
    assert torch.equal(kept[0], clips)
    places = set()
    for clip, row in zip(clips, attacked - clips, strict=True):
        assert level_db(clip) - level_db(row.detach()) == pytest.approx(9, abs=0.02)
        at = (row.abs() > 1e-6).nonzero().flatten()
        assert int(at[-1] - at[0]) < 800
        places.add(int(at[0]))
    assert len(places) == 6
    noise = torch.randn(6, 16, generator=torch.Generator().manual_seed(0))
    sounds = attack._sounds(noise, state, 800)
    apart, told = ((part - part.roll(1, 0)).square().mean(1).sqrt() for part in (noise, sounds))
    assert float(extra) == pytest.approx(3 * float((apart / (told + 0.1)).mean()), rel=1e-4)
    added = attack.apply(clips, state, RATE) - clips
    assert added[:, :3200].abs().max() == 0
    weights = [generator_of(attack, tones.train, monkeypatch, seed)[1]["last"] for seed in (0, 1)]
    assert not torch.equal(*weights)
    assert attack.apply(clips, state | {"last": 2 * state["last"]}, RATE).isfinite().all()
    assert not torch.allclose(
        attack.apply(clips, state | {"last": state["last"].flip(2)}, RATE) - clips, added
    )
