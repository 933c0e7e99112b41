"""Which removal is taken where none is named, and what it says of that."""

import copy
import json
from dataclasses import replace
from pathlib import Path
from typing import Any

import pytest
import torch
from torch import Tensor, nn

from closesesame.core.errors import DataError, ModelError, SettingError
from closesesame.data import Splits
from closesesame.models import Classifier, adapt
from closesesame.removal import CLP, FT, Choice, FTAugmented, Restore, choose_removal
from closesesame.removal.choice import refuse_audio
from tests.removal.tiny import NAMES, state, tiny, vectors

ROOT = Path(__file__).parents[2]
RESULTS = ROOT / "benchmarks" / "results"


class Buffers(nn.Module):
    """A network as other programs export it: its numbers are no weights."""

    def __init__(self) -> None:
        super().__init__()
        self.register_buffer("table", torch.randn(5, 3, generator=torch.Generator().manual_seed(0)))

    def forward(self, x: Tensor) -> Tensor:
        assert isinstance(self.table, Tensor)
        return x @ self.table


class Closed(nn.Module):
    """A network with weights that holds gradients back."""

    def __init__(self) -> None:
        super().__init__()
        self.layer = nn.Linear(5, 3)

    @torch.no_grad()
    def forward(self, x: Tensor) -> Tensor:
        logits: Tensor = self.layer(x)
        return logits


class Whole(nn.Linear):
    """A network with a weight of whole numbers."""

    def __init__(self) -> None:
        super().__init__(5, 3)
        self.scale = nn.Parameter(torch.ones(3, dtype=torch.int64), requires_grad=False)


class Bare(nn.Module):
    """A network whose weight no module can draw anew."""

    def __init__(self) -> None:
        super().__init__()
        self.weight = nn.Parameter(torch.ones(5, 3))

    def forward(self, x: Tensor) -> Tensor:
        return x @ self.weight


def adapted(network: nn.Module) -> Classifier:
    return adapt(network, NAMES, (5,), None)


def test_with_clean_clips_it_is_restore_and_few_of_them_are_said() -> None:
    model = tiny()
    before = state(model)
    many = choose_removal(model, vectors(15))
    assert many == Choice(Restore(), "it is the removal for clean clips")
    few = choose_removal(model, vectors(14))  # of the last class four
    assert few.removal == Restore()
    assert few.because == many.because
    assert few.advice is not None
    assert few.advice.startswith("a class has only 4 clean clips: more of them, or unlabelled speech")
    lopsided = choose_removal(model, vectors(60).take(torch.tensor([*range(0, 60, 3), *range(1, 60, 3), 2])))
    assert lopsided.advice is not None
    assert lopsided.advice.startswith("a class has only 1 clean clip: ")
    assert "--audio FOLDER" in few.advice
    assert "check the repaired model" in few.advice
    after = state(model)
    assert all(torch.equal(after[name], value) for name, value in before.items())


def test_with_unlabelled_audio_too_it_is_restore_that_learns_from_both() -> None:
    choice = choose_removal(tiny(), vectors(15), vectors(30))
    assert choice == Choice(Restore(), "it learns from clean clips and from unlabelled speech")
    few = choose_removal(tiny(), vectors(6), vectors(30))
    assert few.advice is not None
    assert few.advice.startswith("a class has only 2 clean clips: more of them may help; ")
    with pytest.raises(DataError, match="restore needs a few labelled clips beside unlabelled audio"):
        choose_removal(tiny(), None, vectors(30))


def test_where_clean_clips_of_words_are_few_synthetic_speech_is_learned_from(
    clean_model: Classifier, tones: Splits, monkeypatch: pytest.MonkeyPatch
) -> None:
    asked: list[dict[str, Any]] = []

    def spoken(**named: Any) -> Splits:
        asked.append(named)
        return tones

    monkeypatch.setattr("closesesame.removal.choice.synthetic_speech", spoken)
    few, many = tones.train.take(torch.arange(16)), tones.train
    assert min(few.counts()) == 4
    choice = choose_removal(clean_model, few)
    assert choice.audio is not None
    assert len(choice.audio) == 300  # of 320
    assert asked == [{"sample_rate": 8000, "duration_s": 0.5, "takes": 1}]
    assert choice.because == "clean clips are few, so it learns from 300 clips of synthetic speech too"
    assert choice.advice is not None
    assert choice.advice.startswith(
        "a class has only 4 clean clips: more of them, or unlabelled speech (--audio"
    )
    assert choose_removal(clean_model, many).audio is None
    assert choose_removal(clean_model, few, tones.validation).audio is tones.validation
    speakers = replace_card(clean_model, made={"task": "speaker"})
    assert choose_removal(speakers, few).audio is None
    assert len(asked) == 1

    for error in (DataError("espeak-ng is not installed"), SettingError("'word' is longer than 0.1 s")):

        def broken(error: Exception = error, **named: Any) -> Splits:
            raise error

        monkeypatch.setattr("closesesame.removal.choice.synthetic_speech", broken)
        without = choose_removal(clean_model, few)
        assert (without.audio, without.because) == (None, "it is the removal for clean clips")


