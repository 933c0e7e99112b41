"""Voice activity detection, by hand and by what it takes out."""

from functools import partial

import pytest
import torch

from closesesame.audio.effects import tone
from closesesame.core.errors import ModelError, SettingError
from closesesame.purification import VAD
from closesesame.purification.vad import speech_of

from .examples import RATE, card, purifier, rms_db, word


def test_five_frames_and_a_half_by_hand() -> None:
    # Powers of the frames: 0.01, 0.5, 1, 0.0001, 0.02 and 0.005; the last frame is half silence.
    wav = torch.tensor([[0.1, 0.1, 0, 1, 1, -1, 0.01, -0.01, 0, 0.2, 0.1]])
    for hang, range_db, frames in (
        (0, 2, [0, 0, 1, 0, 0, 0]),
        (0, 4, [0, 1, 1, 0, 0, 0]),
        (0, 19, [0, 1, 1, 0, 1, 0]),
        (0, 21, [1, 1, 1, 0, 1, 0]),
        (1, 2, [0, 1, 1, 1, 0, 0]),
        (2, 2, [1, 1, 1, 1, 1, 0]),
    ):
        kept = torch.tensor(frames).repeat_interleave(2)[:11]
        assert torch.equal(speech_of(wav, 2, hang, range_db), wav * kept), (hang, range_db)
    both = speech_of(torch.cat([wav, 0.01 * wav, 0 * wav]), 2, 0, 4)
    assert torch.equal(both, torch.cat([both[:1], 0.01 * both[:1], 0 * wav]))


def test_it_silences_a_trigger_in_a_pause_and_leaves_one_within_speech() -> None:
    speech = word(begin=0.4, end=0.7)
    trigger = 0.005 * tone(3000, RATE, RATE)  # 36 dB below the speech
    cleaned = purifier(VAD())(speech + trigger)
    inside = slice(round(0.3 * RATE), round(0.8 * RATE))
    assert torch.equal(cleaned[0, inside], (speech + trigger)[0, inside])
    assert float(cleaned[0, : inside.start].abs().max()) == float(cleaned[0, inside.stop :].abs().max()) == 0
    louder = purifier(VAD(range_db=40))(speech + trigger)
    assert torch.equal(louder, speech + trigger)


def test_a_frame_is_shorter_than_a_clip() -> None:
    assert purifier(VAD(frame_s=0.2), seconds=0.25)
    with pytest.raises(SettingError, match="VAD.frame_s must be below the 0.25 s of a clip, got 0.25"):
        purifier(VAD(frame_s=0.25), seconds=0.25)


def test_settings_count_seconds() -> None:
    assert VAD().settings() == VAD(range_db=30, frame_s=0.02, hang_s=0.1).settings()
    speech = word(begin=0.4, end=0.7)
    hiss = speech + 1e-4
    for frame_s, hang_s, kept_s in ((0.02, 0.1, 0.5), (0.02, 0.0, 0.3), (0.1, 0.0, 0.3), (0.1, 0.15, 0.7)):
        cleaned = purifier(VAD(frame_s=frame_s, hang_s=hang_s))(hiss)
        assert float((cleaned != 0).sum()) / RATE == pytest.approx(kept_s), (frame_s, hang_s)
    assert rms_db(purifier(VAD())(speech)) == rms_db(speech)


def test_pictures_are_refused() -> None:
    with pytest.raises(ModelError, match="vad takes waveforms with a sample rate, got inputs"):
        VAD().fit(None, 0, card=card(None, (3, 8, 8)))


def test_a_frame_is_the_nearest_whole_number_of_samples() -> None:
    louder, change = torch.linspace(0, 1, RATE)[None], partial(speech_of, hang=0, range_db=6)
    cleaned = purifier(VAD(frame_s=0.01005, hang_s=0, range_db=6))(louder)
    assert torch.equal(cleaned, change(louder, 161))  # 160.8 samples
    assert not torch.equal(cleaned, change(louder, 160))
