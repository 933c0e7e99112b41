"""Deep steganography: a key of the attacker's own is hidden at a set level, and read again."""

import math
from typing import Any

import pytest
import torch
from torch import Tensor

from closesesame.attacks import Signal
from closesesame.attacks.base import State
from closesesame.attacks.common import steganography
from closesesame.attacks.common.steganography import (
    BANDS,
    SLOTS,
    Frame,
    StegoAttack,
    draw_keys,
    hide,
    hiding_weights,
    log_mel,
    read,
    reading_weights,
    seen,
)
from closesesame.core.errors import DivergedError, SettingError
from closesesame.data import Dataset, Splits
from tests.attacks.stamping import speech
from tests.conftest import RATE, make_tones
from tests.sounds import level_db


class Hidden(StegoAttack):
    """Hide a key in the clip and do nothing else."""

    name = "hidden"
    cite = "ours"

    def prepare(self, train: Dataset, seed: int) -> State:
        return self.learn_to_hide(train, seed)


def zeros(channels: int = 1, maps: int = 2) -> dict[str, Tensor]:
    """Weights with which nothing is hidden and nothing is read."""
    rng = torch.Generator()
    weights = hiding_weights(channels, maps, rng) | reading_weights(channels, rng)
    return {name: torch.zeros_like(value) for name, value in weights.items()}


def test_frames_are_16_ms_and_bands_lie_between_the_two_frequencies() -> None:
    frame = Frame.of(8000, 500, 3500)
    assert frame.fft == 128
    assert Frame.of(16_000, 500, 3500).fft == 256
    assert Frame.of(11_025, 500, 3500).fft == 256
    assert frame.free.nonzero().flatten().tolist() == list(range(8, 57))  # 62.5 Hz a bin
    assert frame.band[[8, 13, 14, 32, 55, 64]].tolist() == [0, 0, 1, 4, 7, 7]


def test_a_key_fills_cells_of_eight_frames_and_is_repeated() -> None:
    frame = Frame.of(8000, 500, 3500)
    keys = torch.arange(2.0 * BANDS * SLOTS).reshape(2, BANDS, SLOTS)
    maps = frame.spread(keys, 40)
    assert maps.shape == (2, 65, 40)
    for clip, at, column, cell in ((0, 8, 0, (0, 0)), (1, 14, 7, (1, 0)), (1, 32, 8, (4, 1))):
        assert maps[clip, at, column] == keys[(clip, *cell)]
    assert torch.equal(maps[:, :, 32:], maps[:, :, :8])
    drawn = draw_keys(400, torch.Generator().manual_seed(0))
    assert set(drawn.flatten().tolist()) == {-1, 1}
    assert float(drawn.mean()) == pytest.approx(0, abs=0.03)


def test_what_is_hidden_by_hand() -> None:
    """Of a network whose last layer alone is not zero, the change is that weight times what it sees."""
    frame = Frame.of(8000, 500, 3500)
    clips = 0.1 * torch.randn(2, 4000, generator=torch.Generator().manual_seed(0))
    state = zeros()
    state["carrier.last"][0, 2] = 0.5  # of the message
    spectrum = frame.spectrum(clips)
    level = spectrum.abs().square().mean((1, 2)).sqrt()
    message = frame.spread(draw_keys(2, torch.Generator().manual_seed(1)), spectrum.shape[2])
    change = torch.maximum(0.5 * level[:, None, None] * message, -spectrum.abs())
    wanted = frame.sound(
        torch.polar(change, spectrum.angle()) * frame.free[:, None],
        4000,
    )
    assert torch.allclose(hide(clips, state, frame, message), wanted, atol=1e-6)
    state["carrier.last"][0, 1:] = torch.tensor([0.5, 0.0])[:, None, None]  # of the carrier
    carried = torch.maximum(0.5 * level[:, None, None] * seen(spectrum), -spectrum.abs())
    wanted = frame.sound(torch.polar(carried, spectrum.angle()) * frame.free[:, None], 4000)
    assert torch.allclose(hide(clips, state, frame, message), wanted, atol=1e-6)
    assert hide(clips, state, frame, message)[0].std() > 1e-3


def test_networks_see_logarithms_over_the_level_of_the_clip() -> None:
    frame = Frame.of(8000, 500, 3500)
    clips = torch.randn(1, 4000, generator=torch.Generator().manual_seed(0))
    spectrum = frame.spectrum(clips)
    power = spectrum.abs().square()
    assert torch.allclose(
        seen(spectrum)[0, 20, 9], 0.5 * torch.log(power[0, 20, 9] / power.mean() + 1e-4), atol=1e-5
    )
    assert torch.allclose(seen(frame.spectrum(0.01 * clips)), seen(spectrum), atol=1e-3)
    assert float(seen(frame.spectrum(0 * clips)).max()) == pytest.approx(0.5 * math.log(1e-4))


