"""Examples without data: a generator learns to make what a frozen model is sure of.

Losses: Chen, Wang, Xu et al., "Data-Free Learning of Student Networks" (DAFL), ICCV 2019, arXiv:1904.01186;
disagreement with a student: Fang et al., "Data-Free Adversarial Distillation", 2019, arXiv:1912.11006;
channel shuffle: Hong et al., "Revisiting Data-Free Knowledge Distillation with Poisoned Teachers", ICML 2023,
arXiv:2306.02368; batch-norm statistics: Yin et al., "DeepInversion", CVPR 2020, arXiv:1912.08795.
"""

import copy
from dataclasses import dataclass

import torch
from pydantic import Field
from torch import Generator, Tensor, nn
from torch.nn import functional as F

from closesesame.core.bounds import MOST_BYTES, BatchSize, LearningRate, LossWeight, Steps
from closesesame.core.errors import ModelError, SettingError
from closesesame.core.progress import Track
from closesesame.core.seeding import generator, isolated
from closesesame.core.settings import Settings
from closesesame.core.types import Labels, PerUnit
from closesesame.models.channels import Channels, channels_of, head_of
from closesesame.models.hooks import inputs_of, watched
from closesesame.models.statistics import running_statistics

LATENT = 128
WAVE_LEVEL = 0.1
"""RMS of synthetic waveforms, of full scale; that of speech is near it."""


class Synthesis(Settings):
    """How the examples are made. Each loss has a weight, and a weight of 0 leaves it out."""

    steps: Steps = Field(100, description="batches that the generator is trained on")
    lr: LearningRate = Field(1e-3, description="learning rate of Adam")
    batch_size: BatchSize = Field(64, description="examples a batch")
    width: int = Field(16, ge=1, le=1024, description="channels of the generator")
    one_hot: LossWeight = Field(1.0, description="weight of CE to the model's own prediction")
    entropy: LossWeight = Field(5.0, description="weight of the balance of the classes over a batch")
    activation: LossWeight = Field(0.1, description="weight of the size of the last hidden units")
    shuffle: LossWeight = Field(0.0, description="weight of differing from channel-shuffled copies")
    disagreement: LossWeight = Field(0.0, description="weight of differing from a student that learns along")
    statistics: LossWeight = Field(0.0, description="weight of batch-norm statistics; they hold poison too")
    examples: int = Field(500, ge=2, le=1_000_000, description="wanted, all classes together")
    confidence: float = Field(0.9, ge=0, lt=1, description="of the model, that an example must have")


@dataclass(frozen=True, eq=False)
class Synthetic:
    """Made-up features (n, ...), the model's labels of them, and its confidence in those."""

    features: Tensor
    labels: Labels
    confidence: PerUnit