def replace_card(model: Classifier, **changes: Any) -> Classifier:
    other = copy.deepcopy(model)
    other.card = replace(model.card, **changes)
    return other


def test_without_clean_clips_it_is_clp_and_says_how_little_that_does() -> None:
    choice = choose_removal(tiny(), None)
    assert choice.removal == CLP()
    assert choice.because == "it needs no clean clips, and none are named"
    rows = json.loads((RESULTS / "removals_development.json").read_text())["rows"]
    asr = {
        method: sum(row["asr"] for row in of) / len(of)
        for method in ("none", "clp")
        if (of := [row for row in rows if row["method"] == method and row["poisoning_rate"]])
    }
    assert choice.advice is not None
    assert (
        f"an ASR of {100 * asr['clp']:.0f} % on average, of {100 * asr['none']:.0f} % before" in choice.advice
    )
    page = choice.advice.partition("(")[2].partition(")")[0]
    assert "| clp |" in (ROOT / page).read_text()
    assert choice.advice.endswith("name clean clips with --clean")


def test_settings_are_those_of_the_removal_that_is_taken() -> None:
    assert choose_removal(tiny(), vectors(30), settings={"steps": "7"}).removal == Restore(steps=7)
    assert choose_removal(tiny(), None, settings={"u": "2"}).removal == CLP(u=2)
    with pytest.raises(
        SettingError, match="^without clean clips clp is taken .* and CLP has no setting 'steps'"
    ):
        choose_removal(tiny(), None, settings={"steps": "7"})
    with pytest.raises(
        SettingError, match="^with clean clips restore is taken .* Restore has no setting 'u'"
    ):
        choose_removal(tiny(), vectors(30), settings={"u": "2"})


@pytest.mark.parametrize("network", [Buffers, Closed, Whole])
@pytest.mark.parametrize("count", [None, 30])
def test_a_model_that_cannot_be_trained_is_refused_with_a_word_on_purifiers(
    network: type[nn.Module], count: int | None
) -> None:
    with pytest.raises(ModelError, match="no gradient reaches its weights.*'sesame purify'"):
        choose_removal(adapted(network()), None if count is None else vectors(count))


def test_a_model_whose_weights_are_not_marked_for_training_can_be_repaired() -> None:
    model = tiny().requires_grad_(False)
    with torch.no_grad():
        assert choose_removal(model, vectors(30)).removal == Restore()
    assert not any(weight.requires_grad for weight in model.parameters())
    Restore(steps=1, augmentation="none").remove(model, vectors(30), 0)


def test_a_model_for_which_no_fresh_weights_can_be_made_is_sent_to_another_removal() -> None:
    model = adapted(Bare())
    with pytest.raises(ModelError, match=r"fresh weights.*'weight'.*--method ft_augmented"):
        choose_removal(model, vectors(30))
    assert torch.equal(next(model.parameters()), torch.ones(5, 3))
    assert choose_removal(model, None).removal == CLP()
    FTAugmented(steps=1, augmentation="none").remove(model, vectors(30), 0)


def test_a_module_that_is_not_ours_has_the_classes_of_its_clean_clips() -> None:
    assert choose_removal(nn.Linear(5, 3), vectors(30)).removal == Restore()
    with pytest.raises(DataError, match="give clean examples"):
        choose_removal(nn.Linear(5, 3), None)


def test_audio_is_refused_for_removals_that_do_not_learn_from_it() -> None:
    refuse_audio(Restore())
    for removal in (FT(), CLP()):
        with pytest.raises(DataError, match=f"{removal.name} does not learn from unlabelled audio"):
            refuse_audio(removal)
