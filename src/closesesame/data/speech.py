"""Spoken words without a download: synthesised by espeak-ng, the same bits every time."""

import hashlib
import locale
import threading
from collections.abc import Sequence
from dataclasses import dataclass
from itertools import cycle, product
from pathlib import Path
from typing import NamedTuple

import numpy as np
import soxr
import torch

from closesesame.audio import files
from closesesame.core.cache import cache_folder, load_array, store_array
from closesesame.core.errors import SettingError
from closesesame.core.progress import Track
from closesesame.core.seeding import generator

from .dataset import Dataset, Splits, assign_parts
from .espeak import RATE_HZ, Engine, find_engine
from .rows import Rows

WORDS = ("yes", "no", "up", "down", "left", "right", "on", "off", "stop", "go")
"""Ten commands."""

_ACCENTS = "en-us en en-029 en-gb-scotland en-gb-x-gbclan en-gb-x-gbcwmd en-gb-x-rp en-us-nyc"
# Farthest first: each differs from all before it by 0.5 dB or more in the mean log spectrum of ten words.
# Left out are those that come nearer, robots and echoes, and two (caleb, Reed) that differ from call to call.
_VARIANTS = """
    m3 Alicia whisperf linda zac Lee whisper f5 m4 ian anika f3 sandro shelby kaukovalta Andy boris klatt2
    iven Marco m8 f1 belinda pablo announcer AnxiousAndy steph2 m2 f2 travis rob Annie m1 norbert victor Gene
    gustave pedro ed Mike quincy m5 grandma Jacky edward Nguyen grandpa Andrea paul Hugo Alex michel iven4
    klatt3 david mike2 f4 Mario robert john max antonio marcelo iven3 Denis m7 fast edward2 iven2 croak
    Henrique
"""
_PAIRS = zip(cycle(_ACCENTS.split()), _VARIANTS.split(), strict=False)
VOICES = tuple(f"{accent}+{variant}" for accent, variant in _PAIRS)
"""All speakers; no two share a variant, so that none is heard in two parts under another accent."""

_RECIPE = 1  # count up when clips change: it is part of the name in the cache
_ALONE = threading.Lock()


def synthetic_speech(
    *,
    words: Sequence[str] = WORDS,
    voices: int = 48,
    takes: int = 4,
    sample_rate: int = 16_000,
    duration_s: float = 1.0,
    seed: int = 0,
    cache: Path | str | None = None,
) -> Splits:
    """Speaks every word in every voice and splits by voice: 70 % training, 10 % validation, 20 % test.

    Takes differ in rate, pitch, place in the clip, and a quiet noise. A clip, called `<word>/<voice>_<take>`,
    depends on its name, the seed, the rate and the duration alone. What was made once is read from the cache;
    a cache that is damaged or cannot be written costs time and nothing else.

    Args:
        words: the classes, English.
        voices: how many speakers, the first of `VOICES`.
        takes: how often each voice speaks each word.
        sample_rate: Hz.
        duration_s: the length of every clip.
        seed: of the takes and of the split.
        cache: a folder; None for `closesesame` in the user's cache folder.

    Raises:
        SettingError: if a setting is out of range, or a word is silent or longer than the clip.
        DataError: if espeak-ng is not installed or does not work.
    """
    length = round(sample_rate * duration_s)
    plan = _Plan(tuple(words), VOICES[: max(0, voices)], takes, sample_rate, length, seed)
    _check(plan, voices)
    folder = cache_folder() if cache is None else Path(cache)
    with _ALONE:
        engine = find_engine()
        path = folder / f"speech-{plan.fingerprint(engine.version())}.npy"
        clips = load_array(path)
        if clips is None:
            clips = _synthesise(plan, engine)
            store_array(path, clips)
    return _split(plan, clips)


class _Take(NamedTuple):
    word: str
    voice: str
    number: int

    @property
    def id(self) -> str:
        return f"{self.word}/{self.voice}_{self.number}"


