"""Training of an enhancement network on mixtures of speech and noise that are made as it goes.

Every batch is drawn by the seed and its number alone, so a training that was stopped goes on from its
checkpoint as if it had not been. Adam, gradients cut as in the training code of GTCRN's authors; the learning
rate is halved when validation gets no better, as for DCCRN.
"""

import copy
import hashlib
import json
import math
import time
from collections.abc import Mapping, Sequence
from dataclasses import asdict, dataclass, field
from itertools import chain
from pathlib import Path
from typing import Any

import torch
from jaxtyping import Float32
from pydantic import Field, model_validator
from safetensors import SafetensorError
from safetensors.torch import load_file, save
from torch import Generator, Tensor

from closesesame.audio import effects
from closesesame.core.bounds import SNR, BatchSize, LearningRate, Steps
from closesesame.core.disk import write_folder
from closesesame.core.errors import DataError, DivergedError, ModelError
from closesesame.core.json_files import read_json, to_json
from closesesame.core.progress import Track
from closesesame.core.seeding import generator, isolated
from closesesame.core.settings import Settings
from closesesame.core.types import Wave
from closesesame.data import Dataset
from closesesame.models.base import device_of

from .base import Enhancer, Mixture
from .losses import si_snr

ABOUT, TENSORS = "checkpoint.json", "checkpoint.safetensors"
Sound = Float32[Tensor, " _time"]


class EnhancerTraining(Settings):
    """Settings of a training of an enhancement network."""

    steps: Steps = Field(20_000, description="batches")
    batch_size: BatchSize = Field(16, description="mixtures a batch")
    lr: LearningRate = Field(1e-3, description="learning rate of Adam at the start")
    gradient_norm: float = Field(3.0, gt=0, le=1e6, description="that the gradient of a batch is cut to")
    snr_range_db: tuple[SNR, SNR] | None = Field(
        None, description="lowest and highest SNR of a mixture in dB; that of the network's authors if none"
    )
    hold_out: float = Field(
        0.1, gt=0, lt=1, description="share of the speakers and of the noises that only validation uses"
    )
    validate_every: int = Field(500, ge=1, le=1_000_000, description="batches between validations")
    validation_mixtures: int = Field(100, ge=1, le=100_000, description="mixtures that it is validated on")
    patience: int = Field(
        2, ge=1, le=10_000, description="validations without a better one that halve the learning rate"
    )

    @model_validator(mode="after")
    def _is_a_range(self) -> "EnhancerTraining":
        if self.snr_range_db is not None and self.snr_range_db[0] > self.snr_range_db[1]:
            raise ValueError("snr_range_db must be the lowest SNR, then the highest")
        return self


@dataclass
class EnhancerHistory:
    """What happened in a training, one entry a validation.

    Attributes:
        steps: batches that were trained on until then.
        loss: mean over the batches since the one before.
        improvement_db: by how much SI-SDR rises, a mean over held-out mixtures.
        lr: learning rate of these batches.
        seconds: how long this run took, without those that it goes on from.
    """

    steps: list[int] = field(default_factory=list)
    loss: list[float] = field(default_factory=list)
    improvement_db: list[float] = field(default_factory=list)
    lr: list[float] = field(default_factory=list)
    seconds: float = 0.0


def train_enhancer(
    network: Enhancer,
    speech: Dataset,
    noises: Sequence[Sound],
    settings: EnhancerTraining,
    seed: int,
    *,
    music: Sequence[Sound] = (),
    checkpoint: Path | None = None,
) -> EnhancerHistory:
    """Trains a network in place; it keeps the weights of its best validation, and is in evaluation mode then.

    Args:
        network: with fresh weights or trained before; it is trained where it is. To go on from a checkpoint
            it must be what it was at the start.
        speech: clean clips at the network's sample rate; their speakers tell who is held out.
        noises: two or more recordings at the same rate, of any length.
        settings: of the training.
        seed: of the batches, of dropout, and of what is held out.
        music: as the noises, for a network that separates it; none for mixtures without.
        checkpoint: a folder that is written at each validation; a training that finds it goes on from there.

    Raises:
        DataError: if the sounds cannot be used, or the checkpoint is that of another training.
        DivergedError: if the loss is no number.
    """
    started = time.perf_counter()
    train, held_out = _told_apart(network, speech, noises, music, settings, seed)
    run = _Run(network, settings, _key(network, speech, noises, music, settings, seed))
    if checkpoint is not None and checkpoint.exists():
        run.read(checkpoint)
    every, device = settings.validate_every, device_of(network)
    snr_range = settings.snr_range_db or network.snr_range_db
    validation = held_out.mixtures(settings.validation_mixtures, snr_range, generator(seed, "validation"))
    steps = range(run.done + 1, settings.steps + 1)
    bar = Track(steps, "training an enhancer", len(steps))
    network.train()
    for step in bar:
        mixture = train.mixtures(settings.batch_size, snr_range, generator(seed, "mixtures", step))
        with isolated(seed, "dropout", step):
            run.learn(_on(mixture, device), step)
        if step % every == 0 or step == settings.steps:
            run.validated(improvement_db(network, validation, settings.batch_size), step)
            bar.note(f"{run.history.improvement_db[-1]:+.1f} dB")
            if checkpoint is not None:
                run.write(checkpoint)
    run.finish()
    run.history.seconds = time.perf_counter() - started
    return run.history


