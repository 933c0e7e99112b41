"""VIBE: the given label is a noisy reading of a true one, which is inferred (variational inference).

Sabolić, Grcić, Šegvić, "Seal Your Backdoor with Variational Defense", ICCV 2025, arXiv:2503.08829. With unit
features v(x), a prototype m_l of each true label and g_y of each given one, p(l | x) = softmax_l(kappa
cos(v, m_l)) and p(y | l) = softmax_y(nu cos(g_y, m_l)). E-step: the posterior of l is the plan that carries
all clips to equally frequent classes at a cost of -ln p(l | x) - ln p(y | l) (Sinkhorn, sharpened by
lambda). M-step: the gradient of the expected log-likelihood. It assumes that all classes are about equally
frequent, and that poisoned clips have a wrong label: clean-label poison is outside of its model.

Ours differs: the authors start from features that were learned without labels on the same data for many
hours, or from DINOv2; here the same architecture learns them without labels for `feature_epochs`. The E-step
is done once an epoch, where the authors do it every 1,000 of 30,000 batches, and its shares count, where they
take the likeliest label of each clip; the prototypes start at the mean of the features of each given label.
The prototypes of given labels learn by AdamW at a constant rate. The model answers the class with the nearest
prototype, by a linear layer.
"""

from functools import partial
from typing import Any, ClassVar

import torch
from jaxtyping import Float
from pydantic import Field
from torch import Tensor, nn
from torch.nn import functional as F

from closesesame.core.seeding import derive
from closesesame.core.types import Labels
from closesesame.data import Dataset
from closesesame.models import Architecture, Classifier
from closesesame.models.channels import head_in
from closesesame.models.frozen import frozen_weights
from closesesame.models.hooks import inputs_of
from closesesame.models.statistics import freeze_statistics
from closesesame.training import Batch, fit, untrained
from closesesame.training.features import features_of
from closesesame.training.steps import training_only

from .base import RobustTraining, Watch
from .common.contrast import Contrast, contrast, learn_features

Scores = Float[Tensor, "n class"]


class VIBE(RobustTraining, Contrast):
    """Infer the true label of each clip from unlabelled features and its given label, and learn that."""

    name: ClassVar[str] = "vibe"
    cite: ClassVar[str] = "arXiv:2503.08829"
    quick: ClassVar[dict[str, Any]] = {"training": {"epochs": 1}, "feature_epochs": 1}

    frozen: bool = Field(False, description="whether the features stay as they are in the M-step")
    kappa: float = Field(10.0, gt=0, le=1000, description="sharpness of p(l | x)")
    nu: float = Field(10.0, gt=0, le=1000, description="sharpness of p(y | l)")
    sharpening: float = Field(25.0, gt=0, le=1000, description="lambda of the Sinkhorn plan")
    rounds: int = Field(100, ge=1, le=10_000, description="of Sinkhorn's two scalings")

    def learn(
        self,
        architecture: Architecture,
        untrusted: Dataset,
        clean: Dataset | None,
        seed: int,
        watch: Watch,
    ) -> tuple[Classifier, dict[str, Any]]:
        """Features, then E- and M-steps in turn; returns how many given labels are not the inferred ones."""
        del clean
        model = untrained(architecture, untrusted, seed=seed, device=self.training.device)
        learn_features(
            model,
            untrusted,
            self.training.for_epochs(self.feature_epochs),
            loss=partial(contrast, temperature=self.temperature),
            augmentation=self.view_augmentation,
            seed=derive(seed, "features"),
            after_epoch=partial(watch, "features"),
        )
        head, inference = head_in(model), Inference(self, model, untrusted)

        def next_epoch(epoch: int, model: Classifier) -> None:
            inference.infer()
            watch("inference", epoch, model)

        frozen = frozen_weights(model.body)
        kept = {id(p) for name, p in model.body.named_parameters() if name in frozen or p is head.bias}
        trained = [p for p in (head if self.frozen else model.body).parameters() if id(p) not in kept]
        with training_only(model.body, trained):
            fit(
                model,
                untrusted,
                self.training,
                seed=derive(seed, "inference"),
                gradient=inference,
                after_epoch=next_epoch,
            )
        inference.infer()
        return model, {"labels_not_believed": int((inference.posterior.argmax(1) != inference.given).sum())}


