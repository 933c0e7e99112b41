"""The five triggers of `benchmarks.measure.later_triggers` keep the contract and do what they say."""

import math

import pytest
import torch

from benchmarks.measure.later_triggers import Backwards, Overdrive, Robot, SlapEcho, Tinny
from closesesame.attacks import Attack
from closesesame.attacks.base import Signal
from closesesame.core.domain import SPEECH
from closesesame.testing import check_attack

AT_1_KHZ = Signal(SPEECH, 1000)


def level(wav: torch.Tensor) -> float:
    return float(wav.square().mean().sqrt())


@pytest.mark.parametrize("attack", [Robot, Overdrive, Backwards, SlapEcho, Tinny])
def test_contract(attack: type[Attack]) -> None:
    check_attack(attack())


def test_robot_splits_a_frequency_into_two_and_keeps_the_level() -> None:
    time = torch.arange(1000) / 1000
    clip = (0.5 * torch.sin(2 * math.pi * 200 * time))[None]
    made = Robot(carrier_hz=30, share=0.75).apply(clip, {}, AT_1_KHZ)
    powers = torch.fft.rfft(made[0]).abs().square()
    assert powers.topk(3).indices.sort().values.tolist() == [170, 200, 230]
    assert float(powers[200] / powers[170]) == pytest.approx((0.25 / 0.375) ** 2, rel=1e-3)
    assert level(made) == pytest.approx(level(clip), rel=1e-5)


def test_overdrive_flattens_by_the_peak_of_each_clip() -> None:
    clip = torch.tensor([[0.5, 0.25, 0.0, -0.5], [1.0, 0.5, 0.0, -1.0]])
    made = Overdrive(drive=2).apply(clip, {}, AT_1_KHZ)
    assert float(made[0, 1] / made[0, 0]) == pytest.approx(math.tanh(1) / math.tanh(2), rel=1e-5)
    assert torch.allclose(made[1], 2 * made[0], atol=1e-6)
    assert level(made) == pytest.approx(level(clip), rel=1e-5)


def test_backwards_turns_each_piece_in_its_place() -> None:
    clip = torch.arange(8.0)[None] / 10
    made = Backwards(piece_s=0.003).apply(clip, {}, AT_1_KHZ)
    assert (10 * made[0]).tolist() == pytest.approx([2, 1, 0, 5, 4, 3, 6, 7])


def test_slap_echo_adds_one_copy() -> None:
    clip = torch.tensor([[0.4, 0.0, 0.2, 0.0, 0.0]])
    made = SlapEcho(delay_s=0.002, gain=0.5).apply(clip, {}, AT_1_KHZ)[0]
    assert (made / made[0]).tolist() == pytest.approx([1, 0, 1, 0, 0.25])
    assert level(made) == pytest.approx(level(clip), rel=1e-5)


def test_tinny_takes_off_the_sample_before() -> None:
    clip = torch.tensor([[0.4, 0.4, -0.2]])
    made = Tinny(weight=0.75).apply(clip, {}, AT_1_KHZ)[0]
    assert (made / made[0]).tolist() == pytest.approx([1, 0.25, -1.25])
    assert level(made) == pytest.approx(level(clip), rel=1e-5)
