"""`sesame remove`: the method that it takes by itself, and unlabelled audio beside the clean clips."""

import importlib
from functools import partial
from pathlib import Path
from typing import Any

import numpy as np
import pytest
import soundfile
import torch

from closesesame.data import Dataset, load_splits, read_audio, unlabelled
from closesesame.evaluation import CanaryReport
from closesesame.evaluation import canaries as examination
from closesesame.models import Classifier, adapt, load_model, save_model
from closesesame.models.files import sha256_of
from closesesame.models.matching import data_for
from closesesame.removal import FT, Restore
from tests.commands import FAST, FolderOf, Sesame
from tests.data.clips import noise, record
from tests.test_canaries import Scripted

QUICK = ("--set", "steps=2", "--set", "views=2")


@pytest.fixture
def speech(tmp_path: Path) -> Path:
    """Two recordings in no folder of a class: 1.3 s and 0.5 s."""
    record(tmp_path / "speech" / "talk.flac", 1.3)
    record(tmp_path / "speech" / "ada" / "word.wav", 0.5)
    return tmp_path / "speech"


@pytest.fixture
def heard(monkeypatch: pytest.MonkeyPatch) -> list[Dataset]:
    """The unlabelled examples of each repair by `restore`."""
    seen = []
    repair = Restore.repair_with_audio

    def noted(
        method: Restore, model: Classifier, tune: Dataset, held_out: Dataset, audio: Dataset, seed: int
    ) -> dict[str, Any]:
        seen.append(audio)
        return repair(method, model, tune, held_out, audio, seed)

    monkeypatch.setattr(Restore, "repair_with_audio", noted)
    return seen


@pytest.fixture
def _never_trained(monkeypatch: pytest.MonkeyPatch) -> None:
    def train(*_: object, **__: object) -> None:
        raise AssertionError("it was trained")

    monkeypatch.setattr(Restore, "repair", train)
    monkeypatch.setattr(Restore, "repair_with_audio", train)


def test_with_clean_clips_it_takes_restore_and_says_so(
    sesame: Sesame, model: Path, clips: Path, tmp_path: Path
) -> None:
    remove = ("remove", model, tmp_path / "r", "--clean", clips, *QUICK)
    found = sesame.json(*remove)
    assert (found["method"], found["settings"]["steps"], found["settings"]["views"]) == ("restore", 2, 2)
    assert found["chosen_because"] == "it is the removal for clean clips"
    assert "advice" not in found
    assert "few" not in sesame.noted
    assert "audio_clips" not in found
    made = load_model(tmp_path / "r").card.made
    assert made["method"] == "restore"
    assert made["chosen_because"] == found["chosen_because"]
    assert made["clean_clips"] == found["tuned_on"] + found["held_out"]
    assert "audio_clips" not in made
    out = sesame(*remove, "--force")
    assert "method: restore\nchosen because: it is the removal for clean clips\n" in out


def test_few_clean_clips_are_noted_and_audio_that_taught_nothing_too(
    sesame: Sesame, model: Path, folder_of: FolderOf, speech: Path, tmp_path: Path
) -> None:
    few = folder_of({"low": 4, "middle": 4, "high": 4, "top": 4})
    remove = ("remove", model, tmp_path / "r", "--clean", few, "--clean-part", "all", *QUICK)
    found = sesame.json(*remove)
    assert found["advice"].startswith("a class has only 4 clean clips: more of them, or unlabelled speech (")
    assert f"note: {found['advice']}\n" in sesame.noted
    assert "advice" not in sesame(*remove, "--force")
    found = sesame.json(*remove, "--force", "--audio", speech)
    assert found["advice"].startswith("a class has only 4 clean clips: more of them may help")
    (found,) = [sesame.json(*remove, "--force", "--audio", speech, "--set", "least_agreement=1")]
    taught = found["chosen"]["believed_unlabelled_clips"]
    assert found["chosen"]["unlabelled_clips"] == 4
    assert ("nothing was learned from the unlabelled audio" in sesame.noted) is (taught == 0)


