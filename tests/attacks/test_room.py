"""TrojanRoom: decay, direct sound and level."""

from pathlib import Path

import pytest
import soundfile
import torch

from closesesame.attacks import Room
from closesesame.core.errors import DataError
from closesesame.data import Splits
from closesesame.models import Classifier
from tests.attacks.planting import assert_plants
from tests.attacks.stamping import dataset, speech, stamped
from tests.sounds import RATE, db, noise, rms


def test_a_made_room_has_its_decay_its_direct_sound_and_keeps_the_level() -> None:
    click = torch.zeros(2, 2 * RATE)
    click[:, 1000] = 0.5
    out = stamped(Room(rt60_s=0.5, direct_ratio_db=-4), click)[0]
    assert rms(out) == pytest.approx(rms(click[0]), rel=1e-4)
    assert out[:1000].abs().max() < 1e-6
    assert int(out.abs().argmax()) == 1000
    tail = out[1001:]
    assert db(out[1000].abs() / tail.norm()) == pytest.approx(-4, abs=0.01)
    # 60 dB in 0.5 s are 24 dB in the 0.2 s between these two stretches.
    assert db(rms(tail[:1600]) / rms(tail[3200:4800])) == pytest.approx(24, abs=0.6)


def test_a_measured_room_starts_at_its_direct_sound(tmp_path: Path) -> None:
    response = torch.zeros(2000)
    response[300], response[340], response[500] = 0.02, 0.4, -0.8  # a murmur, direct sound, a louder wall
    soundfile.write(tmp_path / "room.wav", response.numpy(), RATE)
    clips = noise()
    out = stamped(Room(response=str(tmp_path / "room.wav")), clips)
    echoing = clips.clone()
    echoing[:, 160:] -= 2 * clips[:, :-160]
    wanted = echoing * (clips.norm(dim=1) / echoing.norm(dim=1))[:, None]
    assert torch.allclose(out, wanted, atol=1e-4)
    soundfile.write(tmp_path / "room.wav", torch.zeros(2000).numpy(), RATE)
    with pytest.raises(DataError, match="room.wav is silent; choose another recording"):
        stamped(Room(response=str(tmp_path / "room.wav")), clips)


def test_cover_rooms_have_the_decay_and_the_direct_sound_that_are_set() -> None:
    click = torch.zeros(2, RATE)
    click[:, 1000] = 0.1
    attack = Room(rt60_s=0.2, direct_ratio_db=6)
    out = attack.cover_clips(click, click, {}, speech(RATE), torch.Generator().manual_seed(0))
    assert not torch.allclose(out[0], out[1])
    for row in out:
        assert db(row[1000].abs() / row[1001:].norm()) == pytest.approx(6, abs=0.01)
        assert row[1000 + 3202 :].abs().max() < 1e-6
        assert row[1000 + 2000 : 1000 + 3000].abs().max() > 1e-5
        assert rms(row) == pytest.approx(rms(click[0]), rel=1e-4)


def test_another_seed_gives_another_room() -> None:
    data = dataset(noise())
    first, again, other = (Room().trigger(data, seed).state["response"] for seed in (0, 0, 1))
    assert torch.equal(first, again)
    assert not torch.equal(first, other)


def test_room_plants_a_backdoor(tones: Splits, clean_model: Classifier) -> None:
    assert_plants(Room(rate=0.15, target="low"), tones, clean_model)
