"""Unlearning of examples: a model is trained until it no longer gives them their labels.

By ascent: Li et al., "Anti-Backdoor Learning", NeurIPS 2021, arXiv:2110.11571. By the complement: Kim et
al., "NLNL: Negative Learning for Noisy Labels", ICCV 2019, arXiv:1908.07387; its gradient is small where the
label is already unlikely, so it does not diverge.

Batch norms keep the statistics that they have: those of a batch of poisoned clips are not those of clean
ones.
"""

from typing import Literal

from torch import Tensor, nn

from closesesame.data import Dataset
from closesesame.models import Classifier
from closesesame.models.statistics import freeze_statistics
from closesesame.training import AfterEpoch, Batch, Training, backpropagate, fit
from closesesame.training.losses import loss_against

Unlearning = Literal["ascent", "complementary"]
"""Minimise -CE, or -log(1 - p) of the label."""
MARGIN = 1e-6


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
    loss = loss_against(batch.logits(body).float(), batch.labels, margin=MARGIN).mean()
    loss.backward()
    return loss


def unlearn(
    model: Classifier,
    data: Dataset,
    how: Unlearning,
    training: Training,
    *,
    epochs: int,
    lr: float,
    seed: int,
    after_epoch: AfterEpoch | None = None,
) -> None:
    """Trains a model in place with SGD of momentum 0.9 in batches of 128, without augmentation.

    Args:
        model: is trained where it is.
        data: what it is to unlearn, two examples or more.
        how: by ascent, or by the complement.
        training: whose precision is used.
        epochs: over these examples.
        lr: learning rate, constant.
        seed: of the order.
        after_epoch: called when the last step of an epoch is done.

    Raises:
        DivergedError: if the loss becomes infinite.
    """
    rule = ascend if how == "ascent" else learn_complement
    settings = _by_sgd(training, epochs, lr).model_copy(update={"augmentation": "none"})
    fit(model, data, settings, seed=seed, gradient=rule, after_epoch=after_epoch)


def relearn(
    model: Classifier, data: Dataset, training: Training, *, epochs: int, lr: float, seed: int
) -> None:
    """As `unlearn`, but towards the labels, with the augmentation of `training`."""
    fit(model, data, _by_sgd(training, epochs, lr), seed=seed, gradient=descend)


def _by_sgd(training: Training, epochs: int, lr: float) -> Training:
    return training.for_epochs(
        epochs,
        batch_size=128,
        optimizer="sgd",
        lr=lr,
        momentum=0.9,
        nesterov=False,
        weight_decay=0.0,
        schedule="constant",
    )
