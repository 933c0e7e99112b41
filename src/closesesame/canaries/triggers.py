"""Canary triggers: five kinds of change to a waveform, with parameters that are drawn from a seed.

They stand for the kinds of triggers that were published: a sound over the whole clip, a short sound, a
filter, another voice, and a change over time. What is drawn differs from every attack of this project at its
defaults, so measuring with canaries is no peek at the attack under test; the levels, which are not drawn, are
ours.
"""

import math
from collections.abc import Callable
from dataclasses import dataclass

import torch
from jaxtyping import Float32
from torch import Generator, Tensor

from closesesame.audio import effects, voice
from closesesame.audio.placement import placed, samples_of
from closesesame.core.errors import ModelError
from closesesame.core.seeding import generator
from closesesame.core.types import Wave
from closesesame.data import Dataset
from closesesame.models import ModelCard

BATCH = 64
"""Clips that are changed at once."""
HIGHEST_HZ = 8_000
"""Above it there is too little speech for a filter to change."""
BAND_OCTAVES = 0.4
"""Distance from the centre of a band at which its level, or its gain in dB, is 1/e of that at the centre."""
NOISE_SNR_DB, GLIDE_SNR_DB = 12.0, 6.0
"""RMS of the clip over RMS of what is added, over the whole clip."""
GLIDE_S = 0.25
FILTER_DB = 30.0
CLOSED_DB = -30.0
"""Level of a clip while it is cut off."""

Change = Callable[[Wave], Wave]
"""Clips (batch, time) to clips of the same shape, each by itself."""


@dataclass(frozen=True)
class Clips:
    """What clips are: `length` samples at `hz` a second."""

    length: int
    hz: int

    @property
    def top_hz(self) -> float:
        """The highest frequency that speech may have in them."""
        return min(HIGHEST_HZ, self.hz / 2)


@dataclass(frozen=True, eq=False)
class Canary:
    """A backdoor of our own.

    Attributes:
        family: the kind of trigger, in plain words.
        detail: what was drawn, in plain words.
        target: index of its target label.
        change: what the trigger does to clips, before they are clamped to full scale.
    """

    family: str
    detail: str
    target: int
    change: Change

    @torch.no_grad()
    def stamp(self, wav: Wave) -> Wave:
        """Triggered copies of clips (batch, time), within full scale."""
        if not len(wav):
            return wav
        return torch.cat([self.change(piece).clamp(-1, 1) for piece in torch.split(wav, BATCH)])

    def stamp_dataset(self, data: Dataset) -> Dataset:
        """The clips that are not of the target label, triggered, with their true labels."""
        others = data.where(data.labels != self.target)
        everyone = torch.arange(len(others))
        return others.with_inputs(others.inputs.replace(everyone, self.stamp(others.inputs[:])))


def draw_canaries(card: ModelCard, seed: int) -> tuple[Canary, ...]:
    """One canary of each family for a model; no two have the same target label while there are enough.

    Raises:
        ModelError: if the model takes no waveforms.
    """
    if card.sample_rate is None or len(card.input_shape) != 1:
        raise ModelError(
            f"canaries are sounds, and the model takes inputs of shape {list(card.input_shape)}; repair it "
            "without canaries"
        )
    clips = Clips(card.input_shape[0], card.sample_rate)
    targets = torch.randperm(len(card.classes), generator=generator(seed, "targets of canaries")).tolist()
    made = []
    for number, (family, draw) in enumerate(FAMILIES.items()):
        detail, change = draw(clips, generator(seed, "canary", family))
        made.append(Canary(family, detail, targets[number % len(targets)], change))
    return tuple(made)


def steady_noise(clips: Clips, rng: Generator) -> tuple[str, Change]:
    """One noise in one band under the whole clip."""
    centre_hz = clips.top_hz * _uniform(rng, 0.08, 0.4)
    white = torch.fft.rfft(torch.randn(clips.length, generator=rng))
    noise = torch.fft.irfft(white * _band(clips, clips.length, centre_hz), clips.length)

    def change(wav: Wave) -> Wave:
        return effects.mix_at_snr(wav, noise.to(wav), NOISE_SNR_DB)

    return f"around {centre_hz:,.0f} Hz", change


