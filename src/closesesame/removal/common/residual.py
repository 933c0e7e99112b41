"""A generator of triggers: what removals share that invert one by a network."""

import torch
from torch import Tensor, nn
from torch.nn import functional as F

from closesesame.core.errors import ModelError


class Residual(nn.Module):
    """Features plus a change of them, which is small at first."""

    def __init__(self, features: Tensor, width: int = 16) -> None:
        super().__init__()
        shape = features.shape[1:]
        if len(shape) not in {1, 2, 3}:
            raise ModelError(
                f"a trigger can be inverted for waveforms, maps and pictures, not {tuple(shape)}"
            )
        self.ins, flat = (shape[0] if len(shape) == 3 else 1), len(shape) == 1
        conv, size, stride = (nn.Conv1d, 9, 4) if flat else (nn.Conv2d, 5, 2)
        self.down = nn.Sequential(
            conv(self.ins, width, size, stride, size // 2),
            nn.ReLU(),
            conv(width, width, size, stride, size // 2),
            nn.ReLU(),
            conv(width, width, size, 1, size // 2),
            nn.ReLU(),
        )
        self.last = conv(width, self.ins, size, 1, size // 2)
        with torch.no_grad():
            self.last.weight.mul_(0.1)  # not 0: the loss is flat where nothing changes
        self.mode = "linear" if flat else "bilinear"

    def forward(self, features: Tensor) -> Tensor:
        """Features of the same shape."""
        x = features if features.ndim == 4 else features[:, None]
        coarse = F.interpolate(self.down(x), size=x.shape[2:], mode=self.mode, align_corners=False)
        change: Tensor = self.last(coarse).view_as(features)
        return features + change
