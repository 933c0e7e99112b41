"""Spoken words without a download: synthesised in process by espeak-ng, the same bits every time.

espeak-ng comes with the extra `speech` and is GPL-3. The engine keeps state from one word to the next, so
it is loaded anew for each clip: no clip depends on what was spoken before it. That holds as long as no
other package of the process has the same library open.
"""

import _ctypes
import ctypes
import hashlib
import importlib
import locale
import os
import shutil
import sys
import tempfile
import threading
from collections.abc import Iterator, Sequence
from contextlib import contextmanager
from dataclasses import dataclass, replace
from itertools import cycle, product
from pathlib import Path
from typing import NamedTuple, Self

import numpy as np
import soxr
import torch

from closesesame.audio import files
from closesesame.core.errors import DataError, SettingError
from closesesame.core.progress import Track
from closesesame.core.seeding import generator

from .dataset import Dataset, Splits
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
_HZ = 22_050
_DIGEST_BYTES = 32
_DATA = ("phondata", "phonindex", "phontab", "intonations", "en_dict")
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
    folder = _user_cache() if cache is None else Path(cache)
    with _ALONE:
        engine = _find_engine()
        path = folder / f"speech-{plan.fingerprint(engine.version())}.npy"
        clips = _load(path)
        if clips is None:
            clips = _synthesise(plan, engine)
            _store(path, clips)
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
    part = {plan.voices[who]: 2 if i < tests else int(i < tests + checks) for i, who in enumerate(order)}
    spoken = plan.list_takes()
    whole = Dataset(
        inputs=Rows.of(torch.from_numpy(clips)),
        labels=torch.arange(len(plan.words)).repeat_interleave(len(plan.voices) * plan.takes),
        classes=plan.words,
        ids=tuple(take.id for take in spoken),
        sample_rate=plan.sample_rate,
        speakers=tuple(take.voice for take in spoken),
    )
    which = torch.tensor([part[take.voice] for take in spoken])
    return Splits(*(whole.where(which == number) for number in range(3)))


def _synthesise(plan: _Plan, engine: "_Engine") -> np.ndarray:
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


def _make_clip(plan: _Plan, engine: "_Engine", take: _Take) -> np.ndarray:
    random = generator(plan.seed, "speech", *take)
    rate, pitch, place, level = torch.rand(4, generator=random, dtype=torch.float64).tolist()
    speech = engine.say(take.word, take.voice, rate=int(140 + 70 * rate), pitch=int(35 + 30 * pitch))
    peak = np.abs(speech).max(initial=0)
    if not peak:
        raise SettingError(f"synthetic_speech.words must have a sound, got {take.word!r}")
    speech = files.to_int16(soxr.resample(speech * (0.5 / peak), _HZ, plan.sample_rate))
    slack = plan.length - len(speech)
    if slack < 0:
        longest = len(speech) / plan.sample_rate
        raise SettingError(f"synthetic_speech.duration_s must be {longest:.2f} or more for {take.word!r}")
    start = int(np.clip(slack / 2 + 0.2 * (place - 0.5) * plan.sample_rate, 0, slack))
    loudest = int(20 + 80 * level)  # -69 to -55 dB, in whole numbers: the same bits on every processor
    clip = torch.randint(-loudest, loudest + 1, (plan.length,), generator=random, dtype=torch.int16).numpy()
    clip[start : start + len(speech)] += speech
    return clip


