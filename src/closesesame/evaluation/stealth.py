"""How much a trigger changes clips, as computed figures: no listener is asked.

SNR is the level of the clip over the level of what was changed. The log-spectral distance is that of Gray and
Markel, "Distance Measures for Speech Processing", IEEE TASSP 24(5), 1976: per frame the root mean square over
frequency of the difference of both log power spectra in dB, and its mean over frames. PESQ (ITU-T P.862 and
P.862.2) and STOI (Taal et al., IEEE TASLP 19(7), 2011) come with the extra `quality`; they were made for
speech with noise and codecs, so they say little of tones above their band or of another voice.
"""

import importlib
import math
import warnings
from collections.abc import Callable
from dataclasses import asdict, dataclass
from typing import Any

import numpy as np
import soxr
import torch
from jaxtyping import Float32
from numpy.typing import NDArray
from torch import Tensor

from closesesame.audio.features import HOP_S, WINDOW_S
from closesesame.audio.stft import stft
from closesesame.core.errors import DataError
from closesesame.core.progress import Track
from closesesame.core.seeding import generator
from closesesame.core.types import Wave

from .exam import Exam

MOST_CLIPS = 100
"""No more are judged: PESQ and STOI take 2 s for so many."""
RANGE_DB = 80
"""What is further below the loudest bin of both clips counts as this far: nobody hears it beside the rest."""
WIDE_HZ, NARROW_HZ = 16_000, 8_000

Samples = NDArray[np.float32]
PerClip = Float32[Tensor, "batch"]


@dataclass(frozen=True)
class Stealth:
    """Means over clips.

    Attributes:
        clips: how many were judged.
        changed: how many of them the trigger changes at all.
        snr_db: over those that it changes and that are not silent; infinite if it changes none.
        lsd_db: log-spectral distance, 0 to 80 dB, of all.
        pesq: 1 (bad) to 4.64, or to 4.55 at 8 kHz; None without the extra `quality`, or if no clip fits.
        stoi: intelligibility, 1 as before; a correlation, so it may fall to 0 and below; None likewise.
        pesq_clips: how many were long and loud enough for PESQ.
        stoi_clips: the same for STOI.
    """

    clips: int
    changed: int
    snr_db: float
    lsd_db: float
    pesq: float | None
    stoi: float | None
    pesq_clips: int
    stoi_clips: int

    def as_json(self) -> dict[str, Any]:
        """All figures; None for what is not known or, with `changed` 0, an infinite SNR."""
        return {name: _finite(value) for name, value in asdict(self).items()}

    def __str__(self) -> str:
        said = [
            f"SNR {decibels(self.snr_db)}",
            f"log-spectral distance {decibels(self.lsd_db)}",
            *(
                f"{name} {value:.2f}"
                for name, value in (("PESQ", self.pesq), ("STOI", self.stoi))
                if value is not None
            ),
        ]
        return ", ".join(said)


def decibels(value: float) -> str:
    """`12.3 dB`, `infinite`, or an en dash for NaN."""
    if math.isnan(value):
        return "\N{EN DASH}"
    return "infinite" if math.isinf(value) else f"{value:.1f} dB"


def stealth_of(exam: Exam) -> Stealth | None:
    """Judges the trigger of an exam on at most `MOST_CLIPS` of its clips; None without a trigger or sound.

    They are played as at the exam, with the attack's `strength`; poisoned training clips may differ.
    """
    triggered = exam.triggered
    if triggered is None or triggered.sample_rate is None or not len(triggered):
        return None
    clean, played = exam.pairs(spread(len(triggered)))
    return measure_stealth(clean.inputs[:], played.inputs[:], triggered.sample_rate)


def spread(n: int, most: int = MOST_CLIPS) -> Tensor:
    """Which of n clips to judge: at most so many, always the same, in order.

    They are drawn: every second of clips whose classes take turns would leave half of the classes out.
    """
    return torch.randperm(n, generator=generator(0, "spread"))[:most].sort().values


