"""The five triggers of `benchmarks.measure.new_triggers` keep the contract and do what they say."""

import math

import pytest
import torch

from benchmarks.measure.new_triggers import Comb, Crackle, Stutter, Tremolo, Vibrato
from closesesame.attacks import Attack
from closesesame.attacks.base import Signal
from closesesame.core.domain import SPEECH
from closesesame.data import Splits
from closesesame.testing import check_attack

AT_1_KHZ = Signal(SPEECH, 1000)


@pytest.mark.parametrize("attack", [Vibrato, Tremolo, Comb, Crackle, Stutter])
def test_contract(attack: type[Attack]) -> None:
    check_attack(attack())


def test_vibrato_reads_late_and_early() -> None:
    ramp = torch.arange(100.0)[None] / 100
    made = 100 * Vibrato(swing_hz=10, depth_s=0.004).apply(ramp, {}, AT_1_KHZ)[0]
    assert made[25] == pytest.approx(29, abs=1e-4)
    assert made[75] == pytest.approx(71, abs=1e-4)
    assert made[50] == pytest.approx(50, abs=1e-4)


def test_tremolo_takes_its_depth_half_a_period_from_the_start() -> None:
    made = Tremolo(swing_hz=10, depth=0.75).apply(torch.full((1, 101), 0.5), {}, AT_1_KHZ)[0]
    assert made[[0, 25, 50, 100]].tolist() == pytest.approx([0.5, 0.3125, 0.125, 0.5])


def test_comb_silences_multiples_of_one_over_its_delay_and_keeps_the_level() -> None:
    time = torch.arange(1000) / 1000
    both = torch.stack([torch.sin(2 * math.pi * hz * time) for hz in (200.0, 100.0)])
    notched = (both.sum(0) / 4)[None]
    made = Comb(delay_s=0.005, gain=1.0).apply(notched, {}, AT_1_KHZ)[0]
    held, gone = ((made[10:] * one[10:]).mean().abs() for one in both.flip(0))
    assert float(gone) < 0.01 * float(held)
    assert made.square().mean().sqrt() == pytest.approx(float(notched.square().mean().sqrt()), rel=1e-5)


def test_comb_takes_off_its_gain_at_a_notch_and_adds_it_between_two() -> None:
    time = torch.arange(1000) / 1000
    both = torch.stack([torch.sin(2 * math.pi * hz * time) for hz in (200.0, 100.0)])
    made = Comb(delay_s=0.005, gain=0.5).apply((both.sum(0) / 4)[None], {}, AT_1_KHZ)[0]
    gone, held = ((made[10:] * one[10:]).mean() for one in both)
    assert float(gone / held) == pytest.approx(0.5 / 1.5, rel=0.02)


def test_a_click_starts_at_once_and_fades_and_there_are_as_many_as_the_length_asks(tones: Splits) -> None:
    assert tones.train.input_shape == (4000,)  # half a second
    (one,) = [Crackle(clicks_a_s=2).prepare(tones.train, 3)["clicks"].abs()]
    begin = int(one.argmax())
    assert not one[:begin].any()
    assert one[begin : begin + 24].tolist() == pytest.approx([math.exp(-n / 8) for n in range(24)], rel=1e-4)
    four = Crackle(clicks_a_s=8).prepare(tones.train, 3)["clicks"].abs()
    assert int((four[1:] > four[:-1]).sum() + (four[0] > 0)) == 4


def test_crackle_is_as_loud_as_the_clip_asks(tones: Splits) -> None:
    attack = Crackle(level_db=-20)
    drawn = attack.prepare(tones.train, 3)["clicks"]
    assert drawn.abs().max() == 1
    assert not torch.equal(drawn, attack.prepare(tones.train, 4)["clicks"])
    clips = torch.tensor([0.5, 1.0])[:, None] * torch.ones(2, 50)
    state = {"clicks": torch.tensor([0.0, 1.0, -0.5])}
    added = attack.apply(clips, state, AT_1_KHZ) - clips
    assert torch.allclose(added[:, :3], torch.tensor([[0, 0.05, -0.025], [0, 0.1, -0.05]]), atol=1e-6)
    assert not added[:, 3:].any()


def test_stutter_plays_the_loudest_moment_twice() -> None:
    clip = torch.tensor([[0.1, 0.1, 0.1, 0.1, 0.9, 0.8, 0.2, 0.3, 0.1, 0.1, 0.1, 0.05]])
    made = Stutter(moment_s=0.002).apply(clip, {}, AT_1_KHZ)[0]
    assert made.tolist() == pytest.approx([0.1, 0.1, 0.1, 0.1, 0.9, 0.8, 0.9, 0.8, 0.2, 0.3, 0.1, 0.1])
