"""Reactivation: does a perturbation far below the trigger bring a backdoor back?

Zhu, Liang, Wu, "Breaking the False Sense of Security in Backdoor Defense through Re-Activation Attack",
NeurIPS 2024, arXiv:2405.16134: a universal perturbation is added to triggered clips. It is found by projected
gradient descent on the attacker's clips, so that a repaired model gives them the target label t. The loss of
a clip is -log p_t - log(1.0001 - p_k), where k is the most likely class other than t. Any model can be
pushed, so the figure is to be read beside that of the clean reference model, attacked in the same way.

Ours differs. There, no value of a picture changes by more than 0.05; here the level is bounded. The
perturbation is one pattern u of the shape of a clip, with ||u|| <= 1 (L2). What is added to clip i is
g ||c_i|| u, where c_i is the triggered minus the clean clip and g = 10^(-30/20). So in every clip it is at
least 30 dB below what the trigger changes, over the whole clip. Under this bound steps along the gradient,
with momentum, are the stronger attack, steps along its sign the weaker (on a repaired ResNet an ASR of 13
against 2 %). 50 steps of 32 clips are enough: 300 steps of 64 clips change little.
"""

import copy
from dataclasses import dataclass
from typing import Any

import torch
from jaxtyping import Float32
from pydantic import Field
from torch import Tensor, nn
from torch.nn import functional as F

from closesesame.core.domain import Domain
from closesesame.core.errors import ModelError
from closesesame.core.progress import Track
from closesesame.core.seeding import generator
from closesesame.core.settings import Settings
from closesesame.core.types import Inputs, Labels, Logits
from closesesame.data.rows import Rows
from closesesame.models import Classifier
from closesesame.models.matching import as_classifier, data_for
from closesesame.optimisation.adversary import within_ball
from closesesame.training.losses import loss_against
from closesesame.training.predicting import autocast, choose_precision

from .attacker import Attacker, share_of, triggered_in
from .exam import Exam
from .measures import REACTIVATE
from .metrics import Rate

MARGIN = 1e-4
Pattern = Float32[Tensor, "*item"]
"""Of the shape of one input, with an L2 norm of at most 1."""


class Reactivate(Settings):
    """How the perturbation is found, and how loud it may be."""

    below_db: float = Field(
        30.0, ge=0, le=120, description="how far it stays below what the trigger changes in a clip, in dB"
    )
    clips: int = Field(128, ge=1, le=100_000, description="triggered clips of the attacker's; fewer if none")
    steps: int = Field(50, ge=0, le=100_000, description="steps")
    batch_size: int = Field(32, ge=1, le=65_536, description="clips a step")
    step: float = Field(0.1, gt=0, le=1, description="length of a step, as a share of the bound")
    momentum: float = Field(0.9, ge=0, lt=1, description="of the directions of the steps")


@dataclass(frozen=True, eq=False)
class Reactivated:
    """What the perturbation does.

    Attributes:
        asr: of the triggered test clips with it.
        pattern: the perturbation before it is scaled to a clip.
    """

    asr: Rate
    pattern: Pattern

    def as_json(self) -> dict[str, Any]:
        """The rate with its clips and interval, by its key of `evaluation/measures.py`."""
        return {REACTIVATE.key: self.asr.as_json()}


def reactivate(
    model: nn.Module, exam: Exam, attacker: Attacker, settings: Reactivate | None = None, *, seed: int = 0
) -> Reactivated:
    """Finds a perturbation on the attacker's clips, and measures ASR on the triggered test clips with it.

    Args:
        model: any module with a gradient from its answers to its inputs; it is left as it was.
        exam: with the attacker's trigger. The perturbation is found without its clips.
        attacker: what draws the clips.
        settings: the defaults if None.
        seed: of the draws.

    Raises:
        DataError: if the exam has no trigger, or the attacker no clip.
        ModelError: if the model does not fit the clips, or has no such gradient.
    """
    settings, known = settings or Reactivate(), triggered_in(exam)
    pattern = find_pattern(model, attacker, settings, seed)
    clean, triggered = exam.pairs(torch.arange(len(known)))
    inputs = perturbed(clean.inputs[:], triggered.inputs[:], pattern, settings.below_db, triggered.domain)
    targets = attacker.trigger.target_labels(triggered.labels, triggered.classes)
    return Reactivated(share_of(model, triggered.with_inputs(Rows.of(inputs)), targets), pattern)


