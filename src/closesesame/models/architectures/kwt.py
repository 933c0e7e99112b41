"""Keyword Transformer: every frame of the map is a token.

Berg, O'Connor, Cruz, "Keyword Transformer: A Self-Attention Model for Keyword Spotting", Interspeech 2021,
arXiv:2104.00769. Ours differs: pre-norm and one head without output projection, as in the code beside Cai
et al., arXiv:2307.08208: 559,242 parameters for ten classes and maps of 80 x 87.
"""

from typing import Any, ClassVar

import torch
from pydantic import Field
from torch import Tensor, nn
from torch.nn import functional as F

from closesesame.core.types import Logits, Spectrum
from closesesame.models.base import SpectralArchitecture


class KWT(SpectralArchitecture):
    """Linear embedding of frames, class token, learned positions, pre-norm transformer layers."""

    name: ClassVar[str] = "kwt"
    cite: ClassVar[str] = "arXiv:2104.00769"
    parameters_of_paper: ClassVar[int | None] = 559_242
    quick: ClassVar[dict[str, Any]] = {"depth": 2}

    width: int = Field(64, ge=8, le=4096, description="size of a token")
    depth: int = Field(12, ge=1, le=96, description="transformer layers")
    hidden: int = Field(256, ge=8, le=16_384, description="units of the feed-forward part")

    def body(self, classes: int, bands: int, frames: int) -> nn.Module:
        """One token a frame and one for the class."""
        return _KWT(classes, bands, frames, self.width, self.depth, self.hidden)


class _KWT(nn.Module):
    def __init__(self, classes: int, bands: int, frames: int, width: int, depth: int, hidden: int) -> None:
        super().__init__()
        self.embed = nn.Linear(bands, width)
        self.token = nn.Parameter(torch.randn(1, 1, width) * 0.02)
        self.place = nn.Parameter(torch.randn(1, frames + 1, width) * 0.02)
        self.layers = nn.Sequential(*(_Layer(width, hidden) for _ in range(depth)))
        self.norm = nn.LayerNorm(width)
        self.head = nn.Linear(width, classes)

    def forward(self, maps: Spectrum) -> Logits:
        x = self.embed(maps.mT)
        x = torch.cat([self.token.expand(len(x), -1, -1), x], 1) + self.place
        return self.head(self.norm(self.layers(x)[:, 0]))  # type: ignore[no-any-return]


class _Layer(nn.Module):
    def __init__(self, width: int, hidden: int) -> None:
        super().__init__()
        self.norm1 = nn.LayerNorm(width)
        self.qkv = nn.Linear(width, 3 * width, bias=False)
        self.norm2 = nn.LayerNorm(width)
        self.up = nn.Linear(width, hidden)
        self.down = nn.Linear(hidden, width)

    def forward(self, x: Tensor) -> Tensor:
        query, key, value = self.qkv(self.norm1(x)).chunk(3, -1)
        x = x + F.scaled_dot_product_attention(query, key, value)
        return x + self.down(F.gelu(self.up(self.norm2(x))))  # type: ignore[no-any-return]
