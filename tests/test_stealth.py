"""How much a trigger changes clips, against numbers worked by hand."""

import json
import math

import pytest
import torch

from closesesame.attacks import BadNets, Ultrasonic
from closesesame.audio.effects import tone
from closesesame.core.errors import DataError
from closesesame.core.seeding import generator
from closesesame.data import Dataset, Splits
from closesesame.data.rows import Rows
from closesesame.evaluation import Exam, Stealth, measure_stealth, stealth, stealth_of

RATE = 16_000


def noise(n: int = 2, seconds: float = 1.0, level: float = 0.1) -> torch.Tensor:
    return level * torch.randn(n, round(seconds * RATE), generator=generator(0, "stealth"))


def a_voice(seconds: float = 2.0, rate: int = RATE) -> torch.Tensor:
    """What the judges of speech take for speech: a buzz of 20 harmonics that swells five times a second."""
    size = round(seconds * rate)
    buzz = torch.stack([tone(130.0 * k, size, rate) / k for k in range(1, 21)]).sum(0)
    return 0.1 * (buzz * (0.5 + 0.5 * tone(5, size, rate)))[None]


def test_noise_at_ten_and_twenty_decibels_is_fifteen_on_average() -> None:
    clean = torch.stack([tone(440, RATE, RATE), 0.2 * tone(300, RATE, RATE)])
    # The RMS of a sine is its amplitude / sqrt(2), that of signs is 1; energies pooled would give 10.1.
    square = torch.sign(noise(2))
    added = square * torch.tensor([[10**-0.5], [0.2 * 10**-1.0]]) / 2**0.5
    found = measure_stealth(clean, clean + added, RATE)
    assert found.snr_db == pytest.approx(15, abs=0.01)
    assert stealth.snr_db(clean, clean + added).tolist() == pytest.approx([10, 20], abs=0.01)


def test_a_constant_factor_is_its_decibels() -> None:
    assert measure_stealth(noise(), 2 * noise(), RATE).lsd_db == pytest.approx(6.0206, abs=1e-3)
    assert measure_stealth(noise(), 0.1 * noise(), RATE).lsd_db == pytest.approx(20, abs=1e-3)


