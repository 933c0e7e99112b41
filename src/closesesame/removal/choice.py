"""Which removal is taken where none is named: by what there is to repair with, and by what the model is."""

import copy
from collections.abc import Mapping
from dataclasses import dataclass

from torch import nn

from closesesame.core.errors import DataError, ModelError, SettingError, counted
from closesesame.data import Dataset
from closesesame.models.matching import as_classifier, data_for
from closesesame.training.weights import redraw

from .base import Removal, refuse_untrainable
from .clp import CLP
from .restore import Restore

AUTO = "auto"
"""Stands for the choice where a removal is named."""
FEW = 5
"""A class with fewer clean examples than this has few."""
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
    """

    removal: Removal
    because: str
    advice: str | None = None


def choose_removal(
    model: nn.Module,
    clean: Dataset | None,
    audio: Dataset | None = None,
    settings: Mapping[str, object] | None = None,
) -> Choice:
    """Chooses a removal by what a user has: `restore` with clean examples, `clp` without.

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
        return Choice(removal, because)
    what = "more of them" if audio is not None else "more of them, or unlabelled speech (--audio FOLDER),"
    return Choice(
        removal,
        because,
        f"a class has only {counted(least, 'clean clip')}: {what} may help; check the repaired model on "
        "recordings that it was not repaired with",
    )


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
