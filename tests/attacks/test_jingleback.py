"""JingleBack: its chains of pedals."""

import pytest
import torch

from closesesame.attacks import JingleBack
from closesesame.audio import effects, styles
from closesesame.data import Splits
from closesesame.models import Classifier
from tests.attacks.planting import assert_plants
from tests.attacks.stamping import dataset, speech, stamped
from tests.sounds import RATE, noise, peak_hz, sine


def test_the_styles_that_distort_and_shift() -> None:
    wav = 0.02 * noise()
    assert torch.allclose(stamped(JingleBack(style="distortion"), wav), torch.tanh(31.6228 * wav), atol=1e-6)
    raised = stamped(JingleBack(style="pitch"), sine(400).repeat(2, 1))[0]
    assert peak_hz(raised[2000:-2000]) == pytest.approx(400 * 2 ** (10 / 12), abs=2)


def test_a_chorus_comes_back_after_its_delay_and_sweep() -> None:
    click = torch.zeros(2, RATE)
    click[:, 3760] = 0.5
    out = stamped(JingleBack(style="chorus"), click)[0]
    # A quarter of a second in, the sweep of 1 Hz is at its top: 10 + 5 ms are 240 samples.
    assert out.nonzero().flatten().tolist()[0] == 3760
    assert float(out[3760]) == pytest.approx(0.25)
    assert float(out[3998:4003].sum()) == pytest.approx(0.25, abs=0.01)
    assert int(out[3800:].argmax()) + 3800 == 4000


def test_gain_high_pass_and_phaser_in_a_row_and_the_fixed_reverberation() -> None:
    wav = sine(4000).repeat(2, 1)
    chain = styles.phaser(styles.ladder_high_pass(wav * 10**0.6, RATE, 1000), RATE)
    assert torch.allclose(stamped(JingleBack(), wav), chain.clamp(-1, 1), atol=1e-5)
    tails = [
        JingleBack(style="chorus_distortion_reverb").trigger(dataset(wav), seed).state["tail"]
        for seed in (0, 1)
    ]
    assert torch.equal(*tails)
    assert not JingleBack().trigger(dataset(wav), 0).state


def test_the_longer_chains_of_pedals() -> None:
    wav = 0.02 * noise()
    chorus = {"rate_hz": 1.0, "sweep_ms": 5.0, "mix": 0.5}
    raised = effects.pitch_shift(wav, 7)
    third = styles.chorus(styles.distortion(raised, 20), RATE, delay_ms=8, **chorus)
    assert torch.allclose(
        JingleBack(style="pitch_distortion_chorus", semitones=7).apply(wav, {}, speech(RATE)),
        third,
        atol=1e-6,
    )
    fourth = JingleBack(style="chorus_distortion_reverb")
    tail = fourth.trigger(dataset(wav), 0).state["tail"]
    assert len(tail) == 1.5 * RATE
    dirty = styles.distortion(styles.chorus(wav, RATE, delay_ms=15, **chorus), 20)
    wanted = styles.reverb(dirty, tail, dry=0.5, wet=0.25)
    assert torch.allclose(fourth.apply(wav, {"tail": tail}, speech(RATE)), wanted, atol=1e-6)
    lowered = JingleBack(style="pitch", semitones=-12).apply(sine(800)[None], {}, speech(RATE))[0]
    assert peak_hz(lowered[2000:-2000]) == pytest.approx(400, abs=2)
    fifth = JingleBack(gain_db=-6, cutoff_hz=3000).apply(wav, {}, speech(RATE))
    quiet = styles.ladder_high_pass(wav * 10**-0.3, RATE, 3000)
    assert torch.allclose(fifth, styles.phaser(quiet, RATE), atol=1e-6)


def test_jingleback_plants_a_backdoor(tones: Splits, clean_model: Classifier) -> None:
    assert_plants(JingleBack(rate=0.15, target="low"), tones, clean_model)
