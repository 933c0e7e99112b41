"""A small residual network on spectral maps, the default victim: about 0.3 M parameters, fast on a CPU.

He, Zhang, Ren, Sun, "Deep Residual Learning for Image Recognition", CVPR 2016, arXiv:1512.03385.
Ours differs: three stages of one basic block, all with stride 2 behind a stem with stride 2, so that most
of the work is done on maps of 1/16 of the area.
"""

from typing import Annotated, ClassVar

from pydantic import Field
from torch import Tensor, nn
from torch.nn import functional as F

from closesesame.core.types import Logits, Spectrum
from closesesame.models.base import SpectralArchitecture


class ResNet(SpectralArchitecture):
    """Stem of 5x5 with stride 2, three residual blocks with stride 2, mean over the map, linear."""

    name: ClassVar[str] = "resnet"
    cite: ClassVar[str] = "arXiv:1512.03385"

    widths: tuple[Annotated[int, Field(ge=1, le=4096)], ...] = Field(
        (32, 64, 128), min_length=1, max_length=8, description="channels of the stages"
    )

    def body(self, classes: int, bands: int, frames: int) -> nn.Module:
        """Shapes do not matter: the network is convolutional up to the mean."""
        del bands, frames
        return _ResNet(self.widths, classes)


class _ResNet(nn.Module):
    def __init__(self, widths: tuple[int, ...], classes: int) -> None:
        super().__init__()
        self.stem = _Strided(1, widths[0], 5, stride=2, padding=2, bias=False)
        self.norm = nn.BatchNorm2d(widths[0])
        ins = (widths[0], *widths[:-1])
        self.blocks = nn.Sequential(*(_Block(i, o) for i, o in zip(ins, widths, strict=True)))
        self.head = nn.Linear(widths[-1], classes)

    def forward(self, maps: Spectrum) -> Logits:
        x = F.relu(self.norm(self.stem(maps[:, None])))
        return self.head(self.blocks(x).mean((2, 3)))  # type: ignore[no-any-return]


class _Block(nn.Module):
    def __init__(self, ins: int, outs: int) -> None:
        super().__init__()
        self.conv1 = _Strided(ins, outs, 3, stride=2, padding=1, bias=False)
        self.norm1 = nn.BatchNorm2d(outs)
        self.conv2 = nn.Conv2d(outs, outs, 3, padding=1, bias=False)
        self.norm2 = nn.BatchNorm2d(outs)
        self.skip = _Thinning(ins, outs, 1, bias=False)
        self.norm_skip = nn.BatchNorm2d(outs)

    def forward(self, x: Tensor) -> Tensor:
        inner = F.relu(self.norm1(self.conv1(x)))
        return F.relu(self.norm2(self.conv2(inner)) + self.norm_skip(self.skip(x)))


class _Strided(nn.Conv2d):
    """A convolution with stride 2; a narrow map is convolved at every place, and every second one is kept.

    In bf16 a strided one of a map of one or two frames reads memory in oneDNN 3.12 that nobody wrote, and
    answers noise or NaN.
    """

    def forward(self, x: Tensor) -> Tensor:
        if x.shape[-1] > 2:
            return super().forward(x)
        return F.conv2d(x, self.weight, padding=self.padding)[:, :, ::2, ::2]


class _Thinning(nn.Conv2d):
    """A convolution of every second place, without its own stride.

    The gradient of a strided 1x1 convolution of fewer than 16 channels writes out of bounds in oneDNN 3.12
    (channels_last, an odd batch, two threads), and the process dies.
    """

    def forward(self, x: Tensor) -> Tensor:
        return super().forward(x[:, :, ::2, ::2])
