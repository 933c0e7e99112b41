"""RSRT: a changed rhythm is the trigger; words and voice stay.

Yao, Yang, He, Liu, Wen, "Imperceptible Rhythm Backdoor Attacks: Exploring Rhythm Transformation for Embedding
Undetectable Vulnerabilities on Speech Recognition", 2024, arXiv:2406.10932. Ours differs: the paper resizes
pieces of the mel spectrogram and lets a neural vocoder make sound of it; here a phase vocoder reads the clip
along the changed time, which keeps the spectrum as it is. The sizes of the pieces and of the change, which
we could not read in the paper, are ours.
"""

from typing import ClassVar

import torch
from jaxtyping import Float32
from pydantic import Field, model_validator
from torch import Generator, Tensor

from closesesame.audio import effects
from closesesame.core.seeding import generator
from closesesame.core.types import Wave
from closesesame.data import Dataset

from .base import Attack, State, own_rng

Rhythm = Float32[Tensor, "side knot"]
"""A piecewise linear map of time, in shares of the clip: moments of the result, and of the source."""


class Rhythm_(Attack):
    pass