def find_pattern(model: nn.Module, attacker: Attacker, settings: Reactivate, seed: int = 0) -> Pattern:
    """The pattern that brings most of the attacker's triggered clips to the target label; on the CPU.

    Raises:
        DataError: if the attacker has no clip.
        ModelError: if the model does not fit the clips, or gives no gradient.
    """
    clean, triggered = attacker.pairs(settings.clips, seed)
    known = _with_gradients(as_classifier(model, clean))
    labels = data_for(known.card, triggered).labels
    targets = attacker.trigger.target_labels(labels, known.card.classes).to(known.device)
    rng, precision = generator(seed, "reactivation"), choose_precision("auto", known)
    pattern = torch.zeros(clean.input_shape, device=known.device)
    velocity = torch.zeros_like(pattern)
    for _ in Track(range(settings.steps), "reactivating", settings.steps):
        rows = torch.randperm(len(clean), generator=rng)[: settings.batch_size]
        before, after = (data.inputs[rows].to(known.device) for data in (clean, triggered))
        pattern.requires_grad_()
        with autocast(known.device, precision):
            logits = known(perturbed(before, after, pattern, settings.below_db, clean.domain))
        slope = _slope(_loss(logits.float(), targets[rows.to(known.device)]), pattern)
        velocity = settings.momentum * velocity + _direction(slope)
        moved = pattern.detach() - settings.step * _direction(velocity)
        pattern = within_ball(moved[None], 1.0)[0]
    return pattern.detach().cpu()


def perturbed(clean: Inputs, triggered: Inputs, pattern: Pattern, below_db: float, domain: Domain) -> Inputs:
    """Triggered inputs with the pattern added, so many dB below what the trigger changed in each.

    Args:
        clean: (batch, ...).
        triggered: the same with the trigger.
        pattern: with a norm of at most 1.
        below_db: level under the change, in dB.
        domain: whose bounds the inputs are clamped to.
    """
    change = (triggered - clean).flatten(1).norm(dim=1)
    level = 10 ** (-below_db / 20) * change.view(-1, *[1] * pattern.ndim)
    inputs: Inputs = (triggered + level * pattern).clamp(domain.low, domain.high)
    return inputs


def _loss(logits: Logits, targets: Labels) -> Tensor:
    """Mean over clips of -log p_t - log(1.0001 - p_k), k the likeliest class but t."""
    rival = logits.detach().scatter(1, targets[:, None], -torch.inf).argmax(1)
    return F.cross_entropy(logits, targets) + loss_against(logits, rival, margin=MARGIN).mean()


def _slope(loss: Tensor, pattern: Pattern) -> Tensor:
    if not loss.requires_grad:
        raise ModelError(
            "the model passes no gradient on to its inputs, so no perturbation can be found; it computes its "
            "features outside of torch, or without gradients"
        )
    return torch.autograd.grad(loss, pattern)[0]


def _direction(slope: Tensor) -> Tensor:
    """The slope with length 1, or zero."""
    direction: Tensor = slope / slope.norm().clamp(min=torch.finfo(slope.dtype).tiny)
    return direction


def _with_gradients(model: Classifier) -> Classifier:
    """A copy in evaluation mode that passes gradients on to its inputs and collects none for its weights."""
    model = copy.deepcopy(model).eval().requires_grad_(False)
    for module in model.modules():
        if isinstance(module, nn.RNNBase):  # cuDNN has gradients in training mode only
            module.dropout = 0.0
            module.train()
    return model
