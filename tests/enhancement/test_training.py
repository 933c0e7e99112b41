"""Training of enhancement networks: mixtures by hand, what is held out, and going on after a stop."""

from collections.abc import Sequence
from pathlib import Path
from typing import Any, ClassVar

import pytest
import torch
from torch import Tensor, nn

from closesesame.core.errors import DataError, DivergedError, SettingError
from closesesame.core.types import Wave
from closesesame.data import Dataset
from closesesame.data.rows import Rows
from closesesame.enhancement import (
    DCCRN,
    Enhancer,
    EnhancerTraining,
    Mixture,
    improvement_db,
    train_enhancer,
)
from closesesame.enhancement import training as module
from closesesame.enhancement.losses import si_snr
from closesesame.enhancement.training import Sounds, below
from tests.enhancement.patterns import chirps, hiss

TINY = DCCRN(channels=(4, 4), units=4)
SETTINGS = EnhancerTraining(
    steps=6, batch_size=2, validate_every=2, validation_mixtures=3, hold_out=0.34, lr=3e-3, patience=1
)


class Gain(Enhancer):
    """Multiplies clips by a number that it learns, and keeps what it was trained on."""

    snr_range_db: ClassVar[tuple[float, float]] = (3.0, 3.0)

    def __init__(self) -> None:
        super().__init__()
        self.gain = nn.Parameter(torch.tensor(0.5))
        self.seen, self.drawn = list[Mixture](), list[float]()

    def forward(self, wav: Wave) -> Wave:
        made: Wave = self.gain * wav
        return made

    def loss(self, mixture: Mixture) -> Tensor:
        assert self.training
        self.seen.append(mixture)
        self.drawn.append(float(torch.rand(())))  # as dropout would
        made: Tensor = (self(mixture.noisy) - mixture.speech).square().mean()
        return made


def speech(count: int = 9, sample_rate: int = 16_000) -> Dataset:
    """Each clip with a constant of its own in front, by which it is known; three clips a speaker."""
    clips = chirps(400, count)
    clips[:, 0] = torch.arange(count) / 100
    names = [f"speaker {row // 3}" for row in range(count)]
    labels = torch.zeros(count, dtype=torch.long)
    return Dataset.of(clips, labels, sample_rate=sample_rate, speakers=names)


def noises(count: int = 3) -> list[Tensor]:
    """Of unlike lengths, each a ramp between numbers of its own."""
    lengths = (1_000, 150, 400)
    return [number + 1 + torch.linspace(0, 0.9, lengths[number % 3]) for number in range(count)]


def rng(seed: int = 0) -> torch.Generator:
    return torch.Generator().manual_seed(seed)


def test_sounds_lie_below_the_speech_by_an_snr_from_the_range() -> None:
    clips, sounds = chirps(800, 500), hiss(800, 500)
    made = below(clips, sounds, (-5.0, 5.0), rng())
    ratios = 10 * (clips.square().sum(1) / made.square().sum(1)).log10()
    assert -5 <= float(ratios.min()) < -4.7
    assert 4.7 < float(ratios.max()) <= 5
    assert float(ratios.mean()) == pytest.approx(0, abs=0.5)
    assert torch.allclose(made / made[:, :1], sounds / sounds[:, :1], rtol=1e-3)
    assert not below(clips, torch.zeros_like(sounds), (0.0, 0.0), rng()).any()


def test_a_mixture_is_drawn_from_clips_and_stretches() -> None:
    made = Sounds(speech(), noises(), [7 * one for one in noises()]).mixtures(200, (60.0, 60.0), rng())
    assert made.speech.shape == made.noise.shape == (200, 400)
    assert {round(100 * float(clip[0])) for clip in made.speech} == set(range(9))
    # By its first and last number relative to each other a stretch is known, whatever its level.
    slopes = {round(float(clip[-1] / clip[0]), 4) for clip in made.noise}
    assert len(slopes) > 30  # many places in the long one, of which each stretch starts at its own
    ends = [float(clip[-1] / clip[0]) for clip in made.noise]
    latest = (1 + 0.9) / (1 + 0.9 * 600 / 999)  # the last 400 of 1,000 samples
    assert min(abs(end - latest) for end in ends) < 0.01
    repeated = made.noise[:, 150] == made.noise[:, 0]
    assert 0.2 < float(repeated.float().mean()) < 0.5
    assert made.music is not None
    assert not torch.equal(made.music, made.noise)
    assert Sounds(speech(), noises(), ()).mixtures(2, (0.0, 0.0), rng()).music is None