@torch.no_grad()
def improvement_db(network: Enhancer, mixture: Mixture, batch_size: int) -> float:
    """By how much SI-SDR rises from the mixtures to what the network makes of them, a mean over clips.

    The network is in evaluation mode for it.
    """
    training, device = network.training, device_of(network)
    network.eval()
    noisy = mixture.noisy
    enhanced = torch.cat([network(clips.to(device)).cpu() for clips in noisy.split(batch_size)])
    network.train(training)
    return float((si_snr(enhanced, mixture.speech) - si_snr(noisy, mixture.speech)).mean())


@dataclass(frozen=True, eq=False)
class Sounds:
    """What mixtures are made of.

    Attributes:
        speech: clean clips of one length.
        noises: recordings of any length.
        music: as the noises; may be none.
    """

    speech: Dataset
    noises: Sequence[Sound]
    music: Sequence[Sound]

    def mixtures(self, count: int, snr_range_db: tuple[float, float], rng: Generator) -> Mixture:
        """Draws clips, for each a stretch of a noise, and of music if there is any, and their SNRs.

        A mixture that would pass full scale is made softer, and so are its parts.
        """
        index = torch.randint(len(self.speech), (count,), generator=rng)
        speech = self.speech.inputs[index]
        noise = below(speech, _stretches(self.noises, speech.shape, rng), snr_range_db, rng)
        music = None
        if self.music:
            music = below(speech, _stretches(self.music, speech.shape, rng), snr_range_db, rng)
        peak = Mixture(speech, noise, music).noisy.abs().amax(-1, keepdim=True).clamp(min=1)
        return Mixture(speech / peak, noise / peak, None if music is None else music / peak)


def below(speech: Wave, sounds: Wave, snr_range_db: tuple[float, float], rng: Generator) -> Wave:
    """Sounds at an SNR from a range, drawn evenly for each clip; silence stays."""
    low, high = snr_range_db
    snr_db = low + (high - low) * torch.rand(len(speech), 1, generator=rng)
    level = effects.rms(sounds).clamp(min=1e-9)
    return sounds * (effects.rms(speech) / level / 10 ** (snr_db / 20))


def _stretches(sounds: Sequence[Sound], shape: torch.Size, rng: Generator) -> Wave:
    """A stretch of a random recording for each clip, from a random place on; short ones are repeated."""
    count, length = shape
    chosen = []
    for row in torch.randint(len(sounds), (count,), generator=rng).tolist():
        sound = sounds[row]
        begin = int(torch.randint(max(1, len(sound) - length + 1), (), generator=rng))
        chosen.append(effects.looped(sound[begin:], length))
    return torch.stack(chosen)


def _on(mixture: Mixture, device: torch.device) -> Mixture:
    music = mixture.music
    return Mixture(
        mixture.speech.to(device), mixture.noise.to(device), None if music is None else music.to(device)
    )


def _told_apart(
    network: Enhancer,
    speech: Dataset,
    noises: Sequence[Sound],
    music: Sequence[Sound],
    settings: EnhancerTraining,
    seed: int,
) -> tuple[Sounds, Sounds]:
    """What is trained on, and what is held out: other speakers, other noises and other music."""
    if speech.sample_rate != network.sample_rate_hz:
        got = "none" if speech.sample_rate is None else f"{speech.sample_rate:,} Hz"
        raise DataError(
            f"an enhancement network learns from speech at {network.sample_rate_hz:,} Hz, and this has {got};"
            " read it at that rate"
        )
    for what, sounds in (("noises", noises), ("music", music)):
        if len(sounds) < 2 and (what == "noises" or sounds):
            raise DataError(f"{what}: 2 recordings or more are needed, one to hold out, got {len(sounds)}")
        silent = [number for number, sound in enumerate(sounds) if not sound.any()]
        if silent:
            raise DataError(f"{what}: recording {silent[0]} is silent; remove it")
    tune, kept = speech.hold_out(settings.hold_out, seed)
    if not len(tune) or not len(kept):
        raise DataError(f"{len(speech):,} clips of speech cannot be told apart into two parts; give more")
    parts = [_held_out(sounds, settings.hold_out, seed) for sounds in (noises, music)]
    return Sounds(tune, parts[0][0], parts[1][0]), Sounds(kept, parts[0][1], parts[1][1])


def _held_out(sounds: Sequence[Sound], share: float, seed: int) -> tuple[list[Sound], list[Sound]]:
    order = torch.randperm(len(sounds), generator=generator(seed, "held-out sounds")).tolist()
    kept = min(len(sounds), max(1, round(share * len(sounds))))
    return [sounds[row] for row in order[kept:]], [sounds[row] for row in order[:kept]]