def short_glide(clips: Clips, rng: Generator) -> tuple[str, Change]:
    """A tone that rises, at one place."""
    size = samples_of(GLIDE_S, clips.hz, max(2, clips.length // 3))
    first_hz = clips.top_hz * _uniform(rng, 0.06, 0.2)
    ratio = _uniform(rng, 2.0, 3.5)
    begin = int(_uniform(rng, 0, 1) * (clips.length - size))
    # The frequency rises as first ratio^(t / T); the phase is its integral.
    share = torch.arange(size, dtype=torch.float64) / size
    turns = first_hz * size / clips.hz * (ratio**share - 1) / math.log(ratio)
    tone = torch.sin(2 * math.pi * turns) * torch.hann_window(size, dtype=torch.float64).sqrt()
    sound = placed(tone.float(), [begin], clips.length)[0]

    def change(wav: Wave) -> Wave:
        return effects.mix_at_snr(wav, sound.to(wav), GLIDE_SNR_DB)

    return f"from {first_hz:,.0f} to {first_hz * ratio:,.0f} Hz, {begin / clips.hz:.2f} s in", change


def band_filter(clips: Clips, rng: Generator) -> tuple[str, Change]:
    """One band is raised; each clip keeps its level."""
    centre_hz = clips.top_hz * _uniform(rng, 0.12, 0.4)
    size = 2 * clips.length  # as much silence behind, so that no sample wraps around to the start
    gain = 10 ** (FILTER_DB / 20 * _band(clips, size, centre_hz))

    def change(wav: Wave) -> Wave:
        filtered = torch.fft.irfft(torch.fft.rfft(wav, size) * gain.to(wav), size)[:, : clips.length]
        return effects.levelled(filtered, wav)

    return f"{FILTER_DB:g} dB at {centre_hz:,.0f} Hz", change


def other_voice(clips: Clips, rng: Generator) -> tuple[str, Change]:
    """A lower pitch in a smaller mouth, or a higher one in a larger: no voice is like that."""
    smaller = bool(torch.rand((), generator=rng) < 0.5)
    semitones, octaves = _uniform(rng, 4, 6), _uniform(rng, 0.4, 0.55)
    semitones, octaves = (-semitones, octaves) if smaller else (semitones, -octaves)

    def change(wav: Wave) -> Wave:
        spoken = [
            voice.revoiced(
                clip, clips.hz, pitch_ratio=2 ** (semitones / 12), formant_scale=2**octaves, tilt_db=0
            )
            for clip in wav
        ]
        return effects.levelled(torch.stack(spoken), wav)

    return f"pitch {semitones:+.1f} semitones, resonances {12 * octaves:+.1f}", change


def chopped(clips: Clips, rng: Generator) -> tuple[str, Change]:
    """The sound is cut off and comes back a few times a second, at the same times in each clip."""
    rate_hz = max(_uniform(rng, 6, 10), 4 * clips.hz / clips.length)
    time = torch.arange(clips.length) / clips.hz
    closed = effects.amplitude_ratio(CLOSED_DB)
    # The steep sigmoid opens and closes within a twentieth of a period: a jump would click.
    gain = closed + (1 - closed) * torch.sigmoid(20 * torch.cos(2 * math.pi * rate_hz * time))

    def change(wav: Wave) -> Wave:
        return effects.levelled(wav * gain.to(wav), wav)

    return f"{rate_hz:.1f} times a second", change


FAMILIES: dict[str, Callable[[Clips, Generator], tuple[str, Change]]] = {
    "steady noise": steady_noise,
    "short rising tone": short_glide,
    "filter": band_filter,
    "other voice": other_voice,
    "chopped sound": chopped,
}
"""What draws a canary of each kind: it returns what was drawn in words, and the change."""


def _uniform(rng: Generator, low: float, high: float) -> float:
    return low + (high - low) * float(torch.rand((), generator=rng))


def _band(clips: Clips, size: int, centre_hz: float) -> Float32[Tensor, " bin"]:
    """A Gaussian over octaves around the centre, 1 there, at the frequencies of a transform of `size`."""
    hz = torch.fft.rfftfreq(size, 1 / clips.hz).clamp(min=1)
    return torch.exp(-((torch.log2(hz / centre_hz) / BAND_OCTAVES) ** 2))
