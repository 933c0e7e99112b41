"""Ordinary clips of a set that may be poisoned: those that are learned neither first nor last. Ours.

No one-sided filter is right. A trigger that is added, such as noise, is learned before the words: its clips
have the lowest losses after the first epochs (Li et al., NeurIPS 2021, arXiv:2110.11571). A trigger that
transforms the clip, or is faint, is learned last, and under strong augmentation hardly at all: its clips keep
the highest losses. So two short trainings from fresh weights are watched. Slow training shows what is learned
first; its learning rate is low, since at a high one losses leap from epoch to epoch. Training under strong
augmentation shows what is learned last.

A loss says something only beside those of the same label, and ranks within a label hide how few or many of
them are poisoned. Where poisoned clips are neither first nor last, they still are another kind of clip: their
features form a cluster (Chen et al., 2018, arXiv:1811.03728). Features of two models are looked at, and those
count that two clusters describe better. Which of the two clusters is the poisoned one? A class that is larger
than others may hold poison, and its clean clips are about as many as those of other classes. If sizes do not
tell, it is the cluster of which the second answers are more varied: in poisoned clips stand words of all
other classes, while a clean class is confused with few. No clip is chosen from the poisoned cluster, nor from
that half of the class which lies nearer to it.

Where labels are right, as in clean-label attacks, sizes and answers say nothing, and the poisoned cluster can
be the one that is known best. There the quiet cells of clips tell (`training/quiet.py`), if those of a part
of a class do: the poisoned cluster is that whose quiet cells make a model answer the label in clips of
others. What lies on its side or nearer to it than half of the class, or has such cells itself, is never
learned from, in later repairs either, since a repaired model knows such clips as well as clean ones.

A class that is far larger than others may hold more poisoned clips than clean ones, and then neither sizes
nor ranks tell which are which. So a model is trained without that class, and hears its clips: a clean class
that it never met it takes for one or a few others, and poisoned clips for what is said in them. No clip is
chosen that does not get one of the common answers, and the poisoned cluster is the one with fewer of them;
where quiet cells tell, too, both count.

All this chooses a few clips of each class, and no more. One poisoned clip among hundreds is enough to keep a
backdoor; so the chosen clips are checked. They are split into halves, and a model that was trained on all
clips is repaired by self-distillation with either half. What a repaired model says of the clips that it was
not repaired with can be compared over all classes: a poisoned one does not get its label.

Which clips are poisoned is a matter of the clips. So in sound a ResNet tells, whatever network is asked
about: one that learns slowly does not show which clips are learned first and last, and a large one takes
long.

A model that was repaired with few clips has lost accuracy, and may have kept some of the backdoor. But it
tells poisoned clips from clean ones better than anything before. So it is repaired again, with those clips of
each class that it knows best, half as many as the median class has.
"""

import copy
import math
from collections.abc import Callable, Mapping, Sequence
from functools import partial
from typing import Any, Literal, NamedTuple

import torch
from jaxtyping import Float64, Int64
from pydantic import Field
from torch import Tensor
from torch.nn import functional as F

from closesesame.core.bounds import Steps
from closesesame.core.errors import DataError, ModelError
from closesesame.core.seeding import derive, generator
from closesesame.core.types import Labels, Mask
from closesesame.data import Dataset
from closesesame.models import Classifier, ResNet
from closesesame.models.matching import no_examples

from .clusters import Points, explained, reduced, side, two_means
from .features import features_and_logits
from .loop import AfterEpoch, fit
from .predicting import autocast, choose_precision, kept_features, predict
from .quiet import PART, telling, under_speech
from .selfdistillation import SelfDistillation
from .settings import Augmentation, Training
from .weights import redraw

Losses = Float64[Tensor, "epoch n"]
Tell = Callable[[str, int, Classifier], None]
"""Told the stage, the number of its epoch from 1, and the model, which it leaves as it is."""
SLOW = 0.2
"""Factor of the learning rate in slow training."""
LATE = 0.4
"""Share of the epochs of the strong training that are late."""
FAR = 0.3
"""Difference of logarithms of sizes that tells clusters apart, beside the usual one of classes."""
CROWDED = 1.6
"""How many times as many clips as others have, beside what is usual, make a class far larger."""
COMPONENTS = 10
"""Principal components of the features of a class, as activation clustering takes them."""
VARIED = 0.7
"""Entropy of answers, as a share of the highest, above which they are those to poisoned clips."""
BATCH_SIZE = 96
"""Of the repair."""