class Inference:
    """The gradient rule of the M-step; `infer` is the E-step, and scales the prototypes into a last layer.

    Attributes:
        posterior: (n, classes) of the true label of each clip.
        given: (n,) the given labels.
        readings: (classes, unit) prototypes of the given labels; those of the true ones are the last layer.
    """

    posterior: Scores

    def __init__(self, method: VIBE, model: Classifier, data: Dataset) -> None:
        """Starts with both prototypes of a class at the mean of the features of its given label."""
        self.method, self.model, self.data, self.head = method, model, data, head_in(model)
        self.given = data.labels.to(model.device)
        units = F.normalize(features_of(model, data), dim=1).to(model.device)
        with torch.no_grad():
            for label in self.given.unique():
                self.head.weight[label] = units[self.given == label].mean(0)
        self.readings = nn.Parameter(F.normalize(self.head.weight.detach().clone(), dim=1))
        self._optimizer = torch.optim.AdamW([self.readings], method.training.lr, weight_decay=0)
        self.infer()

    @torch.no_grad()
    def infer(self) -> None:
        """The E-step."""
        features = features_of(self.model, self.data).to(self.head.weight)
        length = features.norm(dim=1).mean().clamp(min=1e-12)
        self.head.weight.copy_(self.method.kappa / length * F.normalize(self.head.weight, dim=1))
        if self.head.bias is not None:
            self.head.bias.zero_()
        of_input, of_label = self.log_likelihoods(features, self.given)
        there = self.given.unique()
        plan = transported((of_input + of_label)[:, there], self.method.sharpening, self.method.rounds)
        self.posterior = torch.zeros_like(of_input).index_copy(1, there, plan)

    def log_likelihoods(self, features: Tensor, given: Labels) -> tuple[Scores, Scores]:
        """The logarithms of p(l | x) and of p(y | l) for each clip (n, l)."""
        units, prototypes = F.normalize(features, dim=1), F.normalize(self.head.weight, dim=1)
        of_input = F.log_softmax(self.method.kappa * units @ prototypes.T, 1)
        readings = F.normalize(self.readings, dim=1)
        of_label = F.log_softmax(self.method.nu * prototypes @ readings.T, 1)  # (l, y)
        return of_input, of_label[:, given].T

    def __call__(self, body: nn.Module, batch: Batch) -> Tensor:
        """Fills the gradients of minus the expected log-likelihood of a batch, and moves the readings."""
        if self.method.frozen:
            freeze_statistics(body)
        with inputs_of(self.head) as seen:
            batch.logits(body)
        of_input, of_label = self.log_likelihoods(seen[-1].flatten(1).float(), batch.labels)
        posterior = self.posterior[batch.index.to(self.posterior.device)]
        loss = -(posterior * (of_input + of_label)).sum(1).mean()
        self._optimizer.zero_grad()
        loss.backward()
        self._optimizer.step()
        return loss


def transported(log_p: Scores, sharpening: float, rounds: int) -> Scores:
    """The plan p ** sharpening, scaled so that each row sums to 1 and each column to n / classes.

    Args:
        log_p: (n, class) natural logarithms of the likelihoods.
        sharpening: exponent of the likelihoods.
        rounds: of scaling columns and rows in turn, rows last.
    """
    plan = sharpening * log_p.double()
    for _ in range(rounds):
        plan = plan - plan.logsumexp(0, keepdim=True)
        plan = plan - plan.logsumexp(1, keepdim=True)
    return plan.exp().float()
