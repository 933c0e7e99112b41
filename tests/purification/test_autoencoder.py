"""The autoencoder: its maps by hand, what it learns, what it chooses, and what it takes out and leaves."""

from typing import Any

import pytest
import torch
from torch import Tensor

from closesesame.audio import vocoder
from closesesame.audio.effects import tone
from closesesame.core.errors import DivergedError, ModelError
from closesesame.data import Dataset, Splits
from closesesame.purification import Autoencoder
from closesesame.purification.autoencoder import loudness_of

from .examples import card, level_db

SMALL = Autoencoder(width=32, code=8, steps=150)


def calibrated(data: Dataset) -> Any:
    network: Any = SMALL.network(data.sample_rate, data.input_shape)
    network.calibrate(data)
    return network


def maps_of(data: Dataset) -> Tensor:
    return vocoder.analyse(data.inputs[:], 256).abs().clamp(min=1e-6) ** 0.3


def test_loudness_by_hand() -> None:
    assert loudness_of(torch.tensor([[[1.0, 2.0, 1e-9]]])).tolist() == [
        [pytest.approx([1.0, 2**0.3, 1e-6**0.3])]
    ]


def test_maps_have_zero_mean_in_each_bin_and_unit_variance_in_all(tones: Splits) -> None:
    network, maps = calibrated(tones.train), maps_of(tones.train)
    assert network.fft == 256  # 32 ms at 8 kHz
    mean = maps.mean((0, 2))
    assert torch.allclose(network.mean[:, 0], mean, atol=1e-5)
    spread = (maps - mean[:, None]).square().mean().sqrt()
    assert float(network.deviation) == pytest.approx(float(spread), rel=1e-4)
    network.reconstruct = lambda maps: 0 * maps
    assert network.error_on(tones.train) == pytest.approx(1, abs=1e-3)  # the mean alone
    wav = tones.train.inputs[:64]
    scaled = (maps[:64] - mean[:, None]) / spread
    assert float(network.error(wav)) == pytest.approx(float(scaled.square().mean()), rel=1e-3)


def test_clips_that_are_all_alike_can_be_scaled() -> None:
    alike = Dataset.of(torch.zeros(8, 4000), torch.arange(8) % 2, sample_rate=8000)
    assert float(calibrated(alike).deviation) == pytest.approx(1e-3)


def test_phases_are_those_of_the_input_and_magnitudes_those_of_the_decoder(tones: Splits) -> None:
    network, wav = calibrated(tones.train), tones.test.inputs[:5]
    network.reconstruct = lambda maps: maps
    assert torch.allclose(network(wav), wav, atol=1e-4)
    loud = 2**0.3
    network.reconstruct = lambda maps: (loud - 1) * network.mean / network.deviation + loud * maps
    assert torch.allclose(network(wav), 2 * wav, atol=2e-4)
    network.reconstruct = lambda maps: -network.mean / network.deviation - 1 + 0 * maps
    assert float(network(wav).abs().max()) == 0


@pytest.mark.parametrize("length", [400, 3999, 4000, 4063])
def test_clips_of_any_length_are_coded(length: int) -> None:
    network: Any = SMALL.network(8000, (length,))
    assert network(torch.zeros(2, length)).shape == (2, length)
    code = network.encoder(torch.zeros(1, 129, 64))
    assert code.shape == (1, 8, 16)  # one vector for four frames


@pytest.fixture(scope="module")
def tuned(tones: Splits) -> Any:
    return SMALL.fit(tones.train, 0)


def test_it_learns_to_reconstruct_clips_it_never_heard(tuned: Any, tones: Splits) -> None:
    # An error of 1 is that of the mean. A part is the hiss of the clips, of which nothing can be learned.
    assert tuned.chosen["error"] < 0.45
    assert tuned.network.error_on(tones.test) == pytest.approx(tuned.chosen["error"], abs=0.1)
    untrained = calibrated(tones.train)
    assert untrained.error_on(tones.test) > 0.9