def _key(
    network: Enhancer,
    speech: Dataset,
    noises: Sequence[Sound],
    music: Sequence[Sound],
    settings: EnhancerTraining,
    seed: int,
) -> str:
    """The same for trainings of which one goes on where the other stopped, and for no others.

    The number of steps is not part of it: a training may be made longer.
    """
    about = [len(speech), len(noises), seed, settings.model_dump(mode="json", exclude={"steps"})]
    digest = hashlib.sha256(json.dumps(about).encode())
    clips = (inputs for inputs, _ in speech.batches(1000))
    for tensor in chain(network.state_dict().values(), clips, noises, music):
        digest.update(tensor.detach().cpu().contiguous().numpy().tobytes())
    return digest.hexdigest()


class _Run:
    """A training between two batches: all that must be known to go on with it."""

    def __init__(self, network: Enhancer, settings: EnhancerTraining, key: str) -> None:
        self.network, self.settings, self.key = network, settings, key
        self.optimizer = torch.optim.Adam(network.parameters(), settings.lr)
        self.history = EnhancerHistory()
        self.done, self.waited, self.total = 0, 0, 0.0
        self.best = copy.deepcopy(network.state_dict())

    def learn(self, mixture: Mixture, step: int) -> None:
        """One step of Adam."""
        self.optimizer.zero_grad(set_to_none=True)
        loss = self.network.loss(mixture)
        loss.backward()
        torch.nn.utils.clip_grad_norm_(self.network.parameters(), self.settings.gradient_norm)
        self.optimizer.step()
        self.total += float(loss.detach())
        if not math.isfinite(self.total):
            raise DivergedError(
                f"training of an enhancer diverged at step {step}; lower lr, which is {self.settings.lr:g}"
            )

    def validated(self, improvement: float, step: int) -> None:
        """Takes down how a validation went, and halves the learning rate if there was no better for long."""
        before = self.history.improvement_db
        better = improvement > max(before, default=-math.inf)
        (group,) = self.optimizer.param_groups
        self.history.steps.append(step)
        self.history.loss.append(self.total / (step - self.done))
        self.history.improvement_db.append(improvement)
        self.history.lr.append(group["lr"])
        self.done, self.total, self.waited = step, 0.0, 0 if better else self.waited + 1
        if better:
            self.best = copy.deepcopy(self.network.state_dict())
        elif self.waited == self.settings.patience:
            group["lr"], self.waited = group["lr"] / 2, 0

    def finish(self) -> None:
        """Gives the network the weights of the best validation."""
        self.network.load_state_dict(self.best)
        self.network.eval()

    def write(self, folder: Path) -> None:
        """Writes the checkpoint, whole or not at all."""
        moments = {
            f"adam.{number}.{name}": value
            for number, state in self.optimizer.state_dict()["state"].items()
            for name, value in state.items()
        }
        now, best = self.network.state_dict(), self.best
        tensors = {f"now.{name}": value for name, value in now.items()}
        tensors |= {f"best.{name}": value for name, value in best.items()} | moments
        about = {
            "key": self.key,
            "done": self.done,
            "waited": self.waited,
            "lr": self.optimizer.param_groups[0]["lr"],
            "history": asdict(self.history),
        }
        state = {name: value.detach().cpu().contiguous() for name, value in tensors.items()}
        write_folder({TENSORS: save(state), ABOUT: to_json(about)}, folder, (TENSORS, ABOUT))

    def read(self, folder: Path) -> None:
        """Goes back to where a checkpoint was written.

        Raises:
            DataError: if it cannot be read, or is that of another training.
        """
        other = f"{folder} holds no checkpoint of this training; choose another place, or remove it"
        about = read_json(folder / ABOUT)
        if about.get("key") != self.key:
            raise DataError(other)
        try:
            tensors = load_file(folder / TENSORS)
            self._take(about, tensors)
        except (OSError, SafetensorError, LookupError, TypeError, ValueError, RuntimeError, ModelError):
            raise DataError(other) from None

    def _take(self, about: Mapping[str, Any], tensors: Mapping[str, Tensor]) -> None:
        def under(prefix: str) -> dict[str, Tensor]:
            return {name.removeprefix(prefix): v for name, v in tensors.items() if name.startswith(prefix)}

        self.network.load_state_dict(under("now."))
        self.best = {name: value.to(device_of(self.network)) for name, value in under("best.").items()}
        state = self.optimizer.state_dict()
        for name, value in under("adam.").items():
            number, _, what = name.partition(".")
            state["state"].setdefault(int(number), {})[what] = value
        state["param_groups"][0]["lr"] = float(about["lr"])
        self.optimizer.load_state_dict(state)
        self.history = EnhancerHistory(**about["history"])
        self.done, self.waited = int(about["done"]), int(about["waited"])
