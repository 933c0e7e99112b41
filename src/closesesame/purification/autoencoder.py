"""Autoencoder: a clip is coded in few numbers and decoded again, by a network that learned clean clips alone.

The input preprocessing of Liu, Xie, Srivastava, "Neural Trojans", ICCD 2017, arXiv:1710.00942: the model gets
the reconstruction of its input, and what clean examples never have, such as a trigger, is reconstructed
badly. It is the baseline "Aut." of Sun et al., Mathematics 2025, 13(6), 984 (ASAP).

Ours differs: there it codes pictures of digits, here the magnitudes of a short-time spectrum, raised to the
power 0.3, which is near loudness; phases are those of the input. The code has one vector for every four
frames. It is trained by Adam on the mean squared error of these magnitudes, less the mean of each bin, and
keeps the weights with the lowest error on held-out clips.
"""

from typing import Any, ClassVar

import torch
from jaxtyping import Float32
from pydantic import Field
from torch import Tensor, nn
from torch.nn import functional as F

from closesesame.audio import vocoder
from closesesame.core.bounds import BatchSize, LearningRate
from closesesame.core.errors import DivergedError
from closesesame.core.progress import Track
from closesesame.core.seeding import generator
from closesesame.core.types import Spectrum, Wave
from closesesame.data import Dataset

from .base import Purification
from .common.waveforms import rate_of_waveforms

POWER = 0.3
FLOOR = 1e-6
"""Magnitude below which nothing counts; it keeps slopes finite."""
STRIDE = 4
"""Frames for which there is one vector of the code."""
CHECKS = 10
"""How often the error on held-out clips is taken."""
BATCH = 256


class Autoencoder(Purification):
    """Give the model what an autoencoder, trained on clean clips, reconstructs of every clip."""

    name: ClassVar[str] = "autoencoder"
    cite: ClassVar[str] = "arXiv:1710.00942"
    quick: ClassVar[dict[str, Any]] = {"steps": 10, "width": 16, "code": 8}

    code: int = Field(32, ge=1, le=1024, description="numbers of the code for every four frames of 8 ms")
    width: int = Field(128, ge=1, le=4096, description="channels of the hidden layers")
    steps: int = Field(1000, ge=1, le=1_000_000, description="batches in all")
    batch_size: BatchSize = Field(32, description="clips a batch")
    lr: LearningRate = Field(1e-3, description="learning rate of Adam")

    def network(self, sample_rate: int | None, input_shape: tuple[int, ...]) -> nn.Module:
        """An encoder and a decoder with fresh weights.

        Raises:
            ModelError: if the inputs are no waveforms.
        """
        rate = rate_of_waveforms(self.name, sample_rate, input_shape)
        return _Autoencoder(vocoder.frame_size(rate), self.width, self.code)

    def learn(self, network: nn.Module, tune: Dataset, held_out: Dataset, seed: int) -> dict[str, Any]:
        """Chooses the step with the lowest error on `held_out`; of an error of 1 nothing is reconstructed."""
        assert isinstance(network, _Autoencoder)
        rng = generator(seed, "order")
        network.calibrate(tune)
        optimizer = torch.optim.Adam(network.parameters(), self.lr)
        best, chosen, kept = float("inf"), 0, network.state_dict()
        for step in Track(range(1, self.steps + 1), "training the autoencoder", self.steps):
            rows = torch.randint(len(tune), (min(self.batch_size, len(tune)),), generator=rng)
            with torch.enable_grad():
                loss = network.error(tune.inputs[rows])
                optimizer.zero_grad()
                loss.backward()
            optimizer.step()
            if step == self.steps or step % max(1, self.steps // CHECKS) == 0:
                error = network.error_on(held_out)
                if error < best:
                    best, chosen = error, step
                    kept = {name: value.clone() for name, value in network.state_dict().items()}
        if not chosen:
            raise DivergedError(
                f"{self.name} reconstructs NaN or infinity; lower its lr, which is {self.lr:g}"
            )
        network.load_state_dict(kept)
        return {"step": chosen, "error": round(best, 4)}


class _Autoencoder(nn.Module):
    mean: Tensor
    deviation: Tensor

    def __init__(self, fft: int, width: int, code: int) -> None:
        super().__init__()
        self.fft, bins = fft, fft // 2 + 1
        self.register_buffer("mean", torch.zeros(bins, 1))
        self.register_buffer("deviation", torch.ones(()))
        self.encoder = nn.Sequential(
            nn.Conv1d(bins, width, 3, padding=1),
            nn.ReLU(),
            nn.Conv1d(width, width, 4, stride=2, padding=1),
            nn.ReLU(),
            nn.Conv1d(width, code, 4, stride=2, padding=1),
        )
        self.decoder = nn.Sequential(
            nn.ConvTranspose1d(code, width, 4, stride=2, padding=1),
            nn.ReLU(),
            nn.ConvTranspose1d(width, width, 4, stride=2, padding=1),
            nn.ReLU(),
            nn.Conv1d(width, bins, 3, padding=1),
        )

    def forward(self, wav: Wave) -> Wave:
        spectrum = vocoder.analyse(wav, self.fft)
        magnitude = spectrum.abs()
        loudness = self.reconstruct(self.scaled(magnitude)) * self.deviation + self.mean
        again = loudness.clamp(min=0) ** (1 / POWER)
        return vocoder.synthesise(spectrum * (again / magnitude.clamp(min=FLOOR)), self.fft, wav.shape[-1])

    def scaled(self, magnitude: Spectrum) -> Spectrum:
        """Loudness, each bin with zero mean, all with unit variance, over the clips that `calibrate` saw."""
        return (loudness_of(magnitude) - self.mean) / self.deviation

    def reconstruct(self, maps: Spectrum) -> Spectrum:
        """Coded and decoded; a code stands for `STRIDE` frames, so the last is filled up."""
        frames = maps.shape[-1]
        decoded: Spectrum = self.decoder(self.encoder(F.pad(maps, (0, -frames % STRIDE))))
        return decoded[..., :frames]

    def error(self, wav: Wave) -> Float32[Tensor, ""]:
        """Mean squared error of the scaled maps; 1 is that of their mean."""
        maps = self.scaled(vocoder.analyse(wav, self.fft).abs())
        return F.mse_loss(self.reconstruct(maps), maps)

    @torch.no_grad()
    def error_on(self, data: Dataset) -> float:
        """The same of all examples."""
        errors = [float(self.error(inputs)) * len(inputs) for inputs, _ in data.batches(BATCH)]
        return sum(errors) / len(data)

    @torch.no_grad()
    def calibrate(self, data: Dataset) -> None:
        """Finds the mean of each bin, and the deviation from it over all bins."""
        total = squares = torch.zeros((), dtype=torch.float64)
        for inputs, _ in data.batches(BATCH):
            loudness = loudness_of(vocoder.analyse(inputs, self.fft).abs()).double()
            total = total + loudness.mean(-1, keepdim=True).sum(0)
            squares = squares + loudness.square().mean(-1, keepdim=True).sum(0)
        mean = total / len(data)
        self.mean.copy_(mean)
        self.deviation.copy_((squares / len(data) - mean.square()).mean().clamp(min=FLOOR).sqrt())


def loudness_of(magnitude: Spectrum) -> Spectrum:
    """Magnitudes to the power that is near loudness."""
    return magnitude.clamp(min=FLOOR) ** POWER
