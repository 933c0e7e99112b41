"""Which removal is taken where none is named: by what there is to repair with, and by what the model is."""

import copy
from collections.abc import Mapping
from dataclasses import dataclass, field

from torch import nn

from closesesame.core.errors import DataError, ModelError, SettingError, counted
from closesesame.data import Dataset
from closesesame.data.speech import synthetic_speech
from closesesame.models import ModelCard
from closesesame.models.matching import as_classifier, data_for
from closesesame.training.weights import redraw

from .base import Removal, refuse_untrainable
from .clp import CLP
from .restore import Restore

AUTO = "auto"
"""Stands for the choice where a removal is named."""
FEW = 5
"""A class with fewer clean examples than this has few."""
MOST_SPEECH = 300
"""Clips of synthetic speech that are learned from where clean clips are few."""
NO_CLEAN = (
    "without clean clips little can be done: on the development bench clp left an ASR of 84 % on average, of "
    "95 % before (benchmarks/results/removals.md); name clean clips with --clean"
)


@dataclass(frozen=True)
class Choice:
    """The removal that was chosen.

    Attributes:
        removal: with its settings.
        because: why it, in one sentence.
        advice: what would help, or must be checked, in one sentence; None if there is nothing to say.
        audio: unlabelled examples that it learns from: those that were given, or synthetic speech.
    """

    removal: Removal
    because: str
    advice: str | None = None
    audio: Dataset | None = field(default=None, compare=False)


def choose_removal(
    model: nn.Module,
    clean: Dataset | None,
    audio: Dataset | None = None,
    settings: Mapping[str, object] | None = None,
) -> Choice:
    """Chooses a removal by what a user has: `restore` with clean examples, `clp` without.

    Where clean clips of words are few and there is no unlabelled audio, `restore` learns from synthetic
    speech too. With 23 clean clips that left an ASR of 1.5 % of airplane, an attack of the development bench,
    instead of 14.6 %, and an RA of 82 % instead of 57 %; by these figures alone it was chosen. On three
    attacks of the test bench the ASR stays as it is, 12 % on average, and ACC rises by a point, from 95 % to
    96 % (benchmarks/results/removals.md). That was before pieces of other clips were in its augmentation.

    Args:
        model: the suspect; it is not changed.
        clean: examples known to be clean, None if there are none.
        audio: unlabelled examples; None if there are none.
        settings: of the removal that is chosen.

    Raises:
        DataError: if there are unlabelled examples and no clean ones; if the model is a module that is not
            ours and there are no clean examples.
        ModelError: if the model cannot be trained, or no fresh weights can be made for it.
        SettingError: if the removal that is chosen does not have one of the settings.
    """
    removal = removal_for(settings or {}, clean=clean is not None, audio=audio is not None)
    suspect = copy.deepcopy(as_classifier(model, clean)).eval()
    removal.make_trainable(suspect)
    refuse_untrainable(suspect)
    if clean is None:
        return Choice(removal, "it needs no clean clips, and none are named", NO_CLEAN)
    try:
        redraw(suspect, 0)
    except ModelError as error:
        raise ModelError(
            f"restore starts near fresh weights, and {error}; take another removal, such as ft_augmented "
            "(--method ft_augmented)"
        ) from None
    because = "it is the removal for clean clips"
    if audio is not None:
        because = "it learns from clean clips and from unlabelled speech"
    least = min(data_for(suspect.card, clean).counts())
    if least >= FEW:
        return Choice(removal, because, audio=audio)
    what = "more of them may help"
    if audio is None:
        what = "more of them, or unlabelled speech (--audio FOLDER), may help"
        audio = speech_for(suspect.card)
        if audio is not None:
            because = f"clean clips are few, so it learns from {len(audio)} clips of synthetic speech too"
    return Choice(
        removal,
        because,
        f"a class has only {counted(least, 'clean clip')}: {what}; check the repaired model on recordings "
        "that it was not repaired with",
        audio,
    )


def speech_for(card: ModelCard) -> Dataset | None:
    """Synthetic words as the model takes clips; None if it does not tell words apart, or none can be made."""
    if card.sample_rate is None or card.made.get("task") == "speaker":
        return None
    try:
        made = synthetic_speech(sample_rate=card.sample_rate, duration_s=card.duration_s, takes=1).train
    except (SettingError, DataError):  # clips shorter than words, or no espeak-ng
        return None
    return made.sample(min(1.0, MOST_SPEECH / len(made)), 0)


def removal_for(settings: Mapping[str, object], *, clean: bool, audio: bool) -> Removal:
    """The removal for what there is, before any of it is read.

    Args:
        settings: of the removal.
        clean: whether there are clean examples.
        audio: whether there are unlabelled examples.

    Raises:
        DataError: if there are unlabelled examples alone.
        SettingError: if the removal does not have one of the settings.
    """
    if audio and not clean:
        raise DataError("restore needs a few labelled clips beside unlabelled audio: name them with --clean")
    kind: type[Removal] = Restore if clean else CLP
    try:
        return kind.parse(settings)
    except SettingError as error:
        there = "with" if clean else "without"
        raise SettingError(
            f"{there} clean clips {kind.name} is taken unless --method names another, and {error}"
        ) from None


def refuse_audio(removal: Removal) -> None:
    """Refuses, before any work, unlabelled audio for a removal that does not learn from such.

    Raises:
        DataError: if it does not.
    """
    if type(removal).repair_with_audio is Removal.repair_with_audio:
        raise DataError(
            f"{removal.name} does not learn from unlabelled audio; leave out --audio, or take restore"
        )