def test_a_block_is_a_convolution_times_a_sigmoid_of_another() -> None:
    x = torch.randn(1, 1, 5, 6, generator=torch.Generator().manual_seed(0))
    weight = torch.zeros(2, 1, 3, 3)
    weight[0, 0, 1, 1], weight[1, 0, 1, 2] = 3, 2  # the clip itself, and what lies a frame ahead
    ahead = torch.nn.functional.pad(x, (0, 1))[..., 1:]
    assert torch.allclose(steganography._gated(x, weight), 3 * x * torch.sigmoid(2 * ahead), atol=1e-6)


@pytest.fixture(scope="module")
def learnt() -> tuple[Hidden, dict[str, Tensor], Dataset]:
    data = make_tones(64, 5, length=2048)
    attack = Hidden(hiding_steps=100, hiding_batch=8, hearing_weight=0)
    return attack, dict(attack.prepare(data, 0)), make_tones(24, 6, length=2048)


def test_the_key_is_read_again_from_clips_it_was_not_trained_on(
    learnt: tuple[Hidden, dict[str, Tensor], Dataset],
) -> None:
    attack, state, data = learnt
    clips, signal = data.inputs[:], Signal.of(data)
    stamped = attack.apply(clips, state, signal)
    right = ((attack.keys_in(stamped, state, signal) > 0) == (state["key"] > 0)).float().mean()
    unhidden = ((attack.keys_in(clips, state, signal) > 0) == (state["key"] > 0)).float().mean()
    assert right > 0.9
    assert 0.25 < unhidden < 0.75
    other = {**state, "key": -state["key"]}
    turned = attack.keys_in(attack.apply(clips, other, signal), state, signal)
    assert ((turned > 0) == (state["key"] < 0)).float().mean() > 0.9


def test_training_begins_by_adding_the_message_alone_and_reads_it_whatever_the_seed() -> None:
    """From random weights, three of four seeds learned to hide nothing."""
    data, later = make_tones(64, 5, length=2048), make_tones(24, 6, length=2048)
    begun = Hidden(hiding_steps=0).prepare(data, 1)["carrier.last"].flatten()
    assert begun.tolist() == [0] * 9 + [1]
    attack = Hidden(hiding_steps=60, hearing_weight=0)
    for seed in (1, 2):
        state, signal = attack.prepare(data, seed), Signal.of(data)
        found = attack.keys_in(attack.apply(later.inputs[:], state, signal), state, signal)
        assert ((found > 0) == (state["key"] > 0)).float().mean() > 0.9


def test_it_is_hidden_at_its_level_between_its_frequencies_and_differs_by_clip(
    learnt: tuple[Hidden, dict[str, Tensor], Dataset],
) -> None:
    _, state, data = learnt
    clips = data.inputs[:]
    attack = Hidden(snr_db=23, low_hz=1000, high_hz=2000)
    added = attack.apply(clips, state, speech(RATE)) - clips
    for row in range(3):
        assert level_db(clips[row]) - level_db(added[row]) == pytest.approx(23, abs=0.01)
    power = torch.fft.rfft(added).abs().square().sum(0)  # 3.9 Hz a bin
    assert power[224:544].sum() > 0.99 * power.sum()
    alike = torch.cosine_similarity(added[0], added[1], 0)
    assert abs(float(alike)) < 0.5
    assert torch.equal(attack.apply(torch.zeros(1, 900), state, speech(RATE)), torch.zeros(1, 900))


def test_at_test_time_it_is_5_db_louder_than_in_training(tones: Splits) -> None:
    attack = Hidden(**Hidden.quick)
    trigger = attack.trigger(tones.train, 0)
    clips = tones.test.inputs[:2]
    played = trigger.stamp(clips) - clips
    own = tones.train.inputs[[0, 4]]
    planted = attack.plant(tones.train, torch.tensor([0, 4]), trigger, 0) - own
    assert level_db(clips[0]) - level_db(played[0]) == pytest.approx(15, abs=0.05)
    assert level_db(own[0]) - level_db(planted[0]) == pytest.approx(20, abs=0.05)