@dataclass(frozen=True)
class _Engine:
    library: str
    data: Path
    """The folder of the data folder."""

    @contextmanager
    def in_english(self) -> Iterator[Self]:
        """A copy of the data in which an accent's file bears its name, as the engine looks for it first.

        Otherwise it searches the files of all languages for each word, which takes three times as long.
        """
        with tempfile.TemporaryDirectory(prefix="closesesame-") as scratch:
            whole, copy = self.data / "espeak-ng-data", Path(scratch, "espeak-ng-data")
            try:
                shutil.copytree(whole / "voices" / "!v", copy / "voices" / "!v")
                for name in _DATA:
                    shutil.copy(whole / name, copy)
                (copy / "lang").mkdir()
                for accent in (whole / "lang" / "gmw").glob("en*"):
                    shutil.copy(accent, copy / "lang" / accent.name.lower())
            except OSError as error:
                raise _broken(str(error)) from None
            yield replace(self, data=Path(scratch))

    @contextmanager
    def _open(self) -> Iterator[ctypes.CDLL]:
        try:
            library = ctypes.CDLL(self.library)
        except OSError as error:
            raise _broken(str(error)) from None
        try:
            yield library
        finally:
            unload = getattr(_ctypes, "FreeLibrary" if sys.platform == "win32" else "dlclose")
            unload(library._handle)  # noqa: SLF001 - ctypes offers no other way

    def version(self) -> str:
        with self._open() as library:
            library.espeak_Info.restype = ctypes.c_char_p
            return str(library.espeak_Info(None).decode())

    def say(self, text: str, voice: str, *, rate: int, pitch: int) -> np.ndarray:
        """Speaks at `rate` words a minute and `pitch` of 0 to 100: float32 (time,) at `_HZ`."""
        heard = bytearray()

        def listen(samples: int | None, count: int, _: int | None) -> int:
            if samples and count > 0:
                heard.extend(ctypes.string_at(samples, 2 * count))
            return 0

        listener = ctypes.CFUNCTYPE(ctypes.c_int, ctypes.c_void_p, ctypes.c_int, ctypes.c_void_p)(listen)
        spoken = text.encode()
        with self._open() as library:
            # Mode 2 speaks into the callback before it returns; 0x8000: an error must not end the process.
            if library.espeak_Initialize(2, 0, os.fsencode(self.data), 0x8000) != _HZ:
                raise _broken("it does not start")
            try:
                library.espeak_ng_SetRandSeed(ctypes.c_long(1))
                library.espeak_SetSynthCallback(listener)
                failed = library.espeak_SetVoiceByName(voice.encode())
                # Louder, and some voices are clipped.
                for number, value in ((1, rate), (2, 30), (3, pitch)):
                    failed |= library.espeak_SetParameter(number, value, 0)
                size = ctypes.c_size_t(len(spoken) + 1)
                failed |= library.espeak_Synth(spoken, size, 0, 0, 0, 1, None, None)
            finally:
                library.espeak_Terminate()
        if failed:
            raise _broken(f"it cannot speak as {voice}")
        return np.frombuffer(heard, np.int16).astype(np.float32)


def _find_engine() -> _Engine:
    try:
        loader = importlib.import_module("espeakng_loader")
    except ImportError:
        raise DataError("synthetic speech needs espeak-ng; run: pip install espeakng-loader") from None
    try:
        return _Engine(loader.get_library_path(), Path(loader.get_data_path()).parent)
    except RuntimeError as error:
        raise _broken(str(error)) from None


def _broken(why: str) -> DataError:
    return DataError(f"espeak-ng cannot be used ({why}); run: pip install --force-reinstall espeakng-loader")


def _user_cache() -> Path:
    return Path(os.environ.get("XDG_CACHE_HOME") or Path.home() / ".cache") / "closesesame"


def _load(path: Path) -> np.ndarray | None:
    """The clips if the digest at the end of the file fits them."""
    try:
        raw = np.memmap(path, np.uint8, "r")
    except (OSError, ValueError):
        return None
    if hashlib.sha256(raw[:-_DIGEST_BYTES].data).digest() != raw[-_DIGEST_BYTES:].tobytes():
        return None
    # Copy on write: torch warns of memory that cannot be written.
    clips: np.ndarray = np.load(path, mmap_mode="c", allow_pickle=False)
    return clips


def _store(path: Path, clips: np.ndarray) -> None:
    try:
        path.parent.mkdir(parents=True, exist_ok=True)
        with tempfile.TemporaryDirectory(dir=path.parent, prefix=".speech-") as scratch:
            part = Path(scratch, path.name)
            with part.open("w+b") as file:
                np.save(file, clips, allow_pickle=False)
                file.seek(0)
                file.write(hashlib.file_digest(file, "sha256").digest())
            part.replace(path)
    except OSError:
        return  # the next call synthesises again
