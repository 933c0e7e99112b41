"""WaNet in sound: how far tones and clicks move."""

import math

import pytest
import torch
from torch import Tensor

from closesesame.attacks import Warp
from closesesame.attacks import warp as warping
from closesesame.data import Splits
from closesesame.models import Classifier
from tests.attacks.planting import assert_plants
from tests.attacks.stamping import dataset, speech, stamped
from tests.sounds import RATE, noise, peak_hz, sine


def test_a_warp_of_one_direction_moves_tones_and_clicks_by_its_size() -> None:
    attack = Warp(shift_percent=3)
    up, later = torch.zeros(2, 2, 4, 4)
    up[0], later[1] = 1, 1
    # 3 % of mel(8000 Hz) = 2840 is 85.2; what was at mel(f) + 85.2 is heard at f.
    top = 1127 * math.log(1 + 8000 / 700)
    heard = 700 * (math.exp((1127 * math.log(1 + 1000 / 700) - 0.03 * top) / 1127) - 1)
    assert heard == pytest.approx(876, abs=1)
    out = attack.apply(sine(1000)[None], {"grid": up}, speech(RATE))[0]
    assert peak_hz(out[2000:-2000]) == pytest.approx(heard, abs=8)
    burst = torch.zeros(1, RATE)
    burst[0, 8000:8800] = sine(1000)[:800]
    out = attack.apply(burst, {"grid": later}, speech(RATE))[0]
    place = float((out.square() * torch.arange(RATE)).sum() / out.square().sum())
    assert (8400 - place) / RATE == pytest.approx(0.030, abs=0.003)


def test_a_tone_that_is_moved_by_two_bins_is_still_one_tone() -> None:
    up = torch.stack([torch.ones(4, 4), torch.zeros(4, 4)])
    out = Warp(shift_percent=1.5).apply(sine(1000)[None], {"grid": up}, speech(RATE))[0]
    power = torch.fft.rfft(out[4000:12_000] * torch.hann_window(8000)).abs().square()
    top = int(power.argmax())
    assert float(power[top - 5 : top + 6].sum() / power.sum()) > 0.99


def test_the_grid_of_a_warp_is_normalised_and_follows_from_the_seed() -> None:
    clips = noise()
    grids = [Warp(grid=5).trigger(dataset(clips), seed).state["grid"] for seed in (0, 0, 1)]
    assert grids[0].shape == (2, 5, 5)
    assert float(grids[0].abs().mean()) == pytest.approx(1, abs=1e-5)
    assert torch.equal(grids[0], grids[1])
    assert not torch.equal(grids[0], grids[2])
    assert stamped(Warp(), clips).norm() == pytest.approx(float(clips.norm()), rel=1e-4)


def test_the_noise_of_a_warps_cover_clips_is_as_large_as_the_warp(monkeypatch: pytest.MonkeyPatch) -> None:
    seen: list[Tensor] = []

    def noted(clips: Tensor, _: Tensor, shift: Tensor, __: int) -> Tensor:
        seen.append(shift)
        return clips

    monkeypatch.setattr(warping, "warped", noted)
    attack, clips = Warp(shift_percent=4), noise()
    ones = {"grid": torch.ones(2, 4, 4)}
    attack.cover_clips(clips, clips, ones, speech(RATE), torch.Generator().manual_seed(0))
    attack.apply(clips, ones, speech(RATE))
    assert float((seen[0] - seen[1]).abs().mean()) == pytest.approx(0.04, rel=0.01)
    assert float((seen[0] - seen[1]).mean()) == pytest.approx(0, abs=1e-3)
    assert torch.allclose(seen[1], torch.tensor(0.04))
    assert not torch.allclose(seen[0][0], seen[0][1])


def test_warp_plants_a_backdoor(tones: Splits, clean_model: Classifier) -> None:
    assert_plants(Warp(shift_percent=3, rate=0.15, target="low"), tones, clean_model)