def test_it_takes_out_a_tone_that_clean_clips_never_have_and_leaves_their_own(
    tuned: Any, tones: Splits
) -> None:
    clips = tones.test.inputs[:40]
    trigger = 0.05 * tone(3500, 4000, 8000)
    cleaned, before = tuned(clips + trigger), tuned(clips)
    pairs = zip(cleaned, clips + trigger, strict=True)
    lost = [level_db(a, 3500, 8000) - level_db(b, 3500, 8000) for a, b in pairs]
    assert sum(lost) / len(lost) < -12
    kept = []
    for clip, label, given in zip(before, tones.test.labels[:40], clips, strict=True):
        hertz = float((300, 600, 1200, 2400)[int(label)])
        kept.append(level_db(clip, hertz, 8000) - level_db(given, hertz, 8000))
    assert sum(kept) / len(kept) == pytest.approx(0, abs=3)


def test_the_weights_with_the_lowest_error_on_held_out_clips_are_kept(
    tones: Splits, monkeypatch: pytest.MonkeyPatch
) -> None:
    method = Autoencoder(width=8, code=2, steps=30)
    tune, held_out = tones.validation.hold_out(0.2, 0)
    network: Any = method.network(8000, (4000,))
    told, seen = iter([0.9, 0.5, 0.7, 0.6, 0.5, 0.8, 0.9, 0.9, 0.9, 0.9]), []

    def error_on(data: Dataset) -> float:
        assert data is held_out
        seen.append(network.encoder[0].weight.detach().clone())
        return next(told)

    monkeypatch.setattr(network, "error_on", error_on)
    assert method.learn(network, tune, held_out, 0) == {"step": 6, "error": 0.5}
    assert torch.equal(network.encoder[0].weight, seen[1])
    assert not torch.equal(seen[0], seen[1])
    assert len(seen) == 10


def test_each_setting_of_the_training_counts(tones: Splits, monkeypatch: pytest.MonkeyPatch) -> None:
    tune, held_out = tones.validation.hold_out(0.2, 0)
    rows: list[int] = []

    def weights(seed: int = 0, **settings: Any) -> Tensor:
        method = Autoencoder(**({"width": 8, "code": 2, "steps": 3} | settings))
        torch.manual_seed(0)
        network: Any = method.network(8000, (4000,))
        error = network.error

        def noted(wav: Tensor) -> Tensor:
            rows.append(len(wav))
            loss: Tensor = error(wav)
            return loss

        monkeypatch.setattr(network, "error", noted)
        monkeypatch.setattr(network, "error_on", lambda data: -len(rows))
        method.learn(network, tune, held_out, seed)
        return torch.cat([weight.flatten() for weight in network.parameters()])

    with torch.random.fork_rng():
        first = weights()
        assert rows == [32, 32, 32][: len(rows)] == [min(32, len(tune))] * 3
        assert torch.equal(weights(), first)
        for change in ({"seed": 1}, {"lr": 1e-2}, {"steps": 4}, {"batch_size": 5}):
            assert not torch.equal(weights(**change), first), change
        assert rows[-3:] == [5, 5, 5]
        assert len(weights(width=9)) > len(first) > len(weights(code=1))
        step = weights(steps=1, lr=1e-9) - weights(steps=1, lr=0.01 + 1e-9)
    assert float(step.detach().abs().max()) == pytest.approx(
        0.01, rel=1e-2
    )  # the first step of Adam is the rate


def test_a_training_that_breaks_down_and_pictures_are_refused(tones: Splits) -> None:
    with pytest.raises(
        DivergedError, match="autoencoder reconstructs NaN or infinity; lower its lr, which is 1"
    ):
        Autoencoder(width=8, code=2, steps=12, lr=10_000).fit(tones.validation, 0)
    with pytest.raises(ModelError, match="autoencoder takes waveforms with a sample rate, got inputs"):
        Autoencoder().network(None, (3, 8, 8))
    assert card(8000, (4000,)).sample_rate == 8000
