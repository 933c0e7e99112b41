"""DeepSweep: each transformation by hand, the order of both lists, and what they take out and leave."""

import math
from functools import partial

import pytest
import torch
from torch import Tensor

from closesesame.audio.effects import resample_by, tone
from closesesame.core.errors import ModelError, SettingError
from closesesame.data import Splits
from closesesame.models import Classifier
from closesesame.purification import DeepSweep
from closesesame.purification import deepsweep as lists
from closesesame.purification.common.waveforms import median
from closesesame.purification.deepsweep import affine, amid_silence, distorted, draws, gamma
from closesesame.removal import FT

from .examples import RATE, card, level_db, purifier, word

WAV = torch.tensor([[1.0, 2, 3, 4, 5]])
STILL = DeepSweep(shift=0, speed=0)


def drawn(shift: float = 0.0, speed: float = 0.0) -> Tensor:
    return torch.tensor([shift, speed, 0, 0, 0])[:, None, None]


def test_ranges_are_those_of_the_authors() -> None:
    assert DeepSweep().settings() == DeepSweep(policy="light", taps=5, shift=0.16, speed=0.16).settings()


def test_shift_and_speed_by_hand() -> None:
    method = DeepSweep(shift=0.25, speed=0.5)
    move = partial(affine, WAV, method=method)
    assert move(drawn()).tolist() == [[1, 2, 3, 4, 5]]
    assert move(drawn(shift=1)).tolist() == [[0, 1, 2, 3, 4]]  # a quarter of four steps, later
    assert move(drawn(shift=-1)).tolist() == [[2, 3, 4, 5, 0]]
    assert move(drawn(speed=1)).tolist() == [[0, 1.5, 3, 4.5, 0]]  # half as fast again, about the middle
    assert move(drawn(speed=-1)).tolist() == [[2, 2.5, 3, 3.5, 4]]


def test_gamma_by_hand() -> None:
    wav = torch.tensor([[0.25, -0.25, 0, 1]], requires_grad=True)
    bent = gamma(wav, 0.5)
    assert bent.tolist() == [[0.5, -0.5, 0, 1]]
    (slope,) = torch.autograd.grad(bent.sum(), wav)
    assert slope.tolist() == [[1, 1, 0, 0.5]]


def test_distortion_by_hand() -> None:
    # On a ramp of four steps a place that is 5 % of the clip ahead is 0.2 higher.
    bent = distorted(WAV, torch.tensor([[1.0]]))
    side = 0.2 * math.sin(math.pi / 4)
    assert bent[0].tolist() == pytest.approx([1, 2 + side, 3.2, 4 + side, 5])
    back = distorted(WAV, torch.tensor([[-1.0]]))
    assert back[0].tolist() == pytest.approx([1, 2 - side, 2.8, 4 - side, 5])


def test_resizing_and_padding_by_hand() -> None:
    # At most 1.1 times faster: each of the four steps is 1.1, and what is spared lies behind or before.
    for size, place, wanted in (
        (-1, 0, [1, 2, 3, 4, 5]),
        (1, -1, [1, 2.1, 3.2, 4.3, 0]),
        (1, 1, [0, 1.7, 2.8, 3.9, 5]),
        (0, -1, [1, 2.05, 3.1, 4.15, 0]),
    ):
        heard = amid_silence(WAV, torch.tensor([[float(size)]]), torch.tensor([[float(place)]]))
        assert heard[0].tolist() == pytest.approx(wanted, abs=1e-5), (size, place)


def test_five_numbers_follow_from_each_clip() -> None:
    wav = torch.randn(40, 100, generator=torch.Generator().manual_seed(0))
    numbers = draws(wav)
    assert torch.equal(draws(wav[7:8])[:, 0], numbers[:, 7])
    assert len(numbers[..., 0].unique()) == 200
    assert numbers.abs().max() < 1
    assert float(numbers.mean()) == pytest.approx(0, abs=0.15)
    assert float(numbers.square().mean()) == pytest.approx(1 / 3, abs=0.06)