def test_a_mixture_never_passes_full_scale() -> None:
    loud = Sounds(speech(), noises(), ())
    made = loud.mixtures(50, (-20.0, -20.0), rng())
    assert made.noisy.abs().amax(1).tolist() == pytest.approx([1] * 50)
    ratios = 10 * (made.speech.square().sum(1) / made.noise.square().sum(1)).log10()
    assert ratios.tolist() == pytest.approx([-20] * 50, abs=0.01)
    soft = loud.mixtures(50, (60.0, 60.0), rng())
    assert torch.allclose(soft.speech[:, 1:].abs().amax(1), torch.tensor(0.2), atol=0.01)


def test_improvement_by_hand() -> None:
    clips, sounds = chirps(800, 3), hiss(800, 3)
    network = Gain().train()
    mixture = Mixture(clips, sounds)
    assert improvement_db(network, mixture, 2) == pytest.approx(0, abs=1e-3)  # no gain changes the ratio
    modes = list[bool]()

    def better(wav: Wave) -> Wave:
        modes.append(network.training)
        made: Wave = wav + clips[: len(wav)]
        return made

    network.forward = better  # type: ignore[method-assign]
    wanted = (si_snr(mixture.noisy + clips, clips) - si_snr(mixture.noisy, clips)).mean()
    assert improvement_db(network, mixture, 3) == pytest.approx(float(wanted))
    assert float(wanted) > 3
    assert modes == [False]
    assert network.training


