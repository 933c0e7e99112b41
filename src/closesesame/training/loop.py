"""The one training loop: every method that trains calls `fit`, with its own settings and gradient rule."""

import math
import time
from collections.abc import Callable, Iterator
from dataclasses import dataclass, field, replace
from typing import Any

import torch
from torch import Generator, Tensor, nn
from torch.nn import functional as F

from closesesame.audio.augment import Augmentation
from closesesame.core import machine
from closesesame.core.errors import DataError, DivergedError, ModelError
from closesesame.core.progress import Track
from closesesame.core.seeding import generator, isolated
from closesesame.core.types import Labels, Logits, PerUnit
from closesesame.data import Dataset
from closesesame.models import Architecture, Classifier
from closesesame.models.matching import data_for

from .predicting import autocast, choose_precision, kept_features, predict
from .settings import Training


@dataclass(frozen=True)
class Batch:
    """The examples of one step, and how the model is run on them.

    Attributes:
        features: (batch, ...) from the front end, augmented.
        labels: their classes.
        index: (batch,) their rows in the data set.
        precision: what the model computes in.
    """

    features: Tensor
    labels: Labels
    index: Tensor
    precision: machine.Precision = "fp32"

    def logits(self, body: nn.Module) -> Logits:
        """Runs the body in the precision of the training."""
        with autocast(self.features.device, self.precision):
            logits: Logits = body(self.features)
        return logits

    def losses(self, body: nn.Module) -> PerUnit:
        """Cross-entropy of each example (batch,), in float32."""
        return F.cross_entropy(self.logits(body).float(), self.labels, reduction="none")

    def loss(self, body: nn.Module) -> Tensor:
        """Mean cross-entropy, in float32."""
        return F.cross_entropy(self.logits(body).float(), self.labels)

    def with_features(self, features: Tensor) -> "Batch":
        """The same batch with other features, such as perturbed ones."""
        return replace(self, features=features)


GradientRule = Callable[[nn.Module, Batch], Tensor]
"""Fills `.grad` of the body's parameters from one batch, in training mode, and returns the loss."""
AfterEpoch = Callable[[int, Classifier], None]
"""Given the number of the epoch, from 1, and the model in evaluation mode, which it leaves as it is."""


@dataclass
class History:
    """What happened in a run, one entry an epoch."""

    loss: list[float] = field(default_factory=list)
    validation_loss: list[float] = field(default_factory=list)
    seconds: float = 0.0
    precision: machine.Precision = "fp32"


def train(
    architecture: Architecture,
    data: Dataset,
    training: Training | None = None,
    *,
    seed: int,
    validation: Dataset | None = None,
    after_epoch: AfterEpoch | None = None,
) -> Classifier:
    """Trains a model from fresh weights: `untrained`, then `fit`, which says how it went.

    Args:
        architecture: what to build.
        data: the training set.
        training: how; the defaults if None.
        seed: of the weights, the order, and the augmentation.
        validation: needed for `patience` only.
        after_epoch: called when the last step of an epoch is done.

    Raises:
        DataError: if the data hold fewer than two classes or two examples.
        SettingError: if the settings ask for a device that is not there, or for bf16 and it lacks it.
    """
    training = training or Training()
    device = machine.choose_device(training.device, setting="Training.device")
    model = untrained(architecture, data, seed=seed, device=device)
    fit(model, data, training, seed=seed, validation=validation, after_epoch=after_epoch)
    return model


def untrained(
    architecture: Architecture, data: Dataset, *, seed: int, device: torch.device | str = "cpu"
) -> Classifier:
    """A model with fresh weights for these data, its front end calibrated on them.

    Raises:
        DataError: if the data hold fewer than two classes.
    """
    if sum(count > 0 for count in data.counts()) < 2:
        raise DataError(f"training needs examples of two classes, got {len(data)} examples of one or none")
    model = architecture.build(data.classes, data.input_shape, data.sample_rate, seed=seed)
    model.front_end.calibrate(data.sample(min(1.0, 256 / len(data)), seed))
    return model.to(device)