def measure_stealth(clean: Wave, triggered: Wave, sample_rate: int) -> Stealth:
    """Judges all pairs.

    Raises:
        DataError: if there are none.
    """
    if not len(clean):
        raise DataError("stealth is measured on pairs of clips, got none")
    changed = (clean != triggered).any(1)
    sounding = clean.abs().amax(1) > 0
    ratios = snr_db(clean, triggered)[changed & sounding]
    nothing = math.inf if bool(sounding.any()) and not bool(changed.any()) else math.nan
    pesq, stoi = _judges()
    scores: dict[str, list[float]] = {"pesq": [], "stoi": []}
    pairs = [
        (_heard(before, sample_rate), _heard(after, sample_rate))
        for before, after in zip(clean[sounding], triggered[sounding], strict=True)
    ]
    rate = NARROW_HZ if sample_rate == NARROW_HZ else WIDE_HZ
    for before, after in Track(pairs, "judging clips", len(pairs)):
        for name, judge in (("pesq", pesq), ("stoi", stoi)):
            score = None if judge is None else judge(before, after, rate)
            if score is not None and math.isfinite(score):
                scores[name].append(score)
    return Stealth(
        clips=len(clean),
        changed=int(changed.sum()),
        snr_db=float(ratios.mean()) if len(ratios) else nothing,
        lsd_db=float(lsd_db(clean, triggered, sample_rate).mean()),
        pesq=_mean(scores["pesq"]),
        stoi=_mean(scores["stoi"]),
        pesq_clips=len(scores["pesq"]),
        stoi_clips=len(scores["stoi"]),
    )


def snr_db(clean: Wave, triggered: Wave) -> PerClip:
    """Power of each clip over that of the difference; infinite where there is none."""
    return 10 * torch.log10(clean.square().sum(1) / (triggered - clean).square().sum(1))


def lsd_db(clean: Wave, triggered: Wave, sample_rate: int) -> PerClip:
    """Log-spectral distance of each pair, over frames of 25 ms every 10 ms."""
    before, after = (_power(clips, sample_rate) for clips in (clean, triggered))
    loudest = torch.maximum(before, after).amax((1, 2), keepdim=True)
    floor = (loudest * 10 ** (-RANGE_DB / 10)).clamp(min=torch.finfo(torch.float32).tiny)
    apart = 10 * torch.log10(torch.maximum(after, floor) / torch.maximum(before, floor))
    return apart.square().mean(1).sqrt().mean(1)


def _power(clips: Wave, sample_rate: int) -> Float32[Tensor, "batch bin frame"]:
    size, hop = (max(1, round(seconds * sample_rate)) for seconds in (WINDOW_S, HOP_S))
    return stft(clips, size, hop).abs().square()


def _heard(clip: Tensor, sample_rate: int) -> Samples:
    """A clip (time,) at the rate the judges work at."""
    samples: Samples = clip.detach().cpu().numpy()
    return samples if sample_rate in {WIDE_HZ, NARROW_HZ} else soxr.resample(samples, sample_rate, WIDE_HZ)


Judge = Callable[[Samples, Samples, int], float | None]


def _judges() -> tuple[Judge | None, Judge | None]:
    """PESQ and STOI, each if it is installed."""
    return _pesq(), _stoi()


def _pesq() -> Judge | None:
    library = _installed("pesq")
    if library is None:
        return None

    def judge(clean: Samples, triggered: Samples, rate: int) -> float | None:
        try:
            return float(library.pesq(rate, clean, triggered, "wb" if rate == WIDE_HZ else "nb"))
        except library.PesqError:  # too short, or no utterance in it
            return None

    return judge


def _stoi() -> Judge | None:
    library = _installed("pystoi")
    if library is None:
        return None

    def judge(clean: Samples, triggered: Samples, rate: int) -> float | None:
        with warnings.catch_warnings():
            warnings.simplefilter("error", RuntimeWarning)
            try:
                return float(library.stoi(clean, triggered, rate))
            except (RuntimeWarning, ValueError):  # too few frames that are not silent, or none
                return None

    return judge


def _installed(name: str) -> Any:
    try:
        return importlib.import_module(name)
    except ImportError:
        return None


def _mean(values: list[float]) -> float | None:
    return math.fsum(values) / len(values) if values else None


def _finite(value: float | None) -> float | None:
    return value if value is not None and math.isfinite(value) else None