class Decoder(nn.Module):
    """Latent vectors to features: two or three upsamplings with convolutions, and a norm without scale."""

    def __init__(self, shape: tuple[int, ...], width: int) -> None:
        super().__init__()
        self.shape, self.flat = shape, len(shape) == 1
        ins = shape[0] if len(shape) == 3 else 1
        times = 8 if self.flat else 4
        self.small = tuple(-(-size // times) for size in shape[-2 if not self.flat else -1 :])
        conv, norm = (nn.Conv1d, nn.BatchNorm1d) if self.flat else (nn.Conv2d, nn.BatchNorm2d)
        size = 9 if self.flat else 3
        half = max(1, width // 2)
        self.width = width
        places = int(torch.tensor(self.small).prod())
        self.start = nn.Linear(LATENT, width * places)
        self.first = nn.Sequential(norm(width), nn.Upsample(scale_factor=times // 2))
        self.middle = nn.Sequential(
            conv(width, half, size, padding="same"),
            norm(half),
            nn.LeakyReLU(0.2),
            nn.Upsample(scale_factor=2),
        )
        self.last = nn.Sequential(conv(half, ins, size, padding="same"), norm(ins, affine=False))

    def forward(self, z: Tensor) -> Tensor:
        """(batch, latent) to (batch, *shape), with zero mean and unit deviation over the batch."""
        x: Tensor = self.start(z).view(len(z), self.width, *self.small)
        x = self.last(self.middle(self.first(x)))
        for axis, size in enumerate(self.shape[-len(self.small) :], start=2):
            x = x.narrow(axis, 0, size)
        x = x.reshape(len(z), *self.shape)
        return WAVE_LEVEL * x if self.flat else x


def synthesise(body: nn.Module, example: Tensor, method: Synthesis, seed: int) -> Synthetic:
    """Trains a generator against `body`, which stays as it is, and draws confident, balanced examples.

    Args:
        body: the model from features to logits, in evaluation mode.
        example: features of one input, for the shape and the device: (1, time), (1, band, frame) or (1,
            channel, height, width).
        method: the settings.
        seed: of weights and latent vectors.

    Raises:
        ModelError: if the features have another shape than these.
        SettingError: if the examples, or what a batch of them is made of, would not fit into 2 GB.
    """
    shape = tuple(example.shape[1:])
    _check_memory(method, example)
    if len(shape) not in {1, 2, 3}:
        raise ModelError(f"examples can be made for waveforms, maps and pictures, not for features {shape}")
    rng = generator(seed, "latent vectors")
    with isolated(seed, "generator"):
        decoder = Decoder(shape, method.width).to(example.device)
    _train(decoder, body, example, method, rng)
    return _draw(decoder.eval(), body, method, rng, example.device)


def _check_memory(method: Synthesis, example: Tensor) -> None:
    once = {"examples": 3 * example.nbytes, "batch_size": method.width * example.nbytes}
    for field, needed in once.items():
        if getattr(method, field) * needed > MOST_BYTES:
            most = MOST_BYTES // needed
            raise SettingError(f"Synthesis.{field} must be <= {most:,}, to fit into {MOST_BYTES / 1e9:g} GB")


def shuffled(body: nn.Module, example: Tensor, rng: Generator) -> nn.Module:
    """A copy in which the weights of each layer but the first take their input channels in random order."""
    other = copy.deepcopy(body)
    for layer in channels_of(other, example)[1:]:
        producer = layer.producer
        if isinstance(producer, nn.Conv1d | nn.Conv2d | nn.Linear) and producer.weight.shape[1] > 1:
            order = torch.randperm(producer.weight.shape[1], generator=rng)
            producer.weight.data = producer.weight.data[:, order.to(producer.weight.device)]
    return other


def generator_loss(logits: Tensor, units: Tensor | None, method: Synthesis) -> Tensor:
    """One-hot loss, minus activation, plus the balance sum q log10 q of the mean prediction q."""
    mean = F.softmax(logits, 1).mean(0)
    loss = method.one_hot * F.cross_entropy(logits, logits.argmax(1))
    loss = loss + method.entropy * (mean * mean.clamp(min=1e-12).log10()).sum()
    return loss if units is None else loss - method.activation * units.abs().mean()


def _train(decoder: Decoder, body: nn.Module, example: Tensor, method: Synthesis, rng: Generator) -> None:
    frozen = copy.deepcopy(body).eval().requires_grad_(False)
    head = head_of(frozen, example)
    layers = [layer for layer in channels_of(frozen, example) if layer.statistics is not None]
    others = [shuffled(frozen, example, rng) for _ in range(3 if method.shuffle else 0)]
    student = shuffled(frozen, example, rng).requires_grad_() if method.disagreement else None
    learning = None if student is None else torch.optim.SGD(student.parameters(), 0.01, momentum=0.9)
    optimizer = torch.optim.Adam(decoder.parameters(), method.lr)
    bar = Track(range(method.steps), "synthesis", method.steps)
    for _ in bar:
        features = decoder(torch.randn(method.batch_size, LATENT, generator=rng).to(example))
        with inputs_of(head) as seen, watched(layers if method.statistics else []) as maps:
            logits = frozen(features)
        loss = generator_loss(logits, seen[-1] if seen else None, method)
        if method.statistics:
            loss = loss + method.statistics * _statistics_loss(layers, maps)
        for other in others:
            loss = loss - method.shuffle / 3 * _divergence(other(features), logits, agreeing=True)
        if student is not None and learning is not None:
            gap = (student(features.detach()) - logits.detach()).abs().mean()
            learning.zero_grad()
            gap.backward()
            learning.step()
            loss = loss - method.disagreement * (student(features) - logits).abs().mean()
        optimizer.zero_grad()
        loss.backward()
        optimizer.step()
        bar.note(f"loss {float(loss.detach()):.2f}")


def _statistics_loss(layers: list[Channels], maps: list[Tensor]) -> Tensor:
    total = torch.zeros((), device=maps[0].device) if maps else torch.zeros(())
    for layer, values in zip(layers, maps, strict=True):
        assert layer.statistics is not None
        mean, variance = running_statistics(layer.statistics)
        total = total + (values.mean((0, 2)) - mean).square().mean()
        total = total + (values.var((0, 2)) - variance).square().mean()
    return total


def _divergence(other: Tensor, logits: Tensor, *, agreeing: bool) -> Tensor:
    """KL of another model's prediction to the model's, over the examples on which both agree."""
    gap = F.kl_div(F.log_softmax(logits, 1), F.log_softmax(other, 1), log_target=True, reduction="none").sum(
        1
    )
    rows = other.argmax(1) == logits.argmax(1) if agreeing else torch.ones_like(gap, dtype=torch.bool)
    return gap[rows].mean() if rows.any() else gap.sum() * 0


@torch.no_grad()
def _draw(
    decoder: Decoder, body: nn.Module, method: Synthesis, rng: Generator, device: torch.device
) -> Synthetic:
    """Three times as many as wanted are drawn; of each class the most confident are kept."""
    made, logits = [], []
    for _ in range(-(-3 * method.examples // method.batch_size)):
        made.append(decoder(torch.randn(method.batch_size, LATENT, generator=rng).to(device)))
        logits.append(body(made[-1]))
    confidence, labels = F.softmax(torch.cat(logits).float(), 1).max(1)
    sure = confidence >= method.confidence
    if sure.float().mean() < 0.1:  # an unsure model: its surest tenth
        sure = confidence >= confidence.quantile(0.9)
    classes = logits[0].shape[1]
    rows = []
    for label in range(classes):
        found = (sure & (labels == label)).nonzero().flatten()
        order = confidence[found].argsort(descending=True, stable=True)
        rows.append(found[order][: -(-method.examples // classes)])
    index = torch.cat(rows)
    return Synthetic(torch.cat(made)[index], labels[index], confidence[index])