def test_validation_hears_other_speakers_and_other_noises(monkeypatch: pytest.MonkeyPatch) -> None:
    validated = list[Mixture]()

    def record(_network: Enhancer, mixture: Mixture, _size: int) -> float:
        validated.append(mixture)
        return 0.0

    monkeypatch.setattr(module, "improvement_db", record)
    network = Gain()
    settings = SETTINGS.model_copy(update={"batch_size": 30, "validation_mixtures": 30})
    tones = [torch.sin(6.2831853 * torch.arange(1_000) * k / 400) for k in (20, 40, 60, 80, 100, 120)]
    train_enhancer(network, speech(), tones[:3], settings, 0, music=tones[3:])

    def known(mixtures: list[Mixture]) -> tuple[set[int], set[int], set[int]]:
        parts = [torch.cat([getattr(mixture, name) for mixture in mixtures]) for name in ("noise", "music")]
        noise, music = (set(torch.fft.rfft(part).abs().argmax(1).tolist()) for part in parts)
        speakers = {round(100 * float(clip[0])) // 3 for mixture in mixtures for clip in mixture.speech}
        return speakers, noise, music

    assert len(validated) == 3
    assert all(torch.equal(mixture.noisy, validated[0].noisy) for mixture in validated)
    everything = ({0, 1, 2}, {20, 40, 60}, {80, 100, 120})
    for trained_on, heard, all_there_is in zip(
        known(network.seen), known(validated), everything, strict=True
    ):
        assert trained_on | heard == all_there_is
        assert not trained_on & heard
        assert len(heard) == 1


def test_the_seed_draws_what_is_validated_on(monkeypatch: pytest.MonkeyPatch) -> None:
    validated = list[Mixture]()
    monkeypatch.setattr(Dataset, "hold_out", lambda data, *_: (data, data))

    def record(_network: Enhancer, mixture: Mixture, _size: int) -> float:
        validated.append(mixture)
        return 0.0

    monkeypatch.setattr(module, "improvement_db", record)
    alike = [torch.ones(400)] * 2
    for seed in (0, 0, 1):
        train_enhancer(Gain(), speech(), alike, SETTINGS.model_copy(update={"steps": 1}), seed)
    first, again, other = (mixture.speech for mixture in validated)
    assert torch.equal(first, again)
    assert not torch.equal(first, other)


def test_each_batch_is_another_one_at_the_snr_of_the_network_or_of_the_settings() -> None:
    for given, wanted in ((None, 3.0), ((7.0, 7.0), 7.0)):
        network = Gain()
        settings = SETTINGS.model_copy(update={"snr_range_db": given})
        train_enhancer(network, speech(), noises(), settings, 0)
        assert len({float(mixture.noise.sum()) for mixture in network.seen}) == 6
        for mixture in network.seen:
            ratios = 10 * (mixture.speech.square().sum(1) / mixture.noise.square().sum(1)).log10()
            assert ratios.tolist() == pytest.approx([wanted] * 2, abs=0.01)


def test_the_rate_is_halved_and_the_best_weights_are_kept(monkeypatch: pytest.MonkeyPatch) -> None:
    marks = iter([1.0, 5.0, 4.0, 3.0, 6.0, 6.0])
    gains = list[float]()

    def mark(network: Enhancer, _mixture: Mixture, _size: int) -> float:
        assert isinstance(network, Gain)
        gains.append(float(network.gain.detach()))
        return next(marks)

    monkeypatch.setattr(module, "improvement_db", mark)
    network = Gain()
    settings = SETTINGS.model_copy(update={"steps": 11, "patience": 2})
    history = train_enhancer(network, speech(), noises(), settings, 0)
    assert history.steps == [2, 4, 6, 8, 10, 11]
    assert history.improvement_db == [1, 5, 4, 3, 6, 6]
    assert history.lr == pytest.approx([3e-3] * 4 + [1.5e-3] * 2)
    assert float(network.gain.detach()) == gains[4]  # of two that are as good, the first
    assert len(set(gains)) == 6
    assert not network.training


@pytest.mark.parametrize("stopped_at", [None, 5, 7])
def test_the_rate_is_halved_again_and_in_time_after_a_stop(
    stopped_at: int | None, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    marks = iter(range(9, 0, -1))
    monkeypatch.setattr(module, "improvement_db", lambda *_: float(next(marks)))
    learn = module._Run.learn

    def stop(run: module._Run, mixture: Mixture, step: int) -> None:
        if step == stopped_at:
            raise KeyboardInterrupt
        learn(run, mixture, step)

    def run() -> module.EnhancerHistory:
        settings = SETTINGS.model_copy(update={"steps": 12, "patience": 2})
        return train_enhancer(Gain(), speech(), noises(), settings, 0, checkpoint=tmp_path / "kept")

    if stopped_at:
        monkeypatch.setattr(module._Run, "learn", stop)
        with pytest.raises(KeyboardInterrupt):
            run()
        monkeypatch.setattr(module._Run, "learn", learn)
    assert run().lr == pytest.approx([3e-3] * 3 + [1.5e-3] * 2 + [0.75e-3])


def test_dropout_is_drawn_by_the_seed_and_the_step() -> None:
    drawn = []
    for seed in (0, 0, 1):
        network = Gain()
        train_enhancer(network, speech(), noises(), SETTINGS, seed)
        drawn.append(network.drawn)
    assert drawn[0] == drawn[1]
    assert len({*drawn[0], *drawn[2]}) == 12


def test_losses_are_means_over_the_batches_between_validations(monkeypatch: pytest.MonkeyPatch) -> None:
    losses = list[float]()
    loss = Gain.loss

    def record(self: Gain, mixture: Mixture) -> Tensor:
        made = loss(self, mixture)
        losses.append(float(made.detach()))
        return made

    monkeypatch.setattr(Gain, "loss", record)
    history = train_enhancer(Gain(), speech(), noises(), SETTINGS, 0)
    wanted = [(losses[at] + losses[at + 1]) / 2 for at in (0, 2, 4)]
    assert history.loss == pytest.approx(wanted)


def test_a_step_is_adam_s() -> None:
    network = Gain()
    settings = SETTINGS.model_copy(update={"steps": 1, "lr": 0.01})
    train_enhancer(network, speech(), noises(), settings, 0)
    # The first step of Adam is as long as the rate, whatever the slope; weights do not decay.
    assert abs(float(network.gain.detach()) - 0.5) == pytest.approx(0.01, rel=1e-4)


def test_gradients_are_cut(monkeypatch: pytest.MonkeyPatch) -> None:
    norms = list[float]()
    monkeypatch.setattr(torch.nn.utils, "clip_grad_norm_", lambda _, norm: norms.append(norm), raising=True)
    train_enhancer(Gain(), speech(), noises(), SETTINGS.model_copy(update={"gradient_norm": 0.25}), 0)
    assert norms == [0.25] * 6


def weights(network: Enhancer) -> dict[str, Tensor]:
    return {name: value.clone() for name, value in network.state_dict().items()}


def equal(one: dict[str, Tensor], other: dict[str, Tensor]) -> bool:
    return all(torch.equal(one[name], other[name]) for name in one)


def trained(seed: int = 0, **more: Any) -> tuple[dict[str, Tensor], module.EnhancerHistory]:
    network = TINY.build(7)
    history = train_enhancer(network, speech(), noises(), SETTINGS.model_copy(update=more), seed)
    return weights(network), history


def test_the_seed_repeats_and_global_generators_are_left_alone() -> None:
    state = torch.random.get_rng_state()
    (first, history), (again, _), (other, _) = trained(), trained(), trained(seed=1)
    assert torch.equal(torch.random.get_rng_state(), state)
    assert equal(first, again)
    assert not equal(first, other)
    assert not equal(first, weights(TINY.build(7)))
    assert history.steps == [2, 4, 6]


@pytest.mark.parametrize("stopped_at", [2, 3, 5])
def test_a_training_that_was_stopped_goes_on_to_the_same_bits(
    stopped_at: int, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    wanted, history = trained()
    learn = module._Run.learn

    def stop(run: module._Run, mixture: Mixture, step: int) -> None:
        if step == stopped_at:
            raise KeyboardInterrupt
        learn(run, mixture, step)

    def run() -> tuple[dict[str, Tensor], module.EnhancerHistory]:
        network = TINY.build(7)
        made = train_enhancer(network, speech(), noises(), SETTINGS, 0, checkpoint=tmp_path / "kept")
        assert not network.training
        return weights(network), made

    monkeypatch.setattr(module._Run, "learn", stop)
    with pytest.raises(KeyboardInterrupt):
        run()
    monkeypatch.setattr(module._Run, "learn", learn)
    assert (tmp_path / "kept").exists() == (stopped_at > 2)
    made, gone_on = run()
    assert equal(made, wanted)
    for name in ("steps", "loss", "improvement_db", "lr"):
        assert getattr(gone_on, name) == getattr(history, name)
    again, at_once = run()  # it is over, so nothing is trained
    assert equal(again, wanted)
    assert at_once.steps == [2, 4, 6]


def test_a_training_may_be_made_longer(tmp_path: Path) -> None:
    wanted, _ = trained(steps=6)
    for steps in (4, 6):
        network, settings = TINY.build(7), SETTINGS.model_copy(update={"steps": steps})
        train_enhancer(network, speech(), noises(), settings, 0, checkpoint=tmp_path / "kept")
    assert equal(weights(network), wanted)


def test_the_checkpoint_of_another_training_is_refused(tmp_path: Path) -> None:
    kept = tmp_path / "kept"

    def run(
        network: Enhancer, seed: int = 0, extra: int = 0, louder: Sequence[float] = (1, 1, 1), **more: Any
    ) -> None:
        settings = SETTINGS.model_copy(update={"steps": 2, **more})
        speech_level, noise_level, music_level = louder
        data = speech().with_inputs(Rows.of(speech_level * speech().inputs[:]))
        sounds = [noise_level * sound for sound in noises(3 + extra)]
        music = [music_level * sound for sound in noises(3)]
        train_enhancer(network, data, sounds, settings, seed, music=music, checkpoint=kept)

    run(TINY.build(7))
    said = "kept holds no checkpoint of this training; choose another place, or remove it"
    others: list[tuple[Enhancer, dict[str, Any]]] = [
        (TINY.build(8), {}),
        (TINY.build(7), {"seed": 1}),
        (TINY.build(7), {"extra": 1}),
        (TINY.build(7), {"lr": 0.1}),
        (TINY.build(7), {"louder": (0.5, 1, 1)}),
        (TINY.build(7), {"louder": (1, 0.5, 1)}),
        (TINY.build(7), {"louder": (1, 1, 0.5)}),
        (Gain(), {}),
    ]
    for network, more in others:
        with pytest.raises(DataError, match=said):
            run(network, **more)
    run(TINY.build(7))
    (kept / "checkpoint.safetensors").write_bytes(b"no tensors")
    with pytest.raises(DataError, match=said):
        run(TINY.build(7))
    (kept / "checkpoint.json").write_text("[")
    with pytest.raises(DataError, match=r"checkpoint.json is no JSON"):
        run(TINY.build(7))


def test_sounds_that_cannot_be_used_are_refused() -> None:
    for wrong, said in (
        ((speech(sample_rate=8_000), noises()), "learns from speech at 16,000 Hz, and this has 8,000 Hz"),
        ((speech(), noises(1)), "noises: 2 recordings or more are needed, one to hold out, got 1"),
        ((speech(), [*noises(), torch.zeros(9)]), "noises: recording 3 is silent; remove it"),
        ((speech(1), noises()), "1 clips of speech cannot be told apart into two parts"),
    ):
        with pytest.raises(DataError, match=said):
            train_enhancer(Gain(), *wrong, SETTINGS, 0)
    with pytest.raises(DataError, match="music: 2 recordings or more"):
        train_enhancer(Gain(), speech(), noises(), SETTINGS, 0, music=noises(1))
    with pytest.raises(SettingError, match=r"\.snr_range_db must be the lowest SNR, then the highest"):
        EnhancerTraining(snr_range_db=(5, -5))


def test_a_training_that_diverges_is_said_to() -> None:
    network = Gain()
    with torch.no_grad():
        network.gain.fill_(torch.inf)
    with pytest.raises(DivergedError, match=r"diverged at step 1; lower lr, which is 0.003"):
        train_enhancer(network, speech(), noises(), SETTINGS, 0)


def test_every_number_has_a_lowest_and_a_highest_value() -> None:
    for name, about in EnhancerTraining.model_json_schema()["properties"].items():
        assert about["description"], name
        if about.get("type") in {"integer", "number"}:
            assert {"minimum", "exclusiveMinimum"} & set(about), name
            assert {"maximum", "exclusiveMaximum"} & set(about), name
