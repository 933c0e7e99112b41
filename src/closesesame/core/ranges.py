"""Ranges that settings of many methods share, wide enough for all that a person could mean.

Descriptions, errors and tables read them, so a field says only what is its own.
"""

from typing import Annotated

from pydantic import Field

Steps = Annotated[int, Field(ge=0, le=1_000_000)]
"""Batches of a training."""
BatchSize = Annotated[int, Field(ge=2, le=65_536)]
LearningRate = Annotated[float, Field(gt=0, le=10_000)]
WeightDecay = Annotated[float, Field(ge=0, le=10)]
LossWeight = Annotated[float, Field(ge=0, le=1_000_000)]
"""Factor of a term of a loss."""
Seconds = Annotated[float, Field(ge=0.002, le=60)]
"""Length of a sound, or of a part of a clip: two samples or more at any sample rate."""
Hertz = Annotated[float, Field(ge=1, le=96_000)]
"""Up to half the highest sample rate."""
MOST_BYTES = 2_000_000_000
"""Memory that the weights of one network, or the sounds an attack chooses from, may take."""
SNR = Annotated[float, Field(ge=-40, le=60)]
"""dB."""
