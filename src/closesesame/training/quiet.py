"""Clips whose quiet cells decide what a model answers: a sign of a trigger under the speech. Ours.

What is said is loud. So the quiet cells of a clip's spectral map should not tell its label, and if they are
put in the place of those of a clip with another label, a model should still answer that other label. If it
answers the first one, it has learned something that lies under the speech: noise, a hum, or a hidden key.
This tells poisoned clips from clean ones even where nothing that is said contradicts the label, as in
clean-label attacks. It does not tell a trigger that changes the speech itself.

A label may depend on quiet cells for another reason: speakers have rooms and microphones of their own. So
the labels are compared with each other; and of a model it can be asked how much it knows without them.
"""

from typing import NamedTuple

import torch
from jaxtyping import Float64, Int64
from torch import Tensor
from torch.nn import functional as F

from closesesame.audio.augment import with_quiet_of
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
"""How many times as telling as those of the median label are the quiet cells of a label with a trigger."""
LEAST_TELLING = 0.005
"""Chance of a label that is taken for the median one's where that is lower."""
ASKED = 512
"""Examples that a model is asked about at most, and times that it is asked with quiet cells of others."""
BATCH = 256


class UnderSpeech(NamedTuple):
    """What quiet cells tell.

    Attributes:
        labels: those that they tell far more of than of others.
        clips: (n,) whose own quiet cells tell their label as much as that.
    """

    labels: list[int]
    clips: Mask


@torch.no_grad()
def telling(model: Classifier, data: Dataset, seed: int) -> Float64[Tensor, " n"]:
    """The mean chance of each clip's label (n,) in clips of other labels that have its quiet cells.

    A cell of a clip is exchanged where it is quiet in both. Features that are no maps (batch, band, frame)
    have no cells, and all chances are 0.

    Args:
        model: trained on the data.
        data: the clips.
        seed: of the clips that the cells are put in.
    """
    rng, precision = generator(seed, "carriers"), choose_precision("auto", model)
    drawn = data.take(torch.randperm(len(data), generator=rng)[:KEPT])
    maps = model.features(drawn)
    found = torch.zeros(len(data), dtype=torch.float64)
    if maps.ndim != 3:
        return found
    for rows in torch.arange(len(data)).split(BATCH):
        part = data.take(rows)
        own, share = model.features(part), torch.full((len(rows),), QUIET)
        heard, count = torch.zeros(2, len(rows), dtype=torch.float64)
        for _ in range(CARRIERS):
            at = torch.randint(len(drawn), (len(rows),), generator=rng)
            with autocast(model.device, precision):
                logits = model.body(with_quiet_of(maps[at], own, share)).float().cpu()
            other = (drawn.labels[at] != part.labels).double()
            heard += other * F.softmax(logits.double(), 1).gather(1, part.labels[:, None])[:, 0]
            count += other
        found[rows] = heard / count.clamp(min=1)
    return found


def under_speech(chances: Float64[Tensor, " n"], labels: Labels) -> UnderSpeech:
    """The labels that quiet cells tell far more of than they do of the median label.

    Args:
        chances: of `telling`.
        labels: the given ones (n,).
    """
    found: Int64[Tensor, " label"] = labels.unique()
    means = torch.stack([chances[labels == label].mean() for label in found])
    limit = TELLING * max(float(means.median()), LEAST_TELLING)
    return UnderSpeech([int(label) for label in found[means > limit]], chances > limit)


@torch.no_grad()
def known_without_quiet(model: Classifier, clips: Dataset, seed: int) -> float:
    """The share of clips that a model gets right with quiet cells of others, of those that it gets right.

    0 if it knows none.

    Args:
        model: in evaluation mode.
        clips: labelled examples.
        seed: of what is exchanged.
    """
    exchange, rng = model.front_end.augmentation("exchanged"), generator(seed, "exchange")
    drawn = clips.take(torch.randperm(len(clips), generator=rng)[:ASKED])
    known = drawn.where(predict(model, drawn).argmax(1) == drawn.labels)
    if exchange is None or not len(known):  # None: a front end that varies nothing
        return 0.0
    right = asked = 0
    precision = choose_precision("auto", model)
    while asked < ASKED:
        for rows in torch.randperm(len(known), generator=rng).split(BATCH):
            part = known.take(rows)
            with autocast(model.device, precision):
                answers = model.body(exchange(model.features(part), rng)).argmax(1).cpu()
            right += int((answers == part.labels).sum())
            asked += len(rows)
    return right / asked
