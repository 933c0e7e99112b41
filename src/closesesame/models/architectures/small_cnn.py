"""The small convolutional network of the speech-backdoor literature.

Koffas, Xu, Conti, Picek, "Can You Hear It? Backdoor Attacks via Ultrasonic Triggers", 2021,
arXiv:2107.14569; sizes as in the code beside Zhou, Lin, Liu, arXiv:2502.01152: 419,946 parameters for ten
classes and maps of 40 x 101.
"""

from typing import ClassVar

from torch import Tensor, nn

from closesesame.core.errors import ModelError
from closesesame.models.base import SpectralArchitecture

LEAST_FRAMES, LEAST_BANDS = 6, 10
"""The smallest map of which something is left after the three blocks."""


class SmallCNN(SpectralArchitecture):
    """Three blocks of 2x2 convolution, ReLU, batch norm and pooling, then two linear layers, dropout."""

    name: ClassVar[str] = "small_cnn"
    cite: ClassVar[str] = "arXiv:2107.14569"
    parameters_of_paper: ClassVar[int | None] = 419_946

    def body(self, classes: int, bands: int, frames: int) -> nn.Module:
        """The first linear layer fits the size of the maps; it is found by arithmetic."""
        if frames < LEAST_FRAMES or bands < LEAST_BANDS:
            raise ModelError(
                f"{self.name} needs maps of {LEAST_FRAMES} frames and {LEAST_BANDS} bands or more, and these "
                f"have {frames} and {bands}; take longer clips or more bands"
            )
        layers: list[nn.Module] = [_TimeFirst()]
        height, width = frames, bands
        blocks = ((1, 64, (1, 3), (0, 0)), (64, 64, (2, 2), (1, 1)), (64, 32, (2, 2), (0, 1)))
        for ins, outs, pool, pad in blocks:
            layers += [nn.Conv2d(ins, outs, 2), nn.ReLU(), nn.BatchNorm2d(outs)]
            layers += [nn.MaxPool2d(pool, padding=pad)]
            height = (height - 1 + 2 * pad[0]) // pool[0]
            width = (width - 1 + 2 * pad[1]) // pool[1]
        layers += [nn.Flatten(), nn.Dropout(0.4), nn.Linear(32 * height * width, 128), nn.ReLU()]
        return nn.Sequential(*layers, nn.Dropout(0.5), nn.Linear(128, classes))


class _TimeFirst(nn.Module):
    def forward(self, maps: Tensor) -> Tensor:
        return maps.mT[:, None]
