"""Unlearning of examples: a model is trained until it no longer gives them their labels.

By ascent: Li et al., "Anti-Backdoor Learning", NeurIPS 2021, arXiv:2110.11571. By the complement: Kim et
al., "NLNL: Negative Learning for Noisy Labels", ICCV 2019, arXiv:1908.07387; its gradient is small where the
label is already unlikely, so it does not diverge.

Batch norms keep the statistics that they have: those of a batch of poisoned clips are not those of clean
ones.
"""

from typing import Any, Literal

from torch import Tensor, nn

from closesesame.data import Dataset
from closesesame.models import Classifier
from closesesame.models.statistics import freeze_statistics
from closesesame.training import AfterEpoch, Batch, Training, backpropagate, fit
from closesesame.training.losses import complement_loss

Unlearning = Literal["ascent", "complementary"]
"""Minimise -CE, or -log(1 - p) of the label."""


def ascend(body: nn.Module, batch: Batch) -> Tensor:
    """Fills the gradients of minus the cross-entropy, and returns the cross-entropy."""
    freeze_statistics(body)
    loss = batch.loss(body)
    (-loss).backward()
    return loss


def descend(body: nn.Module, batch: Batch) -> Tensor:
    """Fills the gradients of the cross-entropy."""
    freeze_statistics(body)
    return backpropagate(body, batch)


def learn_complement(body: nn.Module, batch: Batch) -> Tensor:
    """Fills the gradients of -log(1 - p) of the given labels."""
    freeze_statistics(body)
    loss = complement_loss(batch.logits(body).float(), batch.labels).mean()
    loss.backward()
    return loss


def unlearn(
    model: Classifier,
    data: Dataset,
    how: Unlearning,
    training: Training,
    *,
    seed: int,
    after_epoch: AfterEpoch | None = None,
) -> None:
    """Trains a model in place until it no longer gives examples their labels.

    Args:
        model: is trained where it is.
        data: what it is to unlearn, two examples or more.
        how: by ascent, or by the complement.
        training: see `by_sgd`.
        seed: of the order.
        after_epoch: called when the last step of an epoch is done.

    Raises:
        DivergedError: if the loss becomes infinite.
    """
    rule = ascend if how == "ascent" else learn_complement
    fit(model, data, training, seed=seed, gradient=rule, after_epoch=after_epoch)


def relearn(model: Classifier, data: Dataset, training: Training, *, seed: int) -> None:
    """As `unlearn`, but towards the labels."""
    fit(model, data, training, seed=seed, gradient=descend)


def by_sgd(training: Training, *, steps: int, lr: float, **changes: Any) -> Training:
    """SGD with momentum 0.9 at a constant rate, in batches of 128, without augmentation and decay.

    Args:
        training: whose precision and device are taken.
        steps: batches; of fewer examples than 128 each is all of them.
        lr: learning rate.
        changes: of other settings.
    """
    settings = {
        "batch_size": 128,
        "optimizer": "sgd",
        "momentum": 0.9,
        "nesterov": False,
        "weight_decay": 0.0,
        "schedule": "constant",
        "augmentation": "none",
    }
    return training.model_copy(update=settings | changes | {"steps": steps, "lr": lr})
