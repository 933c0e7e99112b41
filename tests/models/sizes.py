"""How large the networks of papers are."""

from closesesame.models import SpectralArchitecture

TEN = tuple("abcdefghij")


def parameters(architecture: SpectralArchitecture, samples: int = 16_000) -> int:
    """How many weights a network for ten classes has, of clips with so many samples at 16 kHz."""
    model = architecture.build(TEN, (samples,), 16_000, seed=0)
    return sum(weight.numel() for weight in model.parameters())