def fit(
    model: Classifier,
    data: Dataset,
    training: Training,
    *,
    seed: int,
    validation: Dataset | None = None,
    gradient: GradientRule | None = None,
    after_epoch: AfterEpoch | None = None,
) -> History:
    """Trains the body of `model` in place, and leaves the model in evaluation mode.

    Args:
        model: its front end stays as it is; augmentation acts between front end and body.
        data: batches are drawn from it in random order without replacement, epoch after epoch; a batch
            may reach over the end of an epoch, so all are full.
        training: the settings; the model is trained where it is, whatever their device.
        seed: of order, augmentation and dropout.
        validation: for `patience`: the weights with the lowest loss on it are kept.
        gradient: how the gradient of a batch is found; back-propagation if None.
        after_epoch: called when the last step of an epoch is done.

    Raises:
        DataError: if there are fewer than two examples, or `patience` is set without validation data.
        ModelError: if the data do not fit the model, or it has no weights to train.
        DivergedError: if the loss becomes NaN or infinite.
        SettingError: if the settings ask for bf16 and the model's device lacks it.
    """
    data = data_for(model.card, data)
    if len(data) < 2:
        raise DataError(f"training needs two examples or more, got {len(data)}")
    if not any(weight.requires_grad for weight in model.body.parameters()):
        raise ModelError("the model has no weights that can be trained")
    if training.patience is not None and not validation:
        raise DataError("Training.patience needs validation data to watch")
    history = History(precision=choose_precision(training.precision, model))
    machine.note(history.precision)
    size = min(training.batch_size, len(data))
    epoch = max(1, round(len(data) / size))
    steps = training.steps if training.steps is not None else training.epochs * epoch
    rng = generator(seed, "order and augmentation")
    source = _FeatureSource(model, data)
    augment = model.front_end.augmentation(training.augmentation)
    rule = gradient or backpropagate
    optimizer = _make_optimizer(model.body, training)
    scheduler = _make_schedule(optimizer, training, max(1, steps))
    watch = _Watch(model, validation, training.patience)
    started = time.perf_counter()
    model.train()
    total = 0.0
    with isolated(seed, "dropout"):
        bar = Track(_batches(len(data), size, steps, rng), "training", steps)
        for step, index in enumerate(bar, 1):
            features, labels = source(index, rng, augment)
            loss = rule(model.body, Batch(features, labels, index, history.precision))
            optimizer.step()
            scheduler.step()
            optimizer.zero_grad(set_to_none=True)
            total += float(loss.detach())
            if not math.isfinite(total):
                raise DivergedError(
                    f"the training diverged at step {step} of {steps}; lower lr, which is {training.lr:g}"
                )
            if step % epoch == 0:
                history.loss.append(total / epoch)
                bar.note(f"loss {total / epoch:.3f}")
                total = 0.0
                if after_epoch:
                    after_epoch(step // epoch, model.eval())
                    model.train()
                if watch.is_over(history):
                    break
    watch.restore_best()
    model.eval()
    history.seconds = time.perf_counter() - started
    return history


def backpropagate(body: nn.Module, batch: Batch) -> Tensor:
    """The plain gradient rule."""
    loss = batch.loss(body)
    loss.backward()
    return loss


class _FeatureSource:
    """Features of a batch: kept if they fit into memory, computed from the clips if not."""

    def __init__(self, model: Classifier, data: Dataset) -> None:
        self.device = model.device
        self.data, self.front_end = data, model.front_end
        self.kept = kept_features(model, data)
        self.labels = data.labels.to(self.device)

    @torch.no_grad()
    def _compute(self, inputs: Tensor) -> Tensor:
        features: Tensor = self.front_end(inputs.to(self.device))
        return features

    def __call__(self, index: Tensor, rng: Generator, augment: Augmentation | None) -> tuple[Tensor, Tensor]:
        at = index.to(self.device)
        features = self._compute(self.data.inputs[index]) if self.kept is None else self.kept[at]
        return (augment(features, rng) if augment else features), self.labels[at]


def _batches(n: int, size: int, steps: int, rng: Generator) -> Iterator[Tensor]:
    waiting = torch.empty(0, dtype=torch.long)
    for _ in range(steps):
        if len(waiting) < size:
            waiting = torch.cat([waiting, torch.randperm(n, generator=rng)])
        yield waiting[:size]
        waiting = waiting[size:]


def _make_optimizer(body: nn.Module, training: Training) -> torch.optim.Optimizer:
    trained = [p for p in body.parameters() if p.requires_grad]
    if training.optimizer == "adamw":
        return torch.optim.AdamW(trained, training.lr, weight_decay=training.weight_decay)
    return torch.optim.SGD(
        trained,
        training.lr,
        momentum=training.momentum,
        nesterov=training.nesterov,
        weight_decay=training.weight_decay,
    )


def _make_schedule(
    optimizer: torch.optim.Optimizer, training: Training, steps: int
) -> torch.optim.lr_scheduler.LRScheduler:
    if training.schedule == "one_cycle":
        return torch.optim.lr_scheduler.OneCycleLR(
            optimizer, training.lr, total_steps=steps + 1, cycle_momentum=False
        )
    if training.schedule == "cosine":
        return torch.optim.lr_scheduler.CosineAnnealingLR(optimizer, steps)
    return torch.optim.lr_scheduler.ConstantLR(optimizer, factor=1.0)


class _Watch:
    """Keeps the weights with the lowest validation loss and says when there was no better for long."""

    def __init__(self, model: Classifier, validation: Dataset | None, patience: int | None) -> None:
        self.model, self.patience = model, patience
        self.validation = validation if patience is not None else None
        self.best, self.waited = float("inf"), 0
        self.state: dict[str, Any] | None = None

    def is_over(self, history: History) -> bool:
        if self.validation is None or self.patience is None:
            return False
        logits = predict(self.model, self.validation)
        loss = float(F.cross_entropy(logits, self.validation.labels))
        history.validation_loss.append(loss)
        self.waited += 1
        if loss < self.best:
            self.best, self.waited = loss, 0
            self.state = {name: value.clone() for name, value in self.model.state_dict().items()}
        return self.waited >= self.patience

    def restore_best(self) -> None:
        if self.state is not None:
            self.model.load_state_dict(self.state)
