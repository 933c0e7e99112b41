"""DriNet: a sound of one level for each clip."""

import pytest
import torch

from closesesame.attacks import DriNet
from closesesame.data import Splits
from closesesame.models import Classifier
from tests.attacks.generators import generator_of
from tests.attacks.planting import assert_plants
from tests.attacks.stamping import speech
from tests.conftest import RATE
from tests.sounds import level_db


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
    added = attack.apply(clips, state, speech(RATE)) - clips
    assert added[:, :3200].abs().max() == 0
    weights = [generator_of(attack, tones.train, monkeypatch, seed)[1]["last"] for seed in (0, 1)]
    assert not torch.equal(*weights)
    assert attack.apply(clips, state | {"last": 2 * state["last"]}, speech(RATE)).isfinite().all()
    assert not torch.allclose(
        attack.apply(clips, state | {"last": state["last"].flip(2)}, speech(RATE)) - clips, added
    )


def test_drinet_plants_a_backdoor(tones: Splits, clean_model: Classifier) -> None:
    assert_plants(DriNet(**DriNet.quick, rate=0.15, target="low"), tones, clean_model)