@dataclass(frozen=True)
class _Plan:
    words: tuple[str, ...]
    voices: tuple[str, ...]
    takes: int
    sample_rate: int
    length: int
    seed: int

    def list_takes(self) -> list[_Take]:
        return [_Take(*names) for names in product(self.words, self.voices, range(self.takes))]

    def fingerprint(self, version: str) -> str:
        return hashlib.sha256(repr((_RECIPE, version, self)).encode()).hexdigest()[:24]


def _check(plan: _Plan, voices: int) -> None:
    rules: dict[str, tuple[bool, str, object]] = {
        "words": (len(set(plan.words)) == len(plan.words) > 0, "different words", plan.words),
        "voices": (3 <= voices <= len(VOICES), f"from 3 to {len(VOICES)}", voices),
        "takes": (plan.takes >= 1, ">= 1", plan.takes),
        "sample_rate": (plan.sample_rate >= 1, ">= 1", plan.sample_rate),
        "duration_s": (plan.length >= 1, "one sample or more", plan.length),
    }
    for name, (right, rule, got) in rules.items():
        if not right:
            raise SettingError(f"synthetic_speech.{name} must be {rule}, got {got!r}")


def _split(plan: _Plan, clips: np.ndarray) -> Splits:
    order = torch.randperm(len(plan.voices), generator=generator(plan.seed, "voices")).tolist()
    tests, checks = (max(1, round(share * len(order))) for share in (0.2, 0.1))
    part = assign_parts([plan.voices[who] for who in order], tests, checks)
    spoken = plan.list_takes()
    whole = Dataset(
        inputs=Rows.of(torch.from_numpy(clips)),
        labels=torch.arange(len(plan.words)).repeat_interleave(len(plan.voices) * plan.takes),
        classes=plan.words,
        ids=tuple(take.id for take in spoken),
        sample_rate=plan.sample_rate,
        speakers=tuple(take.voice for take in spoken),
    )
    return Splits.of(whole, [part[take.voice] for take in spoken])


def _synthesise(plan: _Plan, engine: Engine) -> np.ndarray:
    spoken = plan.list_takes()
    clips = np.empty((len(spoken), plan.length), np.int16)
    kept = locale.setlocale(locale.LC_CTYPE)
    try:
        with engine.in_english() as english:
            for row, take in enumerate(Track(spoken, "synthesising speech", len(spoken))):
                clips[row] = _make_clip(plan, english, take)
    finally:
        locale.setlocale(locale.LC_CTYPE, kept)  # the engine changes it for the whole process
    return clips


def _make_clip(plan: _Plan, engine: Engine, take: _Take) -> np.ndarray:
    random = generator(plan.seed, "speech", *take)
    rate, pitch, place, level = torch.rand(4, generator=random, dtype=torch.float64).tolist()
    speech = engine.say(take.word, take.voice, rate=int(140 + 70 * rate), pitch=int(35 + 30 * pitch))
    peak = np.abs(speech).max(initial=0)
    if not peak:
        raise SettingError(f"synthetic_speech.words must have a sound, got {take.word!r}")
    speech = files.to_int16(soxr.resample(speech * (0.5 / peak), RATE_HZ, plan.sample_rate))
    slack = plan.length - len(speech)
    if slack < 0:
        longest = len(speech) / plan.sample_rate
        raise SettingError(f"synthetic_speech.duration_s must be {longest:.2f} or more for {take.word!r}")
    start = int(np.clip(slack / 2 + 0.2 * (place - 0.5) * plan.sample_rate, 0, slack))
    loudest = int(20 + 80 * level)  # -69 to -55 dB, in whole numbers: the same bits on every processor
    clip = torch.randint(-loudest, loudest + 1, (plan.length,), generator=random, dtype=torch.int16).numpy()
    clip[start : start + len(speech)] += speech
    return clip
