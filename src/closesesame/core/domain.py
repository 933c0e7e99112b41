"""The domains of data: what values an input may have, and how it is stored."""

from dataclasses import dataclass

import torch


@dataclass(frozen=True)
class Domain:
    """One kind of data: its name, the bounds of its values, and the type it is stored in."""

    name: str
    low: float
    high: float
    stored: torch.dtype


SPEECH = Domain("speech", -1.0, 1.0, torch.int16)
PICTURES = Domain("pictures", 0.0, 1.0, torch.uint8)
DOMAINS = {domain.name: domain for domain in (SPEECH, PICTURES)}
