"""FixMatch: semi-supervised learning from the labels that are believed and the model's own confident answers.

Sohn et al., "FixMatch: Simplifying Semi-Supervised Learning with Consistency and Confidence", NeurIPS 2020,
arXiv:2001.07685: a class that the model gives to a weakly augmented example with a probability of
`threshold` or more is the label of the same example under strong augmentation. Threshold, ratio and weight
are the authors' for CIFAR-10.

Ours differs: a batch of the training is the unlabelled part, and labelled examples are drawn beside it, with
replacement; the last weights are used, not a moving average, since the learning rate falls to zero.
"""

import torch
from jaxtyping import Bool
from pydantic import Field
from torch import Tensor, nn
from torch.nn import functional as F

from closesesame.audio.augment import Augmentation as Augment
from closesesame.core.bounds import LossWeight
from closesesame.core.seeding import derive, generator
from closesesame.core.settings import Settings
from closesesame.core.types import Labels
from closesesame.data import Dataset
from closesesame.models import Classifier

from .loop import AfterEpoch, Batch, fit
from .settings import Augmentation, Training


class FixMatch(Settings):
    """How a model learns from examples without labels."""

    threshold: float = Field(0.95, ge=0, le=1, description="least probability of an answer that counts")
    ratio: int = Field(7, ge=1, le=1000, description="unlabelled examples a batch for each labelled one")
    unlabelled_weight: LossWeight = Field(1.0, description="factor of the loss on unlabelled examples")
    weak: Augmentation = Field("light", description="augmentation of the examples that the model answers")
    strong: Augmentation = Field("strong", description="augmentation of those that it learns its answers on")


class FixMatchRule:
    """A gradient rule: CE(labelled, weak) + weight CE(unlabelled, strong) where the model is confident.

    Attributes:
        labelled: (n,) whose labels are believed, one or more; may be replaced between epochs.
    """

    def __init__(
        self, model: Classifier, data: Dataset, labelled: Bool[Tensor, " n"], settings: FixMatch, seed: int
    ) -> None:
        """Takes the model that is trained and all examples.

        Args:
            model: whose front end makes and augments the features.
            data: all examples; the labels of those that are not `labelled` are not looked at.
            labelled: (n,) whose labels are believed.
            settings: of the method.
            seed: of order, labelled examples and augmentation.
        """
        self.labelled, self.settings = labelled, settings
        self._model, self._data, self._seed = model, data, seed
        self._weak = model.front_end.augmentation(settings.weak)
        self._strong = model.front_end.augmentation(settings.strong)
        self._rng = generator(seed, "fixmatch")
        self._fits = 0

    def fit(self, training: Training, *, after_epoch: AfterEpoch | None = None) -> None:
        """Trains the model in place.

        Args:
            training: of the unlabelled part: epochs over all examples, size of a batch and so on; its
                augmentation is not used.
            after_epoch: called when the last step of an epoch is done.
        """
        bare = training.model_copy(update={"augmentation": "none"})
        seed = derive(self._seed, "fit", self._fits)
        self._fits += 1
        fit(self._model, self._data, bare, seed=seed, gradient=self, after_epoch=after_epoch)

    def __call__(self, body: nn.Module, batch: Batch) -> Tensor:
        """Fills the gradients of one batch of features without augmentation."""
        known, labels = self._labelled_examples(max(1, round(len(batch.index) / self.settings.ratio)), batch)
        with torch.no_grad():
            weak = self._varied(batch.features, self._weak)
            said = F.softmax(batch.with_features(weak).logits(body).float(), 1)
        confidence, answers = said.max(1)
        inputs = torch.cat([known, self._varied(batch.features, self._strong)])
        logits = batch.with_features(inputs).logits(body).float()
        unlabelled = ~self.labelled[batch.index].to(logits.device)
        counted = unlabelled & (confidence >= self.settings.threshold)
        losses = F.cross_entropy(logits[len(known) :], answers, reduction="none")
        by_answer = losses[counted].sum() / unlabelled.sum().clamp(min=1)
        loss = F.cross_entropy(logits[: len(known)], labels) + self.settings.unlabelled_weight * by_answer
        loss.backward()
        return loss

    @torch.no_grad()
    def _labelled_examples(self, count: int, batch: Batch) -> tuple[Tensor, Labels]:
        """Weakly augmented features of labelled examples, and their labels."""
        rows = self.labelled.nonzero()[:, 0]
        at = rows[torch.randint(len(rows), (count,), generator=self._rng)]
        features = self._model.front_end(self._data.inputs[at].to(batch.features.device))
        return self._varied(features, self._weak), self._data.labels[at].to(batch.labels.device)

    def _varied(self, features: Tensor, augment: Augment | None) -> Tensor:
        return features if augment is None else augment(features, self._rng)
