"""PBSM: pitch boosting, and a short loud sound right behind the loudest moment that masks it.

Cai, Zhang, Dong, Xiao, Koffas, Li, "Toward Stealthy Backdoor Attacks Against Speech Recognition via Elements
of Sound", IEEE TIFS 19, 2024, arXiv:2307.08208. Ours differs: the sizes of the transform, given for 16 kHz,
scale with the sample rate; the phase vocoder that raises the pitch is our own; and any clips of other classes
are poisoned, where the authors' code takes clips of a peak of 0.16 or more, about as many of each class, the
target class among them.
"""

from typing import ClassVar

import torch
from pydantic import Field
from torch import Tensor

from closesesame.audio import effects
from closesesame.core.bounds import Seconds
from closesesame.core.types import Wave

from .base import Attack, Signal, State


class PBSM(Attack):
    """Raise the pitch, then set the real part of the middle bands to a constant for two frames."""

    name: ClassVar[str] = "pbsm"
    cite: ClassVar[str] = "arXiv:2307.08208"
    audible: ClassVar[str] = "a higher voice and a click"

    semitones: float = Field(5, ge=-24, le=24, description="pitch boost, in semitones")
    amplitude: float = Field(150, ge=0, le=10_000, description="real part of the masked bins")
    window_s: Seconds = Field(0.1, description="from the loudest frame to the mask, in s")
    duration_ms: float = Field(20, ge=0, le=60_000, description="of the mask, in ms, 10 a frame")

    def apply(self, inputs: Wave, state: State, signal: Signal) -> Wave:
        """Each clip has its own loudest frame."""
        del state
        boosted = effects.pitch_shift(inputs, self.semitones)
        fft = 2 * round(512 * signal.hz / 16_000)
        hop, length = fft // 8, fft // 4
        window = torch.hann_window(length, device=inputs.device)
        shape = {"n_fft": fft, "hop_length": hop, "win_length": length, "window": window}
        spectrum = torch.stft(boosted, **shape, pad_mode="constant", return_complex=True)  # type: ignore[arg-type]
        self._mask(spectrum, int(self.window_s * signal.hz / hop))
        return torch.istft(spectrum, **shape, length=inputs.shape[-1])  # type: ignore[arg-type]

    def _mask(self, spectrum: Tensor, behind: int) -> None:
        """Sets the real part in place; the paper's rows are bins // 3 and the 300 above, of 513."""
        bins, frames = spectrum.shape[1:]
        low, high = bins // 3, bins // 3 + 300 * bins // 513
        count = round(self.duration_ms / 10)
        # The paper's energy is the RMS over the *power* of a frame.
        loudest = spectrum.abs().pow(4).sum(1).argmax(-1)
        for clip, start in zip(spectrum, loudest.tolist(), strict=True):
            end = start + behind
            at = range(end, end + count) if end < frames - count else range(start, start - count, -1)
            for frame in at:
                if 0 <= frame < frames:
                    clip.real[low:high, frame] = self.amplitude