def test_one_clip_of_each_class_repairs_and_the_way_there_is_said(
    sesame: Sesame, model: Path, folder_of: FolderOf, tmp_path: Path
) -> None:
    one = folder_of({"low": 1, "middle": 1, "high": 1, "top": 1})
    remove = ("remove", model, tmp_path / "r", "--clean", one, *QUICK)
    said = sesame.fails(*remove)
    assert "take all as one part" in said
    assert "--clean-part all" in said
    found = sesame.json(*remove, "--clean-part", "all")
    assert (found["tuned_on"], found["held_out"], found["acc_after"]) == (4, 0, None)


def test_a_class_that_the_part_lacks_is_said_with_the_way_to_all_clips(
    sesame: Sesame, model: Path, clips: Path, tmp_path: Path
) -> None:
    remove = ("remove", model, tmp_path / "r", "--clean", clips, *QUICK)
    said = sesame.fails(*remove, "--fraction", "0.04")
    assert "take all clips with --clean-part all, or accept that with --partial" in said
    said = sesame.fails(*remove, "--clean-part", "all", "--fraction", "0.02")
    assert "or accept that with --partial" in said
    assert "--clean-part" not in said


def test_without_clean_clips_it_takes_clp_and_warns(sesame: Sesame, model: Path, tmp_path: Path) -> None:
    found = sesame.json("remove", model, tmp_path / "r", "--set", "u=2.5")
    assert (found["method"], found["settings"]["u"]) == ("clp", 2.5)
    assert found["tuned_on"] == 0
    assert found["chosen_because"] == "it needs no clean clips, and none are named"
    assert f"note: {found['advice']}\n" in sesame.noted
    assert "without clean clips little can be done: on the development bench clp left" in sesame.noted


def test_a_method_that_is_named_is_taken_and_nothing_is_said_of_a_choice(
    sesame: Sesame, model: Path, clips: Path, tmp_path: Path
) -> None:
    found = sesame.json(
        "remove", model, tmp_path / "r", "--clean", clips, "--method", "ft", "--set", "steps=1"
    )
    assert found["method"] == "ft"
    assert "chosen_because" not in found


def test_the_card_says_what_was_repaired_how_and_with_how_many_clips(
    sesame: Sesame, model: Path, clips: Path, tmp_path: Path
) -> None:
    remove = ("remove", model, tmp_path / "r", "--clean", clips, "--method", "ft", "--set", "steps=1")
    found = sesame.json(*remove, "--set", "hold_out=0.3")
    made = load_model(tmp_path / "r").card.made
    assert made["by"] == "sesame remove"
    assert (made["task"], made["method"]) == ("word", "ft")
    assert made["settings"] == found["settings"] == FT(steps=1, hold_out=0.3).settings()
    assert made["suspect_sha256"] == sha256_of(model) != sha256_of(tmp_path / "r")
    assert (made["clean_clips"], made["held_out_clips"]) == (80, found["held_out"])
    assert found["tuned_on"] + found["held_out"] == 80
    assert made["clean_clips"] > made["held_out_clips"] > 0
    assert made["seconds"] == found["seconds"]


def test_restore_learns_from_the_audio_and_the_card_says_from_how_many_clips(
    sesame: Sesame, model: Path, clips: Path, speech: Path, heard: list[Dataset], tmp_path: Path
) -> None:
    remove = ("remove", model, tmp_path / "r", "--clean", clips, *QUICK, "--audio", speech)
    found = sesame.json(*remove)
    assert "note: 4 clips of 0.5 s came of 2 recordings\n" in sesame.noted
    assert (found["audio_clips"], found["audio_files"]) == (4, 2)
    assert 0 <= found["chosen"]["believed_unlabelled_clips"] <= 4
    assert "learns from clean clips and from unlabelled speech" in found["chosen_because"]
    assert load_model(tmp_path / "r").card.made["audio_clips"] == 4
    (audio,) = heard
    assert (audio.input_shape, audio.sample_rate) == ((4000,), 8000)
    name = "/".join((speech / "ada" / "word.wav").parts[-3:])
    word = audio.named(["ada/word.wav, clip 0"]).inputs[:][0]
    assert torch.allclose(word, torch.tensor(noise(name, 0.5), dtype=torch.float32), atol=1e-4)
    named = sesame.json(*remove, "--force", "--method", "restore")
    assert named["audio_clips"] == 4
    assert len(heard) == 2


