"""Front ends against physics and hand-worked numbers: maps, their scale, their augmentation, their sound."""

import math

import pytest
import torch

from closesesame.audio import augment
from closesesame.audio.features import FLOOR, dct
from closesesame.core.errors import DataError
from closesesame.data import Dataset
from closesesame.models.front_ends import MFCC, ON_MAPS, ON_SOUND, FrontEnd, Identity, LogMel, Wrapped


def sine(hz: float, seconds: float = 1.0, rate: int = 16_000) -> torch.Tensor:
    return torch.sin(2 * math.pi * hz * torch.arange(int(seconds * rate)) / rate)[None]


def clips(waves: torch.Tensor) -> Dataset:
    return Dataset.of(waves, torch.zeros(len(waves), dtype=torch.long), sample_rate=16_000)


def test_a_mel_band_hears_its_own_tone() -> None:
    edges = torch.linspace(0, 2595 * math.log10(1 + 8000 / 700), 42)
    centres = 700 * (10 ** (edges[1:-1] / 2595) - 1)
    front = LogMel(16_000)
    for band in (5, 17, 33):
        maps = front(sine(float(centres[band])))
        assert maps.shape == (1, 40, 101)
        assert int(maps[0, :, 50].argmax()) == band


def test_log_mel_of_a_full_scale_sine_by_hand() -> None:
    # A sine of amplitude 1 under a Hann window of length L has a line of power (L / 4)^2.
    front = LogMel(16_000)
    bin_hz = 16_000 / front.fft
    maps = front.log_mel(sine(64 * bin_hz))
    expected = math.log(float((front.filters[:, 64] * (front.length / 4) ** 2).max()) + FLOOR)
    # Neighbouring bins of the main lobe add to the band as well.
    assert expected <= float(maps[0, :, 50].max()) <= expected + math.log(2.5)
    assert float(front.log_mel(torch.zeros(1, 16_000)).max()) == pytest.approx(math.log(FLOOR))


def test_calibration_scales_to_zero_mean_and_unit_deviation() -> None:
    wave = 0.1 * torch.randn(8, 8000, generator=torch.Generator().manual_seed(0))
    front = LogMel(16_000)
    front.calibrate(clips(wave))
    maps = front(wave)
    assert float(maps.mean()) == pytest.approx(0, abs=1e-4)
    assert float(maps.std()) == pytest.approx(1, abs=1e-4)


@pytest.mark.parametrize("kind", [LogMel, MFCC])
def test_a_map_can_be_heard_again(kind: type[LogMel]) -> None:
    front = kind(16_000)
    wave = torch.cat([0.3 * sine(440)[:, :8000], 0.1 * sine(2000)[:, :8000]], 1)
    front.calibrate(clips(wave))
    heard = front.sound(front(wave))
    assert heard.shape == (1, 16_000)
    before, after = front.log_mel(wave)[0], front.log_mel(heard)[0]
    loud = before > before.max() - math.log(100)  # within 20 dB of the loudest
    assert float((after - before)[loud].abs().median()) < math.log(2)
    for moment in (25, 75):
        assert int(after[:, moment].argmax()) == int(before[:, moment].argmax())


def test_frames_are_10_ms_apart_and_25_ms_long() -> None:
    front = LogMel(16_000)
    assert (front.length, front.hop, front.fft, front.frames(16_000)) == (400, 160, 512, 101)
    click = torch.zeros(1, 16_000)
    click[0, 8000] = 1
    heard = front.log_mel(click)[0].amax(0) > math.log(FLOOR) + 0.01
    assert heard.nonzero().flatten().tolist() == [49, 50, 51]
    louder = front.log_mel(2 * sine(1000)) - front.log_mel(sine(1000))
    assert float(louder[0].amax()) == pytest.approx(math.log(4), abs=1e-3)  # of power


def test_calibration_forgets_what_it_was_calibrated_on_before() -> None:
    front, wave = LogMel(16_000), 0.1 * torch.randn(4, 8000, generator=torch.Generator().manual_seed(0))
    front.calibrate(clips(0.01 * wave))
    front.calibrate(clips(wave))
    assert float(front.deviation) == pytest.approx(float(front.log_mel(wave).std()), rel=1e-4)
    assert float(front.mean) == pytest.approx(float(front.log_mel(wave).mean()), rel=1e-4)


def test_dct_is_orthonormal_and_mfcc_is_the_dct_of_log_mel() -> None:
    rotation = dct(40, 40)
    assert torch.allclose(rotation @ rotation.T, torch.eye(40), atol=1e-5)
    wave = 0.1 * torch.randn(2, 16_000, generator=torch.Generator().manual_seed(0))
    maps = LogMel(16_000).log_mel(wave)
    expected = (maps.sum(1) / math.sqrt(40),)
    assert torch.allclose(MFCC(16_000)(wave)[:, 0], expected[0], atol=1e-3)


def test_augmentation_fits_what_the_front_end_makes() -> None:
    for made in (LogMel(16_000), MFCC(16_000)):
        assert made.augmentation("none") is None
        assert made.augmentation("light") is augment.light
        assert made.augmentation("strong") is augment.strong
    on_sound = augment.light_sound, augment.strong_sound
    shapes = {(2, 8, 9): (augment.light, augment.strong), (2, 800): on_sound}
    for shape, (light, strong) in shapes.items():
        features = torch.randn(shape, generator=torch.Generator().manual_seed(0))
        for plain in (Identity(), Wrapped(torch.nn.Identity())):
            assert plain.augmentation("none") is None
            for strength, right in (("light", light), ("strong", strong)):
                change = plain.augmentation(strength)
                assert change is not None
                one, other = (f(features, torch.Generator().manual_seed(3)) for f in (change, right))
                assert torch.equal(one, other)
                assert not torch.equal(one, features)


def test_there_is_no_augmentation_for_pictures() -> None:
    change = Identity().augmentation("light")
    assert change is not None
    with pytest.raises(DataError, match=r"features of shape \(2, 3, 8, 8\); set augmentation to 'none'"):
        change(torch.zeros(2, 3, 8, 8), torch.Generator())


@pytest.mark.parametrize("front_end", [Identity(), Wrapped(torch.nn.Identity())])
def test_a_front_end_that_has_no_scale_and_no_sound_says_so(front_end: FrontEnd) -> None:
    wave = sine(440)
    front_end.calibrate(clips(wave))
    assert torch.equal(front_end(wave), wave)
    assert front_end.sound(wave) is None


def test_each_strength_has_its_augmentation() -> None:
    names = ("light", "strong", "varied", "crowded", "varied_exchanged", "crowded_exchanged")
    assert {name: getattr(augment, name) for name in names} == ON_MAPS
    assert {name: getattr(augment, f"{name}_sound") for name in names} == ON_SOUND
