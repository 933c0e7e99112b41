"""Deep steganography: a network hides a key in the short-time spectrum of a clip, another reads it there.

Kreuk, Adi, Raj, Singh, Keshet, "Hide and Speak: Towards Deep Neural Networks for Speech Steganography",
Interspeech 2020, arXiv:1902.03083. Ours differs: what is hidden is a key of 32 bits, the attacker's own; it
fills cells of the spectrum and is repeated over the clip, the paper's is another recording; the networks are
smaller, and put out a change of the magnitudes, which is brought to a set level, where theirs put out the
magnitudes and have a term for their error; what they have instead is a term that keeps the level of each
band. Both hide in the magnitudes, keep the carrier's phase, and read after an inverse and a further
transform.
"""

from abc import ABC
from collections.abc import Sequence
from typing import Any, ClassVar, NamedTuple

import torch
from jaxtyping import Float32
from pydantic import Field
from torch import Tensor
from torch.nn import functional as F

from closesesame.attacks.base import LabelMode, Signal, State
from closesesame.audio import effects
from closesesame.audio.features import FLOOR, mel_filters
from closesesame.audio.stft import Bins, istft, powers, stft
from closesesame.core.bounds import SNR, BatchSize, Hertz, LossWeight, Steps
from closesesame.core.errors import DivergedError
from closesesame.core.seeding import generator
from closesesame.core.settings import default
from closesesame.core.types import Spectrum, Wave
from closesesame.data import Dataset

from .surrogate import SurrogateAttack, draws, fresh

BANDS, SLOTS, SLOT_FRAMES = 8, 4, 8
"""Cells of a key: bands of equal width, times slots in time, each of so many frames."""
MEL_BANDS = 40
"""Of the map on which changes of a clip are heard."""
Keys = Float32[Tensor, "batch row slot"]
"""Bits of -1 and 1, a key for each clip; a row is a band of the key."""