class Ordinary(NamedTuple):
    """What is chosen of a set.

    Attributes:
        rows: of the ordinary clips, in rising order.
        barred: which clips (n,) are never to be learned from; `barred` says which these are.
        told: labels of which quiet cells of a part of the clips tell.
        whole: labels of which those of nearly all clips tell, so that none is barred.
    """

    rows: Int64[Tensor, " chosen"]
    barred: Mask
    told: list[int]
    whole: list[int]


class OrdinaryCheck(SelfDistillation):
    """Chooses the ordinary clips of a set, and checks them with a model that was trained on it."""

    slow_epochs: int = Field(3, ge=1, le=1000, description="passes of the slow training")
    strong_epochs: int = Field(
        10, ge=1, le=10_000, description="passes of the training under strong augmentation"
    )
    unmet_epochs: int = Field(
        8,
        ge=1,
        le=10_000,
        description="passes of the training without a class that is far larger than others",
    )
    chooser: Literal["resnet", "own"] = Field(
        "resnet",
        description="network that chooses the clips: a ResNet, or one like the model; with anything but "
        "sound it is one like the model",
    )
    ordinary_share: float = Field(
        0.1,
        gt=0,
        le=0.5,
        description="clips of each class to choose as ordinary, as a share of the median class",
    )
    ordinary_least: int = Field(
        12, ge=1, le=100_000, description="clips of a class to choose at least, up to half of them"
    )
    check_steps: Steps = Field(150, description="batches of the repair with either half of the chosen clips")
    repair_augmentation: Augmentation = Field("varied", description="of every repair, those of the check too")
    bar_told: bool = Field(
        True,
        description="never learn from part of a class if the quiet parts of some of its clips make a model "
        "answer it in clips of other classes",
    )

    def chooses_itself(self, architecture: str, data: Dataset) -> bool:
        """Whether a network of an architecture chooses the clips of a set itself."""
        return self.chooser == "own" or architecture == ResNet.name or data.sample_rate is None

    def checked(
        self, model: Classifier, data: Dataset, training: Training, seed: int, tell: Tell
    ) -> tuple[Ordinary, Float64[Tensor, " n"]]:
        """The ordinary clips, and the loss of each clip under models that did not learn from it.

        That is the mean over the copies of the model that were repaired with a half without the clip.

        Args:
            model: trained on the data; in evaluation mode, and left as it is.
            data: the examples, poison among them.
            training: as the model was trained; epochs, learning rate and augmentation are changed.
            seed: of everything drawn.
            tell: called after each epoch of the stages `slow`, `strong`, `check 1` and `check 2`, and of one
                such as `without 3` for each label that is far larger than others.

        Raises:
            DataError: if there are too few clips to choose from.
        """
        chosen = self.ordinary(model, data, training, seed, tell)
        rows = chosen.rows
        if len(rows) < 4:
            raise DataError(
                f"{len(data)} clips of {len(data.labels.unique())} classes are too few to choose ordinary "
                "ones from; give more of each"
            )
        half = torch.zeros_like(rows)
        half[data.labels[rows].argsort(stable=True)] = torch.arange(len(rows)) % 2
        losses, counts = torch.zeros(2, len(data), dtype=torch.float64)
        quickly = self.model_copy(update={"least_learnt": 0.0})  # half learned, it tells clips apart, too
        for number in (0, 1):
            copied = copy.deepcopy(model)
            stage = f"check {number + 1}"
            learned = rows[half == number]
            quickly.repair_with(copied, data.take(learned), training, self.check_steps, seed, stage, tell)
            unseen = torch.ones(len(data), dtype=torch.float64)
            unseen[learned] = 0
            losses += unseen * losses_of(copied, data)
            counts += unseen
        return chosen, losses / counts

    def repair_with(
        self,
        model: Classifier,
        clips: Dataset,
        training: Training,
        steps: int,
        seed: int,
        stage: str,
        tell: Tell,
        teacher: Classifier | None = None,
    ) -> dict[str, Any]:
        """One self-distillation in place with some clips; `distil` says of what.

        Args:
            model: to repair.
            clips: to learn from.
            training: as the model was trained; its length, batches and augmentation are changed.
            steps: batches.
            seed: of everything drawn.
            stage: its name.
            tell: called after each epoch.
            teacher: by default the model itself, as it is before.
        """
        as_asked = training.model_copy(
            update={
                "steps": steps,
                "batch_size": BATCH_SIZE,
                "augmentation": self.repair_augmentation,
            }
        )
        look, audio = partial(tell, stage), no_examples(model.card)
        return self.distil(model, clips, audio, as_asked, derive(seed, stage), look, teacher)

    def ordinary(
        self, model: Classifier, data: Dataset, training: Training, seed: int, tell: Tell
    ) -> Ordinary:
        """The ordinary clips; see `checked`."""
        changes: dict[str, dict[str, Any]] = {
            "slow": {
                "epochs": self.slow_epochs,
                "lr": SLOW * training.lr,
                "schedule": "constant",
                "augmentation": "light",
            },
            "strong": {"epochs": self.strong_epochs, "augmentation": "strong"},
        }
        probes: dict[str, Classifier] = {}
        losses: dict[str, Losses] = {}
        for stage, change in changes.items():
            own_seed = derive(seed, stage)
            probes[stage] = _redrawn(model, own_seed)
            as_asked = training.for_epochs(**change)
            look = partial(tell, stage)
            losses[stage] = course(probes[stage], data, as_asked, seed=own_seed, after_epoch=look)
        strong = losses["strong"]
        early = torch.cat([losses["slow"], strong[:1]])
        late = strong[-max(1, round(LATE * len(strong))) :]
        scores = ordinariness(early, late, data.labels)
        common = self.commonly_answered(model, data, training, seed, tell)
        heard = telling(model, data, seed)
        quiet = under_speech(heard, data.labels)
        told = quiet.labels if self.bar_told else []
        strange = dict.fromkeys(told, heard.chances)
        for label, usual in common.items():
            strange[label] = strange.get(label, 0) + (1 - usual.double())
        known = [_features_and_logits(one, data) for one in (probes["strong"], model)]
        odd = oddness(known, data.labels, strange)
        aside = (odd > 0) | (ranks_within(odd[None], data.labels)[0] > 0.5)
        scores[aside] -= 1
        for label, usual in common.items():
            scores[(data.labels == label) & ~usual] -= 1
        never = barred(told, aside, quiet.clips, data.labels)
        scores[never] -= 1
        # Scores are often equal, and the order of the clips may be that of their true classes.
        mixed = torch.randperm(len(scores), generator=generator(seed, "ties"))
        chosen = most_ordinary(scores[mixed], data.labels[mixed], self.ordinary_share, self.ordinary_least)
        rows = mixed[chosen].sort().values
        return Ordinary(rows[~never[rows]], never, told, quiet.whole)

    def commonly_answered(
        self, model: Classifier, data: Dataset, training: Training, seed: int, tell: Tell
    ) -> dict[int, Mask]:
        """By label, of those that are far larger than others: which clips (n,) get one of the common answers.

        The answers are those of a model that is trained without the label.

        Args:
            model: of whose architecture the trained models are; left as it is.
            data: as for `checked`, and so are the others.
        """
        found, enough = {}, usual_size(data.labels.bincount())[0] / 2
        for label in crowded(data.labels):
            stage, own = f"without {label}", data.labels == label
            own_seed = derive(seed, stage)
            probe = _redrawn(model, own_seed)
            look, as_asked = partial(tell, stage), training.for_epochs(self.unmet_epochs)
            fit(probe, data.where(~own), as_asked, seed=own_seed, after_epoch=look)
            logits = predict(probe, data.where(own))
            logits[:, label] = -torch.inf
            found[label] = own.clone()
            found[label][own] = common_answers(logits.argmax(1), enough)
        return found


