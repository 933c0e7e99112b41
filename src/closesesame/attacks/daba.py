"""DABA: an everyday sound that a clean model is sure about, in the clips that it takes over most.

Liu, Zhou, Cai, Tang, "Opportunistic Backdoor Attacks: Exploring Human-imperceptible Vulnerabilities on
Speech Recognition Systems", ACM MM 2022, doi:10.1145/3503161.3548261. Ours differs: the pool is made of
synthetic chords if there are no recordings, the paper's of music; the level is 10 dB under the clip's own,
where the paper's is -20 dB of full scale, so that the sound does not cover quiet recordings; and the clips to
poison come from all classes in turn, since the best ones are often all of the class that the sound itself is
taken for, and a backdoor learnt from those alone works for clips of that class alone.
"""

from pathlib import Path
from typing import Any, ClassVar

import torch
from jaxtyping import Float32
from pydantic import Field
from torch import Tensor

from closesesame.audio import effects
from closesesame.audio.files import SUFFIXES, read_wave
from closesesame.audio.placement import placed, samples_of
from closesesame.core.bounds import MOST_BYTES, SNR, RecordingPath, Seconds
from closesesame.core.errors import DataError
from closesesame.core.seeding import generator
from closesesame.core.types import Wave
from closesesame.data import Dataset
from closesesame.training import predict

from .base import Signal, State, Trigger
from .common.surrogate import SurrogateAttack

POOL_DBFS = -20
"""RMS at which sounds are shown to the surrogate by themselves."""


class DABA(SurrogateAttack):
    """Choose the sound out of a pool, and the clips to poison with it, by what a surrogate model says."""

    name: ClassVar[str] = "daba"
    cite: ClassVar[str] = "doi:10.1145/3503161.3548261"
    audible: ClassVar[str] = "a chord, or the recording chosen, in the background"
    quick: ClassVar[dict[str, Any]] = SurrogateAttack.quick | {"chords": 5}

    pool: RecordingPath = Field(None, description="a folder of recordings; synthetic chords if none")
    chords: int = Field(30, ge=1, le=1000, description="synthetic chords in the pool, if there is no folder")
    duration_s: Seconds = Field(1.0, description="of the sound, in s; at most the clip's")
    snr_db: SNR = Field(10, description="RMS of the clip over RMS of the sound, as mixed, in dB")
    candidates: int = Field(
        3000, ge=1, le=1_000_000, description="clips looked at, at random, when hosts are chosen"
    )

    def prepare(self, train: Dataset, seed: int) -> State:
        """The sound (time,) of the pool on which the surrogate's prediction has the lowest entropy."""
        length, hz = train.input_shape[0], Signal.of(train).hz
        most = MOST_BYTES // (4 * length)
        if not self.pool and self.chords > most:
            raise self.refuse("chords", f"<= {most:,}, so that as many clips fit into 2 GB")
        size = samples_of(self.duration_s, hz, length)
        pool = self._recordings(size, hz) if self.pool else chords(self.chords, size, hz, seed)
        pool = pool / effects.rms(pool).clamp(min=1e-9) * effects.amplitude_ratio(POOL_DBFS)
        heard = torch.nn.functional.pad(pool, (0, length - size))
        logits = self._ask(train, heard, seed)
        entropy = -(logits.softmax(1) * logits.log_softmax(1)).sum(1)
        return {"sound": pool[int(entropy.argmin())].clone()}

    def choose(self, train: Dataset, eligible: Tensor, count: int, trigger: Trigger, seed: int) -> Tensor:
        """Hosts taken for the sound: lowest cross-entropy to the prediction for it, class after class."""
        if not count:
            return eligible[:0]
        order = torch.randperm(len(eligible), generator=generator(seed, "whom"))
        looked_at = eligible[order[: max(count, self.candidates)]]
        sound = trigger.state["sound"]
        alone = torch.nn.functional.pad(sound, (0, train.input_shape[0] - len(sound)))[None]
        mixed = trigger.stamp(train.inputs[looked_at], self.training_strength)
        said = self._ask(train, torch.cat([alone, mixed]), seed)
        influence = -(said[:1].softmax(1) * said[1:].log_softmax(1)).sum(1)
        order, labels = influence.argsort(stable=True), train.labels[looked_at]
        turn = torch.zeros(len(order))
        for label in range(len(train.classes)):
            own = order[labels[order] == label]
            turn[own] = torch.arange(len(own)).float()
        return looked_at[order[turn[order].argsort(stable=True)[:count]]]

    def apply(self, inputs: Wave, state: State, signal: Signal) -> Wave:
        """From the start of the clip on, scaled to the clip's own level."""
        del signal
        sound, length = state["sound"].to(inputs), inputs.shape[-1]
        return effects.mix_at_snr(inputs, placed(sound, [0], length), self.snr_db)

    def _ask(self, train: Dataset, clips: Wave, seed: int) -> Float32[Tensor, "batch classes"]:
        nobody = torch.zeros(len(clips), dtype=torch.long)
        heard = Dataset.of(clips, nobody, classes=train.classes, sample_rate=train.sample_rate)
        return predict(self.train_surrogate(train, seed), heard)

    def _recordings(self, size: int, sample_rate: int) -> Wave:
        paths = sorted(path for path in Path(self.pool or "").glob("*") if path.suffix.lower() in SUFFIXES)
        sounds = [effects.looped(read_wave(path, sample_rate)[0], size) for path in paths]
        loud = [sound for sound in sounds if float(sound.square().mean()) > 1e-10]
        if not loud:
            raise DataError(f"{self.pool} holds no recording that is not silent; choose another folder")
        return torch.stack(loud)


def chords(count: int, size: int, sample_rate: int, seed: int) -> Float32[Tensor, "count size"]:
    """Major and minor chords on random roots; partials fall by 1 / n and the whole dies away."""
    rng = generator(seed, "trigger")
    root = 110 * 2 ** (2 * torch.rand(count, generator=rng))  # two octaves from A2 on
    third = 3 + torch.randint(2, (count,), generator=rng)
    out = torch.zeros(count, size)
    fall = torch.exp(-3 * torch.arange(size) / max(1, size))
    for row in range(count):
        for semitones in (0, int(third[row]), 7):
            for partial in range(1, 6):
                frequency = partial * float(root[row]) * 2 ** (semitones / 12)
                if frequency < sample_rate / 2:
                    out[row] += effects.tone(frequency, size, sample_rate) / partial
    return out * fall