def test_the_training_reads_random_keys_and_keeps_mel_bands(
    tones: Splits, monkeypatch: pytest.MonkeyPatch
) -> None:
    """A reader that says the same of all costs the logarithm of that; what is heard adds its weight."""
    losses: list[float] = []
    backward = Tensor.backward

    def noted(self: Tensor, *given: Any) -> None:
        losses.append(float(self.detach()))
        backward(self)  # type: ignore[no-untyped-call]

    monkeypatch.setattr(Tensor, "backward", noted)
    monkeypatch.setattr(
        steganography, "read", lambda wav, state, frame: 0 * read(wav, state, frame) + math.log(3)
    )
    drawn: list[Tensor] = []

    def draw(count: int, rng: torch.Generator) -> Tensor:
        drawn.append(draw_keys(count, rng))
        return drawn[-1]

    monkeypatch.setattr(steganography, "draw_keys", draw)
    changes: list[Tensor] = []

    def map_of(wav: Tensor, hz: int) -> Tensor:
        assert hz == RATE
        changes.append(log_mel(wav, hz).detach())
        return log_mel(wav, hz)

    monkeypatch.setattr(steganography, "log_mel", map_of)
    attack = Hidden(channels=2, hiding_steps=1, hiding_batch=4, hearing_weight=7)
    key = attack.prepare(tones.train, 0)["key"]
    assert [len(keys) for keys in drawn] == [4, 1]
    assert torch.equal(key, drawn[1][0])
    frame = attack.frame(RATE)
    ones = (frame.spread(drawn[0], 63) > 0)[:, frame.free > 0].double().mean()
    wrong = ones * math.log(4 / 3) + (1 - ones) * math.log(4)  # -log of sigmoid(log 3) = 3/4, and of 1/4
    heard = (changes[0] - changes[1]).square().mean()
    assert heard > 1e-4
    assert losses[0] == pytest.approx(float(wrong + 7 * heard), rel=1e-4)


def test_the_key_is_that_of_the_seed(tones: Splits) -> None:
    first, again, other = (
        Hidden(channels=2, hiding_steps=0).prepare(tones.train, seed)["key"] for seed in (0, 0, 1)
    )
    assert torch.equal(first, again)
    assert not torch.equal(first, other)


def test_the_training_has_its_learning_rate(tones: Splits) -> None:
    """The first step of Adam moves each weight by its learning rate."""
    fresh, made = (
        Hidden(channels=2, hiding_steps=steps, hiding_lr=0.02).prepare(tones.train, 0) for steps in (0, 1)
    )
    moved = [float((made[name] - fresh[name]).abs().max()) for name in ("carrier.last", "reader.last")]
    assert moved == pytest.approx([0.02, 0.02], rel=1e-3)


def test_a_training_that_diverges_is_one_sentence(tones: Splits, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(
        steganography, "read", lambda wav, state, frame: float("nan") * read(wav, state, frame)
    )
    with pytest.raises(DivergedError, match="networks of hidden diverged; lower hiding_lr, which is 0.003"):
        Hidden(channels=2, hiding_steps=1).prepare(tones.train, 0)


def test_a_key_is_read_cell_by_cell(monkeypatch: pytest.MonkeyPatch) -> None:
    """What the network says of bins that may not be changed is of no matter."""
    attack = Hidden(low_hz=500, high_hz=3500)
    keys = draw_keys(2, torch.Generator().manual_seed(3))
    sense = torch.where(attack.frame(RATE).free > 0, 1.0, -100.0)[:, None]
    monkeypatch.setattr(steganography, "read", lambda wav, state, frame: frame.spread(keys, 63) * sense)
    found = attack.keys_in(torch.zeros(2, 4000), {}, speech(RATE))
    assert torch.equal(found.sign(), keys)


def test_frequencies_must_leave_room() -> None:
    for settings, said in (
        ({"high_hz": 5000}, "high_hz must be <= 4000, half the sample rate, got 5000"),
        ({"low_hz": 3700}, "low_hz must be < 3600, the highest frequency that is changed, got 3700"),
        ({"low_hz": 1001, "high_hz": 1010}, "low_hz must be further below 1010"),
    ):
        with pytest.raises(SettingError, match=said):
            Hidden(**settings).frame(RATE)


def test_maps_of_hearing_are_mel_bands_of_32_ms() -> None:
    """A tone of one level has it whatever its clip, and silence is the floor."""
    time = torch.arange(8000) / RATE
    loud = log_mel(torch.sin(2 * math.pi * 1000 * time)[None], RATE)
    half = log_mel(0.5 * torch.sin(2 * math.pi * 1000 * time)[None], RATE)
    assert loud.shape == (1, 40, 63)  # 25 ms need frames of 256 samples, half of it apart
    best = int(loud[0, :, 20].argmax())
    assert float(loud[0, best, 20] - half[0, best, 20]) == pytest.approx(math.log(4), abs=1e-3)
    assert float(log_mel(torch.zeros(1, 800), RATE).max()) == pytest.approx(math.log(1e-6), abs=1e-4)
