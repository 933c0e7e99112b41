"""The recurrent victim of the speech-backdoor literature: two LSTM layers over the frames.

Hochreiter, Schmidhuber, "Long Short-Term Memory", Neural Computation 9(8), 1997; sizes as in the code beside
Cai et al., arXiv:2307.08208: a batch norm on the map, 71,308 parameters for ten classes and maps of 80 x 87.
"""

from typing import ClassVar

from pydantic import Field
from torch import nn

from closesesame.core.types import Logits, Spectrum
from closesesame.models.base import SpectralArchitecture


class LSTM(SpectralArchitecture):
    """Batch norm on the map, LSTM layers, linear layer on the last step."""

    name: ClassVar[str] = "lstm"
    cite: ClassVar[str] = "arXiv:2307.08208"
    parameters_of_paper: ClassVar[int | None] = 71_308

    width: int = Field(64, ge=1, le=4096, description="units of a layer")
    depth: int = Field(2, ge=1, le=16, description="layers")

    def body(self, classes: int, bands: int, frames: int) -> nn.Module:
        """The number of frames does not matter."""
        del frames
        return _LSTM(classes, bands, self.width, self.depth)


class _LSTM(nn.Module):
    def __init__(self, classes: int, bands: int, width: int, depth: int) -> None:
        super().__init__()
        self.norm = nn.BatchNorm2d(1)
        self.lstm = nn.LSTM(bands, width, num_layers=depth, batch_first=True)
        self.head = nn.Linear(width, classes)

    def forward(self, maps: Spectrum) -> Logits:
        states, _ = self.lstm(self.norm(maps[:, None])[:, 0].mT)
        return self.head(states[:, -1])  # type: ignore[no-any-return]