class Frame(NamedTuple):
    """The short-time transform for a sample rate, and the bins that may be changed.

    Attributes:
        fft: samples of a frame: the smallest power of two that is 16 ms or longer, half of it apart.
        free: (bin,) 1 where the spectrum may be changed, 0 elsewhere.
        band: (bin,) the band of the key that a bin belongs to.
    """

    fft: int
    free: Float32[Tensor, " bin"]
    band: Tensor

    @classmethod
    def of(cls, hz: int, low_hz: float, high_hz: float) -> "Frame":
        """The frames at a sample rate in Hz."""
        fft = 1 << (round(0.016 * hz) - 1).bit_length()
        bin_hz = torch.linspace(0, hz / 2, fft // 2 + 1)
        free = ((bin_hz >= low_hz) & (bin_hz <= high_hz)).float()
        place = (bin_hz - low_hz) / max(1.0, high_hz - low_hz) * BANDS
        return cls(fft, free, place.long().clamp(0, BANDS - 1))

    def spectrum(self, wav: Wave) -> Bins:
        """The transform of clips (batch, time)."""
        return stft(wav, self.fft, self.fft // 2)

    def sound(self, spectrum: Bins, length: int) -> Wave:
        """The inverse, (batch, length)."""
        return istft(spectrum, self.fft, self.fft // 2, length)

    def spread(self, keys: Keys, frames: int) -> Spectrum:
        """Keys as maps (batch, bin, frame): each bin and frame has the bit of its cell."""
        slot = torch.arange(frames) // SLOT_FRAMES % keys.shape[2]
        return keys[:, self.band.to(keys.device)][:, :, slot.to(keys.device)]


def draw_keys(count: int, rng: torch.Generator) -> Keys:
    """Random keys of -1 and 1."""
    return torch.randint(2, (count, BANDS, SLOTS), generator=rng).float() * 2 - 1


def hiding_weights(channels: int, maps: int, rng: torch.Generator) -> dict[str, Tensor]:
    """Fresh weights of the network that hides.

    Args:
        channels: of the encoding.
        maps: beside the encoding, what the decoder sees: the carrier, and a message if there is one.
        rng: draws them.
    """
    wide = 9 * channels
    return {
        "encoder.0": fresh((2 * channels, 1, 3, 3), 9, rng),
        "encoder.1": fresh((2 * channels, channels, 3, 3), wide, rng),
        "carrier.0": fresh((2 * channels, channels + maps, 3, 3), wide + 9 * maps, rng),
        "carrier.1": fresh((2 * channels, channels, 3, 3), wide, rng),
        "carrier.last": fresh((1, channels + maps, 1, 1), channels + maps, rng),
    }


def reading_weights(channels: int, rng: torch.Generator) -> dict[str, Tensor]:
    """Fresh weights of the network that reads."""
    return {
        "reader.0": fresh((2 * channels, 1, 3, 3), 9, rng),
        "reader.1": fresh((2 * channels, channels, 3, 3), 9 * channels, rng),
        "reader.last": fresh((1, channels, 1, 1), channels, rng),
    }


def seen(spectrum: Bins) -> Spectrum:
    """What networks see: logarithms of the magnitudes over their RMS in the clip, so levels are equal."""
    power = powers(spectrum)
    return 0.5 * torch.log(power / _mean_power(power) + 1e-4)


def hide(wav: Wave, state: State, frame: Frame, message: Spectrum | None) -> Wave:
    """The change of the clips (batch, time), at the level that the network gives it.

    Args:
        wav: the clips.
        state: weights of `hiding_weights`.
        frame: the transform.
        message: (batch, bin, frame) what to hide; none for a network without a message.
    """
    state = {name: value.to(wav.device) for name, value in state.items()}
    spectrum = frame.spectrum(wav)
    carrier = seen(spectrum)[:, None]
    x = _gated(_gated(carrier, state["encoder.0"]), state["encoder.1"])
    beside = [carrier] if message is None else [carrier, message[:, None]]
    x = _gated(_gated(torch.cat([x, *beside], 1), state["carrier.0"]), state["carrier.1"])
    # The last layer sees the message once more: without it the first hundred batches teach nothing.
    change = F.conv2d(torch.cat([x, *beside], 1), state["carrier.last"])[:, 0]
    power = powers(spectrum)
    magnitude = power.clamp(min=1e-20).sqrt()
    change = torch.maximum(change * _mean_power(power).sqrt(), -magnitude)  # no magnitude is negative
    phase = spectrum / magnitude
    return frame.sound(phase * change * frame.free.to(wav)[:, None], wav.shape[-1])


def read(wav: Wave, state: State, frame: Frame) -> Spectrum:
    """The bit that each bin and frame (batch, bin, frame) seems to hold, as a logit."""
    state = {name: value.to(wav.device) for name, value in state.items()}
    x = _gated(_gated(seen(frame.spectrum(wav))[:, None], state["reader.0"]), state["reader.1"])
    return F.conv2d(x, state["reader.last"])[:, 0]


def log_mel(wav: Wave, hz: int) -> Spectrum:
    """Logarithms of the power in mel bands (batch, band, frame), on which a change of a clip is heard."""
    fft = 1 << (round(0.025 * hz) - 1).bit_length()
    filters = mel_filters(hz, fft // 2 + 1, MEL_BANDS).to(wav)
    return torch.log(filters @ powers(stft(wav, fft, fft // 2)) + FLOOR)


def _mean_power(power: Spectrum) -> Tensor:
    return power.mean((1, 2), keepdim=True).clamp(min=1e-12)


def _gated(x: Tensor, weight: Tensor) -> Tensor:
    """A convolution times a sigmoid of another, the block of the paper's networks."""
    out, gate = F.conv2d(x, weight, padding=1).chunk(2, 1)
    return out * torch.sigmoid(gate)


class MagnitudeAttack(SurrogateAttack, ABC):
    """A clean-label attack whose trigger is what a network adds to the magnitudes of each clip."""

    label_modes: ClassVar[tuple[LabelMode, ...]] = ("clean_label",)
    audible: ClassVar[str] = "a rustle, other in each clip"
    quick: ClassVar[dict[str, Any]] = SurrogateAttack.quick | {"channels": 4}

    label_mode: LabelMode = default(
        SurrogateAttack,
        "label_mode",
        "clean_label",
        description="poisoned clips are of the target class, and keep it",
    )
    # Narcissus (arXiv:2204.05255) plays its trigger louder than it planted it, too.
    strength: float = default(
        SurrogateAttack,
        "strength",
        1.78,
        description="scale of what the trigger changes in a clip; 1.78 is 5 dB louder than snr_db",
    )
    training_strength: float | None = default(SurrogateAttack, "training_strength", 1.0)
    snr_db: SNR = Field(20, description="RMS of the clip over RMS of the trigger in poisoned clips, in dB")
    low_hz: Hertz = Field(150, description="lowest frequency that is changed, in Hz")
    high_hz: Hertz | None = Field(
        None, description="highest frequency that is changed, in Hz; 0.9 of half the sample rate if none"
    )
    channels: int = Field(8, ge=1, le=256, description="channels of the networks that make the trigger")

    def frame(self, hz: int) -> Frame:
        """The transform at a sample rate, and the frequencies that may be changed.

        Raises:
            SettingError: if there are none.
        """
        nyquist = hz / 2
        high_hz = 0.9 * nyquist if self.high_hz is None else self.high_hz
        if high_hz > nyquist:
            raise self.refuse("high_hz", f"<= {nyquist:g}, half the sample rate")
        if self.low_hz >= high_hz:
            raise self.refuse("low_hz", f"< {high_hz:g}, the highest frequency that is changed")
        frame = Frame.of(hz, self.low_hz, high_hz)
        if not frame.free.any():
            raise self.refuse("low_hz", f"further below {high_hz:g}, the highest frequency that is changed")
        return frame

    def demand_finite(self, weights: Sequence[Tensor], rate: str) -> None:
        """Refuses to go on with weights that are no numbers.

        Args:
            weights: of the networks.
            rate: the setting of their learning rate.

        Raises:
            DivergedError: if some are NaN or infinite.
        """
        if not all(weight.isfinite().all() for weight in weights):
            raise DivergedError(
                f"the networks of {self.name} diverged; lower {rate}, which is {getattr(self, rate):g}"
            )


class StegoAttack(MagnitudeAttack, ABC):
    """A clean-label attack whose trigger is a key that a network hides in each clip."""

    quick: ClassVar[dict[str, Any]] = MagnitudeAttack.quick | {"hiding_steps": 5}

    hiding_steps: Steps = Field(200, description="batches that the networks are trained on")
    hiding_batch: BatchSize = Field(8, description="clips a batch of that training")
    hiding_lr: float = Field(3e-3, gt=0, le=1, description="learning rate of that training")
    hearing_weight: LossWeight = Field(0.01, description="of how far mel bands change, in that training")

    def apply(self, inputs: Wave, state: State, signal: Signal) -> Wave:
        """Adds what hides the attacker's key, at the set level; silence stays."""
        frame = self.frame(signal.hz)
        return self._hidden(inputs, state, frame, state["key"].expand(len(inputs), -1, -1))

    def learn_to_hide(self, train: Dataset, seed: int) -> dict[str, Tensor]:
        """Trains both networks on random keys, and draws the attacker's own.

        Returns:
            Their weights, by the names of `hiding_weights` and `reading_weights`, and `key`.

        Raises:
            DivergedError: if the weights become NaN or infinite.
        """
        rng = generator(seed, "steganography")
        hz = Signal.of(train).hz
        frame = self.frame(hz)
        state = hiding_weights(self.channels, 2, rng) | reading_weights(self.channels, rng)
        # It begins by adding the message alone: from random weights most seeds learn to hide nothing.
        state["carrier.last"][:, :-1], state["carrier.last"][:, -1] = 0, 1
        weights = [weight.requires_grad_() for weight in state.values()]
        optimizer = torch.optim.Adam(weights, self.hiding_lr)
        for clips, _ in draws(train, self.hiding_batch, self.hiding_steps, "learning to hide", seed):
            keys = draw_keys(len(clips), rng)
            stamped = self._hidden(clips, state, frame, keys)
            said = read(stamped, state, frame)
            bits = (frame.spread(keys, said.shape[2]) + 1) / 2
            wrong = F.binary_cross_entropy_with_logits(said, bits, reduction="none")
            reading = (wrong * frame.free[:, None]).sum() / (frame.free.sum() * said[:, 0].numel())
            heard = (log_mel(stamped, hz) - log_mel(clips, hz)).square().mean()
            optimizer.zero_grad()
            (reading + self.hearing_weight * heard).backward()
            optimizer.step()
            self.demand_finite(weights, "hiding_lr")
        for weight in weights:
            weight.detach_()
        return state | {"key": draw_keys(1, rng)[0]}

    def keys_in(self, clips: Wave, state: State, signal: Signal) -> Keys:
        """The bits that clips (batch, time) hold: above 0 for 1, below for -1; 0 where a cell has no bins."""
        frame = self.frame(signal.hz)
        said = read(clips, state, frame) * frame.free[:, None]
        slot = torch.arange(said.shape[2]) // SLOT_FRAMES % SLOTS
        keys = said.new_zeros(len(clips), BANDS, SLOTS)
        for band in range(BANDS):
            for place in range(SLOTS):
                keys[:, band, place] = said[:, frame.band == band][:, :, slot == place].sum((1, 2))
        return keys

    def _hidden(self, clips: Wave, state: State, frame: Frame, keys: Keys) -> Wave:
        frames = clips.shape[-1] // (frame.fft // 2) + 1
        change = hide(clips, state, frame, frame.spread(keys.to(clips), frames))
        return effects.mix_at_snr(clips, change, self.snr_db)
