"""Confusion training: what a model still fits while clean clips with wrong labels undo all else is poison.

Qi, Xie, Wang, Wu, Mahloujifar, Mittal, "Towards A Proactive ML Approach for Detecting Backdoor Poison
Samples", USENIX Security 2023, arXiv:2205.13616. A model that was trained on the set is trained on, with
batches of it and of a few clean clips whose labels are wrong and drawn anew in each batch:

    loss = ((weight - 1) CE(clean clips, wrong labels) + CE(clips of the set, given labels)) / weight

That destroys what words and labels have in common, so only clips with a trigger still get their given label.
It is done in rounds; each learns from the share of the clips that the last one fits best, in which poison is
denser. Then each class is tested: whether the features of the clips that are still fitted, on the two main
directions of their class, are likelier under a Gaussian of their own than under that of the rest.

A clip's score is the probability of its given label, less one if its class passes the test. So one of a class
that fails it has more than 0, and more than 0.5 if it is fitted: these are flagged.

Ours differs: each round starts from the suspect, where the authors train a new model for up to 100 epochs.
There are two rounds of a hundred batches, where they take six of thousands on 50,000 pictures. All clips of
the set weigh alike, where they weigh rare classes more; and they are in each batch, where the authors put
them into every second to eighth. And the Gaussian of the rest is that of all clips of
the class that are not fitted, where they take those with losses near the median.
"""

import math
from typing import Annotated, Any, ClassVar, Literal

import torch
from jaxtyping import Bool, Float64, Int64
from pydantic import Field
from torch import Generator, Tensor, nn
from torch.nn import functional as F

from closesesame.core.bounds import LearningRate, Steps
from closesesame.core.seeding import derive, generator
from closesesame.core.types import Labels
from closesesame.data import Dataset
from closesesame.models import Classifier
from closesesame.models.frozen import make_trainable
from closesesame.training import Batch, GradientRule, Training, fit, predict
from closesesame.training.features import features_of

from .base import Detection

FITTED = 0.5
OF_EACH_LABEL = 0.02
"""Share of the clips of each label that the next round learns from in any case."""
WEIGHT_DECAY = 1e-4
LEAST_VARIANCE = 1e-3
"""Added to the covariances, as the authors do."""


class ConfusionTraining(Detection):
    """Score how well a model still fits each clip after training on clean clips with wrong labels."""

    name: ClassVar[str] = "confusion_training"
    cite: ClassVar[str] = "arXiv:2205.13616"
    of: ClassVar[Literal["training clips", "inputs"]] = "training clips"
    trains: ClassVar[bool] = True
    needs_clean: ClassVar[bool] = True
    requires: ClassVar[str] = "features before a linear layer"
    quick: ClassVar[dict[str, Any]] = {"steps": 2, "kept_shares": (0.5,)}

    kept_shares: tuple[Annotated[float, Field(gt=0, le=1)], ...] = Field(
        (0.5,), max_length=20, description="share of the clips that the next round learns from, by round"
    )
    steps: Steps = Field(100, description="batches of a round")
    lr: LearningRate = Field(0.001, description="learning rate of SGD")
    momentum: float = Field(0.7, ge=0, lt=1, description="of SGD")
    weight: float = Field(20.0, ge=1, le=10_000, description="1 / share of the set's clips in the loss")
    least_ratio: float = Field(
        2.0, ge=0, le=1e9, description="likelihood ratio above which a class fails the test"
    )
    least_ratio_of_highest: float = Field(
        1.5, ge=0, le=1e9, description="the same for the class with the highest ratio"
    )

    def suspicion(self, model: Classifier, examples: Dataset, clean: Dataset, seed: int) -> Tensor:
        """The probability of the given label, less one in classes that pass the test."""
        learned, suspect = examples, {name: value.clone() for name, value in model.state_dict().items()}
        make_trainable(model.body)
        for number, share in enumerate((*self.kept_shares, None)):
            model.load_state_dict(suspect)
            own_seed = derive(seed, "round", number)
            training = Training(
                optimizer="sgd",
                lr=self.lr,
                momentum=self.momentum,
                weight_decay=WEIGHT_DECAY,
                schedule="constant",
                steps=self.steps,
                augmentation="none",  # clean clips have none, and it must not tell them from the others
            )
            rule = confusion_rule(
                model.features(clean), clean.labels.to(model.device), self.weight, generator(own_seed)
            )
            fit(model, learned, training, seed=own_seed, gradient=rule)
            probability = _of_given_label(model, examples)
            if share is not None:
                learned = examples.take(best_fitted(probability, examples.labels, share))
        fails = self._fails(model, examples, probability > FITTED)
        return probability - (~fails[examples.labels]).double()

    def flags_above(self) -> float:
        """What a clip of a class that fails the test has if it is fitted."""
        return FITTED

    def _fails(
        self, model: Classifier, examples: Dataset, fitted: Bool[Tensor, " n"]
    ) -> Bool[Tensor, " class"]:
        """Which classes fail the test."""
        features = features_of(model, examples).double()
        ratios = torch.ones(len(examples.classes), dtype=torch.float64)
        for label in examples.labels.unique().tolist():
            own = examples.labels == label
            ratios[label] = likelihood_ratio(features[own], fitted[own])
        highest = (ratios == ratios.max()) & (ratios > self.least_ratio_of_highest)
        return highest | (ratios > self.least_ratio)