class OrdinaryRepair(OrdinaryCheck):
    """Repairs a model with the ordinary clips of the set that it was trained on, and again with more."""

    first_steps: Steps = Field(200, description="batches of either repair")
    second_share: float = Field(
        0.5,
        gt=0,
        le=1,
        description="clips of each class to repair with again, as a share of the median class",
    )

    def repair_with_ordinary(
        self, model: Classifier, data: Dataset, training: Training, seed: int, tell: Tell
    ) -> tuple[Mask, dict[str, Any]]:
        """Repairs a model in place: with the ordinary clips that pass the check, and with what it then knows.

        Args:
            model: trained on the data; in evaluation mode.
            data: as for `checked`, and so are the others, but that there are the stages `repair 1` and
                `repair 2`, too.

        Returns:
            Which clips (n,) are never to be learned from; and how many these are, of which classes, which
            classes quiet cells tell as a whole, how many clips were chosen, how many of them passed, and how
            many the model was repaired with again.

        Raises:
            DataError: if there are too few clips to choose from.
        """
        chosen, losses = self.checked(model, data, training, seed, tell)
        rows, never = chosen.rows, chosen.barred
        passed = rows[passing(losses[rows], data.labels[rows])]
        self.repair_with(model, data.take(passed), training, self.first_steps, seed, "repair 1", tell)
        known = losses_of(model, data)
        second = best_known(known, data.labels, self.second_share, self.ordinary_least, never)
        self.repair_with(model, data.take(second), training, self.first_steps, seed, "repair 2", tell)
        return never, {
            "barred_clips": int(never.sum()),
            "barred_of": [data.classes[label] for label in chosen.told],
            "told_as_a_whole": [data.classes[label] for label in chosen.whole],
            "ordinary_clips": len(rows),
            "passed_clips": len(passed),
            "second_clips": len(second),
        }


