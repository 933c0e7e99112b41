"""Running statistics of batch norms."""

import torch
from torch import nn

from closesesame.core.types import PerUnit
from closesesame.data import Dataset

from .base import Classifier

_NORMS = (nn.BatchNorm1d, nn.BatchNorm2d, nn.BatchNorm3d, nn.SyncBatchNorm)


def freeze_statistics(body: nn.Module) -> None:
    """Batch norms use and keep the statistics they have, until the body is set to training again."""
    for module in body.modules():
        if isinstance(module, _NORMS):
            module.eval()


@torch.no_grad()
def renew_statistics(model: Classifier, data: Dataset) -> None:
    """Sets the running statistics of all batch norms to those of the data, as plain averages over batches."""
    norms = [m for m in model.body.modules() if isinstance(m, _NORMS) and m.track_running_stats]
    if not norms:
        return
    momenta = [norm.momentum for norm in norms]
    model.eval()
    for norm in norms:
        norm.reset_running_stats()
        norm.momentum = None
        norm.train()
    device = next(model.parameters()).device
    try:
        for inputs, _ in data.batches(256):
            model.body(model.front_end(inputs.to(device)))
    finally:
        for norm, momentum in zip(norms, momenta, strict=True):
            norm.momentum = momentum
        model.eval()


def running_statistics(norm: nn.BatchNorm1d | nn.BatchNorm2d) -> tuple[PerUnit, PerUnit]:
    """Mean and variance that a batch norm predicts with."""
    assert norm.running_mean is not None
    assert norm.running_var is not None
    return norm.running_mean, norm.running_var