def best_fitted(probability: Float64[Tensor, " n"], labels: Labels, share: float) -> Int64[Tensor, " kept"]:
    """The rows of the share of all clips that are fitted best, and of the best 2 % of each label.

    Args:
        probability: of the given label of each clip.
        labels: the given ones (n,).
        share: of all clips; two at least.
    """
    order = probability.argsort(descending=True, stable=True)
    kept = torch.zeros(len(labels), dtype=torch.bool)
    kept[order[: max(2, round(share * len(labels)))]] = True
    for label in labels.unique():
        own = order[labels[order] == label]
        kept[own[: math.ceil(OF_EACH_LABEL * len(own))]] = True
    return kept.nonzero()[:, 0]


def confusion_rule(clean: Tensor, labels: Labels, weight: float, rng: Generator) -> GradientRule:
    """The gradient of ((weight - 1) CE(clean, wrong) + CE(batch)) / weight, clean clips and batch as one.

    Args:
        clean: features of the clean clips (n, ...).
        labels: their true ones (n,).
        weight: of the two terms.
        rng: draws as many clean clips as the batch has, at most all of them, and their wrong labels.
    """

    def rule(body: nn.Module, batch: Batch) -> Tensor:
        rows = torch.randperm(len(clean), generator=rng)[: len(batch.labels)].to(clean.device)
        mixed = batch.with_features(torch.cat([clean[rows], batch.features]))
        logits = mixed.logits(body).float()
        wrong = wrong_labels(labels[rows], logits.shape[1], rng)
        confused = F.cross_entropy(logits[: len(rows)], wrong)
        given = F.cross_entropy(logits[len(rows) :], batch.labels)
        loss = ((weight - 1) * confused + given) / weight
        loss.backward()
        return loss

    return rule


def wrong_labels(labels: Labels, classes: int, rng: Generator) -> Labels:
    """For each label another one, all others being equally likely."""
    by = torch.randint(1, max(2, classes), labels.shape, generator=rng).to(labels.device)
    return (labels + by) % classes


def likelihood_ratio(features: Float64[Tensor, "example unit"], fitted: Bool[Tensor, " example"]) -> float:
    """How much likelier the features of a class are under two Gaussians than under that of the rest alone.

    Args:
        features: of the clips of one class; their two main directions count.
        fitted: the clips of which the second Gaussian is.

    Returns:
        The geometric mean of the ratio over all clips; 1 if either part has fewer than two clips.
    """
    if fitted.sum() < 2 or (~fitted).sum() < 2:
        return 1.0
    centred = features - features.mean(0)
    places = centred @ torch.linalg.svd(centred, full_matrices=False).Vh[:2].T
    rest, own = (_log_density(places, places[part]) for part in (~fitted, fitted))
    return float((own - rest)[fitted].sum().div(len(features)).exp())


def _log_density(places: Float64[Tensor, "n axis"], of: Float64[Tensor, "k axis"]) -> Float64[Tensor, " n"]:
    """Of the Gaussian with the mean and covariance of some places."""
    covariance = torch.cov(of.T).reshape(of.shape[1], of.shape[1])
    covariance = covariance + LEAST_VARIANCE * torch.eye(of.shape[1], dtype=of.dtype)
    density: Float64[Tensor, " n"] = torch.distributions.MultivariateNormal(of.mean(0), covariance).log_prob(
        places
    )
    return density


def _of_given_label(model: Classifier, examples: Dataset) -> Float64[Tensor, " n"]:
    probability = predict(model, examples).double().softmax(1)
    return probability.gather(1, examples.labels[:, None])[:, 0]
