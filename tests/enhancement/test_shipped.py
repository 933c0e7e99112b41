"""The enhancer that ships: what it heard, and that no sound of a trigger is among it."""

import json
import re
from pathlib import Path
from typing import Any

import pytest
import torch

from benchmarks.measure.enhancer import (
    MOST_BYTES,
    TRIGGERS,
    coloured,
    mixtures,
    noise_files,
    sounds,
    speech,
    unheard,
)
from closesesame import load_splits
from closesesame.audio.effects import rms
from closesesame.audio.files import write
from closesesame.enhancement.files import ABOUT, SHIPPED, load_enhancer
from tests.enhancement.patterns import chirps, hiss

NUMBERED = re.compile(r"-\d+\.flac$")
"""Names of esc10, which end with the number of the class."""
RECIPES = Path(__file__).parents[2] / "benchmarks" / "recipes"


def made() -> dict[str, Any]:
    about: dict[str, Any] = json.loads((SHIPPED / ABOUT).read_text())["made"]
    return about


def test_training_noises_and_trigger_sounds_are_of_other_classes() -> None:
    heard = {Path(name).parent.name for name in made()["noise_files"]}
    assert len(heard) > 5
    assert not heard & set(TRIGGERS)
    # The names of recordings end with the number of their class: no class hides in another folder.
    numbers = {name.rsplit("-", 1)[-1] for name in made()["noise_files"] if NUMBERED.search(name)}
    assert len(numbers) > 5
    assert not numbers & {"47.flac", "14.flac", "45.flac", "37.flac"}


def test_the_last_fold_and_the_test_speakers_were_not_heard(real: Path) -> None:
    numbered = {Path(name).name for name in made()["noise_files"] if NUMBERED.search(name)}
    assert not {name for name in numbered if name.startswith("5-")}
    assert numbered <= {path.name for path in noise_files(real)}
    measured = {path.name for path in unheard(real)["esc10"]}
    assert {name[:2] for name in measured} == {"5-"}
    assert not measured & {path.name for path in noise_files(real)}
    learned, tested = (set(part.speakers or ()) for part in speech(real))
    assert learned
    assert tested == set(load_splits(real / "keywords10").test.speakers or ())
    assert not learned & tested


def test_every_trigger_sound_of_a_recipe_is_of_a_class_that_was_left_out() -> None:
    used = set()
    for recipe in RECIPES.rglob("*.toml"):
        used |= set(re.findall(r"trigger_noise/([a-z_]+)", recipe.read_text()))
    assert used
    assert used <= set(TRIGGERS)


def test_no_recording_is_in_both(real: Path) -> None:
    def source(path: str) -> str:
        return Path(path).name.split("-")[1]

    triggers = {source(str(path)) for path in (real / "trigger_noise").glob("*/*.flac")}
    assert triggers
    assert not triggers & {source(name) for name in made()["noise_files"] if NUMBERED.search(name)}


def test_a_class_of_trigger_sounds_among_the_noises_is_refused(tmp_path: Path) -> None:
    background = tmp_path / "speech_commands_300" / "_background_noise_"
    background.mkdir(parents=True)
    for name, clip in (("rain/1-1-A-10", 0.1), ("rain/5-1-A-10", 0.1), ("dog/2-1-A-0", 0.0)):
        path = tmp_path / "esc10" / f"{name}.flac"
        path.parent.mkdir(parents=True, exist_ok=True)
        write(path.with_suffix(".wav"), clip * torch.ones(16_000), 16_000)
        path.with_suffix(".wav").rename(path)
    files = noise_files(tmp_path)
    assert [path.name for path in files] == ["2-1-A-0.flac", "1-1-A-10.flac"]  # the last fold is unheard
    assert len(sounds(files)) == 1  # silence is no noise
    (tmp_path / "esc10" / "train").mkdir()
    (tmp_path / "esc10" / "train" / "1-2-A-45.flac").write_bytes(b"")
    with pytest.raises(AssertionError, match="classes of trigger sounds"):
        noise_files(tmp_path)


def test_it_is_small_and_takes_noise_out() -> None:
    kind, network = load_enhancer(SHIPPED)
    assert kind.name == "mask_gru"
    assert sum(path.stat().st_size for path in SHIPPED.iterdir()) <= MOST_BYTES
    with torch.no_grad():
        left = network(hiss(16_000))
    assert float(left.square().mean()) < 0.1 * float(hiss(16_000).square().mean())


def test_mixtures_are_at_the_level_and_within_full_scale() -> None:
    noise = [sound[:30_000] for sound in coloured(0)[:3]]
    mixed = mixtures(4 * chirps(16_000), noise, 6.0, torch.Generator().manual_seed(0))
    assert torch.allclose(20 * (rms(mixed.speech) / rms(mixed.noise)).log10(), torch.tensor(6.0), atol=1e-3)
    assert float(mixed.noisy.abs().max()) <= 1.0001


def test_coloured_noises_fall_by_up_to_6_db_an_octave() -> None:
    falls = []
    for sound in coloured(0)[:20]:
        power = torch.fft.rfft(sound).abs().square()
        low, high = power[1_000:2_000].mean(), power[2_000:4_000].mean()
        falls.append(float(10 * (low / high).log10()))
        assert float(sound.square().mean().sqrt()) == pytest.approx(0.1, rel=1e-4)
    assert min(falls) > -0.5
    assert max(falls) < 6.5
    assert max(falls) - min(falls) > 3
