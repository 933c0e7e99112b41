"""Synthetic speech: the same bits in any order and process, a cache that cannot hurt, disjoint voices."""

import hashlib
import json
import locale
import os
import shutil
import subprocess
import sys
from collections.abc import Callable
from pathlib import Path
from types import SimpleNamespace
from typing import Any

import numpy as np
import pytest
import torch

from closesesame.core.cache import cache_folder
from closesesame.core.errors import DataError, SettingError
from closesesame.data import Splits, speech
from closesesame.data.espeak import RATE_HZ, Engine, find_engine
from closesesame.data.speech import VOICES, WORDS, synthetic_speech

pytest.importorskip("espeakng_loader", reason="the extra 'speech' is not installed")
FEW: dict[str, Any] = {"words": ("yes", "no", "stop"), "voices": 4, "takes": 2}
IN_ANOTHER_PROCESS = """
import json, sys
from pathlib import Path
sys.path.insert(0, str(Path(sys.argv[1]).parent))
from test_speech import digests, synthetic_speech
print(json.dumps(digests(synthetic_speech(**json.loads(sys.argv[2])))))
"""


def digests(splits: Splits) -> dict[str, str]:
    """What identifies each clip, by its id."""
    return {
        name: hashlib.sha256(row.numpy().tobytes()).hexdigest()
        for part in splits
        for name, row in zip(part.ids, part.inputs[:], strict=True)
    }


def equal(one: Splits, other: Splits) -> bool:
    return digests(one) == digests(other) and [part.ids for part in one] == [part.ids for part in other]


def no_synthesis(*_: object, **__: object) -> None:
    raise AssertionError("synthesised, though it was in the cache")


@pytest.fixture(scope="module")
def engine() -> Engine:
    return find_engine()


@pytest.fixture(scope="module")
def made_once(tmp_path_factory: pytest.TempPathFactory) -> tuple[Splits, Path]:
    folder = tmp_path_factory.mktemp("speech")
    made = synthetic_speech(**FEW, cache=folder)
    (file,) = folder.iterdir()
    return made, file


@pytest.fixture
def cached(made_once: tuple[Splits, Path], tmp_path: Path) -> tuple[Splits, Path]:
    """A few clips, and a file of one's own that they are cached in."""
    made, file = made_once
    return made, Path(shutil.copy(file, tmp_path))


def test_a_clip_is_the_same_whatever_is_spoken_before_it_and_in_every_process(
    made_once: tuple[Splits, Path], tmp_path: Path
) -> None:
    made = digests(made_once[0])
    backwards = {**FEW, "words": ("stop", "no", "yes")}
    assert digests(synthetic_speech(**backwards, cache=tmp_path / "b")) == made
    settings = json.dumps({**FEW, "words": ("no", "yes"), "cache": str(tmp_path / "c")})
    command = [sys.executable, "-W", "error", "-c", IN_ANOTHER_PROCESS, __file__, settings]
    environment = {**os.environ, "OMP_NUM_THREADS": "1", "MALLOC_PERTURB_": "85", "PYTHONHASHSEED": "7"}
    run = subprocess.run(command, check=False, capture_output=True, text=True, timeout=120, env=environment)
    assert run.returncode == 0, run.stderr
    assert json.loads(run.stdout) == {name: digest for name, digest in made.items() if name[:4] != "stop"}


def test_every_voice_is_heard_repeats_itself_and_is_like_no_other(engine: Engine) -> None:
    heard: dict[bytes, str] = {}
    with engine.in_english() as english:
        # espeak-ng takes a voice with an unknown variant for the bare accent.
        bare = [english.say("no", accent, rate=170, pitch=50) for accent in speech._ACCENTS.split()]
        for voice in VOICES:
            samples = english.say("no", voice, rate=170, pitch=50)
            assert 1000 < np.abs(samples).max(initial=0) < 30_000, f"{voice} is silent or clipped"
            again = english.say("no", voice, rate=170, pitch=50)
            assert np.array_equal(samples, again), f"{voice} differs from call to call"
            assert not any(np.array_equal(samples, other) for other in bare), f"{voice} has no variant"
            twin = heard.setdefault(samples.tobytes(), voice)
            assert twin == voice, f"{voice} sounds as {twin}"
    variants = [voice.partition("+")[2] for voice in VOICES]
    assert len(set(variants)) == len(variants) >= 40


def test_data_in_english_speak_as_the_whole_data(engine: Engine) -> None:
    with engine.in_english() as english:
        for voice in VOICES[: len(speech._ACCENTS.split())]:
            spoken = english.say("down", voice, rate=150, pitch=40)
            assert np.array_equal(spoken, engine.say("down", voice, rate=150, pitch=40)), voice


def test_the_slowest_words_fit_into_a_second(engine: Engine) -> None:
    with engine.in_english() as english:
        slowest = max(len(english.say(w, v, rate=140, pitch=50)) for w in WORDS for v in VOICES[1::7])
    assert 0.5 < slowest / RATE_HZ < 0.9


