"""Front ends: what a network sees of its inputs, how that is scaled, varied in training, and heard.

The log-mel map and the MFCC are in plain torch and differentiable, so a gradient reaches the waveform.
"""

import math
from abc import ABC, abstractmethod

import torch
from torch import Generator, Tensor, nn
from torch.nn import functional as F

from closesesame.audio import augment, vocoder
from closesesame.audio.augment import Augmentation
from closesesame.audio.features import FLOOR, HOP_S, WINDOW_S, dct, mel_filters
from closesesame.audio.stft import powers
from closesesame.core.errors import DataError
from closesesame.core.types import Inputs, Spectrum, Wave
from closesesame.data import Dataset

ON_SOUND: dict[str, Augmentation] = {
    "light": augment.light_sound,
    "strong": augment.strong_sound,
    "varied": augment.varied_sound,
    "crowded": augment.crowded_sound,
    "varied_exchanged": augment.varied_exchanged_sound,
    "crowded_exchanged": augment.crowded_exchanged_sound,
}
ON_MAPS: dict[str, Augmentation] = {
    "light": augment.light,
    "strong": augment.strong,
    "varied": augment.varied,
    "crowded": augment.crowded,
    "varied_exchanged": augment.varied_exchanged,
    "crowded_exchanged": augment.crowded_exchanged,
}


class FrontEnd(nn.Module, ABC):
    """Turns inputs into the features that a network starts from; it has no trainable parameters."""

    @abstractmethod
    def forward(self, inputs: Inputs) -> Tensor:
        """Inputs (batch, ...) to features (batch, ...)."""

    def calibrate(self, data: Dataset) -> None:
        """Sets what depends on the training data, such as its mean level; by default nothing does."""

    def augmentation(self, strength: str) -> Augmentation | None:
        """How features are varied in training; by default waveforms and maps are told apart by their shape.

        Args:
            strength: `none`, `light`, `strong`, `varied` or `crowded`; or `varied_exchanged` or
                `crowded_exchanged`.
        """
        return None if strength == "none" else _ByShape(strength)

    def sound(self, features: Tensor) -> Wave | None:
        """Waveforms whose features come near these, to listen to; None if there are no such waveforms."""
        del features
        return None


class Identity(FrontEnd):
    """Passes inputs on as they are, for networks that take waveforms, maps or pictures themselves."""

    def forward(self, inputs: Inputs) -> Tensor:
        """The inputs."""
        return inputs


class Wrapped(FrontEnd):
    """A module of your own as a front end."""

    def __init__(self, module: nn.Module) -> None:
        super().__init__()
        self.module = module

    def forward(self, inputs: Inputs) -> Tensor:
        """What the module makes of the inputs."""
        features: Tensor = self.module(inputs)
        return features


class LogMel(FrontEnd):
    """Log-mel spectrogram, scaled to zero mean and unit deviation over the data it was calibrated on.

    Shape:
        - input: waveforms (batch, time) at `sample_rate`
        - output: (batch, bands, frames), frames = time // hop + 1
    """

    mean: Tensor
    deviation: Tensor
    window: Tensor
    filters: Tensor

    def __init__(self, sample_rate: int, bands: int = 40) -> None:
        super().__init__()
        self.length = round(WINDOW_S * sample_rate)
        self.hop = round(HOP_S * sample_rate)
        self.fft = 1 << (self.length - 1).bit_length()
        # The filters follow from the settings, so they are not written into model files.
        self.register_buffer("window", torch.hann_window(self.length), persistent=False)
        self.register_buffer("filters", mel_filters(sample_rate, self.fft // 2 + 1, bands), persistent=False)
        self.register_buffer("mean", torch.zeros(()))
        self.register_buffer("deviation", torch.ones(()))

    def log_mel(self, wav: Wave) -> Spectrum:
        """The map before scaling, in natural logarithms of power."""
        spectrum = torch.stft(
            wav,
            self.fft,
            self.hop,
            self.length,
            self.window,
            center=True,
            pad_mode="constant",
            return_complex=True,
        )
        return torch.log(self.filters @ powers(spectrum) + FLOOR)

    def forward(self, wav: Wave) -> Spectrum:
        """Waveforms to scaled maps."""
        return (self.log_mel(wav) - self.mean) / self.deviation

    def frames(self, samples: int) -> int:
        """How many frames a clip of so many samples has."""
        return samples // self.hop + 1

    @torch.no_grad()
    def calibrate(self, data: Dataset) -> None:
        """Sets mean and deviation from a sample of the training data."""
        self.mean.zero_()
        self.deviation.fill_(1)
        maps = self(data.inputs[:].to(self.mean.device))
        self.mean.copy_(maps.mean())
        self.deviation.copy_(maps.std())

    def augmentation(self, strength: str) -> Augmentation | None:
        """Varies the map."""
        return None if strength == "none" else ON_MAPS[strength]

    @torch.no_grad()
    def sound(self, maps: Spectrum, rounds: int = 60) -> Wave:
        """Waveforms (batch, time) whose maps come near these, to listen to; phases after Griffin and Lim.

        Bins follow from bands by the pseudo-inverse of the filters, so what differs within a band is lost.
        """
        power = (self._unscaled(maps).exp() - FLOOR).clamp(min=0)
        magnitude = (torch.linalg.pinv(self.filters) @ power).clamp(min=0).sqrt()
        # The vocoder's windows are as long as the transform, and lie a quarter of it apart.
        magnitude = magnitude * self.fft / self.length
        length = (maps.shape[-1] - 1) * self.hop
        magnitude = F.interpolate(
            magnitude, size=length // (self.fft // 4) + 1, mode="linear", align_corners=True
        )
        turns = torch.rand(magnitude.shape, generator=torch.Generator().manual_seed(0)).to(magnitude)
        return vocoder.fitting(magnitude, 2 * math.pi * turns, self.fft, length, rounds)

    def _unscaled(self, maps: Spectrum) -> Spectrum:
        return maps * self.deviation + self.mean


class MFCC(LogMel):
    """Mel-frequency cepstral coefficients: the orthonormal DCT-II of the log-mel map.

    Shape:
        - input: waveforms (batch, time) at `sample_rate`
        - output: (batch, coefficients, frames)
    """

    rotation: Tensor

    def __init__(self, sample_rate: int, bands: int = 40, coefficients: int = 40) -> None:
        super().__init__(sample_rate, bands)
        self.register_buffer("rotation", dct(bands, coefficients), persistent=False)

    def forward(self, wav: Wave) -> Spectrum:
        """Waveforms to scaled coefficients."""
        return (self.rotation @ self.log_mel(wav) - self.mean) / self.deviation

    def _unscaled(self, maps: Spectrum) -> Spectrum:
        return self.rotation.T @ super()._unscaled(maps)


class _ByShape:
    """Varies waveforms (batch, time) as sounds and (batch, band, frame) as maps."""

    def __init__(self, strength: str) -> None:
        self.known = {2: ON_SOUND[strength], 3: ON_MAPS[strength]}

    def __call__(self, features: Tensor, rng: Generator) -> Tensor:
        if features.ndim not in self.known:
            raise DataError(
                "augmentation is for maps (batch, band, frame) or waveforms (batch, time), got features of "
                f"shape {tuple(features.shape)}; set augmentation to 'none'"
            )
        return self.known[features.ndim](features, rng)