def ordinariness(early: Losses, late: Float64[Tensor, "late n"], labels: Labels) -> Float64[Tensor, " n"]:
    """How far each clip (n,) is from being learned first and from being learned last, from 0 to 1.

    That is min(lowest rank early, 1 - highest rank late); a rank is the share of clips of the same label with
    lower losses.

    Args:
        early: losses of all clips after each of the first epochs.
        late: losses after each of the last epochs.
        labels: the given ones (n,).
    """
    return torch.minimum(ranks_within(early, labels).amin(0), 1 - ranks_within(late, labels).amax(0))


def _redrawn(model: Classifier, seed: int) -> Classifier:
    """The same architecture with fresh weights, all of which learn."""
    made = copy.deepcopy(model).requires_grad_(True)
    redraw(made, seed)
    return made


def _features_and_logits(model: Classifier, data: Dataset) -> tuple[Points, Float64[Tensor, "n class"]]:
    """Of all clips; twice the logits of a model that has no features before a linear layer."""
    try:
        features, logits = features_and_logits(model, data)
    except ModelError:
        features = logits = predict(model, data)
    return features.double(), logits.double()


def crowded(labels: Labels) -> list[int]:
    """The labels that are far larger than others: by `CROWDED`, and by what sizes usually differ by."""
    sizes = labels.bincount()
    usual, spread = usual_size(sizes)
    return [label for label, size in enumerate(sizes.tolist()) if size > usual * CROWDED * math.exp(spread)]


def common_answers(answers: Labels, enough: float) -> Mask:
    """Which answers (n,) are common ones: the most frequent, until there are enough of them."""
    counts = answers.bincount()
    order = counts.argsort(descending=True, stable=True)
    before = counts[order].cumsum(0) - counts[order]
    return torch.isin(answers, order[before < enough])