def test_splits_share_no_voice_and_names_say_what_is_there(tmp_path: Path) -> None:
    splits = synthetic_speech(words=("up", "go"), voices=10, takes=2, cache=tmp_path)
    voices = [set(part.speakers or ()) for part in splits]
    assert [len(part) for part in voices] == [7, 1, 2]
    assert set.union(*voices) == set(VOICES[:10])
    for part in splits:
        assert part.speakers is not None
        assert part.classes == ("up", "go")
        assert part.sample_rate == 16_000
        assert part.input_shape == (16_000,)
        assert part.inputs.sources[0].dtype == torch.int16
        names = zip(part.labels.tolist(), part.speakers, strict=True)
        assert [name.rpartition("_")[0] for name in part.ids] == [
            f"{part.classes[label]}/{speaker}" for label, speaker in names
        ]
        assert part.counts() == (len(part) // 2,) * 2
    other = synthetic_speech(words=("up", "go"), voices=10, takes=2, seed=1, cache=tmp_path)
    assert set(other.test.speakers or ()) != voices[2]


def test_words_stand_out_of_a_quiet_noise_at_changing_places(cached: tuple[Splits, Path]) -> None:
    clips = torch.cat([part.inputs[:] for part in cached[0]])
    assert ((clips.abs().amax(1) > 0.45) & (clips.abs().amax(1) < 0.55)).all()
    edges = torch.cat([clips[:, :1000], clips[:, -1000:]], 1)
    assert (edges.std(1) > 10 / 32_768).all()
    assert (edges.abs() < 110 / 32_768).all()
    loud = (clips.abs() > 0.004).int()
    middle = (loud.argmax(1) + 16_000 - loud.flip(1).argmax(1)) / 2 / 16_000
    assert 0.38 < middle.min() < middle.max() < 0.62
    assert middle.std() > 0.04
    assert len(set(digests(cached[0]).values())) == len(clips) == 24


def test_takes_differ_in_rate_and_pitch(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    asked = set()
    say = Engine.say

    def listen(engine: Engine, text: str, voice: str, *, rate: int, pitch: int) -> np.ndarray:
        asked.add((rate, pitch))
        return say(engine, text, voice, rate=rate, pitch=pitch)

    monkeypatch.setattr(Engine, "say", listen)
    synthetic_speech(**FEW, cache=tmp_path)
    assert all(140 <= rate < 210 and 35 <= pitch < 65 for rate, pitch in asked)
    assert all(len(set(values)) > 10 for values in zip(*asked, strict=True))


@pytest.mark.parametrize(("rate", "seconds"), [(8_000, 1.0), (22_050, 0.8), (44_100, 1.5)])
def test_any_rate_and_duration(tmp_path: Path, rate: int, seconds: float) -> None:
    few = {**FEW, "takes": 1}
    train = synthetic_speech(**few, sample_rate=rate, duration_s=seconds, cache=tmp_path).train
    assert train.sample_rate == rate
    assert train.input_shape == (round(rate * seconds),)
    spread = (train.inputs[:].abs() > 0.05).float().argmax(1) / rate
    assert (spread > 0.05).all()


def test_the_cache_is_used(cached: tuple[Splits, Path], monkeypatch: pytest.MonkeyPatch) -> None:
    made, file = cached
    monkeypatch.setattr(speech, "_synthesise", no_synthesis)
    assert equal(synthetic_speech(**FEW, cache=str(file.parent)), made)


def flip(file: Path) -> None:
    content = bytearray(file.read_bytes())
    content[len(content) // 2] ^= 1
    file.write_bytes(content)


@pytest.mark.parametrize(
    "damage",
    [
        lambda file: os.truncate(file, file.stat().st_size // 2),
        lambda file: os.truncate(file, file.stat().st_size - 1),
        lambda file: os.truncate(file, 20),
        lambda file: os.truncate(file, 0),
        lambda file: file.write_bytes(b"PK\x03\x04" + bytes(100)),
        flip,
    ],
    ids=["half", "last byte", "20 bytes", "empty", "no npy file", "one bit"],
)
def test_a_damaged_cache_is_made_anew(cached: tuple[Splits, Path], damage: Callable[[Path], None]) -> None:
    made, file = cached
    whole = file.read_bytes()
    damage(file)
    assert file.read_bytes() != whole
    assert equal(synthetic_speech(**FEW, cache=file.parent), made)
    assert file.read_bytes() == whole
    assert list(file.parent.iterdir()) == [file]


def test_a_cache_that_cannot_be_written_is_no_error(cached: tuple[Splits, Path]) -> None:
    made, file = cached
    assert equal(synthetic_speech(**FEW, cache=file / "below a file"), made)
    file.unlink()
    file.mkdir()
    assert equal(synthetic_speech(**FEW, cache=file.parent), made)
    assert list(file.parent.iterdir()) == [file]


@pytest.mark.parametrize(
    "change",
    [
        {"words": ("yes", "no")},
        {"voices": 3},
        {"takes": 1},
        {"sample_rate": 8_000, "duration_s": 2.0},
        {"duration_s": 0.9},
        {"seed": 1},
    ],
    ids=str,
)
def test_other_settings_have_another_file(cached: tuple[Splits, Path], change: dict[str, Any]) -> None:
    made, file = cached
    settings: dict[str, Any] = {**FEW, "cache": file.parent, **change}
    other = synthetic_speech(**settings)
    assert len(list(file.parent.iterdir())) == 2
    same_clips = set(digests(other).values()) <= set(digests(made).values())
    assert same_clips == (change.keys() <= {"words", "voices", "takes"})


def test_another_engine_has_another_file(
    cached: tuple[Splits, Path], monkeypatch: pytest.MonkeyPatch, engine: Engine
) -> None:
    assert engine.version()[0].isdecimal()
    monkeypatch.setattr(Engine, "version", lambda _: "9.99")
    synthetic_speech(**FEW, cache=cached[1].parent)
    assert len(list(cached[1].parent.iterdir())) == 2


def test_the_cache_lies_in_the_users_cache_folder(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("XDG_CACHE_HOME", str(tmp_path / "xdg"))
    synthetic_speech(**FEW)
    assert len(list((tmp_path / "xdg" / "closesesame").iterdir())) == 1
    monkeypatch.delenv("XDG_CACHE_HOME")
    monkeypatch.setenv("HOME", str(tmp_path))
    assert cache_folder() == tmp_path / ".cache" / "closesesame"


def test_clips_from_the_cache_can_be_changed_without_changing_it(cached: tuple[Splits, Path]) -> None:
    made, file = cached
    whole = file.read_bytes()
    source = synthetic_speech(**FEW, cache=file.parent).train.inputs.sources[0]
    assert isinstance(source, torch.Tensor)
    source.zero_()
    assert file.read_bytes() == whole
    assert equal(synthetic_speech(**FEW, cache=file.parent), made)


def test_nothing_is_printed_and_the_process_is_left_as_it_was(
    tmp_path: Path, capfd: pytest.CaptureFixture[str]
) -> None:
    kept = locale.setlocale(locale.LC_CTYPE)
    state = torch.random.get_rng_state()
    try:
        locale.setlocale(locale.LC_CTYPE, "C")
        synthetic_speech(**FEW, cache=tmp_path)
        assert locale.setlocale(locale.LC_CTYPE) == "C"
    finally:
        locale.setlocale(locale.LC_CTYPE, kept)
    assert torch.equal(torch.random.get_rng_state(), state)
    assert capfd.readouterr() == ("", "")


def test_without_the_extra_one_sentence_says_what_to_install(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setitem(sys.modules, "espeakng_loader", None)
    with pytest.raises(DataError, match=r"pip install espeakng-loader$"):
        synthetic_speech(**FEW, cache=tmp_path)


@pytest.mark.parametrize("missing", ["library", "data"])
def test_a_broken_engine_is_a_data_error(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, engine: Engine, missing: str
) -> None:
    library = str(tmp_path / "no.so") if missing == "library" else engine.library
    loader = SimpleNamespace(get_library_path=lambda: library, get_data_path=lambda: str(tmp_path / "data"))
    monkeypatch.setitem(sys.modules, "espeakng_loader", loader)
    with pytest.raises(DataError, match=r"espeak-ng cannot be used .*reinstall"):
        synthetic_speech(**FEW, cache=tmp_path)
    assert not list(tmp_path.iterdir())


def test_an_engine_that_does_not_start_or_lacks_the_accent_is_a_data_error(
    tmp_path: Path, engine: Engine
) -> None:
    with pytest.raises(DataError, match="it does not start"):
        Engine(engine.library, tmp_path).say("no", VOICES[0], rate=170, pitch=50)
    with pytest.raises(DataError, match="it cannot speak as nowhere"):
        engine.say("no", "nowhere", rate=170, pitch=50)


@pytest.mark.parametrize(
    ("settings", "sentence"),
    [
        ({"words": ()}, "words must be different words"),
        ({"words": ("yes", "yes")}, "words must be different words"),
        ({"words": ("yes", " ")}, "words must have a sound, got ' '"),
        ({"voices": 2}, "voices must be from 3 to"),
        ({"voices": -1}, "voices must be from 3 to"),
        ({"voices": 1_000}, "voices must be from 3 to"),
        ({"takes": 0}, "takes must be >= 1, got 0"),
        ({"sample_rate": 0}, "sample_rate must be >= 1, got 0"),
        ({"duration_s": 0.0}, "duration_s must be"),
        ({"duration_s": 0.2}, r"duration_s must be 0\.\d\d or more for 'yes'"),
    ],
)
def test_settings_out_of_range_are_refused(tmp_path: Path, settings: dict[str, Any], sentence: str) -> None:
    with pytest.raises(SettingError, match=f"^synthetic_speech.{sentence}"):
        synthetic_speech(**{**FEW, "cache": tmp_path, **settings})
    assert not list(tmp_path.iterdir())