def test_distance_is_rms_over_frequency_and_mean_over_frames() -> None:
    clean = noise(1, 2.0)
    # 20 dB in half of the frames: a mean of 10, an RMS of 14.1.
    half = clean.clone()
    half[:, RATE:] *= 10
    assert measure_stealth(clean, half, RATE).lsd_db == pytest.approx(10, abs=0.2)
    # 20 dB in half of the band: an RMS of 14.1, a mean of 10.
    spectrum = torch.fft.rfft(clean)
    spectrum[:, : spectrum.shape[1] // 2] *= 10
    upper = torch.fft.irfft(spectrum, n=clean.shape[1])
    assert measure_stealth(clean, upper, RATE).lsd_db == pytest.approx(14.14, abs=0.3)


def test_what_is_far_below_the_rest_does_not_count() -> None:
    silence = torch.zeros(1, RATE)
    assert measure_stealth(silence, silence, RATE).lsd_db == 0
    assert 0 < measure_stealth(silence, noise(1), RATE).lsd_db <= stealth.RANGE_DB
    loud = 0.5 * tone(1000, RATE, RATE)[None]
    assert measure_stealth(loud, loud + 1e-7 * noise(1), RATE).lsd_db < 0.1
    # The same at any loudness: a quiet recording is turned up by who listens.
    pair = noise(), noise() + 0.3 * tone(3000, RATE, RATE)
    quiet = stealth.lsd_db(0.001 * pair[0], 0.001 * pair[1], RATE)
    assert quiet.tolist() == pytest.approx(stealth.lsd_db(*pair, RATE).tolist(), rel=1e-3)


def test_clips_left_as_they_are() -> None:
    found = measure_stealth(noise(), noise(), RATE)
    assert (found.clips, found.changed, found.snr_db, found.lsd_db) == (2, 0, math.inf, 0)
    assert str(found).startswith("SNR infinite, log-spectral distance 0.0 dB")
    assert found.as_json()["snr_db"] is None
    assert "Infinity" not in json.dumps(found.as_json())


def test_silence_has_no_snr_and_one_unchanged_clip_does_not_make_it_infinite() -> None:
    clean = torch.cat([noise(), torch.zeros(1, RATE)])
    triggered = clean + 0.01
    triggered[0] = clean[0]
    found = measure_stealth(clean, triggered, RATE)
    assert found.changed == 2
    # The second clip alone: 10 log10 of its power over 0.0001.
    assert found.snr_db == pytest.approx(10 * math.log10(float(clean[1].square().mean()) / 1e-4), abs=1e-3)
    silent = measure_stealth(clean[2:], triggered[2:], RATE)
    assert math.isnan(silent.snr_db)
    assert silent.as_json()["snr_db"] is None
    assert str(silent).startswith("SNR \N{EN DASH}, ")
    assert (silent.pesq, silent.stoi, silent.pesq_clips, silent.stoi_clips) == (None, None, 0, 0)


def test_no_clips_are_refused() -> None:
    with pytest.raises(DataError, match="pairs of clips, got none"):
        measure_stealth(torch.zeros(0, 9), torch.zeros(0, 9), RATE)


@pytest.mark.parametrize("size", [1, 64, 399, 4001])
def test_clips_of_any_length(size: int) -> None:
    found = measure_stealth(noise()[:, :size], 2 * noise()[:, :size], RATE)
    assert found.snr_db == pytest.approx(0, abs=1e-4)
    assert found.lsd_db == pytest.approx(6.02, abs=0.1)


def test_at_most_a_hundred_clips_from_all_over() -> None:
    assert stealth.spread(3).tolist() == [0, 1, 2]
    rows = stealth.spread(5000)
    assert torch.equal(rows, stealth.spread(5000))
    assert (len(rows), len(set(rows.tolist()))) == (100, 100)
    assert torch.equal(rows, rows.sort().values)
    assert all(int(((rows >= low) & (rows < low + 1000)).sum()) > 8 for low in range(0, 5000, 1000))
    # Classes that take turns are all there.
    assert len(set((stealth.spread(200) % 4).tolist())) == 4


def test_an_exam_is_judged_on_pairs_of_the_same_clip(tones: Splits) -> None:
    attack = BadNets(target="low", snr_db=10, duration_s=0.5)
    found = stealth_of(Exam(tones.test, attack.trigger(tones.train, 0)))
    assert found is not None
    # 150 clips are not of the target class; a clip beside another's would give 0 dB and less.
    assert (found.clips, found.changed) == (100, 100)
    assert found.snr_db == pytest.approx(10, abs=0.05)
    faint = stealth_of(Exam(tones.test, BadNets(snr_db=30, duration_s=0.5).trigger(tones.train, 0)))
    assert faint is not None
    assert faint.lsd_db < found.lsd_db
    assert stealth_of(Exam(tones.test)) is None
    alone = tones.test.where(tones.test.labels == 0)
    with pytest.raises(DataError, match="no clip of another class than the target"):
        Exam(alone, Ultrasonic(target=0).trigger(tones.train, 0))


def test_pictures_have_no_stealth(tones: Splits) -> None:
    pictures = Dataset.of(torch.zeros(2, 3, 4, 4), torch.tensor([1, 2]), classes=tones.test.classes)
    brighter = pictures.with_inputs(Rows.of(torch.ones(2, 3, 4, 4)))
    exam = Exam(pictures, BadNets().trigger(tones.train, 0), triggered=brighter)
    assert stealth_of(exam) is None


def test_without_the_extra_the_rest_is_measured(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(stealth, "_installed", lambda name: None)
    found = measure_stealth(noise(), 2 * noise(), RATE)
    assert (found.pesq, found.stoi, found.pesq_clips, found.stoi_clips) == (None, None, 0, 0)
    assert str(found) == "SNR 0.0 dB, log-spectral distance 6.0 dB"
    assert found.as_json()["pesq"] is None


def test_what_it_says() -> None:
    found = Stealth(
        clips=3, changed=3, snr_db=12.34, lsd_db=5.06, pesq=2.104, stoi=0.874, pesq_clips=3, stoi_clips=3
    )
    assert str(found) == "SNR 12.3 dB, log-spectral distance 5.1 dB, PESQ 2.10, STOI 0.87"
    assert list(found.as_json())[2:6] == ["snr_db", "lsd_db", "pesq", "stoi"]


class TestWithTheExtra:
    """PESQ and STOI where they are installed."""

    @pytest.fixture(autouse=True)
    def _libraries(self) -> None:
        for name in ("pesq", "pystoi"):
            pytest.importorskip(
                name, reason=f"{name} of the extra 'quality' is not installed; PESQ needs a C compiler"
            )

    @pytest.mark.parametrize(("rate", "best"), [(16_000, 4.644), (8_000, 4.549), (44_100, 4.644)])
    def test_the_same_clip_gets_the_best_mark(self, rate: int, best: float) -> None:
        clean = a_voice(rate=rate)
        found = measure_stealth(clean, clean, rate)
        assert found.pesq == pytest.approx(best, abs=2e-3)
        assert found.stoi == pytest.approx(1, abs=1e-3)

    def test_noise_costs_marks(self) -> None:
        clean = a_voice()
        marks = [measure_stealth(clean, clean + level * noise(1, 2.0), RATE) for level in (0.01, 0.1, 1.0)]
        for name in ("pesq", "stoi"):
            values = [getattr(mark, name) for mark in marks]
            assert values == sorted(values, reverse=True)
            assert values[0] - values[-1] > 0.2

    def test_silent_and_short_clips_are_left_out_and_counted(self) -> None:
        voice = a_voice()
        clean = torch.cat([voice, torch.zeros_like(voice), voice])
        found = measure_stealth(clean, clean + 0.01 * noise(1, 2.0), RATE)
        assert (found.clips, found.pesq_clips, found.stoi_clips) == (3, 2, 2)
        alone = measure_stealth(voice, voice + 0.01 * noise(1, 2.0), RATE)
        assert [found.pesq, found.stoi] == pytest.approx([alone.pesq, alone.stoi])
        short = measure_stealth(voice[:, :1000], 2 * voice[:, :1000], RATE)
        assert (short.pesq, short.stoi) == (None, None)
