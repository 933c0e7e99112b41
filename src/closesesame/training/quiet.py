"""Clips whose quiet cells decide what a model answers: a sign of a trigger under the speech. Ours.

What is said is loud. So the quiet cells of a clip's spectral map should not tell its label, and if they are
put in the place of those of a clip with another label, a model should still answer that other label. If it
answers the first one, it has learned something that lies under the speech: noise, a hum, or a hidden key.
This tells poisoned clips from clean ones even where nothing that is said contradicts the label, as in
clean-label attacks. It does not tell a trigger that changes the speech itself.

A label may depend on quiet cells for another reason. Speakers have rooms and microphones of their own, so
the labels are compared with each other. A class may have been recorded elsewhere than the others, or be
noise, and then nearly all of its clips tell it; those that are poisoned are a part of their class. And of a
model it can be asked how much it knows without quiet cells.
"""

from typing import NamedTuple

import torch
from jaxtyping import Float64, Int64
from torch import Tensor
from torch.nn import functional as F

from closesesame.audio.augment import quiet_shares, with_quiet_of
from closesesame.core.seeding import generator
from closesesame.core.types import Labels, Mask
from closesesame.data import Dataset
from closesesame.models import Classifier

from .predicting import autocast, choose_precision, predict

QUIET = 0.7
"""Share of the cells of a map that are quiet."""
CARRIERS, KEPT = 8, 512
"""Clips that the quiet cells of each clip are put in, and how many such clips are drawn in all."""
TELLING = 5.0
"""How many times as telling as is usual are the quiet cells of a label with a trigger."""
LEAST_TELLING = 0.005
"""Chance of a label that is taken for the usual one where that is lower."""
PART = 0.8
"""Share of the clips of a label above which they are no part of it, but the label as a whole.

So a trigger under the speech of more of them than that is not told.
"""
ASKED = 512
"""Clips that a model is asked about at most, and times at least, with quiet cells of others."""
BATCH = 256


class Heard(NamedTuple):
    """What a model makes of quiet cells.

    Attributes:
        chances: (n,) of each clip's label in clips of other labels that have its quiet cells.
        usual: (class,) of each label in clips of other labels that have quiet cells of such clips, too.
    """

    chances: Float64[Tensor, " n"]
    usual: Float64[Tensor, " class"]


class UnderSpeech(NamedTuple):
    """What quiet cells tell.

    Attributes:
        labels: of which the quiet cells of a part of the clips tell far more than is usual.
        whole: of which those of nearly all clips do.
        clips: (n,) whose own quiet cells tell their label as much as that.
    """

    labels: list[int]
    whole: list[int]
    clips: Mask


@torch.no_grad()
def telling(model: Classifier, data: Dataset, seed: int) -> Heard:
    """The mean chance of a label in clips of other labels, by their quiet cells.

    A cell is exchanged where it is quiet in both clips; of maps that are no spectra, such as MFCC, where it
    is low in both. Features that are no maps (batch, band, frame), such as waveforms, have no cells, and all
    chances are 0.

    Args:
        model: trained on the data.
        data: the clips.
        seed: of the clips that the cells are put in.
    """
    rng, precision = generator(seed, "carriers"), choose_precision("auto", model)
    drawn = data.take(torch.randperm(len(data), generator=rng)[:KEPT])
    maps, classes = model.features(drawn), torch.arange(len(data.classes))
    chances = torch.zeros(len(data), dtype=torch.float64)
    told, asked = torch.zeros(2, len(classes), dtype=torch.float64)
    if maps.ndim != 3:
        return Heard(chances, told)

    def said(at: Int64[Tensor, " batch"], quiet: Tensor) -> Float64[Tensor, "batch class"]:
        with autocast(model.device, precision):
            logits = model.body(with_quiet_of(maps[at], quiet, torch.full((len(at),), QUIET)))
        return F.softmax(logits.double().cpu(), 1)

    for label in data.labels.unique():
        carriers = (drawn.labels != label).nonzero()[:, 0]
        for rows in (data.labels == label).nonzero()[:, 0].split(BATCH):
            own = model.features(data.take(rows))
            for _ in range(CARRIERS if len(carriers) else 0):
                at = carriers[torch.randint(len(carriers), (len(rows),), generator=rng)]
                chances[rows] += said(at, own)[:, label] / CARRIERS
    for _ in range(CARRIERS):
        for one, other in _pairs(len(drawn), rng).split(BATCH, dim=1):
            neither = (drawn.labels[one, None] != classes) & (drawn.labels[other, None] != classes)
            told += (neither * said(one, maps[other])).sum(0)
            asked += neither.sum(0)
    return Heard(chances, told / asked.clamp(min=1))


def under_speech(heard: Heard, labels: Labels) -> UnderSpeech:
    """The labels that quiet cells tell far more of than is usual.

    Usual is what quiet cells of other labels tell of the label, or what those of the median one of the other
    labels tell of that, if it is more.

    Args:
        heard: of `telling`.
        labels: the given ones (n,).
    """
    found: Int64[Tensor, " label"] = labels.unique()
    means = torch.stack([heard.chances[labels == label].mean() for label in found])
    told = UnderSpeech([], [], torch.zeros_like(labels, dtype=torch.bool))
    for label, mean in zip(found, means, strict=True):
        own, others = labels == label, means[found != label]
        beside = float(others.median()) if len(others) else 0.0
        limit = TELLING * max(float(heard.usual[label]), beside, LEAST_TELLING)
        told.clips[own] = heard.chances[own] > limit
        if mean > limit:
            whole = told.clips[own].double().mean() > PART
            (told.whole if whole else told.labels).append(int(label))
    return told


@torch.no_grad()
def known_without_quiet(model: Classifier, clips: Dataset, seed: int) -> float | None:
    """How many clips a model still gets right with quiet cells of other labels, as a share.

    Only those count that it gets right as they are; None if it knows none, or only clips of one label, or if
    its features are neither maps nor waveforms, or are not varied.

    Args:
        model: in evaluation mode.
        clips: labelled examples.
        seed: of what is exchanged.
    """
    rng, precision = generator(seed, "exchange"), choose_precision("auto", model)
    drawn = clips.take(torch.randperm(len(clips), generator=rng)[:ASKED])
    known = drawn.where(predict(model, drawn).argmax(1) == drawn.labels)
    if len(known.labels.unique()) < 2 or model.front_end.augmentation("varied_exchanged") is None:
        return None
    features, right, asked = model.features(known), 0, 0
    if features.ndim not in (2, 3):
        return None
    while asked < ASKED:
        pairs = _pairs(len(known), rng)
        differ = known.labels[pairs[0]] != known.labels[pairs[1]]
        for one, other in pairs[:, differ].split(BATCH, dim=1):
            exchanged = with_quiet_of(features[one], features[other], quiet_shares(features[one], rng))
            with autocast(model.device, precision):
                answers = model.body(exchanged).argmax(1).cpu()
            right += int((answers == known.labels[one]).sum())
            asked += len(one)
    return right / asked


def _pairs(count: int, rng: torch.Generator) -> Int64[Tensor, "2 count"]:
    """Each row beside another one, which is drawn."""
    return torch.stack([torch.arange(count), torch.randperm(count, generator=rng)])