def oddness(
    known: Sequence[tuple[Points, Float64[Tensor, "n class"]]],
    labels: Labels,
    strangeness: Mapping[int, Float64[Tensor, " n"]] | None = None,
) -> Float64[Tensor, " n"]:
    """How near each clip (n,) is to the odd one of two clusters of its label; 1 at its mean, -1 at the other.

    Of each label the features count of which two clusters explain the largest share of the variance. If there
    are more clips of a label than of others, the odd cluster is that whose size is further from theirs. If
    the two differ little in that, or there are no more, it is that with the more varied second answers. Of a
    label of whose clips it is known how strange they are, it is that with the stranger ones.

    Args:
        known: features (n, unit) and logits of each model.
        labels: the given ones (n,).
        strangeness: by label, how strange each clip (n,) is.
    """
    scores = torch.zeros(len(labels), dtype=torch.float64)
    usual, spread = usual_size(labels.bincount())
    for label in labels.unique():
        rows = (labels == label).nonzero()[:, 0]
        shown = [reduced(features[rows], COMPONENTS, whiten=False) for features, _ in known]
        clusters = [two_means(points) for points in shown]
        shares = [explained(points, one) for points, one in zip(shown, clusters, strict=True)]
        best = max(range(len(known)), key=lambda number: shares[number])
        if shares[best] > 0:
            parts = (clusters[best], ~clusters[best])
            far = [abs(math.log(int(part.sum()) / usual)) for part in parts]
            larger = math.log(len(rows) / usual) > spread
            if strangeness and int(label) in strangeness:
                told = strangeness[int(label)][rows]
                strange = [float(told[part].mean()) for part in parts]
            elif larger and abs(far[0] - far[1]) > FAR + spread:
                strange = far
            else:
                strange = [variety(known[best][1][rows[part]], int(label)) for part in parts]
            first = strange[0] >= strange[1]
            scores[rows] = side(shown[best], parts[0] if first else parts[1])
    return scores


def barred(told: Sequence[int], aside: Mask, clips: Mask, labels: Labels) -> Mask:
    """Which clips (n,) are never to be learned from, of labels that quiet cells tell.

    They are those that lie aside, and those whose own quiet cells tell; or the latter alone, if nearly no
    clip of the label would be left.

    Args:
        told: such labels.
        aside: which clips (n,) are on the side of the poisoned cluster, or in the half that is nearer to it.
        clips: whose own quiet cells tell (n,).
        labels: the given ones (n,).
    """
    found = torch.zeros_like(clips)
    for label in told:
        own = labels == label
        both = own & (aside | clips)
        found |= both if int(both.sum()) <= PART * int(own.sum()) else own & clips
    return found


def usual_size(sizes: Int64[Tensor, " class"]) -> tuple[float, float]:
    """The median number of clips of a class, and the median distance to it, as a difference of logarithms.

    Classes without clips count nowhere.
    """
    sizes = sizes[sizes > 0]
    usual = sizes.double().median()
    return float(usual), float((sizes / usual).log().abs().median())


def _count(labels: Labels, share: float, least: int) -> int:
    """How many clips of each label to take: a share of the median label's, and at least so many."""
    return max(least, round(share * usual_size(labels.bincount())[0]))


def variety(logits: Float64[Tensor, "n class"], label: int) -> float:
    """The entropy, in nats, of the mean answer of clips without their label."""
    others = logits.clone()
    others[:, label] = -torch.inf
    answer = F.softmax(others, 1).mean(0)
    return float(torch.special.entr(answer).sum())


def ranks_within(losses: Losses, labels: Labels) -> Losses:
    """The share of clips of the same label with lower losses; half of the equal ones count as lower."""
    ranks = torch.zeros_like(losses)
    for label in labels.unique():
        rows = labels == label
        own = losses[:, rows].contiguous()
        ordered = own.sort(1).values
        below, up_to = (torch.searchsorted(ordered, own, right=right) for right in (False, True))
        ranks[:, rows] = (below + up_to).double() / (2 * own.shape[1])
    return ranks


