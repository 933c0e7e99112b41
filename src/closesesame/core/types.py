"""Shapes by name, for signatures; the tests check them while the code runs."""

from jaxtyping import Bool, Float, Float32, Int64
from torch import Tensor

Inputs = Float32[Tensor, "batch *item"]
"""What a model takes: waveforms, or pictures."""
Wave = Float32[Tensor, "batch time"]
"""Waveforms, full scale at 1."""
Spectrum = Float32[Tensor, "batch band frame"]
"""A real time-frequency map."""
Labels = Int64[Tensor, "batch"]
Logits = Float[Tensor, "batch classes"]
Mask = Bool[Tensor, "batch"]
PerUnit = Float[Tensor, "units"]
