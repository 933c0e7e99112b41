"""Inputs of the networks of transformers, made by torch as transformers' own extractors make them.

The filters are theirs; everything else is differentiable, so that a gradient reaches the waveform.
"""

import inspect
import warnings
from collections.abc import Callable, Mapping
from typing import Any

import torch
from torch import Tensor
from torch.nn import functional as F

from closesesame.audio.augment import Augmentation
from closesesame.audio.stft import powers
from closesesame.core.errors import ModelError, listed, short
from closesesame.core.types import Inputs, Wave

from .front_ends import FrontEnd, Identity

RATE_HZ = 16_000
"""The sample rate of extractors that name none."""


def assumed(kind: str, extractor: Mapping[str, Any]) -> dict[str, Any]:
    """Options that a folder does not give, with the values that transformers takes for them."""
    if kind in _MAPS:
        parameters = inspect.signature(_MAPS[kind]).parameters.values()
        defaults = {one.name: one.default for one in parameters if one.default is not inspect.Parameter.empty}
    else:
        defaults = {"do_normalize": True}
    return {
        name: value for name, value in {"sampling_rate": RATE_HZ, **defaults}.items() if name not in extractor
    }


def front_end_of(kind: str, extractor: Mapping[str, Any], sample_rate: int) -> FrontEnd:
    """What makes the network's inputs of waveforms.

    Raises:
        ModelError: if its options make none.
    """
    try:
        if kind in _MAPS:
            return _MAPS[kind](sample_rate, **_known(extractor, _MAPS[kind]))
        return Normalized() if extractor.get("do_normalize", True) else Identity()
    except (TypeError, ValueError, ArithmeticError, RuntimeError, MemoryError) as error:
        raise ModelError(f"these options make no inputs for {kind} ({short(error)})") from None


def _known(extractor: Mapping[str, Any], front_end: Callable[..., FrontEnd]) -> dict[str, Any]:
    """The options that a front end has."""
    return {name: extractor[name] for name in inspect.signature(front_end).parameters if name in extractor}


class Normalized(FrontEnd):
    """Waveforms with zero mean and unit variance, each by itself, for wav2vec 2.0 and its kin.

    Shape:
        - input and output: (batch, time)
    """

    def forward(self, inputs: Inputs) -> Wave:
        """The variance is that over all samples, plus 1e-7."""
        centred = inputs - inputs.mean(-1, keepdim=True)
        normal: Wave = centred / (centred.square().mean(-1, keepdim=True) + 1e-7).sqrt()
        return normal


class WhisperMel(FrontEnd):
    """Whisper's log-mel map of a clip, padded with silence to the length that the network takes.

    Shape:
        - input: waveforms (batch, time)
        - output: (batch, feature_size, chunk_length * sample_rate / hop_length)
    """

    window: Tensor
    filters: Tensor

    def __init__(
        self,
        sample_rate: int,
        feature_size: int = 80,
        hop_length: int = 160,
        chunk_length: int = 30,
        n_fft: int = 400,
    ) -> None:
        super().__init__()
        _refuse_large(feature_size * n_fft, chunk_length * sample_rate)
        self.hop, self.fft, self.samples = hop_length, n_fft, chunk_length * sample_rate
        filters = _mel(
            1 + n_fft // 2, feature_size, 0.0, 8000.0, sample_rate, norm="slaney", mel_scale="slaney"
        )
        self.register_buffer("window", torch.hann_window(n_fft), persistent=False)
        self.register_buffer("filters", filters, persistent=False)

    def forward(self, inputs: Inputs) -> Tensor:
        """Powers in decades, no more than 8 below the highest of the clip, scaled."""
        wave = F.pad(inputs[:, : self.samples], (0, max(0, self.samples - inputs.shape[1])))
        spectrum = torch.stft(wave, self.fft, self.hop, window=self.window, return_complex=True)[..., :-1]
        decades = (self.filters.T @ powers(spectrum)).clamp(min=1e-10).log10()
        scaled: Tensor = (torch.maximum(decades, decades.amax((1, 2), keepdim=True) - 8) + 4) / 4
        return scaled


class Fbank(FrontEnd):
    """Kaldi's log filter banks of a clip, padded to the length that AST takes.

    Shape:
        - input: waveforms (batch, time)
        - output: (batch, max_length, num_mel_bins)
    """

    FRAME, HOP, FFT, PREEMPHASIS, FLOOR = 400, 160, 512, 0.97, 1.192092955078125e-07
    window: Tensor
    filters: Tensor

    def __init__(
        self,
        sample_rate: int,
        num_mel_bins: int = 128,
        max_length: int = 1024,
        do_normalize: bool = True,
        mean: float = -4.2677393,
        std: float = 4.5689974,
    ) -> None:
        super().__init__()
        _refuse_large(num_mel_bins * self.FFT, max_length * num_mel_bins)
        self.length = max_length
        self.mean, self.deviation = (mean, 2 * std) if do_normalize else (0.0, 1.0)
        filters = _mel(
            257,
            num_mel_bins,
            20,
            sample_rate // 2,
            sample_rate,
            norm=None,
            mel_scale="kaldi",
            triangularize_in_mel_space=True,
        )
        self.register_buffer("window", torch.hann_window(self.FRAME, periodic=False), persistent=False)
        self.register_buffer("filters", filters, persistent=False)

    def forward(self, inputs: Inputs) -> Tensor:
        """Frames without their mean, with higher tones raised, windowed, as logarithms of power."""
        inputs = F.pad(inputs, (0, max(0, self.FRAME - inputs.shape[1])))
        frames = inputs.unfold(1, self.FRAME, self.HOP)
        frames = frames - frames.mean(-1, keepdim=True)
        before = torch.cat([frames[..., :1], frames[..., :-1]], -1)
        spectrum = torch.fft.rfft((frames - self.PREEMPHASIS * before) * self.window, self.FFT)
        bands = (powers(spectrum) @ self.filters).clamp(min=self.FLOOR).log()[:, : self.length]
        bands = F.pad(bands, (0, 0, 0, self.length - bands.shape[1]))
        normal: Tensor = (bands - self.mean) / self.deviation
        return normal

    def augmentation(self, strength: str) -> Augmentation | None:
        """As of other maps, whose axes are (band, frame)."""
        vary = super().augmentation(strength)
        if vary is None:
            return None
        return lambda maps, rng: vary(maps.transpose(1, 2), rng).transpose(1, 2)


_MAPS: dict[str, Callable[..., FrontEnd]] = {
    "whisper": WhisperMel,
    "audio-spectrogram-transformer": Fbank,
}


def _refuse_large(*numbers: float) -> None:
    if not all(0 < number < 2**28 for number in numbers):
        raise ValueError(
            f"sizes must be above 0 and sensible, got products {listed(list(map(str, numbers)))}"
        )


def _mel(bins: int, bands: int, low_hz: float, high_hz: float, rate_hz: int, **more: Any) -> Tensor:
    """The filters (bin, band) of transformers' extractors."""
    from transformers.audio_utils import mel_filter_bank

    with warnings.catch_warnings():
        warnings.simplefilter("ignore")  # of bands between two bins, which their extractors have too
        return torch.from_numpy(mel_filter_bank(bins, bands, low_hz, high_hz, rate_hz, **more)).float()