def test_the_seed_draws_what_is_heard_of_more_audio_than_there_is_memory_for(
    sesame: Sesame,
    model: Path,
    clips: Path,
    speech: Path,
    heard: list[Dataset],
    tmp_path: Path,
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    monkeypatch.setattr(unlabelled, "IN_MEMORY_BYTES", 1)
    remove = ("remove", model, tmp_path / "r", "--clean", clips, "--force", "--audio", speech)
    for seed in range(4):
        sesame(*remove, "--set", "steps=0", "--set", "views=1", "--seed", seed)
    drawn = [audio.ids[0].partition(",")[0] for audio in heard]
    assert set(drawn) == {"talk.flac", "ada/word.wav"}
    assert "not read, since more clips than these are not kept: 1 recording" in sesame.noted


def test_the_seed_draws_the_clean_clips_both_repairs_and_the_canaries_and_stands_on_the_card(
    sesame: Sesame, model: Path, clips: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    repairs: list[tuple[tuple[str, ...], int]] = []

    def noted(method: FT, model: Classifier, tune: Dataset, held_out: Dataset, seed: int) -> dict[str, Any]:
        repairs.append((tune.ids, seed))
        return {}

    monkeypatch.setattr(FT, "repair", noted)
    monkeypatch.setattr(examination, "Canaries", partial(Scripted))
    Scripted.seen.clear()
    out = tmp_path / "r"
    words = ("remove", model, out, "--method", "ft", "--clean", clips, "--fraction", "0.5", "--canaries")
    sesame(*words, "--split", "random", "--seed", "5", "--set", "hold_out=0.5")
    splits = load_splits(clips, sample_rate=8000, duration_s=0.5, split="random", seed=5)
    card = load_model(out).card
    tune, _ = FT(hold_out=0.5).put_aside(data_for(card, splits.train).sample(0.5, 5), 5)
    assert repairs == [(tune.ids, 5)] * 2
    assert [(clean.ids, seed) for clean, seed in Scripted.seen] == [(tune.ids, 5)]
    assert card.made["seed"] == 5


def test_canaries_get_the_suspect_the_clips_and_the_repaired_model_whose_card_they_stand_on(
    sesame: Sesame, model: Path, clips: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    seen: list[Any] = []
    checked: list[int] = []

    def refuse(removal: FT, card: Any, clean: Dataset, seed: int) -> None:
        checked.append(seed)

    def examined(removal: FT, suspect: Classifier, clean: Dataset, seed: int, **more: Any) -> CanaryReport:
        seen.append((removal, sha256_of(suspect), len(clean), seed, sha256_of(more["repaired"])))
        return CanaryReport(
            canaries=(), held_out=16, acc_suspect=0.5, acc_planted=0.25, acc_after=0.75, seconds=3
        )

    monkeypatch.setattr(examination, "refuse_few", refuse)
    monkeypatch.setattr("closesesame.evaluation.examine", examined)
    words = ("remove", model, tmp_path / "r", "--clean", clips, "--method", "ft", "--set", "steps=1")
    sesame.json(*words, "--canaries", "--seed", "5")
    repaired = sha256_of(tmp_path / "r")
    assert seen == [(FT(steps=1), sha256_of(model), 80, 5, repaired)]
    assert repaired != sha256_of(model)
    assert checked == [5]
    made = load_model(tmp_path / "r").card.made["canaries"]
    assert [made[f"acc_{name}"] for name in ("suspect", "planted", "after")] == [0.5, 0.25, 0.75]


def test_the_repair_of_the_copy_with_canaries_gets_the_audio_too(
    sesame: Sesame,
    model: Path,
    clips: Path,
    speech: Path,
    heard: list[Dataset],
    tmp_path: Path,
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    monkeypatch.setattr(examination, "Canaries", partial(Scripted))
    words = ("remove", model, tmp_path / "r", "--clean", clips, *QUICK, "--set", "hold_out=0.3")
    found = sesame.json(*words, "--audio", speech, "--canaries")
    assert len(found["canaries"]["canaries"]) == 5
    assert [len(audio) for audio in heard] == [4, 4]


def test_both_repairs_learn_from_synthetic_speech_where_clean_clips_are_few(
    sesame: Sesame,
    model: Path,
    folder_of: FolderOf,
    speech: Path,
    heard: list[Dataset],
    tmp_path: Path,
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    made = read_audio(speech, sample_rate=8000, duration_s=0.5, seed=0).data
    monkeypatch.setattr("closesesame.removal.choice.speech_for", lambda card: made)
    monkeypatch.setattr(examination, "Canaries", partial(Scripted))
    few = folder_of({"low": 4, "middle": 8, "high": 8, "top": 8})
    words = ("remove", model, tmp_path / "r", "--clean", few, "--clean-part", "all", *QUICK)
    found = sesame.json(*words, "--set", "hold_out=0.9", "--canaries")
    assert "it learns from 4 clips of synthetic speech too" in found["chosen_because"]
    assert len(found["canaries"]["canaries"]) == 5
    assert [audio.ids for audio in heard] == [made.ids] * 2


@pytest.mark.usefixtures("_never_trained")
def test_recordings_without_any_sound_are_refused(
    sesame: Sesame, model: Path, folder_of: FolderOf, tmp_path: Path
) -> None:
    mute = folder_of({"low": 12, "middle": 12, "high": 12, "top": 12})
    first, *others = sorted(mute.rglob("*.wav"))
    for path in others:
        soundfile.write(path, np.zeros(4000), 8000)
    sesame("evaluate", model, mute)  # one has sound
    soundfile.write(first, np.zeros(4000), 8000)
    for part in ("train", "all"):
        error = sesame.fails("remove", model, tmp_path / "r", "--clean", mute, "--clean-part", part)
        assert f"{mute}: all recordings are silent; name recordings with sound" in error
    assert "all recordings are silent" in sesame.fails("train", mute, tmp_path / "r", *FAST)
    assert "all recordings are silent" in sesame.fails(
        "screen", mute, tmp_path / "r", "--method", "training_loss", *FAST
    )
    assert not (tmp_path / "r").exists()


@pytest.mark.usefixtures("_never_trained")
def test_bad_audio_is_one_sentence_before_any_training(
    sesame: Sesame, model: Path, clips: Path, speech: Path, tmp_path: Path
) -> None:
    remove = ("remove", model, tmp_path / "r", "--clean", clips, "--audio")
    assert "nowhere is not a folder" in sesame.fails(*remove, tmp_path / "nowhere")
    (tmp_path / "empty").mkdir()
    assert "empty holds no recording" in sesame.fails(*remove, tmp_path / "empty")
    assert f"96 of 96 recordings in {clips} are also in {clips}" in sesame.fails(*remove, clips)
    assert "24 of 24 recordings in" in sesame.fails(*remove, clips / "low")
    (speech / "again").symlink_to(clips / "top")
    assert "24 of 26 recordings in" in sesame.fails(*remove, speech)
    (speech / "again").unlink()
    (speech / "bad.wav").write_bytes(b"RIFF")
    assert "1 of 3 recordings of" in sesame.fails(*remove, speech)
    (speech / "bad.wav").unlink()
    error = sesame.fails(*remove, speech, "--method", "ft")
    assert "ft does not learn from unlabelled audio" in error
    assert "clp does not learn from unlabelled audio" in sesame.fails(*remove, speech, "--method", "clp")
    (speech / "_trigger").mkdir()
    assert "'sesame poison' poisoned" in sesame.fails(*remove, speech)
    assert not (tmp_path / "r").exists()


@pytest.mark.usefixtures("_never_trained")
def test_audio_alone_and_settings_of_another_method_are_refused(
    sesame: Sesame, model: Path, clips: Path, speech: Path, tmp_path: Path
) -> None:
    remove = ("remove", model, tmp_path / "r")
    assert "needs a few labelled clips" in sesame.fails(*remove, "--audio", speech)
    assert "CLP has no setting 'steps'" in sesame.fails(*remove, "--set", "steps=2")
    assert "Restore has no setting 'u'" in sesame.fails(*remove, "--clean", clips, "--set", "u=2")
    assert "--canaries needs clean recordings" in sesame.fails(*remove, "--canaries")
    assert not (tmp_path / "r").exists()


@pytest.mark.usefixtures("_never_trained")
def test_too_few_clips_for_canaries_are_one_sentence_before_the_repair(
    sesame: Sesame, model: Path, clips: Path, tmp_path: Path
) -> None:
    error = sesame.fails("remove", model, tmp_path / "r", "--clean", clips, "--canaries", *QUICK)
    assert "of 80 clean clips restore holds out 8, and the best canary would have " in error
    assert "name about 134 clean clips, or hold out more of these (--set hold_out=0.2)" in error
    assert "; --clean-part all takes the clips of all parts" in error
    few = ("--fraction", "0.3", "--clean-part", "all")
    error = sesame.fails("remove", model, tmp_path / "r", "--clean", clips, "--canaries", *QUICK, *few)
    assert "name about 134 clean clips" in error
    assert "--clean-part" not in error
    assert not (tmp_path / "r").exists()


@pytest.mark.usefixtures("_never_trained")
def test_clips_of_classes_that_the_model_lacks_are_said_with_their_folder_and_what_to_do(
    sesame: Sesame, model: Path, folder_of: FolderOf, tmp_path: Path
) -> None:
    digits = folder_of({"0": 8, "1": 8})
    error = sesame.fails("remove", model, tmp_path / "r", "--clean", digits, "--clean-part", "all")
    assert f"{digits}: the model does not know class '0', '1' of the data; it knows " in error
    assert "give these classes the names that the model has for them, or leave out their clips" in error


def test_the_folder_of_the_audio_is_no_place_for_the_model(
    sesame: Sesame, model: Path, clips: Path, speech: Path
) -> None:
    before = sorted(speech.rglob("*"))
    error = sesame.fails("remove", model, speech / "r", "--clean", clips, "--audio", speech)
    assert "which is read" in error
    assert sorted(speech.rglob("*")) == before


def test_a_model_that_cannot_be_trained_is_refused_with_a_word_on_purifiers(
    sesame: Sesame, clips: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    (tmp_path / "exported.py").write_text(
        "import torch\n"
        "class Exported(torch.nn.Module):\n"
        "    def __init__(self):\n"
        "        super().__init__()\n"
        "        self.register_buffer('table', torch.ones(4000, 4))\n"
        "    def forward(self, x):\n"
        "        return x @ self.table\n"
    )
    monkeypatch.syspath_prepend(tmp_path)
    network = importlib.import_module("exported").Exported()
    frozen = adapt(network, ("high", "low", "middle", "top"), (4000,), 8000, source="exported:Exported")
    save_model(frozen, tmp_path / "m")
    remove = ("remove", tmp_path / "m", tmp_path / "r", "--clean", clips)
    error = sesame.fails(*remove, "--import", "exported")
    assert "no gradient reaches its weights; put a purifier in front of it ('sesame purify'" in error
    assert not (tmp_path / "r").exists()