def test_the_light_list_in_its_order() -> None:
    wav = 0.2 * torch.randn(2, 2000, generator=torch.Generator().manual_seed(0))
    small = median(resample_by(median(wav, 3), 180 / 224, 1607), 3)
    wanted = resample_by(small, 224 / 180, 2000)
    method = DeepSweep(taps=3)
    assert torch.allclose(lists.softened(wav, 3), wanted, atol=1e-6)
    assert torch.allclose(lists.light(wav, method), affine(wanted, draws(wav), method), atol=1e-6)
    assert torch.allclose(purifier(method, 0.125)(wav), lists.light(wav, method), atol=1e-6)


def test_the_intensive_list_in_its_order() -> None:
    wav = 0.2 * torch.randn(2, 2000, generator=torch.Generator().manual_seed(0))
    peak, numbers = wav.abs().amax(1, keepdim=True), draws(wav)
    heard = (1.53 * median(gamma(distorted(wav, numbers[2]) / peak, 0.6), 3)).clamp(-1, 1)
    heard = resample_by(resample_by(gamma(heard, 2.6), 0.25, 500), 4, 2000)
    heard = amid_silence(lists.softened(heard * peak, 3), numbers[3], numbers[4])
    method = DeepSweep(policy="intensive", taps=3)
    wanted = affine(heard, numbers, method)
    assert torch.allclose(lists.intensive(wav, method), wanted, atol=1e-6)
    assert torch.allclose(purifier(method, 0.125)(wav), wanted, atol=1e-6)
    assert float(wanted.std()) > 0.01


@pytest.mark.parametrize("policy", ["light", "intensive"])
def test_it_takes_out_clicks_and_what_is_high_and_leaves_a_tone_within_speech(policy: str) -> None:
    speech = word()
    trigger = 0.1 * tone(7000, RATE, RATE)
    clicks = torch.zeros(1, RATE)
    clicks[0, 250::500] = 0.3
    change = {"light": lists.light, "intensive": lists.intensive}[policy]
    cleaned = change(speech + trigger, STILL)[0]
    assert level_db(cleaned, 7000) < level_db(trigger, 7000) - 20
    # Bent time may make three samples of one.
    assert float(change(clicks, STILL).abs().max()) < (0.03 if policy == "intensive" else 1e-6)
    spectrum = torch.fft.rfft(change(speech, STILL)[0]).abs()
    # The intensive list bends time, and so the pitch: the loudest frequency is near that of the word.
    assert int(spectrum.argmax()) == pytest.approx(400, abs=80 if policy == "intensive" else 0)
    assert float(change(speech, STILL).abs().max()) > 0.15


def test_a_model_is_repaired_behind_the_intensive_list_and_answers_behind_the_light_one(
    clean_model: Classifier, tones: Splits
) -> None:
    intensive, light = (
        DeepSweep(policy=p).fit(None, 0, card=clean_model.card) for p in ("intensive", "light")
    )
    tuned = FT(steps=2).remove(intensive.before(clean_model), tones.validation, 0).model
    body = tuned.body
    assert not torch.equal(next(body.parameters()), next(clean_model.body.parameters()))
    repaired = light.before(Classifier(clean_model.front_end, body, clean_model.card)).eval()
    inputs = tones.test.inputs[:3]
    assert torch.equal(repaired(inputs), body(clean_model.front_end(light(inputs))))


def test_wrong_settings_and_inputs_are_refused() -> None:
    with pytest.raises(SettingError, match="taps must be odd, got 4"):
        DeepSweep(taps=4)
    with pytest.raises(SettingError, match="DeepSweep.policy must be one of 'light' or 'intensive'"):
        DeepSweep(policy="hard")
    with pytest.raises(ModelError, match="deepsweep takes waveforms with a sample rate, got inputs"):
        DeepSweep().fit(None, 0, card=card(None, (3, 8, 8)))


def test_silence_stays_silence() -> None:
    for change in (lists.light, lists.intensive):
        assert change(torch.zeros(2, 2000), DeepSweep()).abs().max() == 0