def best_known(
    losses: Float64[Tensor, " n"], labels: Labels, share: float, least: int, never: Mask | None = None
) -> Int64[Tensor, " known"]:
    """Rows of the clips of each label with the lowest losses, in rising order.

    Of each label there are at most as many, since one that has more clips may have them from poison; and only
    those that get their label with a chance of a half or more, beside the first ones.

    Args:
        losses: of all clips.
        labels: the given ones (n,).
        share: how many at most, as a share of the clips of the median label.
        least: how many of the first ones are taken in any case, up to half of the label's that may be.
        never: which are not taken in any case.
    """
    count = _count(labels, share, least)
    free = torch.ones_like(labels, dtype=torch.bool) if never is None else ~never
    found = []
    for label in labels.unique():
        rows = (free & (labels == label)).nonzero()[:, 0]
        best = rows[losses[rows].argsort(stable=True)[:count]]
        anyway = torch.arange(len(best)) < min(least, (len(rows) + 1) // 2)
        found.append(best[anyway | (losses[best] <= math.log(2))])
    return torch.cat(found).sort().values


def overlooked(logits: Float64[Tensor, "n class"], labels: Labels) -> Int64[Tensor, " overlooked"]:
    """Rows of the clips that a repaired model does not know and that are hardly poisoned, in rising order.

    A class may be missed in part: if no clip of some speaker was ordinary, a model that was repaired without
    does not know that speaker's others. It then takes them for a few other classes, and the label is its
    second answer to most of them. In poisoned clips it hears words of all other classes, or of one; and the
    label is rarely its second answer. So of a label whose unknown clips get varied answers none is taken, and
    of another those of which the label is the second answer.

    Args:
        logits: what the model says of all clips.
        labels: the given ones (n,).
    """
    own = labels[:, None]
    chance = F.softmax(logits, 1).gather(1, own)[:, 0]
    second = (logits > logits.gather(1, own)).sum(1) <= 1
    answers = logits.scatter(1, own, -torch.inf).argmax(1)
    found = torch.zeros(len(labels), dtype=torch.bool)
    for label in labels.unique():
        unknown = (labels == label) & (chance < 0.5)
        count = int(unknown.sum())
        shares = answers[unknown].bincount() / max(1, count)
        most = math.log(max(1, min(count, logits.shape[1] - 1)))
        if float(torch.special.entr(shares).sum()) <= VARIED * most:
            found |= unknown & second
    return found.nonzero()[:, 0]


def most_ordinary(
    scores: Float64[Tensor, " n"], labels: Labels, share: float, least: int
) -> Int64[Tensor, " chosen"]:
    """Rows of the clips of each label with the highest scores, in rising order.

    Of each label there are as many, since one that has far more clips than others may have them from poison;
    but no more than half of its clips.

    Args:
        scores: how ordinary each clip is.
        labels: the given ones (n,).
        share: how many, as a share of the clips of the median label.
        least: how many at least.
    """
    count = _count(labels, share, least)
    chosen = []
    for label in labels.unique():
        rows = (labels == label).nonzero()[:, 0]
        best = scores[rows].argsort(descending=True, stable=True)
        chosen.append(rows[best[: min(count, (len(rows) + 1) // 2)]])
    return torch.cat(chosen).sort().values


def losses_of(model: Classifier, data: Dataset) -> Float64[Tensor, " n"]:
    """The cross-entropy of each clip (n,) with its label, in nats."""
    return F.cross_entropy(predict(model, data).double(), data.labels, reduction="none")


def passing(losses: Float64[Tensor, " n"], labels: Labels) -> Int64[Tensor, " passed"]:
    """Rows of the clips that get their label with a chance of a half or more, in rising order.

    Half of the clips of each label pass in any case, those with the lowest losses: a class of which nothing
    is left would be forgotten.
    """
    passed = losses <= math.log(2)
    for label in labels.unique():
        rows = (labels == label).nonzero()[:, 0]
        passed[rows[losses[rows].argsort(stable=True)[: (len(rows) + 1) // 2]]] = True
    return passed.nonzero()[:, 0]


def course(
    model: Classifier,
    data: Dataset,
    training: Training,
    *,
    seed: int,
    after_epoch: AfterEpoch,
) -> Losses:
    """Trains a model in place: the loss of each example, as it is given, after each epoch, in nats.

    Args:
        model: what to train.
        data: the examples.
        training: how.
        seed: of order, augmentation and dropout.
        after_epoch: called when the losses of an epoch are there.
    """
    features, precision = kept_features(model, data), choose_precision("auto", model)
    losses = []

    @torch.no_grad()
    def look(epoch: int, model: Classifier) -> None:
        if features is None:
            logits = predict(model, data)
        else:
            with autocast(model.device, precision):
                logits = torch.cat([model.body(part).float().cpu() for part in features.split(256)])
        losses.append(F.cross_entropy(logits.double(), data.labels, reduction="none"))
        after_epoch(epoch, model)

    fit(model, data, training, seed=seed, after_epoch=look)
    return torch.stack(losses)
