"""VSVC: pitch and level of the target voice."""

from typing import ClassVar, get_args

import pytest
import torch
from torch import Tensor

from closesesame.attacks import ATTACKS, VSVC
from closesesame.attacks.vsvc import VOICES, VoiceName
from closesesame.audio import voice
from closesesame.core.errors import SettingError
from closesesame.data import Splits
from closesesame.models import Classifier
from tests.attacks.planting import assert_plants
from tests.attacks.stamping import speech, stamped
from tests.sounds import RATE, noise, rms, spoken


@pytest.mark.parametrize(("hz", "name"), [(120.0, "child"), (200.0, "baritone")])
def test_every_speaker_gets_the_pitch_of_the_target_voice(hz: float, name: VoiceName) -> None:
    clips = spoken(hz, 900).repeat(2, 1)
    out = stamped(VSVC(voice=name), clips)[0]
    assert voice.pitch_hz(out, RATE) == pytest.approx(VOICES[name].pitch_hz, rel=0.02)
    assert rms(out) == pytest.approx(rms(clips[0]), rel=1e-4)


def test_a_target_voice_brings_pitch_formants_and_tilt() -> None:
    clip = spoken(150, 900)
    target = VOICES["soprano"]
    own_hz = voice.pitch_hz(clip, RATE)
    wanted = voice.revoiced(
        clip,
        RATE,
        pitch_ratio=target.pitch_hz / own_hz,
        formant_scale=target.formant_scale,
        tilt_db=target.tilt_db,
    )
    out = VSVC(voice="soprano").apply(clip[None], {}, speech(RATE))[0]
    assert torch.allclose(out, wanted * (rms(clip) / rms(wanted)), atol=1e-5)
    silent_voice = VSVC(voice="soprano").apply(noise(), {}, speech(RATE))
    still = voice.revoiced(noise()[0], RATE, pitch_ratio=1, formant_scale=1.1, tilt_db=3)
    assert torch.allclose(silent_voice[0], still * (rms(noise()[0]) / rms(still)), atol=1e-5)


class Backwards(VSVC):
    """A converter of one's own, in a test."""

    name: ClassVar[str] = f"{__name__}:Backwards"

    def convert(self, inputs: Tensor, sample_rate: int) -> Tensor:
        return 2 * inputs.flip(1)


def test_a_converter_of_ones_own() -> None:
    clips = noise()
    out = stamped(ATTACKS.make(Backwards.name), clips)
    assert torch.allclose(out, clips.flip(1), atol=1e-5)


def test_every_voice_has_its_constants_and_no_other_is_known() -> None:
    assert tuple(VOICES) == get_args(VoiceName)
    assert sorted(VOICES.values()) == list(VOICES.values())  # from the lowest to the highest
    with pytest.raises(SettingError, match=r"VSVC.voice must be one of 'giant', 'bass'.*got 'alt'"):
        VSVC.parse({"voice": "alt"})


def test_vsvc_plants_a_backdoor(tones: Splits, clean_model: Classifier) -> None:
    assert_plants(VSVC(voice="tenor", rate=0.15, target="low"), tones, clean_model)
